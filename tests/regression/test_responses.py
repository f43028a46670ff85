"""Responses of generalised linear models: densities, expectations and distribution functions."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from ppl_models.regression.responses import RESPONSES

ALL = [(name, link) for name, family in RESPONSES.items() for link in family.links]
TRIALS = 7


def made(name: str, link: str):
    """A response, and targets of it with their trials."""
    rng = np.random.default_rng(3)
    y = {
        "normal": rng.normal(2, 3, 40),
        "student_t": rng.standard_t(3, 40) * 2,
        "poisson": rng.poisson(2.0, 40),
        "negative_binomial": rng.negative_binomial(2, 0.4, 40),
        "binomial": rng.binomial(TRIALS, 0.4, 40),
        "gamma": rng.gamma(2, 2, 40),
        "ordinal": rng.integers(0, 4, 40),
    }[name]
    y = torch.tensor(y, dtype=torch.float64)
    trials = torch.full((40,), float(TRIALS), dtype=torch.float64) if name == "binomial" else None
    return RESPONSES[name].of(link, y, 4), y, trials


def frozen(response, name: str, link: str, f: float):
    """The same by SciPy, in the user's units."""
    user = {k: np.asarray(v[0]) for k, v in response.user(response.psi[None]).items()}
    mean = float(response.mean(torch.tensor([[f]], dtype=torch.float64), response.psi[None])[0, 0])
    if name == "normal":
        return stats.norm(mean, user["sigma"])
    if name == "student_t":
        return stats.t(user["nu"], mean, user["sigma"])
    if name == "poisson":
        return stats.poisson(mean)
    if name == "negative_binomial":
        r = 1 / user["dispersion"]
        return stats.nbinom(r, r / (r + mean))
    if name == "binomial":
        return stats.binom(TRIALS, mean)
    if name == "gamma":
        return stats.gamma(user["shape"], scale=mean / user["shape"])
    F = stats.logistic.cdf if link == "logit" else stats.norm.cdf
    return stats.rv_discrete(values=(range(4), np.diff([0, *F(user["cutpoint"] - f), 1])))


@pytest.mark.parametrize(("name", "link"), ALL)
@pytest.mark.parametrize("f", [-0.7, 0.4, 1.9])
def test_densities_and_distribution_functions_are_those_of_scipy(name, link, f):
    response, y, trials = made(name, link)
    at = torch.full((1, len(y)), f, dtype=torch.float64)
    other = frozen(response, name, link, f)
    found = response.log_prob(at[..., None], response.standardised(y), response.psi[None], trials)
    found = found[0] - np.log(response.unit)
    log = other.logpmf if response.discrete else other.logpdf
    np.testing.assert_allclose(found, log(y.numpy()), rtol=1e-9, atol=1e-9)
    cdf = response.cdf(y, at, response.psi[None], trials)[0]
    np.testing.assert_allclose(cdf, other.cdf(y.numpy()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "link"), ALL)
def test_draws_have_the_mean_of_the_density(name, link):
    """Within five standard errors: fails by chance once in a million."""
    response, _, _ = made(name, link)
    torch.manual_seed(0)
    f = torch.full((1, 20_000), 0.4, dtype=torch.float64)
    trials = torch.tensor(float(TRIALS)) if name == "binomial" else None
    drawn = response.sample(f, response.psi[None], trials)[0].numpy()
    other = frozen(response, name, link, 0.4)
    sd = drawn.std() if name == "student_t" else other.std()
    assert abs(drawn.mean() - other.mean()) < 5 * sd / np.sqrt(len(drawn))


@pytest.mark.parametrize(("name", "link"), ALL)
@pytest.mark.parametrize(("m", "v"), [(0.3, 0.04), (-0.5, 0.6)])
def test_expectations_under_a_gaussian_are_those_of_fine_quadrature(name, link, m, v):
    response, y, trials = made(name, link)
    y, trials = y[:6], None if trials is None else trials[:6]
    mean, cov = torch.full((6, 1), m).double(), torch.full((6, 1, 1), v).double()
    found = response.row_terms(response.standardised(y), mean, cov, trials)
    x, w = np.polynomial.hermite_e.hermegauss(120)
    w = torch.tensor(w / w.sum())
    f = (mean[:, 0] + np.sqrt(v) * torch.tensor(x)[:, None]).requires_grad_()
    more = None if trials is None else trials.expand_as(f)
    each = response.density(f, response.standardised(y).expand_as(f), tuple(response.psi), more)
    (slope,) = torch.autograd.grad(each.sum(), f, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), f)
    tolerance = 2e-3 if name == "student_t" else 2e-5  # whose poles are near
    np.testing.assert_allclose(found.value, (w @ each).detach(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found.gradient[:, 0], (w @ slope).detach(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found.curvature[:, 0, 0], -(w @ bend), rtol=5 * tolerance, atol=5 * tolerance)


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("normal", lambda u: u["sigma"]),
        ("negative_binomial", lambda u: u["dispersion"]),
        ("gamma", lambda u: u["shape"]),
    ],
)
def test_priors_of_shared_numbers_are_densities(name, of):
    response, _, _ = made(name, RESPONSES[name].links[0])

    def density(psi: float) -> float:
        return float(response.log_prior(torch.tensor([[psi]], dtype=torch.float64)).exp())

    assert integrate.quad(density, -40, 40, limit=200)[0] == pytest.approx(1.0, abs=1e-6)
    assert of(response.user(response.psi[None])) > 0


def test_the_prior_of_a_t_is_a_density():
    response, _, _ = made("student_t", "identity")
    grid = torch.cartesian_prod(torch.linspace(-20, 4, 400), torch.linspace(-20, 8, 400)).double()
    cell = (24 / 399) * (28 / 399)
    assert float(response.log_prior(grid).exp().sum()) * cell == pytest.approx(1.0, abs=1e-3)
