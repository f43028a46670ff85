"""Rubin's rules against figures by hand, and by simulation."""

import numpy as np
import pytest
import scipy.stats as ss

import ppl_models as ppl
from ppl_models.errors import UsageError


def test_the_rules_are_those_of_the_book():
    """Figures by hand: Ū = 4, B = 1, m = 5, T = 5.2, λ = 3/13, ν = 4 · (13/3)²."""
    found = ppl.pool(10 + np.array([-1.2, -0.8, 0.0, 0.8, 1.2]) / 1.04**0.5, np.full(5, 4.0))
    np.testing.assert_allclose(
        [found.estimate, found.within, found.between, found.standard_error**2, found.dof],
        [10.0, 4.0, 1.0, 5.2, 4 * (13 / 3) ** 2],
    )
    low, high = found.interval(0.9)
    half = ss.t.ppf(0.95, 4 * (13 / 3) ** 2) * 5.2**0.5
    np.testing.assert_allclose([low, high], [10 - half, 10 + half])


def test_small_samples_have_the_degrees_of_barnard_and_rubin():
    """With nothing missing ν = ν_com (ν_com + 1) / (ν_com + 3); never more than ν_com."""
    same = ppl.pool(np.ones((3, 2)), np.full((3, 2), 0.5), dof=20)
    np.testing.assert_allclose(same.dof, 20 * 21 / 23)
    np.testing.assert_allclose(same.fraction_missing, 0.0)
    assert np.isinf(ppl.pool([1.0, 1.0], [1.0, 1.0]).dof)
    assert ppl.pool([1.0, 2.0, 4.0], [1.0, 1.0, 1.0], dof=20).dof < 20


@pytest.mark.parametrize(
    ("estimates", "variances", "dof", "said"),
    [
        ([1.0], [1.0], 10, "two or more"),
        ([1.0, 2.0], [1.0], 10, "as many variances"),
        ([1.0, 2.0], [1.0, -1.0], 10, "negative"),
        ([1.0, 2.0], [1.0, 1.0], 0, "dof"),
        (["a", "b"], [1.0, 1.0], 10, "numbers"),
    ],
)
def test_what_cannot_be_pooled_is_refused(estimates, variances, dof, said):
    with pytest.raises(UsageError, match=said):
        ppl.pool(estimates, variances, dof)


def test_intervals_cover_where_draws_are_proper():
    """A mean of 40 normal cells, 15 of them missing: 2,000 tables, imputed from the exact posterior."""
    rng, n, seen, m, hits = np.random.default_rng(0), 40, 25, 5, 0
    for _ in range(2_000):
        y = rng.normal(size=seen)
        variance = y.var(ddof=1) * (seen - 1) / rng.chisquare(seen - 1, m)
        mean = rng.normal(y.mean(), np.sqrt(variance / seen))
        filled = rng.normal(mean[:, None], np.sqrt(variance)[:, None], (m, n - seen))
        tables = np.concatenate([np.tile(y, (m, 1)), filled], 1)
        low, high = ppl.pool(tables.mean(1), tables.var(1, ddof=1) / n, n - 1).interval(0.9)
        hits += low <= 0 <= high
    assert abs(hits / 2_000 - 0.9) < 3 * (0.09 / 2_000) ** 0.5 + 0.01  # the rules are approximate themselves


@pytest.mark.slow
def test_completed_tables_pool_to_intervals_that_cover():
    """The mean of a column with a third of its cells missing where the other is high: 60 tables of a fit."""
    rng, hits, n = np.random.default_rng(1), 0, 120
    for seed in range(60):
        x = rng.multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], n)
        x[:, 1][(x[:, 0] > 0) & (rng.random(n) < 0.66)] = np.nan
        fit = ppl.fit(ppl.GMM(components=1), x, seed=seed)
        tables = fit.impute(copies=10, seed=seed)
        own = tables.groupby("copy")["x1"]
        low, high = ppl.pool(own.mean(), own.var(ddof=1) / n, n - 1).interval(0.9)
        hits += low <= 0 <= high
    assert ss.binomtest(hits, 60, 0.9).pvalue > 0.01
