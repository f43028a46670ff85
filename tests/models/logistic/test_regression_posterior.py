"""The Gaussian posterior of a regression: expectations, mode, ELBO and forms, against independent ones."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression

from ppl_models.data import read
from ppl_models.models.logistic.model import Logistic
from ppl_models.regression import newton, wide
from ppl_models.regression.bound import Regression
from ppl_models.regression.fitting import fit_regression
from ppl_models.regression.forms import Full, Mixture, Structured, from_params

NAME = "regression"


def simulated(n=120, p=3, C=2, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * 10.0 ** rng.integers(-2, 3, p) + rng.normal(size=p)
    effects = np.zeros((p, C))
    effects[:, 1:] = rng.normal(size=(p, C - 1))
    logits = (X - X.mean(0)) / X.std(0) @ effects + 0.3 * np.arange(C)
    y = (logits + rng.gumbel(size=(n, C))).argmax(1)
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(p)]).assign(y=[f"c{k}" for k in y])


def bound_to(model, frame, **options):
    data = read(frame, target="y", **options)
    return model.bind(data.schema).prepare(data), data


def expected(glm, batch, loc, root, draws=2_000):
    """Monte Carlo with autograd: E log p, E ∇, E −∇²."""
    torch.manual_seed(1)
    e = torch.randn(draws // 2, len(loc), dtype=torch.float64)
    phi = loc + torch.cat([e, -e]) @ root.mT
    rows = batch.whole()

    def log_p(x):
        B = x.reshape(glm.width, glm.outputs)
        logits = rows.Z @ B @ glm.response.A.mT
        own = logits.gather(1, rows.y[:, None])[:, 0] - logits.logsumexp(1)
        return (own * rows.weight).sum() + glm.prior.log_prob(B)

    values = torch.stack([log_p(x) for x in phi])
    gradient = torch.stack([torch.autograd.functional.jacobian(log_p, x) for x in phi])
    curvature = -torch.stack([torch.autograd.functional.hessian(log_p, x) for x in phi[:: draws // 400]])
    return values.mean(), gradient.mean(0), curvature.mean(0)


@pytest.mark.parametrize(
    ("C", "prior"),
    [
        (2, "normal"),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((2, "student_t"), (3, "normal"))),
        pytest.param(3, "student_t", marks=pytest.mark.slow),
    ],
)
def test_expectations_equal_monte_carlo_with_autograd(C, prior):
    bound, data = bound_to(
        Logistic(prior=prior, prior_scale=0.7, class_weight="balanced"), simulated(40, 2, C)
    )
    glm, batch = bound.glm, bound.dataset_batch(data)
    loc = torch.randn(glm.dimension, dtype=torch.float64)
    root = (
        0.2 * torch.eye(glm.dimension, dtype=torch.float64)
        + 0.05 * torch.randn(glm.dimension, glm.dimension).double().tril()
    )
    found = glm.expect(batch, loc, root)
    log_p, gradient, curvature = expected(glm, batch, loc, root)
    assert float(found.log_p) == pytest.approx(float(log_p), abs=0.1)
    torch.testing.assert_close(found.gradient, gradient, atol=0.1, rtol=0.03)
    torch.testing.assert_close(found.curvature, curvature, atol=0.15, rtol=0.05)


@pytest.mark.parametrize("load", [load_breast_cancer, load_iris])
def test_the_mode_equals_sklearn_at_the_same_prior(load):
    X, y = load(return_X_y=True)
    X = X[:, :4]
    frame = pd.DataFrame(X, columns=list("abcd")).assign(y=[f"k{v}" for v in y])
    C = len(set(y))
    bound, data = bound_to(Logistic(intercept_scale=1e5), frame)
    loc, _ = bound.glm.map_start(bound.dataset_batch(data))
    Z = (X - X.mean(0)) / X.std(0)
    # symmetric coefficients are iid N(0, scale²/2), the one difference of two classes N(0, scale²)
    peer = LogisticRegression(C=2.5**2 / (2 if C > 2 else 1), tol=1e-10, max_iter=10_000).fit(Z, y)
    theta = bound.theta(loc[None])[NAME]
    if C == 2:
        coefficients, intercepts = peer.coef_.T, peer.intercept_
    else:
        coefficients, intercepts = (
            (peer.coef_[1:] - peer.coef_[0]).T,
            peer.intercept_[1:] - peer.intercept_[0],
        )
    np.testing.assert_allclose(theta["coefficient"][0], coefficients, atol=1e-4)
    np.testing.assert_allclose(theta["intercept"][0], intercepts, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "C"),
    [
        (Logistic(), 2),
        pytest.param(Logistic(), 3, marks=pytest.mark.slow),
        (Logistic(prior="student_t", autoscale=False), 2),
        pytest.param(Logistic(prior="student_t"), 3, marks=pytest.mark.slow),
    ],
)
def test_the_elbo_is_pyros(model, C):
    frame = simulated(60, 2, C)
    bound, data = bound_to(model, frame)
    result = fit_regression(bound, data)
    fit = SimpleNamespace(params=result.params)
    torch.manual_seed(0)
    losses = [
        -Trace_ELBO().loss(lambda: model.model(data), lambda: model.guide(data, fit)) for _ in range(400)
    ]
    error = np.std(losses) / 20
    assert result.converged
    assert result.elbo == pytest.approx(np.mean(losses), abs=4 * error + 0.02)
    assert error < 0.1  # so that the comparison says something


@pytest.mark.slow
def test_the_horseshoe_program_has_the_density_of_its_draws():
    model = Logistic(prior="horseshoe")
    bound, data = bound_to(model, simulated(40, 3))
    fit = SimpleNamespace(params=fit_regression(bound, data).params)
    guide = pyro.poutine.trace(model.guide).get_trace(data, fit)
    program = pyro.poutine.trace(pyro.poutine.replay(model.model, guide)).get_trace(data)
    assert {"intercept", "coefficient", "global_scale", "slab", "local_scale"} <= set(program.nodes)
    assert np.isfinite(float(program.log_prob_sum()))
    assert np.isfinite(float(guide.log_prob_sum()))


@pytest.mark.parametrize("C", [2, 3])
def test_densities_agree_with_the_program_and_with_each_other(C):
    model = Logistic(prior_scale=1.5)
    bound, data = bound_to(model, simulated(50, 2, C))
    result = fit_regression(bound, data)
    theta = bound.draw(result.params, 3)
    for s in range(3):
        values = {site: value[s] for site, value in theta[NAME].items()}
        trace = pyro.poutine.trace(pyro.poutine.condition(model.model, values)).get_trace(data)
        prior = sum(float(trace.nodes[site]["fn"].log_prob(values[site])) for site in values)
        assert float(bound.log_prior(theta)[s]) == pytest.approx(prior)
        assert float(trace.log_prob_sum()) - prior == pytest.approx(
            float(bound.log_evidence(bound.dataset_batch(data), theta)[s])
        )
    torch.testing.assert_close(
        bound.log_likelihood(data, theta).sum(1), bound.log_evidence(bound.dataset_batch(data), theta)
    )


def test_the_posterior_does_not_depend_on_the_reference_class():
    frame = simulated(90, 2, 3)
    swapped = frame.assign(y=frame.y.map({"c0": "c2", "c1": "c1", "c2": "c0"}))
    found = []
    for table in (frame, swapped):
        bound, data = bound_to(Logistic(), table)
        result = fit_regression(bound, data)
        B = from_params({k: v[0] for k, v in result.params.items()}).mean.reshape(3, 2)
        logits = B @ bound.glm.response.A.mT  # (p + 1, C), centred over the classes
        found.append((result.elbo, logits - logits.mean(1, keepdim=True)))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-4)
    torch.testing.assert_close(found[0][1], found[1][1].flip(1), atol=2e-3, rtol=0)


def test_a_weight_of_two_is_a_row_that_is_there_twice():
    frame = simulated(40, 2)
    weights = np.random.default_rng(0).integers(0, 4, 40).astype(float)
    data = read(frame, target="y", weights=weights)
    twice = read(frame.loc[np.repeat(np.arange(40), weights.astype(int))].reset_index(drop=True), target="y")
    a = fit_regression(Logistic().bind(data.schema), data)
    b = fit_regression(Logistic().bind(twice.schema), twice)
    assert a.elbo == pytest.approx(b.elbo, abs=1e-5)
    torch.testing.assert_close(a.params["loc"], b.params["loc"], atol=1e-4, rtol=1e-4)


def test_balanced_classes_weigh_the_same():
    frame = simulated(100, 1).assign(y=["a"] * 90 + ["b"] * 10, x0=0.0)
    frame.loc[:, "x0"] = np.tile([0.0, 1.0], 50)
    bound, data = bound_to(Logistic(class_weight="balanced"), frame)
    theta = bound.theta(bound.glm.map_start(bound.dataset_batch(data))[0][None])[NAME]
    assert float(theta["intercept"][0, 0]) == pytest.approx(0.0, abs=1e-6)


def test_prior_scales_in_the_units_of_the_data_without_autoscale():
    frame = simulated(80, 2)
    bound, data = bound_to(Logistic(autoscale=False, prior_scale=0.01), frame)
    loc, _ = bound.glm.map_start(bound.dataset_batch(data))
    X = frame[["x0", "x1"]].to_numpy()
    peer = LogisticRegression(C=0.01**2, tol=1e-12, max_iter=10_000, solver="newton-cholesky").fit(
        X - X.mean(0), frame.y
    )
    beta = bound.user(bound.theta(loc[None]))[1][0, :, 0]
    np.testing.assert_allclose(beta, peer.coef_[0], rtol=0.02, atol=1e-6)  # its intercept has no prior


def test_a_subset_first_gives_the_same_posterior(monkeypatch):
    bound, data = bound_to(Logistic(), simulated(10_000, 2, 2))
    result = fit_regression(bound, data)
    assert {step["rows"] for step in result.history} == {4_000, 10_000}
    monkeypatch.setattr(newton, "excerpts", lambda glm, batch: iter([(batch, 1e-9)]))
    whole = fit_regression(bound, data)
    assert result.elbo == pytest.approx(whole.elbo, abs=1e-4)
    sd = Full(whole.params["loc"][0], whole.params["scale_tril"][0]).variance.sqrt()
    assert float(((result.params["loc"] - whole.params["loc"])[0] / sd).abs().max()) < 0.01


@pytest.mark.parametrize(("prior", "C"), [("normal", 2), ("student_t", 2), ("normal", 3)])
def test_the_dual_form_equals_the_full_one(prior, C):
    bound, data = bound_to(Logistic(prior=prior, prior_scale=1.0), simulated(30, 40, C))
    batch = bound.dataset_batch(data)
    full, form = newton.fit_glm(bound.glm, batch), wide.fit_dual(bound.glm, batch)
    assert form[1] == pytest.approx(full.elbo, abs=2e-3)
    exact = Full(full.loc, full.scale_tril)
    assert float(((form[0].mean - exact.mean) / exact.variance.sqrt()).abs().max()) < 0.02
    torch.testing.assert_close(form[0].variance, exact.variance, rtol=0.01, atol=0)
    assert fit_regression(bound, data).form == "full"


def test_low_rank_and_diagonal_forms_have_the_right_mean():
    bound, data = bound_to(Logistic(prior_scale=0.3), simulated(300, 12))
    batch = bound.dataset_batch(data)
    full = newton.fit_glm(bound.glm, batch)
    exact = Full(full.loc, full.scale_tril)
    for rank, narrow in ((13, 0.999), (4, 0.6), (0, 0.4)):
        form, elbo, converged, _ = wide.fit_many(bound.glm, batch, rank)[:4]
        assert converged
        assert elbo <= full.elbo + 1e-4
        assert float(((form.mean - exact.mean) / exact.variance.sqrt()).abs().max()) < 0.15
        assert float((form.variance / exact.variance).sqrt().min()) > narrow
    assert fit_regression(bound, data).form == "full"
    diagonal = fit_regression(replace_model(bound, covariance="diag"), data)
    assert diagonal.params["factor"].shape[-1] == 0
    assert any("approximation" in note for note in diagonal.notes)


def replace_model(bound, **fields):
    return Regression(replace(bound.model, **fields), bound.schema)


def test_structured_draws_and_densities_equal_the_dense_gaussian():
    d, r = 5, 3
    D, V = torch.rand(d, dtype=torch.float64) + 0.5, torch.randn(d, r, dtype=torch.float64)
    loc = torch.randn(d, dtype=torch.float64)
    cov = torch.linalg.inv(torch.diag(D) + V @ V.mT)
    dense = torch.distributions.MultivariateNormal(loc, cov)
    form = Structured(loc, D, V)
    x = form.draw(200_000)
    torch.testing.assert_close(form.variance, cov.diagonal())
    torch.testing.assert_close(form.log_prob(x[:20]), dense.log_prob(x[:20]))
    torch.testing.assert_close(x.mT.cov(), cov, atol=0.01, rtol=0.02)
    both = Mixture(
        torch.tensor([0.3, 0.7], dtype=torch.float64).log(), (form, Structured(-loc, 2 * D, V)), {}
    )
    again = from_params(both.params)
    torch.testing.assert_close(again.log_prob(x[:20]), both.log_prob(x[:20]))
    drawn = both.draw(200_000)
    torch.testing.assert_close(drawn.mean(0), both.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.var(0), both.variance, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_few_rows_do_not_crash(rows):
    frame = pd.DataFrame({"x": np.sin(np.arange(40.0)), "y": ["a", "b"] * 20})
    data = read(frame, target="y")
    some = data.subset(np.arange(rows))
    if rows == 1:
        with pytest.raises(ValueError, match="two classes"):
            fit_regression(Logistic().bind(some.schema), some)
    else:
        assert np.isfinite(fit_regression(Logistic().bind(some.schema), some).elbo)
