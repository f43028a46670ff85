"""Pareto-smoothed importance sampling against ArviZ and against tails that are known."""

import warnings

import numpy as np
import pytest
import scipy.stats as ss

from ppl_models.inference.psis import fit_pareto, smooth

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ArviZ announces its next version
    from arviz.stats import psislw


def ratios(name, size, seed):
    rng = np.random.default_rng(seed)
    if name == "normal":
        return rng.normal(0, 1, size)
    if name == "light":
        return np.log(rng.random(size))
    if name == "cauchy":
        return np.abs(rng.standard_cauchy(size))
    if name == "shifted":
        return 1e6 + rng.normal(0, 3, size)
    x = rng.normal(0, 0.7, size)  # a guide narrower than its target
    return ss.norm(0, 1).logpdf(x) - ss.norm(0, 0.7).logpdf(x)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [40, 100, 1_000, 4_001])
@pytest.mark.parametrize("name", ["normal", "light", "cauchy", "shifted", "narrow"])
def test_arviz(name, size, seed):
    x = ratios(name, size, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log_weight, k = psislw(x.copy())
    found = smooth(x.copy())
    assert found.k_hat == pytest.approx(float(k), abs=1e-6)
    np.testing.assert_allclose(found.log_weight, log_weight, rtol=0, atol=1e-6)


def test_weights_are_normalised_and_input_is_kept():
    x = ratios("cauchy", 500, 1)
    before = x.copy()
    found = smooth(x)
    assert np.exp(found.log_weight).sum() == pytest.approx(1)
    assert (x == before).all()
    order = np.argsort(x, kind="stable")
    assert (np.diff(found.log_weight[order]) >= -1e-12).all()  # smoothing keeps the order


def test_a_shift_changes_nothing():
    x = ratios("normal", 800, 4)
    one, two = smooth(x), smooth(x - 1e4)
    assert one.k_hat == pytest.approx(two.k_hat, abs=1e-8)
    np.testing.assert_allclose(one.log_weight, two.log_weight, atol=1e-8)


@pytest.mark.parametrize("k", [-0.3, 0.1, 0.5, 0.9, 1.3])
def test_shape_of_a_known_tail(k):
    """Excesses of a generalised Pareto: k̂ has standard error (1 + k)/√m and a pull of 10 rows towards 0.5."""
    m = 400
    excess = np.sort(ss.genpareto(k, scale=2.0).rvs(m, random_state=3))
    shape, scale = fit_pareto(excess)
    pull = 10 * (0.5 - k) / (m + 10)
    assert abs(shape - k - pull) < 4 * (1 + max(k, 0.5)) / m**0.5  # 4 standard errors: 6e-5
    assert scale == pytest.approx(2.0, rel=4 * (2 * (1 + max(k, 0))) ** 0.5 / m**0.5)


def test_k_hat_of_a_power_tail():
    """W = u^(−k) has a tail of exactly that shape."""
    u = np.random.default_rng(0).random(20_000)
    for k in (0.2, 0.6, 1.1):
        tail = 3 * 20_000**0.5
        assert smooth(-k * np.log(u)).k_hat == pytest.approx(k, abs=4 * (1 + k) / tail**0.5)


def test_importance_sampling_mends_a_mean():
    """E_p[x²] = 1 by draws from a guide that is too narrow, better than by the guide itself."""
    rng = np.random.default_rng(5)
    x = rng.normal(0, 0.8, 20_000)
    found = smooth(ss.norm.logpdf(x) - ss.norm(0, 0.8).logpdf(x))
    assert found.k_hat < 0.7
    assert abs((np.exp(found.log_weight) * x**2).sum() - 1) < 0.1 < abs((x**2).mean() - 1)


def test_constant_ratios_are_a_perfect_guide():
    found = smooth(np.full(100, -3.7))
    assert found.k_hat == 0
    np.testing.assert_allclose(found.log_weight, -np.log(100))
    noise = smooth(-1e6 + 1e-11 * np.random.default_rng(0).normal(size=100))
    assert noise.k_hat == 0


def test_infinite_ratios():
    x = ratios("normal", 400, 0)
    x[[3, 70]], x[9] = -np.inf, np.nan
    found = smooth(x)
    assert np.isfinite(found.k_hat)
    assert (np.exp(found.log_weight[[3, 9, 70]]) == 0).all()
    assert np.exp(found.log_weight).sum() == pytest.approx(1)
    assert smooth(np.full(10, -np.inf)).k_hat == np.inf


@pytest.mark.parametrize("sd", [30.0, 300.0, 3_000.0])
def test_ratios_that_span_hundreds_of_nats(sd):
    for seed in range(5):
        found = smooth(np.random.default_rng(seed).normal(0, sd, 1_000))
        assert 1 < found.k_hat
        assert np.exp(found.log_weight).sum() == pytest.approx(1)


def test_one_draw_that_dominates_is_a_failure():
    x = np.zeros(1_000)
    x[17] = 500.0
    assert smooth(x).k_hat > 0.7


@pytest.mark.parametrize("size", [1, 2, 5, 12])
def test_too_few_draws_to_tell(size):
    found = smooth(ratios("normal", size, 0))
    assert len(found.log_weight) == size
    assert np.exp(found.log_weight).sum() == pytest.approx(1)
    assert found.k_hat == (0.0 if size == 1 else np.inf)
