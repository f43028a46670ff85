"""Draws with the right widths: each step against calculus, closed forms and other ways to the same."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import qmc
from torch.autograd.functional import jacobian

import ppl_models as ppl
from ppl_models.checks import _widths
from ppl_models.inference.calibration import Learned
from ppl_models.inference.gaussian import (
    Expectations,
    GaussianRule,
    GaussianTarget,
    Sampled,
    moved,
    normal_points,
    sobol_points,
)
from ppl_models.inference.moves import correlation, move
from ppl_models.latent import calibrate as latent
from ppl_models.latent.calibrate import RULE_WORK, observed_information, respond
from ppl_models.latent.identify import Reference, assigned, identify
from ppl_models.latent.unconstrained import ExactPosterior


def eye(d):
    return torch.eye(d, dtype=torch.float64)


def overlapping(n=200, seed=1):
    rng = np.random.default_rng(seed)
    z = rng.random(n) < 0.4
    return np.stack([rng.normal(np.where(z, 0.0, 2.2)), rng.normal(np.where(z, 0.0, 1.5))], 1)


MODELS = {
    "full": (ppl.GMM(components=2), overlapping()),
    "tied": (ppl.GMM(components=2, covariance="tied"), overlapping()),
    "process": (ppl.GMM(components=3, weight_prior="process", covariance="diag"), overlapping()),
    "poisson": (ppl.HMM(states=2), {"n": np.random.default_rng(0).poisson(3, 60)}),
    "gamma": (ppl.GMM(emission="gamma"), np.random.default_rng(1).gamma(2.0, size=(50, 2))),
    "mixed": (
        ppl.GMM(components=2),
        {"a": overlapping(60)[:, 0], "yes": np.array(["no", "yes"] * 30), "k": np.array(list("uvw") * 20)},
    ),
    "hmm": (ppl.HMM(states=2), overlapping(80)),
}


@pytest.fixture(params=list(MODELS))
def exact(request):
    model, data = MODELS[request.param]
    fit = ppl.fit(model, data, restarts=2, steps=30)
    return fit, ExactPosterior(fit.bound, fit.batch)


def test_unconstrained_space_is_a_change_of_variables(exact):
    """There and back, and log |det| by autograd over the free entries of θ."""
    fit, posterior = exact
    space = posterior.space
    theta = Learned(fit.bound, fit.params).draw(5)
    u = space.point(theta)
    again, log_det = space.theta(u)
    for name, sites in theta.items():
        for site, value in sites.items():
            torch.testing.assert_close(again[name][site], value, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(space.point(again), u, rtol=1e-7, atol=1e-8)

    def free(v):
        values, _ = space.theta(v[None])
        out = []
        for part in space.parts:
            x = values[part.factor][part.site][0]
            if part.support is torch.distributions.constraints.simplex:
                x = x[..., :-1]
            if part.support is torch.distributions.constraints.positive_definite:
                i, j = torch.tril_indices(x.shape[-1], x.shape[-1])
                x = x[..., i, j]
            out.append(x.reshape(-1))
        return torch.cat(out)

    J = jacobian(free, u[0])
    assert float(log_det[0]) == pytest.approx(float(torch.linalg.slogdet(J)[1]), abs=1e-8)


def test_gradients_are_differences(exact):
    _, posterior = exact
    fit = exact[0]
    u = posterior.space.point(Learned(fit.bound, fit.params).draw(2))
    value, gradient = posterior(u)
    step = 1e-5
    d = posterior.dimension
    for i in range(2):
        up, _ = posterior(u[i] + step * eye(d))
        down, _ = posterior(u[i] - step * eye(d))
        torch.testing.assert_close(gradient[i], (up - down) / (2 * step), rtol=2e-5, atol=2e-4)
    theta, log_det = posterior.space.theta(u)
    direct = fit.bound.log_evidence(fit.batch, theta) + fit.bound.log_prior(theta) + log_det
    torch.testing.assert_close(value, direct, rtol=1e-9, atol=1e-7)


def test_gradients_with_missing_cells_are_differences():
    x = overlapping(60)
    x[np.random.default_rng(0).random(x.shape) < 0.3] = np.nan
    fit = ppl.fit(ppl.GMM(components=2), x, restarts=2)
    posterior = ExactPosterior(fit.bound, fit.batch)
    u = posterior.space.point(Learned(fit.bound, fit.params).draw(1))
    _, gradient = posterior(u)
    up, _ = posterior(u + 1e-5 * eye(posterior.dimension))
    down, _ = posterior(u - 1e-5 * eye(posterior.dimension))
    torch.testing.assert_close(gradient[0], (up - down) / 2e-5, rtol=2e-5, atol=2e-4)


def test_renaming_states_leaves_the_density(exact):
    fit, posterior = exact
    joint = fit.bound
    if not joint.symmetric:
        pytest.skip("its states are not alike")
    theta = Learned(joint, fit.params).draw(4)
    order = torch.stack([torch.randperm(joint.states) for _ in range(4)])
    other = joint.permute(theta, order)
    for density in (lambda t: joint.log_evidence(fit.batch, t), joint.log_prior):
        torch.testing.assert_close(density(theta), density(other), rtol=1e-9, atol=1e-7)
    back = joint.permute(other, order.argsort(1))
    torch.testing.assert_close(posterior.space.point(back), posterior.space.point(theta))


def test_labels_that_switched_are_named_alike(exact):
    fit, posterior = exact
    joint = fit.bound
    if not joint.symmetric:
        pytest.skip("its states are not alike")
    u = posterior.space.point(Learned(joint, fit.params).draw(400))
    names = Reference(posterior, fit.data, u.mean(0), 0)
    order = torch.stack([torch.randperm(joint.states) for _ in range(400)])
    switched = posterior.space.point(joint.permute(posterior.space.theta(u)[0], order))
    torch.testing.assert_close(identify(names, switched), identify(names, u), rtol=1e-6, atol=1e-7)


def test_states_are_assigned_as_the_best_of_all_orders_would():
    gain = torch.randn(300, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gain += 2 * torch.eye(4) * torch.arange(300)[:, None, None].fmod(2)  # half need no search, mostly
    orders = torch.tensor([*itertools.permutations(range(4))])
    total = gain[:, orders, torch.arange(4)].sum(-1)
    assert torch.equal(assigned(gain), orders[total.argmax(1)])
    assert torch.equal(assigned(torch.ones(1, 4, 4)), torch.arange(4)[None])  # a tie leaves them


class Quadratic(GaussianTarget):
    """log p = −½ (θ − μ)ᵀ Λ (θ − μ)."""

    def __init__(self, mean, precision):
        self.mean, self.precision, self.dimension = mean, precision, len(mean)

    def expect(self, batch, loc, scale_tril):
        off = loc - self.mean
        cov = scale_tril @ scale_tril.T
        log_p = -0.5 * (off @ self.precision @ off + (self.precision * cov).sum())
        return Expectations(log_p, -self.precision @ off, self.precision)


def gaussian(d=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(d, d, dtype=torch.float64, generator=g)
    return torch.randn(d, dtype=torch.float64, generator=g), A @ A.T + eye(d)


def test_the_rule_finds_a_gaussian_in_one_step():
    mean, precision = gaussian()
    target = Quadratic(mean, precision)
    rule = GaussianRule()
    state = rule.init({"loc": torch.zeros(1, 4, dtype=torch.float64), "precision": eye(4)[None]})
    state, _ = rule.step(target, state, None)
    torch.testing.assert_close(state.loc, mean)
    torch.testing.assert_close(state.precision, precision)
    _, info = rule.step(target, state, None)
    entropy = 0.5 * (4 * (1 + np.log(2 * np.pi)) - float(torch.logdet(precision)))
    assert float(info.elbo) == pytest.approx(-2.0 + entropy)  # E[log p] = −d/2


def test_sampled_expectations_of_a_gaussian_are_exact_without_noise():
    mean, precision = gaussian()

    def log_density(u):
        off = u - mean
        return -0.5 * (off @ precision * off).sum(1), -off @ precision

    L = torch.linalg.cholesky(eye(4) * 0.3 + 0.1)
    loc = torch.ones(4, dtype=torch.float64)
    found = Sampled(log_density, 4, 64).expect(None, loc, L)
    exact = Quadratic(mean, precision).expect(None, loc, L)
    for a, b in zip(found, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_the_rule_in_one_dimension_is_the_best_gaussian_by_quadrature():
    """A skewed density, log p(u) = 3u − e^u: the best m and s of the ELBO by brute force."""

    def log_density(u):
        return (3 * u - u.exp()).sum(1), 3 - u.exp()

    rule, target = GaussianRule(), Sampled(log_density, 1, 4096)
    state = rule.init({"loc": torch.zeros(1, 1, dtype=torch.float64), "precision": eye(1)[None]})
    for _ in range(60):
        state, _ = rule.step(target, state, None)
    # E[e^u] = e^{m + s²/2}: the optimum has e^{m + s²/2} = 3 and 1/s² = 3
    s2 = 1 / 3
    assert float(state.kept[0]) == pytest.approx(np.log(3) - s2 / 2, abs=2e-3)
    assert float(state.kept[1]) == pytest.approx(3.0, rel=5e-3)  # 4,096 points leave 0.2 %


def test_the_rule_never_goes_down_and_stays_positive_definite():
    fit = ppl.fit(ppl.GMM(components=2), overlapping(), restarts=2)
    posterior = ExactPosterior(fit.bound, fit.batch)
    u = posterior.space.point(Learned(fit.bound, fit.params).draw(500))
    d = posterior.dimension
    rule, target = GaussianRule(), Sampled(posterior, d, 64)
    state = rule.init({"loc": u.mean(0)[None] + 0.3, "precision": 100 * eye(d)[None]})
    elbo = []
    for _ in range(15):
        state, info = rule.step(target, state, None)
        elbo.append(float(info.elbo))
        torch.linalg.cholesky(state.precision)
    assert all(b >= a - 1e-7 * abs(a) for a, b in zip(elbo[:-1], elbo[1:], strict=True))
    assert elbo[-1] > fit.elbo  # a full covariance and no factor for the latents: a better bound


def test_a_curvature_that_is_not_positive_definite_does_no_harm():
    found = moved(eye(3), -5 * eye(3) + gaussian(3)[1], 1.0)
    assert (torch.linalg.eigvalsh(found) > 0).all()


def test_normal_points_have_the_moments_of_a_normal():
    x = normal_points(64, 5)
    torch.testing.assert_close(x.mean(0), torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(x.T @ x / 64, eye(5), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("number", "dimension", "seed"), [(1, 1, 0), (100, 33, 7), (512, 200, 3)])
def test_sobol_points_are_those_of_scipy(number, dimension, seed):
    power = int(np.ceil(np.log2(number)))
    peer = qmc.Sobol(dimension, rng=seed).random_base2(power)[:number]
    np.testing.assert_array_equal(sobol_points(number, dimension, seed), peer)


def test_moving_forgets_a_wrong_guide():
    """From a guide that is a sd off and half as wide, to a correlated Gaussian."""
    mean, precision = gaussian(5, 2)
    cov = torch.linalg.inv(precision)

    def log_density(u):
        off = u - mean
        return -0.5 * (off @ precision * off).sum(1), -off @ precision

    start = (
        mean
        + cov.diagonal().sqrt()
        + 0.5 * torch.randn(500, 5, dtype=torch.float64) @ torch.linalg.cholesky(cov).T
    )
    found = move(log_density, start, torch.linalg.cholesky(torch.diag(cov.diagonal())), most=48)
    assert found.forgot
    assert len(found.points) == 4_000
    off = (found.points.mean(0) - mean) / cov.diagonal().sqrt()
    assert off.abs().max() < 0.12  # 4 standard errors of about 1,000 independent draws
    torch.testing.assert_close(found.points.std(0), cov.diagonal().sqrt(), rtol=0.1, atol=0)
    torch.testing.assert_close(found.log_p, log_density(found.points)[0])


def test_moving_between_modes_that_no_path_joins_is_not_forgotten():
    def log_density(u):
        both = torch.stack([-0.5 * (u - 20) ** 2, -0.5 * (u + 20) ** 2]).sum(-1)
        share = both.softmax(0)
        return both.logsumexp(0), -(share[0][:, None] * (u - 20) + share[1][:, None] * (u + 20))

    start = torch.where(torch.rand(500, 1) < 0.5, 20.0, -20.0).to(torch.float64)
    assert not move(log_density, start, eye(1), most=16).forgot


def test_correlation_sees_a_width_that_is_remembered():
    width = torch.rand(4_000, 1, dtype=torch.float64) * 4
    a, b = (width * torch.randn(4_000, 1, dtype=torch.float64) for _ in range(2))
    assert abs(float(np.corrcoef(a[:, 0], b[:, 0])[0, 1])) < 0.1
    assert correlation(a, b) > 0.12  # 0.18 of the squares


def test_observed_information_is_the_hessian():
    """Differences of gradients of all rows, taken apart into complete and missing information."""
    fit = ppl.fit(ppl.GMM(components=2), overlapping(), restarts=2)
    posterior = ExactPosterior(fit.bound, fit.batch)
    u = posterior.space.point(Learned(fit.bound, fit.params).draw(300))
    loc = u.mean(0)
    # at the maximum of the ELBO the statistics of all rows are those that the rule carries
    _, statistics = fit.bound.local(fit.batch, posterior.natural(loc[None]))
    found = observed_information(posterior, statistics, loc, 1e-4 * u.std(0), 1.0)
    hessian = _hessian(posterior, loc)
    torch.testing.assert_close(found, -hessian, rtol=2e-3, atol=2e-2)


def _hessian(posterior, loc):
    step = 1e-4 * eye(len(loc))
    return (posterior(loc + step)[1] - posterior(loc - step)[1]) / 2e-4


def test_widths_that_nothing_corrected_are_judged_by_how_far_they_are_off():
    for worst, level in ((1.05, "ok"), (1.5, "warn"), (4.0, "fail"), (float("inf"), "fail")):
        found = _widths(torch.tensor([1.0, worst]).double(), "mean field", "fit a smaller model")
        assert found.level == level
    assert _widths(torch.tensor([1.0, 4.0]).double(), "linear response", "").level == "ok"


def test_linear_response_has_the_widths_of_moved_draws():
    x = overlapping(1_500, 3)
    fit = ppl.fit(ppl.GMM(components=2), x, restarts=2)
    learned, posterior = Learned(fit.bound, fit.params), ExactPosterior(fit.bound, fit.batch)
    found = respond(learned, posterior, fit.data, "cpu", 0)
    assert found.method == "linear response"
    assert found.ratio.max() > 1.3  # the mean-field guide is too narrow here
    moves = move(posterior, found.guide.points(500), found.guide.scale_tril, most=48)
    assert moves.forgot
    ratio = found.guide.scale_tril.pow(2).sum(1).sqrt() / moves.points.std(0)
    assert ratio.min() > 0.85
    assert ratio.max() < 1.15


def test_linear_response_leaves_what_is_right():
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(c, 1.0, (3_000, 2)) for c in ((0, 0), (12, 0))])
    fit = ppl.fit(ppl.GMM(components=2), x, restarts=2)
    found = respond(Learned(fit.bound, fit.params), ExactPosterior(fit.bound, fit.batch), fit.data, "cpu", 0)
    assert found.method == "mean field"
    assert found.ratio.min() > 0.9
    assert found.ratio.max() < 1.1


@pytest.mark.parametrize("limit", ["mean field", "Gaussian", "linear response", "moved"])
def test_each_way_is_taken_where_it_belongs(limit, monkeypatch):
    rng = np.random.default_rng(3)
    apart = np.concatenate([rng.normal(c, 1.0, (200, 1)) for c in (0, 12)])
    near = overlapping(300)[:, :1]
    fit = ppl.fit(ppl.GMM(components=2), apart if limit == "mean field" else near, restarts=2)
    if limit in ("Gaussian", "linear response"):
        monkeypatch.setattr(latent, "MOVE_WORK", 0)
    if limit in ("linear response", "moved"):
        monkeypatch.setattr(latent, "RULE_WORK", 0)
    assert RULE_WORK > 0
    assert fit.bound.calibrate(fit.params, fit.data, "cpu", 0).method == limit


@pytest.mark.slow
def test_draws_of_one_fit_are_the_same_each_time_and_after_loading(tmp_path):
    fit = ppl.fit(ppl.GMM(components=2), overlapping(), restarts=2)
    again = ppl.fit(ppl.GMM(components=2), overlapping(), restarts=2)
    a, b = fit.posterior_draws, again.posterior_draws
    from ppl_models.runs import save

    c = ppl.load(save(fit, tmp_path / "run")).posterior_draws
    for other in (b, c):
        np.testing.assert_array_equal(a.log_p, other.log_p)
        assert a.k_hat == pytest.approx(other.k_hat, rel=1e-6)
