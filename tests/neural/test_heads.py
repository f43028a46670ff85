"""Heads against closed forms, quadrature and scipy."""

import math

import numpy as np
import pytest
import scipy.stats as ss
import torch

from ppl_models.neural.heads import (
    INTERCEPT,
    NAME,
    RATE,
    SCALES,
    SHAPE,
    ClassHead,
    FamilyHead,
    FeatureRows,
    NumberHead,
)
from ppl_models.regression.newton import fit_glm
from ppl_models.regression.responses import RESPONSES


def features(n, d, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, d))
    return torch.from_numpy(np.c_[np.ones(n), z]), rng


@pytest.fixture
def number():
    Z, rng = features(30, 3)
    y = torch.from_numpy(Z.numpy() @ [0.5, 1.0, -0.7, 0.1] + rng.normal(scale=0.4, size=30))
    head = NumberHead(3, 10.0, 2.5)
    params, evidence, _ = head.fit(FeatureRows(Z, y))
    return head, Z, y, params, evidence


def test_the_evidence_of_a_number_is_a_multivariate_t(number):
    head, Z, y, params, evidence = number
    prior = np.diag([INTERCEPT**2, *[float(params["scale"]) ** 2] * 3])
    shape = RATE / SHAPE * (np.eye(30) + Z.numpy() @ prior @ Z.numpy().T)
    wanted = ss.multivariate_t(np.zeros(30), shape, df=2 * SHAPE).logpdf(y.numpy())
    assert evidence == pytest.approx(wanted - 30 * math.log(head.sd))


def test_the_posterior_of_a_number_is_exact(number):
    """Log p(y | θ) + log p(θ) − log q(θ) is the evidence at every draw."""
    head, Z, y, params, evidence = number
    torch.manual_seed(0)
    theta = head.draw(params, 50)
    ratio = head.log_evidence(theta, FeatureRows(Z, y)) + head.log_prior(theta, params)
    np.testing.assert_allclose((ratio - head.log_q(theta, params)).numpy(), evidence, rtol=1e-9)


def test_the_prior_scale_of_a_number_is_that_of_the_largest_evidence(number):
    head, Z, y, params, evidence = number
    for scale in set(SCALES) - {float(params["scale"])}:
        prior = np.diag([INTERCEPT**2, *[scale**2] * 3])
        shape = RATE / SHAPE * (np.eye(30) + Z.numpy() @ prior @ Z.numpy().T)
        other = ss.multivariate_t(np.zeros(30), shape, df=2 * SHAPE).logpdf(y.numpy())
        assert other - 30 * math.log(head.sd) < evidence


def test_a_new_number_is_a_student_t_with_the_parameters_integrated_out(number):
    head, Z, _, params, _ = number
    torch.manual_seed(0)
    theta = head.draw(params, 20_000)
    found = head.predictive(theta, Z[:2], 1.0)
    a, b = float(params["shape"]), float(params["rate"])
    V = (params["root"] @ params["root"].mT).numpy()
    z = Z[:2].numpy()
    scale = head.sd * np.sqrt(b / a * (1 + np.einsum("ni,ij,nj->n", z, V, z)))
    new = ss.t(2 * a, head.mean + head.sd * (z @ params["loc"].numpy()), scale)
    at = torch.from_numpy(new.mean() + scale)
    np.testing.assert_allclose(found.cdf(at).mean(0).numpy(), new.cdf(at.numpy()), atol=5e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_bound_of_classes_is_just_below_the_evidence(classes):
    Z, rng = features(120, 2)
    B = rng.normal(size=(3, classes))
    y = torch.from_numpy((Z.numpy() @ B + rng.gumbel(size=(120, classes))).argmax(1))
    head = ClassHead(classes, 2)
    params, elbo, converged = head.fit(FeatureRows(Z, y))
    assert converged
    torch.manual_seed(0)
    theta = head.draw(params, 4_000)
    ratio = head.log_evidence(theta, FeatureRows(Z, y)) + head.log_prior(theta, params)
    log_w = (ratio - head.log_q(theta, params)).numpy()
    evidence = np.logaddexp.reduce(log_w) - math.log(len(log_w))
    assert elbo < evidence + 0.05
    assert evidence - elbo < 0.3
    np.testing.assert_allclose(log_w.mean(), elbo, atol=0.05)


def test_the_prior_scale_of_classes_is_near_that_of_the_largest_bound():
    Z, rng = features(400, 12)
    beta = rng.normal(scale=0.8, size=13)
    y = torch.from_numpy((rng.random(400) < 1 / (1 + np.exp(-Z.numpy() @ beta))).astype(int))
    head = ClassHead(2, 12)
    params, elbo, _ = head.fit(FeatureRows(Z, y))
    best = max(fit_glm(head.glm(s), FeatureRows(Z, y)).elbo for s in SCALES)
    assert best - elbo < 0.3


def test_a_head_that_held_out_rows_do_not_like_stays_at_the_network():
    """Its centre is the output layer, and its scale goes to the least where leaving it does harm."""
    Z, rng = features(200, 6)
    truth = rng.normal(size=(7, 2))
    y = torch.from_numpy((Z.numpy() @ truth + rng.gumbel(size=(200, 2))).argmax(1))
    noise = torch.from_numpy(rng.integers(0, 2, 30))
    for head, W, target, odd in (
        (ClassHead(2, 6), torch.from_numpy(truth.T), y, noise),
        (NumberHead(6), torch.from_numpy(truth[:, :1].T), Z @ torch.from_numpy(truth[:, 0]), noise.double()),
    ):
        centre = head.centre(W[:, 1:], W[:, 0])
        judges = FeatureRows(Z[:60], target[:60])
        wrong = torch.cat([odd, target[30:]])
        near, _, _ = head.fit(FeatureRows(Z[:31], wrong[:31]), centre, judges)
        assert float(near["scale"]) <= 0.3
        far, _, _ = head.fit(FeatureRows(Z, target), 0 * centre, judges)
        assert float(far["scale"]) >= 0.3


def test_the_centre_gives_the_logits_of_the_network():
    Z, rng = features(5, 4)
    W, b = torch.from_numpy(rng.normal(size=(3, 4))), torch.from_numpy(rng.normal(size=3))
    head = ClassHead(3, 4)
    theta = {NAME: {"coefficient": head.centre(W, b)[None]}}
    wanted = (Z[:, 1:] @ W.mT + b).log_softmax(-1)
    torch.testing.assert_close(head.outcomes(theta, Z)[0].log_softmax(-1), wanted)


def test_weights_count_rows_as_often_as_they_say():
    Z, rng = features(40, 2)
    y = torch.from_numpy(rng.integers(0, 2, 40))
    twice = torch.cat([torch.arange(40), torch.arange(10)])
    weight = torch.ones(40).double()
    weight[:10] = 2.0
    for head, target in ((ClassHead(2, 2), y), (NumberHead(2), y.double())):
        one, elbo, _ = head.fit(FeatureRows(Z, target, weight))
        two, other, _ = head.fit(FeatureRows(Z[twice], target[twice]))
        assert elbo == pytest.approx(other, abs=1e-6)
        np.testing.assert_allclose(one["loc"], two["loc"], atol=1e-6)


def test_the_temperature_is_that_of_the_best_score():
    rng = np.random.default_rng(0)
    f = torch.from_numpy(rng.normal(scale=1.5, size=(1, 4_000, 2)))
    y = torch.distributions.Categorical(logits=f[0]).sample()
    head = ClassHead(2, 1)
    T = head.temperature(lambda t: float(head.from_outputs(3 * f, t).log_prob(y).mean()))
    assert T == pytest.approx(3.0, rel=0.15)


def test_draws_of_classes_have_the_moments_of_the_posterior():
    Z, rng = features(50, 1)
    y = torch.from_numpy(rng.integers(0, 3, 50))
    head = ClassHead(3, 1)
    params, _, _ = head.fit(FeatureRows(Z, y))
    torch.manual_seed(1)
    x = head.draw(params, 20_000)[NAME]["coefficient"].flatten(1)
    np.testing.assert_allclose(x.mean(0), params["loc"], atol=0.03)
    np.testing.assert_allclose(np.cov(x.numpy().T), params["scale_tril"] @ params["scale_tril"].mT, atol=0.02)


FAMILIES = {
    "student_t": lambda rng, f: f + 0.3 * rng.standard_t(3, len(f)),
    "poisson": lambda rng, f: rng.poisson(np.exp(f)).astype(float),
    "negative_binomial": lambda rng, f: rng.poisson(np.exp(f) * rng.gamma(2, 0.5, len(f))).astype(float),
    "gamma": lambda rng, f: np.exp(f) * rng.gamma(4, 0.25, len(f)),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    Z, rng = features(150, 2)
    y = torch.from_numpy(FAMILIES[request.param](rng, Z.numpy() @ [1.0, 0.5, -0.3]))
    response = RESPONSES[request.param].of(RESPONSES[request.param].links[0], y)
    head = FamilyHead(2, response, response.start(response.standardised(y), torch.ones_like(y)))
    rows = FeatureRows(Z, head.inside(y))
    return head, rows, y, head.fit(rows)


def test_the_posterior_of_a_family_is_close_to_the_exact_one(family):
    """By importance weights: they are nearly even, and the evidence that they give is just above the ELBO."""
    head, rows, _, (params, elbo, converged) = family
    assert converged
    torch.manual_seed(0)
    theta = head.draw(params, 2_000)
    log_w = head.log_evidence(theta, rows) + head.log_prior(theta, params) - head.log_q(theta, params)
    weight = torch.softmax(log_w, 0)
    assert 1 / float((weight**2).sum()) > 0.8 * 2_000
    assert elbo == pytest.approx(float(log_w.logsumexp(0)) - math.log(2_000), abs=0.1)


def test_log_probabilities_of_a_family_are_those_of_scipy(family):
    head, rows, y, (params, _, _) = family
    torch.manual_seed(0)
    theta = head.draw(params, 3)
    f = (theta[NAME]["coefficient"] @ rows.Z.mT).numpy()
    own = {name: value.numpy()[:, None] for name, value in head.hyper(theta).items()}
    r = head.response
    wanted = {
        "student_t": lambda: ss.t.logpdf(y, own["nu"], r.shift + r.unit * f, own["sigma"]),
        "poisson": lambda: ss.poisson.logpmf(y, np.exp(f)),
        "negative_binomial": lambda: ss.nbinom.logpmf(
            y, 1 / own["dispersion"], 1 / (1 + own["dispersion"] * np.exp(f))
        ),
        "gamma": lambda: ss.gamma.logpdf(y, own["shape"], scale=np.exp(f) / own["shape"]),
    }[r.name]()
    new = head.predictive(theta, rows.Z, 1.0)
    np.testing.assert_allclose(new.log_prob(y).numpy(), wanted, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(head.log_likelihood(theta, rows.Z, rows.y).numpy(), wanted, rtol=1e-6)
    loss = head.loss(head.outcomes(theta, rows.Z)[:1].transpose(0, 1), rows.y)[
        :, 0
    ]  # one member; in the units of the head
    np.testing.assert_allclose(-loss.numpy() - head.log_unit, wanted[0], rtol=1e-6)


def test_a_temperature_widens_what_has_a_width(family):
    head, rows, y, (params, _, _) = family
    torch.manual_seed(0)
    theta = head.draw(params, 200)
    sd = [float(head.predictive(theta, rows.Z, T).sample().std(0).mean()) for T in (1.0, 2.0)]
    if len(head.psi):
        assert sd[1] > 1.2 * sd[0]
    else:
        assert head.temperature(lambda T: float(head.predictive(theta, rows.Z, T).log_prob(y).mean())) == 1.0
