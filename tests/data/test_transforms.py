"""Transforms of columns: inverses, Jacobians, densities that integrate to one, and spikes with their mass."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from ppl_models.data import Schema, read
from ppl_models.data.inside import Inside, with_marginals
from ppl_models.data.marginals import ENTROPY, marginal
from ppl_models.data.transforms import TRANSFORMS, Log, Scores, from_dict
from ppl_models.errors import DataError

RNG = np.random.default_rng(1)
SKEWED = RNG.gamma(1.5, 3.0, 2_000)
COUNTS = RNG.poisson(30.0, 2_000) * 1.0
HOURS = np.where(RNG.random(2_000) < 0.5, 40.0, np.round(RNG.normal(35, 12, 2_000)))
GAINS = np.where(RNG.random(2_000) < 0.8, 0.0, np.exp(RNG.normal(8, 1, 2_000)))


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_a_transform_has_an_inverse_and_a_slope(kind):
    g = kind.fitted(SKEWED)
    x = np.concatenate([SKEWED, np.linspace(0.01, 60, 500)])
    z, log_slope = g.forward(x)
    assert (np.diff(z[np.argsort(x, kind="stable")]) >= 0).all()
    np.testing.assert_allclose(g.inverse(z), x, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(g.log_slope(z), log_slope, atol=1e-8)
    h = 1e-6
    slope = (g.forward(x + h)[0] - g.forward(x - h)[0]) / (2 * h)
    np.testing.assert_allclose(np.log(slope), log_slope, atol=2e-4)
    assert np.isnan(g.forward(np.array([np.nan]))[0]).all()
    assert from_dict(json.loads(json.dumps(g.to_dict()))) == g


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_a_normal_density_of_it_integrates_to_one(kind):
    g = kind.fitted(SKEWED)
    x = g.inverse(np.linspace(-9, 9, 200_001))  # dense where the density is
    z, log_slope = g.forward(x)
    assert np.trapezoid(np.exp(norm.logpdf(z) + log_slope), x) == pytest.approx(1, abs=1e-6)


def test_normal_scores_are_normal_and_follow_the_quantiles():
    g = Scores.fitted(SKEWED)
    z = g.forward(SKEWED)[0]
    assert abs(z.mean()) < 0.01
    assert z.std() == pytest.approx(1, abs=0.01)
    for p in (0.01, 0.25, 0.5, 0.9, 0.99):
        assert (SKEWED <= g.inverse(norm.ppf(p))).mean() == pytest.approx(p, abs=0.004)


def test_edges_of_bins_give_each_whole_number_its_share():
    x = RNG.poisson(3.0, 20_000) * 1.0
    g = Scores.fitted(x, 1.0)
    for k in range(8):
        a, b = g.forward(np.array([k - 0.5, k + 0.5]))[0]
        assert norm.cdf(b) - norm.cdf(a) == pytest.approx((x == k).mean(), abs=1e-4)


def test_a_logarithm_needs_positive_numbers():
    assert Log.fitted(np.array([1.0, 0.0, 3.0])) is None
    assert Log.fitted(np.array([1.0, 0.0, 3.0]), 1.0) is not None  # 0 stands for −½ to ½


def test_spikes_are_found():
    assert marginal(HOURS, "scores", count=True).spikes == (40.0,)
    assert marginal(GAINS, "scores").spikes == (0.0,)
    assert marginal(COUNTS, "scores", count=True).spikes == ()
    several = marginal(np.r_[GAINS, np.full(60, 15_024.0), np.full(40, 7_688.0)], "scores")
    assert several.spikes == (0.0, 7_688.0, 15_024.0)
    assert sum(several.shares) == pytest.approx(1)
    few = marginal(RNG.integers(1, 6, 2_000) * 1.0, "scores", count=True)
    assert few.spikes == (1.0, 2.0, 3.0, 4.0, 5.0)  # of few values each


def test_auto_acts_where_it_pays():
    assert marginal(RNG.normal(size=2_000), "auto") is None
    assert marginal(COUNTS, "auto", count=True) is None
    assert marginal(SKEWED, "plain") is None
    assert isinstance(marginal(np.exp(RNG.normal(size=2_000)), "auto").transform, Log)
    both = np.r_[RNG.normal(-4, 1, 1_000), RNG.normal(4, 1, 1_000)]
    assert isinstance(marginal(both, "auto").transform, Scores)
    assert marginal(HOURS, "auto", count=True).spikes == (40.0,)
    assert marginal(np.array([1.0, np.nan, 1.0, 2.0]), "scores") is None


def inside(how="scores"):
    frame = pd.DataFrame(
        {"gain": GAINS, "hours": HOURS, "label": np.where(COUNTS > 30, "a", "b"), "skew": SKEWED}
    )
    frame.loc[::7, "gain"], frame.loc[::11, "hours"] = np.nan, np.nan
    data = read(frame)
    schema = with_marginals(data, how)
    return data, Inside(Schema.from_dict(json.loads(json.dumps(schema.to_dict()))))


def test_the_table_inside_goes_back_to_what_it_was():
    data, table = inside()
    assert table.schema.names == ("gain", "hours", "label", "skew", "gain_spike", "hours_spike")
    for noise in (False, True):
        inner = table.dataset(data, noise=noise)
        np.testing.assert_allclose(table.decode(inner.values), data.values, rtol=1e-9)
        assert table.dataset(inner) is inner
    np.testing.assert_array_equal(inner.values[:, 4] == 1, data.values[:, 0] == 0)
    for moved in table.spread(inner.values):  # within their bins
        np.testing.assert_allclose(table.decode(moved), data.values, rtol=1e-9)
    assert len(table.notes()) == 3


def test_without_marginals_nothing_is_copied():
    data, table = inside("plain")
    assert not table
    assert table.dataset(data) is data
    assert "marginal" not in data.schema.columns[0].to_dict()


def test_a_bin_averaged_over_the_lattice_has_its_mass():
    """Against Φ at both ends, and in two columns at once."""
    data, table = inside()
    m = table.outer.columns[1].marginal
    x = np.array([[np.nan, k, 0, np.nan] for k in (12.0, 35.0, 71.0)])
    densities = [
        np.exp(norm.logpdf(inner[:, 1]) + table.log_slope(inner)) for inner in table.spread(table.encode(x))
    ]
    a, b = (m.transform.forward(x[:, 1] + e)[0] for e in (-0.5, 0.5))
    np.testing.assert_allclose(np.mean(densities, 0), norm.cdf(b) - norm.cdf(a), rtol=2e-3)


def test_the_entropy_of_the_noise():
    u = (np.arange(100_000) + 0.5) / 100_000
    q = 6 * u * (1 - u)
    assert -np.mean(q * np.log(q)) == pytest.approx(ENTROPY, abs=1e-6)
    data, table = inside()
    seen = ~np.isnan(data.values[:, 1]) & (data.values[:, 1] != 40)
    np.testing.assert_allclose(table.entropy(table.dataset(data).values), ENTROPY * seen)
    assert math.isfinite(ENTROPY)


def test_a_cell_out_of_the_domain_is_refused():
    data = read(pd.DataFrame({"x": np.exp(RNG.normal(size=500)), "y": RNG.normal(size=500)}))
    table = Inside(with_marginals(data, "auto"))
    with pytest.raises(DataError, match=r"row 2, column 'x': -1 is not above 0, .*--marginals plain"):
        table.encode(np.array([[1.0, 0.0], [-1.0, 0.0]]))
