"""Bins of numbers: densities that have a mass of one, draws that keep to their bins."""

import numpy as np
import pytest

from ppl_models.models.transformer.bins import Bins, bins_of

RNG = np.random.default_rng(0)
N = 2_000
COLUMNS = {
    "normal": RNG.normal(size=N),
    "decimals": RNG.normal(size=N).round(2),
    "counts": RNG.poisson(3, N).astype(float),
    "spike": np.where(RNG.random(N) < 0.4, 0.0, np.exp(RNG.normal(size=N))),
    "whole with a spike": np.where(RNG.random(N) < 0.4, 0.0, np.rint(np.exp(6 + RNG.normal(size=N)))),
    "few rows": RNG.normal(size=40),
    "one value": np.full(30, 2.5),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_all_bins_have_a_mass_of_one_together(name):
    x = COLUMNS[name]
    bins = bins_of(x, 32)
    codes = bins.codes(x)
    assert bins.size <= 32
    share = np.bincount(codes, minlength=bins.size) / len(x)
    assert (share > 0).all()
    e, middle, scale = bins.outside
    if bins.step:
        grid = np.arange(np.rint((x.min()) / bins.step) - 5, np.rint(x.max() / bins.step) + 6) * bins.step
        grid = np.round(grid, 6)
        own, outside = bins.log_density(grid)
        mass = (np.exp(own) * share[bins.codes(grid)]).sum() * bins.step
        far = middle + scale * np.array([-1e9, 1e9])
        assert np.isneginf(bins.log_density(np.round(far))[0]).all()
        steps = np.round(np.arange(-40_000, 40_000) * bins.step + middle, 6)
        caught = 2 / np.pi * np.arctan(40_000 * bins.step / scale)
        assert np.exp(bins.log_density(steps)[1]).sum() * bins.step == pytest.approx(e * caught, rel=1e-3)
    else:
        edges = np.unique(np.concatenate([bins.low, bins.high]))
        middles = (edges[1:] + edges[:-1]) / 2
        own, _ = bins.log_density(middles)
        mass = (np.exp(own) * share[bins.codes(middles)] * np.diff(edges)).sum()
        points = bins.low[bins.low == bins.high]
        mass += (np.exp(bins.log_density(points)[0]) * share[bins.codes(points)]).sum()
    assert mass == pytest.approx(1 - e, rel=1e-6)


@pytest.mark.parametrize("name", COLUMNS)
def test_draws_keep_to_their_bins_and_are_written_as_the_column_is(name):
    x = COLUMNS[name]
    bins = bins_of(x, 32)
    codes = bins.codes(x)
    drawn = bins.draw(codes, np.random.default_rng(1).random(len(x)))
    np.testing.assert_array_equal(bins.codes(drawn), codes)
    assert drawn.min() >= x.min()
    assert drawn.max() <= np.nextafter(x.max(), np.inf)
    if bins.step:
        np.testing.assert_allclose(drawn, np.rint(drawn / bins.step) * bins.step, atol=1e-9)
    else:
        wanted = np.quantile(x, np.linspace(0.05, 0.95, 19))
        own, data = ((each[:, None] <= wanted).mean(0) for each in (drawn, x))
        assert np.abs(own - data).max() < 0.03 + 1 / len(x) ** 0.5
    again = Bins.of(bins.arrays())
    np.testing.assert_array_equal(again.log_density(x)[0], bins.log_density(x)[0])


def test_a_spike_has_its_own_mass_and_a_value_that_no_row_has_a_little():
    x = COLUMNS["spike"]
    bins = bins_of(x, 32)
    share = np.bincount(bins.codes(x), minlength=bins.size) / len(x)
    zero = bins.codes(np.zeros(1))
    assert share[zero] == pytest.approx((x == 0).mean())
    assert np.exp(bins.log_density(np.zeros(1))[0]) == pytest.approx(1 - bins.outside[0])
    assert bins.codes(np.array([1e-9]))[0] != zero
    own, outside = bins.log_density(np.array([-1.0, 1e6]))
    assert np.isneginf(own).all()
    assert np.isfinite(outside).all()


def test_below_is_the_share_of_draws_that_are_below():
    for x in COLUMNS.values():
        bins = bins_of(x, 16)
        y = np.quantile(x, [0.2, 0.5, 0.9], method="nearest")
        share = np.bincount(bins.codes(x), minlength=bins.size) / len(x)
        drawn = bins.draw(bins.codes(x), np.random.default_rng(2).random(len(x)))
        np.testing.assert_allclose(bins.below(y) @ share, (drawn[:, None] <= y).mean(0), atol=0.03)
        assert bins.middle @ share == pytest.approx(drawn.mean(), abs=0.1 * max(x.std(), 1e-9))
