"""The scale of the prior of Gaussian variances: where the evidence is greatest, within its interval."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import ppl_models as ppl
from ppl_models.families.normal_prior import NormalPrior, most_probable
from ppl_models.runs import manifest

COVARIANCES = ["full", "tied", "diag", "spherical"]


def overlapping(rows=90, columns=3, seed=0):
    """Two states whose variances are a third of those of all rows."""
    rng = np.random.default_rng(seed)
    z = rng.integers(2, size=rows)
    return (
        1.2 * np.where(z, 1.0, -1.0)[:, None] + rng.normal(size=(rows, columns)) * [1.0, 0.8, 1.2][:columns]
    )


def ends(model, data):
    """The interval, for models whose columns are all Gaussian."""
    D = len(data.names)
    widest = (model.components if isinstance(model, ppl.GMM) else model.states) ** (-2 / D)
    return widest / (D + 2), widest


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("family", [ppl.GMM, ppl.HMM])
def test_elbo_is_greatest_at_the_learned_scale(family, covariance, missing):
    x = overlapping()
    if missing:
        x[np.random.default_rng(1).random(x.shape) < 0.1] = np.nan
    model = family(covariance=covariance)
    fit = ppl.fit(model, x, restarts=4, tolerance=1e-7)
    scale = fit.resolved.state_variance
    low, high = ends(model, fit.data)
    assert 1.05 * low < scale < 0.95 * high

    def elbo(factor):
        joint = replace(model, state_variance=factor * scale).bind(fit.data.schema)
        statistics, batch = dict(fit.params), joint.dataset_batch(fit.data)
        for _ in range(30):
            value, statistics = joint.elbo(batch, statistics)
        return float(value[0])

    at = {factor: elbo(factor) for factor in (0.8, 0.99, 1.0, 1.01, 1.25)}
    assert at[1.0] == pytest.approx(fit.elbo, abs=1e-4)
    assert max(at, key=lambda factor: at[factor]) == 1.0
    slope = (at[1.01] - at[0.99]) / np.log(1.01 / 0.99)
    curvature = (at[1.25] + at[0.8] - 2 * at[1.0]) / np.log(1.25) ** 2
    assert abs(slope / curvature) < 1e-3  # how far off the log of the scale is


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_scale_is_the_number_of_precisions_over_their_means(covariance):
    fit = ppl.fit(ppl.GMM(components=2, covariance=covariance), overlapping(), restarts=2)
    (e,) = fit.bound.emissions
    with torch.random.fork_rng():
        torch.manual_seed(0)
        precision = e.draw(fit.params["gaussian"].expand(20_000, *e.shape))["precision"]
    if covariance in ("full", "tied"):
        precision = (precision @ e.correlation).diagonal(dim1=-1, dim2=-2)
    mean = float(precision.mean())
    error = float(precision.mean((-1, -2)).std()) / 20_000**0.5
    assert 1 / fit.resolved.state_variance == pytest.approx(mean, abs=4 * error)


def test_states_that_are_nearly_singular_take_the_narrow_end():
    rng = np.random.default_rng(2)
    z = rng.integers(3, size=6_000)
    x = rng.normal(size=(3, 4))[z] + 0.02 * rng.normal(size=(6_000, 4))
    model = ppl.GMM(components=3)
    fit = ppl.fit(model, x)
    assert fit.resolved.state_variance == pytest.approx(ends(model, fit.data)[0], rel=1e-12)


def test_rows_that_are_equal_do_not_draw_the_scale_to_zero():
    x = np.concatenate([overlapping(40), np.ones((30, 3))])
    fit = ppl.fit(ppl.GMM(components=3), x)
    assert fit.resolved.state_variance >= ends(fit.model, fit.data)[0] * (1 - 1e-12)
    assert np.isfinite(fit.elbo)


def test_one_state_takes_the_wide_end():
    fit = ppl.fit(ppl.GMM(components=1), np.random.default_rng(3).standard_t(3, size=(50, 3)))
    assert fit.resolved.state_variance == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("seed", range(5))
def test_most_probable_is_the_root(seed):
    rng = np.random.default_rng(seed)
    D = int(rng.integers(1, 60))
    prior = NormalPrior(0.01, D + 2.0, 0.7 / (D + 2.0), 0.7)
    scatter = torch.as_tensor(rng.chisquare(1, (200, 4, D)) * 10.0 ** rng.uniform(-4, 4, (200, 1, 1)))
    dof = prior.dof + torch.as_tensor(rng.integers(0, 300, (200, 4, 1)).astype(float))
    found = most_probable(prior, dof, scatter)[:, None, None]
    slope = (1 - dof * found / (prior.dof * found + scatter)).mean((-1, -2))
    low, high = found[:, 0, 0] <= prior.variance * (1 + 1e-12), found[:, 0, 0] >= 0.7 * (1 - 1e-12)
    assert bool((slope[low] <= 1e-9).all())
    assert bool((slope[high] >= -1e-9).all())
    assert bool((slope[~low & ~high].abs() < 1e-9).all())
    assert bool((~low & ~high).any())


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
    model = ppl.GMM(components=2, state_variance=0.123)
    assert ppl.fit(model, overlapping()).resolved is model


def test_no_gaussian_no_scale():
    model = ppl.GMM(components=2)
    fit = ppl.fit(model, np.random.default_rng(0).poisson(3.0, 60).astype(float)[:, None])
    assert fit.resolved is model


def test_mini_batches_learn_the_same():
    x = overlapping(4_000)
    whole, parts = ppl.fit(ppl.GMM(components=2), x), ppl.fit(ppl.GMM(components=2), x, batch_size=500)
    assert parts.resolved.state_variance == pytest.approx(whole.resolved.state_variance, rel=0.02)


def test_classes_share_the_scale():
    x = overlapping()
    table = {"a": x[:, 0], "b": x[:, 1], "y": np.where(x[:, 2] > 0, "u", "v")}
    fit = ppl.fit(ppl.GMM(components=1), table, target="y")
    assert 2**-1 / 4 <= fit.resolved.state_variance <= 2**-1


def test_manifest_says_what_was_learned():
    fit = ppl.fit(ppl.GMM(components=2), overlapping())
    found = manifest(fit)
    assert found["fields"]["state_variance"] is None
    assert found["learned"] == {"state_variance": fit.resolved.state_variance}


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_without_data_it_is_the_least(covariance):
    data = ppl.read(overlapping())
    (e,) = ppl.GMM(components=2, covariance=covariance).bind(data.schema).emissions
    assert float(e.variance(e.zeros(1))[0]) == pytest.approx(e.prior.variance, rel=1e-12)
