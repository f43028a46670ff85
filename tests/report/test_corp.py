"""Reliability, rates and densities against scikit-learn, identities and simulation."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from ppl_models.report.corp import curves, isotonic, reliability
from ppl_models.report.shapes import bins, density
from ppl_models.verbs.evaluate import auc


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    p = np.round(rng.beta(1, 2, 3_000), 3)  # with ties
    return p, (rng.random(3_000) < p).astype(float), rng.uniform(0.5, 2, 3_000)


def test_isotonic_is_that_of_scikit_learn(rows):
    p, y, w = rows
    order = np.argsort(p, kind="stable")
    ours = isotonic(y[order], w[order])
    theirs = IsotonicRegression().fit(np.arange(len(p)), y[order], w[order]).predict(np.arange(len(p)))
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_the_brier_score_is_taken_apart(rows):
    p, y, w = rows
    r = reliability(p, y, w)
    brier = np.average((p - y) ** 2, weights=w)
    assert r.miscalibration - r.discrimination + r.uncertainty == pytest.approx(brier, abs=1e-12)
    assert r.miscalibration >= 0
    assert r.discrimination >= 0
    assert (np.diff(r.recalibrated) >= -1e-12).all()


def test_reliable_forecasts_are_in_the_band_and_others_are_not():
    rng = np.random.default_rng(1)
    out = []
    for seed in range(12):
        p = rng.random(400)
        y = (rng.random(400) < p).astype(float)
        out.append(reliability(p, y, np.ones(400), 0.9, seed).outside)
    assert 0.03 < np.mean(out) < 0.2  # 0.1 is expected
    p = np.clip(rng.beta(0.4, 0.4, 2_000), 0.01, 0.99)  # far too sure
    y = (rng.random(2_000) < 0.5 + 0.2 * (p - 0.5)).astype(float)
    assert reliability(p, y, np.ones(2_000)).outside > 0.6


def test_rates_are_those_of_scikit_learn(rows):
    p, y, w = rows
    c = curves(p, y == 1, w)
    area = np.trapezoid(np.concatenate([[0], c["hit"]]), np.concatenate([[0], c["alarm"]]))
    assert area == pytest.approx(roc_auc_score(y, p, sample_weight=w), abs=1e-12)
    assert area == pytest.approx(auc(p, y == 1, w), abs=1e-12)
    mean = np.diff(c["hit"], prepend=0.0) @ c["precision"]
    assert mean == pytest.approx(average_precision_score(y, p, sample_weight=w), abs=1e-12)


def test_a_density_is_that_of_scipy_inside_and_ends_at_the_data():
    from scipy.stats import gamma, norm

    rng = np.random.default_rng(2)
    grid, height = density(rng.normal(size=20_000))
    np.testing.assert_allclose(height, norm.pdf(grid), atol=0.02)
    grid, height = density(rng.gamma(1.0, size=20_000), 256)  # highest at its end
    assert grid.min() >= 0
    inside = (grid > 0.1) & (grid < 4)
    np.testing.assert_allclose(height[inside], gamma(1.0).pdf(grid[inside]), atol=0.06)


@pytest.mark.parametrize("values", [[], [3.0], [3.0, 3.0], [0.0, 1e12], [0.0] * 99 + [1.0]], ids=str)
def test_bins_hold_everything(values):
    x = np.array(values)
    edges = bins(x)
    assert (np.diff(edges) > 0).all()
    assert np.histogram(x, edges)[0].sum() == len(x)
