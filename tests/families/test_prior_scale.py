"""The sizes of the prior of Gaussian columns: where the evidence is greatest, within their intervals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import ppl_models as ppl
from ppl_models.families.full_gaussian import FullGaussian
from ppl_models.families.normal_prior import NormalPrior
from ppl_models.kernels.workspace import Workspace
from ppl_models.runs import manifest

COVARIANCES = ["full", "tied", "diag", "spherical"]


def overlapping(rows=90, columns=3, seed=0):
    """Two states whose variances are a third of those of all rows."""
    rng = np.random.default_rng(seed)
    z = rng.integers(2, size=rows)
    return (
        1.2 * np.where(z, 1.0, -1.0)[:, None] + rng.normal(size=(rows, columns)) * [1.0, 0.8, 1.2][:columns]
    )


def sizes(fit):
    """S² of each column: the diagonal where there is a matrix."""
    found = np.atleast_1d(fit.resolved.state_variance)
    return found.diagonal() if found.ndim == 2 else found


def given(found):
    """As a field of a model."""
    return tuple(map(tuple, found)) if found.ndim == 2 else tuple(found)


def widest(model, data):
    """The upper end, for models whose columns are all Gaussian."""
    return (model.components if isinstance(model, ppl.GMM) else model.states) ** (-2 / len(data.names))


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("family", [ppl.GMM, pytest.param(ppl.HMM, marks=pytest.mark.slow)])
def test_elbo_is_greatest_at_the_learned_scale(family, covariance, missing):
    x = overlapping()
    if missing:
        x[np.random.default_rng(1).random(x.shape) < 0.1] = np.nan
    model = family(covariance=covariance)
    fit = ppl.fit(model, x, restarts=4, tolerance=1e-7)
    scale = np.atleast_1d(fit.resolved.state_variance)
    assert (sizes(fit) < 0.95 * widest(model, fit.data)).any()

    def elbo(factor):
        joint = replace(fit.resolved, state_variance=given(factor * scale)).bind(fit.data.schema)
        statistics, batch = dict(fit.params), joint.dataset_batch(fit.data)
        for _ in range(30):
            value, statistics = joint.elbo(batch, statistics)
        return float(value[0])

    at = {factor: elbo(factor) for factor in (0.8, 0.99, 1.0, 1.01, 1.25)}
    assert at[1.0] == pytest.approx(fit.elbo, abs=1e-4)
    if scale.ndim == 2 or (scale < 0.999 * widest(model, fit.data)).all():
        assert max(at, key=lambda factor: at[factor]) == 1.0
        slope = (at[1.01] - at[0.99]) / np.log(1.01 / 0.99)
        curvature = (at[1.25] + at[0.8] - 2 * at[1.0]) / np.log(1.25) ** 2
        assert abs(slope / curvature) < 1e-3  # how far off the log of the scale is


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_sizes_are_numbers_of_precisions_over_their_means(covariance):
    """I = mean of E[Λ_k] P, and κ₀ = 1/mean of E[μᵀ Λ μ], of states narrow in the table."""
    x = overlapping() + 200 * (np.arange(90) % 2)[:, None] * [1.0, 0.8, 1.2]
    fit = ppl.fit(ppl.GMM(components=2, covariance=covariance), x, restarts=2)
    (e,) = fit.bound.emissions
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theta = e.draw(fit.params["gaussian"].expand(20_000, *e.shape))
    precision, mean = theta["precision"], theta["mean"]
    P = torch.as_tensor(fit.resolved.state_variance, dtype=torch.float64)
    if covariance in ("full", "tied"):
        ratio = (precision @ P).flatten(-2) + 1 - torch.eye(3).double().flatten()
        square = (mean.unsqueeze(-2) @ precision @ mean.unsqueeze(-1)).squeeze(-1) / 3
    else:
        ratio, square = precision * P, precision * mean**2
    if covariance == "spherical":
        ratio = ratio.mean(-1, keepdim=True)
    weight = torch.as_tensor(fit.resolved.mean_precision, dtype=torch.float64).reshape(-1)
    for found in (ratio.mean(1), (square * weight).mean(1)):
        error = found.std(0) / 20_000**0.5
        assert bool(((found.mean(0) - 1).abs() < 5 * error).all())


@pytest.mark.slow
def test_rows_that_are_equal_do_not_draw_the_scale_to_zero():
    x = np.concatenate([overlapping(40), np.ones((30, 3))])
    fit = ppl.fit(ppl.GMM(components=3), x)
    assert min(sizes(fit)) > 1e-9
    assert np.isfinite(fit.elbo)
    assert float(fit.posterior["posterior"]["sd"].min()) > 1e-6


def test_one_state_takes_the_wide_end():
    fit = ppl.fit(ppl.GMM(components=1), np.random.default_rng(3).standard_t(3, size=(50, 3)))
    assert sizes(fit) == pytest.approx((1.0, 1.0, 1.0), rel=0.2)


@pytest.mark.parametrize("seed", range(5))
def test_scale_is_the_root_of_the_slope(seed):
    rng = np.random.default_rng(seed)
    D = int(rng.integers(1, 60))
    prior = NormalPrior(0.01, 3.0, 1e-6, 0.7)
    scatter = torch.as_tensor(rng.chisquare(1, (200, 4, D)) * 10.0 ** rng.uniform(-9, 4, (200, 1, 1)))
    dof = prior.dof + torch.as_tensor(rng.integers(0, 300, (200, 4, 1)).astype(float))
    found = prior.scale(dof, scatter)
    slope = (1 - dof * found / (prior.dof * found + scatter)).mean(1, keepdim=True)
    low, high = found <= prior.variance * (1 + 1e-9), found >= 0.7 * (1 - 1e-9)
    assert bool((slope[low] <= 1e-9).all())
    assert bool((slope[high] >= -1e-9).all())
    assert bool((slope[~low & ~high].abs() < 1e-8).all())
    assert bool((~low & ~high).any())


@pytest.mark.slow
def test_saved_and_read_it_is_the_same(tmp_path):
    fit = ppl.fit(ppl.GMM(components=2), overlapping(), seed=1)
    again = ppl.load(fit.save(tmp_path / "run"))
    assert fit.model.state_variance is None
    assert again.model == fit.model
    assert again.resolved == fit.resolved
    assert float(again.bound.elbo(again.batch, again.params)[0][0]) == pytest.approx(fit.elbo, rel=1e-12)
    np.testing.assert_array_equal(again.posterior_draws.log_p, fit.posterior_draws.log_p)
    repeated = ppl.fit(ppl.GMM(components=2), overlapping(), seed=1)
    assert repeated.resolved == fit.resolved


def test_resolved_model_fits_the_same():
    fit = ppl.fit(ppl.GMM(components=2), overlapping(), tolerance=1e-6)
    given = ppl.fit(fit.resolved, overlapping(), tolerance=1e-6)
    assert given.resolved is fit.resolved
    assert given.elbo == pytest.approx(fit.elbo, abs=1e-3)


def test_given_scale_stays():
    model = ppl.GMM(components=2, state_variance=0.123, mean_precision=0.01)
    assert ppl.fit(model, overlapping()).resolved is model


def test_no_gaussian_no_scale():
    model = ppl.GMM(components=2)
    fit = ppl.fit(model, np.random.default_rng(0).poisson(3.0, 60).astype(float)[:, None])
    assert fit.resolved is model


def test_mini_batches_learn_the_same():
    x = overlapping(4_000)
    whole, parts = ppl.fit(ppl.GMM(components=2), x), ppl.fit(ppl.GMM(components=2), x, batch_size=500)
    assert sizes(parts) == pytest.approx(sizes(whole), rel=0.02)


def test_classes_share_the_scale():
    x = overlapping()
    table = {"a": x[:, 0], "b": x[:, 1], "y": np.where(x[:, 2] > 0, "u", "v")}
    fit = ppl.fit(ppl.GMM(components=1), table, target="y")
    assert len(fit.resolved.state_variance) == 2
    assert max(sizes(fit)) <= 1


def test_manifest_says_what_was_learned():
    fit = ppl.fit(ppl.GMM(components=2), overlapping())
    found = manifest(fit)
    assert found["fields"]["state_variance"] is None
    sizes = {"state_variance": fit.resolved.state_variance, "mean_precision": fit.resolved.mean_precision}
    assert found["learned"] == sizes


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_without_data_it_is_the_most(covariance):
    data = ppl.read(overlapping())
    (e,) = ppl.GMM(components=2, covariance=covariance).bind(data.schema).emissions
    variance, precision = e.sizes(e.zeros(1))
    np.testing.assert_allclose(variance, e.prior.widest, rtol=1e-12)
    np.testing.assert_allclose(precision, 0.01, rtol=1e-12)


def narrow(rows, seed=0):
    """Two states whose smallest variances are 1e-10 of their largest, in directions of their own."""
    rng = np.random.default_rng(seed)
    z, e = rng.integers(2, size=rows), rng.normal(size=(rows, 4)) * [1.0, 1e-2, 1e-4, 1e-5]
    turn = np.linalg.qr(np.random.default_rng(9).normal(size=(2, 4, 4)))[0]
    return np.einsum("nij,nj->ni", turn[z], e) + 3 * z[:, None]


def test_shape_is_learned_where_covariances_are_close_to_singular():
    """Held out no worse than the density of maximum likelihood with the states known."""
    x, test, z = narrow(300), narrow(2_000, 1), np.random.default_rng(0).integers(2, size=300)
    fit = ppl.fit(ppl.GMM(components=2), x, restarts=1)
    parts = []
    for k in range(2):
        part = torch.as_tensor(x[z == k])
        best = torch.distributions.MultivariateNormal(part.mean(0), torch.cov(part.T, correction=0))
        parts.append(np.log((z == k).mean()) + best.log_prob(torch.as_tensor(test)).numpy())
    theirs = np.logaddexp(*parts).mean()
    assert fit.score(test)["log_density"].mean() > theirs
    assert len(fit.resolved.state_variance[0]) == 4


@pytest.mark.parametrize("tied", [False, True])
def test_learned_shape_is_the_root_of_the_slope(tied):
    """K P⁻¹ = Σ E[Λ_k], for scatter of any size in any directions."""
    rng = np.random.default_rng(2)
    scatter = rng.normal(size=(3, 4, 4)) * 10.0 ** rng.uniform(-1.5, 0, (3, 1, 4))
    n = torch.tensor([40.0, 90.0, 20.0]).double()
    zero = torch.zeros(4).double()
    e = ppl.GMM(components=3, covariance="tied" if tied else "full").bind(ppl.read(narrow(99)).schema)
    (e,) = e.emissions
    W = n[:, None, None] * torch.as_tensor(scatter @ scatter.swapaxes(1, 2))
    S = e._pack(n, zero.expand(3, 4), W)[None]
    P = torch.tensor(e.learned(S)["state_variance"]).double()
    _, _, precision = e._parts(e.expected_natural(S))
    half = torch.linalg.cholesky(P)
    found = half.mT @ precision[0].mean(0) @ half
    torch.testing.assert_close(found, torch.eye(4).double(), rtol=0, atol=1e-5)


def test_matrices_that_cannot_be_meant_are_refused():
    with pytest.raises(ppl.UsageError, match="symmetric positive definite"):
        ppl.GMM(state_variance=((1.0, 2.0), (2.0, 1.0)))
    with pytest.raises(ppl.UsageError, match="only where columns share a covariance"):
        ppl.fit(ppl.GMM(covariance="diag", state_variance=np.eye(3).tolist()), overlapping())


def test_sizes_of_another_number_of_columns_are_refused():
    with pytest.raises(
        ppl.UsageError, match="state_variance must be one number or one for each of 3 columns"
    ):
        ppl.fit(ppl.GMM(state_variance=(1.0, 2.0)), overlapping())


@pytest.mark.parametrize("case", ["narrow", "floor", "given weight", "tied"])
def test_the_compiled_search_finds_what_torch_finds(case):
    """P, κ₀ and what follows; of several parameter sets, one of which has an empty state."""
    D, K, R = 3, 4, 3
    prior = NormalPrior(0.01, D + 2.0, 1e-6, widest=0.4, flattest=1e-16)
    if case == "floor":
        prior = replace(prior, variance=(1e-6, 0.3, 1e-6))
    if case == "given weight":
        prior = replace(prior, mean_precision=0.05, flattest=None)
    one = torch.ones(D, dtype=torch.float64)
    e = FullGaussian((0, 1, 2), K, 0 * one, one, prior, tied=case == "tied")
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(200, D, dtype=torch.float64, generator=rng) * torch.tensor([1.0, 0.05, 0.3])
    x = x + torch.randint(2, (200, 1), generator=rng) * torch.tensor([2.0, 0.0, 0.1])
    gamma = torch.rand(R, 200, K, dtype=torch.float64, generator=rng).pow(4)
    gamma[0, :, 0] = 0.0
    features = e.features(x, Workspace(), "x")
    S = e.statistics(features, gamma / gamma.sum(-1, keepdim=True), e.zeros(R))
    compiled, plain = e._compiled(S), e._posterior(S)
    assert compiled is not None
    for a, b in zip(compiled, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(e._log_z(S, *compiled), e._log_z(S, *plain), rtol=1e-10, atol=1e-8)


def test_derivatives_are_those_of_torch():
    """Training has none; where they are asked for, nothing is compiled."""
    fit = ppl.fit(ppl.GMM(components=2), overlapping(), restarts=1, steps=5)
    (e,) = fit.bound.emissions
    S = fit.params["gaussian"].clone().requires_grad_()
    (slope,) = torch.autograd.grad(e.log_normalizer(S).sum(), S)
    torch.testing.assert_close(slope, e.expected_natural(S.detach()), rtol=1e-5, atol=1e-5)
