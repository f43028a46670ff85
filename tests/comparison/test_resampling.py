"""Differences over folds and where curves cross, against simulation and by hand."""

import numpy as np
import pytest

from ppl_models.comparison.resampling import crossing, difference


def test_the_corrected_error_is_that_of_nadeau_and_bengio():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 10))
    found = difference(a, b, 1 / 9)
    d = a - b
    assert found.mean == pytest.approx(d.mean())
    assert found.standard_error == pytest.approx(np.sqrt((1 / 10 + 1 / 9) * ((d - d.mean()) ** 2).sum() / 9))


def test_models_that_never_differ_do_not_differ():
    assert not difference(np.ones(5), np.ones(5), 0.25).clear
    assert difference(np.ones(5) + 1, np.ones(5), 0.25).clear


def test_folds_that_share_rows_do_not_make_differences():
    """Two rules that are equally good on average: the plain error cries wolf, the corrected one seldom."""
    plain = corrected = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        y = rng.normal(size=100)
        folds = np.array_split(rng.permutation(100), 5)
        # means of the training rows against 0, whose losses differ by chance as y has mean sqrt(2 / (0.8 n))
        y = y + np.sqrt(1 / 80)
        d = []
        for test in folds:
            train = np.setdiff1d(np.arange(100), test)
            d.append(((y[test] - y[train].mean()) ** 2).mean() - (y[test] ** 2).mean())
        d = np.array(d)
        plain += abs(d.mean()) > 2 * d.std(ddof=1) / np.sqrt(5)
        corrected += difference(d, np.zeros(5), 0.25).clear
    assert corrected < 0.6 * plain
    assert corrected / 300 < 0.16  # 2 errors of a t with 4 degrees of freedom: 0.116


def test_a_crossing_is_found_where_lines_cross():
    sizes = np.array([10.0, 100.0, 1000.0])
    first = np.array([[1.0, 1.0, 1.0]] * 4) + np.arange(4)[:, None] * 1e-3
    second = np.array([[2.0, 1.5, 0.5]] * 4) + np.arange(4)[:, None] * 1e-3
    found = crossing(sizes, first, second, np.full(3, 0.25))
    assert found.size == pytest.approx(10**2.5)
    assert found.lower == pytest.approx(found.size)
    assert found.probability == 1
    assert found.first_early
    assert found.second_late


@pytest.mark.parametrize(("shift", "end"), [(-5.0, np.inf), (5.0, 0.0)])
def test_curves_that_do_not_cross(shift, end):
    rng = np.random.default_rng(0)
    second = rng.normal(size=(5, 4)) * 0.1
    found = crossing(np.array([10.0, 20, 40, 80]), second + shift, second, np.full(4, 0.25))
    assert np.isnan(found.size)
    assert found.lower == found.upper == end
    assert found.probability == 0


def test_the_interval_covers_the_crossing():
    """Independent folds, so that ratio 0 is right: 95 % of intervals hold the true size, up to chance."""
    sizes = np.geomspace(10, 1000, 6)
    true = 10**2.0
    inside = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        first = rng.normal(0, 0.3, (12, 6))
        second = rng.normal(0, 0.3, (12, 6)) - np.log(sizes / true)
        found = crossing(sizes, first, second, np.zeros(6), seed=seed)
        inside += found.lower <= true <= found.upper
    assert 0.85 <= inside / 120 <= 0.995
