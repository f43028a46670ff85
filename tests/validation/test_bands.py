"""The band of uniform ranks and its p-value, against simulated ranks and against a sum over all of them."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from ppl_models.validation.bands import Band, band, counts, coverage, p_value


def test_coverage_is_the_share_of_all_possible_ranks_within_the_bounds():
    """4 ranks of 0 … 3: all 256 of them, equally likely."""
    bounds = Band(np.array([0, 1, 2]), np.array([2, 3, 4]))
    every = [counts(np.array(ranks), 3) for ranks in product(range(4), repeat=4)]
    inside = [bool((bounds.lower <= C).all() and (bounds.upper >= C).all()) for C in every]
    assert coverage(bounds, 4) == pytest.approx(np.mean(inside), abs=1e-12)


@pytest.mark.parametrize(("number", "draws", "level"), [(40, 19, 0.95), (200, 99, 0.95), (500, 49, 0.8)])
def test_uniform_ranks_leave_the_band_as_often_as_it_says(number, draws, level):
    bounds = band(number, draws, level)
    exact = coverage(bounds, number)
    assert level <= exact < level + 0.02  # counts are whole numbers: no band has the level itself
    rng = np.random.default_rng(1)
    C = np.cumsum(rng.multinomial(number, np.full(draws + 1, 1 / (draws + 1)), size=20_000), 1)[:, :-1]
    inside = ((bounds.lower <= C) & (bounds.upper >= C)).all(1)
    assert binomtest(int(inside.sum()), len(inside), exact).pvalue > 1e-3


def test_p_values_of_uniform_ranks_are_no_smaller_than_uniform_ones():
    rng = np.random.default_rng(2)
    p = np.array([p_value(rng.integers(0, 100, 100), 99) for _ in range(600)])
    for at in (0.01, 0.05, 0.2, 0.5):
        assert binomtest(int((p <= at).sum()), len(p), at, alternative="greater").pvalue > 1e-3
    assert (p <= 0.2).mean() > 0.15  # nor much larger


def test_a_rank_leaves_the_band_where_its_p_value_is_small():
    rng = np.random.default_rng(3)
    bounds = band(80, 39, 0.9)
    for _ in range(60):
        ranks = rng.integers(0, 40, 80)
        C = counts(ranks, 39)
        inside = bool((bounds.lower <= C).all() and (bounds.upper >= C).all())
        assert inside == (p_value(ranks, 39) > 1 - coverage(bounds, 80) - 1e-9)


@pytest.mark.parametrize("wrong", ["narrow", "wide", "biased"])
def test_ranks_that_are_not_uniform_are_seen(wrong):
    rng = np.random.default_rng(4)
    true, drawn = rng.normal(size=200), rng.normal(size=(200, 99))
    drawn = drawn * {"narrow": 0.6, "wide": 1.7}.get(wrong, 1.0) + 0.5 * (wrong == "biased")
    assert p_value((drawn < true[:, None]).sum(1), 99) < 1e-3
