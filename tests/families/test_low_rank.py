"""Covariances of low rank beside scipy's normal, diagonal and full ones, and scikit-learn's analysis."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats as ss
import torch

import ppl_models as ppl
from ppl_models.families.gaussian import DiagonalGaussian
from ppl_models.families.low_rank import LowRankGaussian
from ppl_models.families.normal_prior import NormalPrior
from ppl_models.kernels.workspace import Workspace

K, D, RANK = 2, 4, 2
PRIOR = NormalPrior(0.5, 4.0, 1.0)
HOLES = np.array([[1.5, np.nan, 2.0, 0.3], [np.nan, -1.0, np.nan, 1.0], [np.nan] * 4, [0.0, 0.5, 3.0, -1.0]])


def analysers(rank=RANK):
    """An emission, a draw of its parameters, and means and covariances in the user's units."""
    centre, scale = torch.tensor([1.0, -2.0, 3.0, 0.0]).double(), torch.tensor([2.0, 1.0, 0.5, 1.0]).double()
    e = LowRankGaussian((0, 1, 2, 3), K, centre, scale, PRIOR, rank)
    theta = e.draw(e.zeros(1))
    w = theta["coefficient"][0]
    mean = centre + scale * w[..., 0]
    loadings = scale[:, None] * w[..., 1:]
    cov = loadings @ loadings.mT + torch.diag_embed(scale**2 / theta["precision"][0])
    return e, theta, mean.numpy(), cov.numpy()


def factor_data(rows, seed=0, columns=12, factors=2, missing=0.0):
    """Rows of one factor analyser."""
    rng = np.random.default_rng(9)
    W, unique = rng.normal(size=(columns, factors)), rng.uniform(0.2, 1, columns)
    mean = rng.normal(size=columns)
    rng = np.random.default_rng(seed)
    x = mean + rng.normal(size=(rows, factors)) @ W.T + rng.normal(size=(rows, columns)) * unique**0.5
    x[rng.random(x.shape) < missing] = np.nan
    return x


def test_density_of_observed_cells_is_scipys():
    e, theta, mean, cov = analysers()
    x = torch.as_tensor(HOLES)
    out = torch.empty(1, len(x), K, dtype=torch.float64)
    e.log_density(e.features(x, Workspace(), "f"), e.natural(theta), out, False)
    found = out[0] + e.log_base(x)[:, None]
    for i, row in enumerate(HOLES):
        o = ~np.isnan(row)
        for k in range(K):
            normal = ss.multivariate_normal(mean[k][o], cov[k][np.ix_(o, o)]) if o.any() else None
            exact = 0.0 if normal is None else normal.logpdf(row[o])
            assert float(found[i, k]) == pytest.approx(exact, abs=1e-9)


def test_missing_cells_are_drawn_from_their_conditional():
    e, theta, mean, cov = analysers()
    draws = 20_000
    local = {site: v[0, 0].expand(draws, *v.shape[2:]) for site, v in theta.items()}
    for row in HOLES[:3]:
        drawn = e.complete(local, torch.as_tensor(row).expand(draws, D)).numpy()
        h = np.isnan(row)
        assert (drawn[:, ~h] == row[~h]).all()
        gain = cov[0][np.ix_(h, ~h)] @ np.linalg.pinv(cov[0][np.ix_(~h, ~h)])
        m = mean[0][h] + gain @ (row[~h] - mean[0][~h])
        C = cov[0][np.ix_(h, h)] - gain @ cov[0][np.ix_(~h, h)]
        z = np.linalg.solve(np.linalg.cholesky(C), (drawn[:, h] - m).T)  # standard normal, (missing, draws)
        # Means to 4.5 and second moments to 5 standard errors: under 1e-4 a seed for all of them.
        assert np.abs(z.mean(1)).max() < 4.5 / draws**0.5
        assert np.abs(z @ z.T / draws - np.eye(len(z))).max() < 5 * (2 / draws) ** 0.5


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_without_factors_it_is_the_diagonal(missing):
    x = torch.as_tensor(factor_data(40, columns=D, missing=missing))
    one, gamma = torch.ones(D).double(), torch.rand(1, 40, K, dtype=torch.float64)
    for prior in (PRIOR, replace(PRIOR, widest=2.0, variance=1e-3)):
        low = LowRankGaussian((0, 1, 2, 3), K, 0 * one, one, prior, 0)
        diagonal = DiagonalGaussian((0, 1, 2, 3), K, 0 * one, one, prior)
        found = [
            e.log_normalizer(e.statistics(e.features(x, Workspace(), "f"), gamma, e.start(1)))
            for e in (low, diagonal)
        ]
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_elbo_never_falls(missing):
    """From the start on, with what the prior learns at its maximum in each step."""
    data = ppl.read(factor_data(120, columns=6, missing=missing))
    joint = ppl.GMM(components=2, covariance="low-rank", rank=2).bind(data.schema)
    batch, labels = joint.dataset_batch(data), torch.arange(data.rows)[None] % 2
    statistics = joint.from_labels(batch, labels)
    before = first = -torch.inf
    for step in range(60):
        elbo, statistics = joint.elbo(batch, statistics)
        assert float(elbo) > before - 1e-6 * abs(float(elbo))
        before, first = float(elbo), float(elbo) if step == 1 else first
    assert before > first + 20
    loadings = joint.emissions[0].draw(statistics["gaussian"])["coefficient"][..., 1:]
    assert float(loadings.square().mean()) > 0.01  # factors that were found


def test_no_factors_and_one_column_are_diagonal_and_ranks_are_refused():
    data = ppl.read(factor_data(30, columns=3))
    model = ppl.GMM(covariance="low-rank", rank=0)
    assert isinstance(model.bind(data.schema).emissions[0], DiagonalGaussian)
    assert ppl.GMM(covariance="low-rank", rank=9).bind(data.schema).emissions[0].rank == 2
    with pytest.raises(ppl.UsageError, match="rank must be at least 0, got -1"):
        ppl.GMM(covariance="low-rank", rank=-1)
    with pytest.raises(ppl.UsageError, match="rank must be a whole number, got 1.5"):
        ppl.HMM(covariance="low-rank", rank=1.5)
    with pytest.raises(ppl.UsageError, match="got 'low-rank'"):
        ppl.HMM(covariance="low-rank", autoregressive=True).bind(data.schema)


@pytest.mark.slow
def test_held_out_density_is_that_of_factor_analysis_and_of_a_full_covariance():
    """To a hundredth of a nat a row, of 500 rows that it learns from: the prior is worth a row or two."""
    from sklearn.decomposition import FactorAnalysis

    x, new = factor_data(500, seed=1), factor_data(4_000, seed=2)

    def held_out(**fields):
        fit = ppl.fit(ppl.GMM(components=1, **fields), x, tolerance=1e-6)
        return float(fit.score(new)["log_density"].mean())

    peer = FactorAnalysis(2, tol=1e-8, max_iter=5_000).fit(x).score(new)
    assert held_out(covariance="low-rank", rank=2) == pytest.approx(peer, abs=0.01)
    full = held_out()
    assert held_out(covariance="low-rank", rank=11) == pytest.approx(full, abs=0.01)
    assert peer > full + 0.02


def test_nothing_inflates_loadings_of_many_columns():
    """Under a flat prior the variance of a column would be about 1 + columns/rows times that of its cells."""
    x = factor_data(60, columns=30)
    fit = ppl.fit(ppl.GMM(components=1, covariance="low-rank", rank=2), x)
    (e,) = fit.bound.emissions
    sd = e.user(e.draw(fit.params[e.name].expand(200, *e.shape)))["sd"][0].reshape(-1, 30).numpy()
    assert np.median((sd**2).mean(0) / x.var(0)) == pytest.approx(1.0, abs=0.12)
    assert fit.resolved.loading_precision > 0.05


def test_turned_factors_are_turned_back_and_turning_leaves_the_density():
    e, theta, _, _ = analysers()
    x = torch.as_tensor(HOLES[[0, 3]])
    angle = torch.tensor(0.7).double()
    R = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    w = theta["coefficient"]
    turned = {**theta, "coefficient": torch.cat([w[..., :1], w[..., 1:] @ R], -1)}
    torch.testing.assert_close(e.aligned(turned, theta)["coefficient"], w)

    def density(theta):
        out = torch.empty(len(theta["precision"]), len(x), K, dtype=torch.float64)
        e.log_density(e.features(x, Workspace(), "f"), e.natural(theta), out, False)
        return out

    torch.testing.assert_close(density(turned), density(theta))
    (along,) = e.tangents(theta).values()
    assert len(along) == K  # one angle for each state
    many = {"precision": theta["precision"].expand(len(along), -1, -1), "coefficient": w + 1e-5 * along}
    torch.testing.assert_close(density(many), density(theta).expand(len(along), -1, -1), rtol=0, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [100, 12_000])
def test_intervals_hold_the_truth_as_often_as_they_say(rows):
    """By moved draws, and by linear response; below 80 % in one of 200 runs, 62 % by the guide alone."""
    held = []
    for seed in range(20 if rows == 100 else 8):
        rng = np.random.default_rng(seed)
        W, mean, unique = rng.normal(size=(6, 2)), rng.normal(size=6), rng.uniform(0.3, 1, 6)
        x = mean + rng.normal(size=(rows, 2)) @ W.T + rng.normal(size=(rows, 6)) * unique**0.5
        fit = ppl.fit(ppl.GMM(components=1, covariance="low-rank", rank=2), x, seed=seed)
        assert fit.calibrated.method == ("moved" if rows == 100 else "linear response")
        for name, true in (("mean", mean), ("sd", np.sqrt((W**2).sum(1) + unique))):
            low, high = np.quantile(
                np.asarray(fit.posterior["posterior"][name]).reshape(-1, 6), [0.05, 0.95], 0
            )
            held.append((low <= true) & (true <= high))
    assert np.mean(held) > 0.8
