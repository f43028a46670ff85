"""Heavy tails and overdispersion: what Student-t and negative binomial columns are for."""

import math

import numpy as np
import pytest
import scipy.stats as ss
import torch

import ppl_models as ppl


def student(rows, seed=0):
    """Two clusters: t with 2 degrees of freedom and scale 1 at 0, nearly normal with scale 2 at 12."""
    rng = np.random.default_rng(seed)
    z = np.arange(rows) % 2
    return np.where(z, 12 + 2 * rng.standard_t(30, rows), rng.standard_t(2, rows))[:, None]


def posterior(fit, name):
    """Mean and sd of a variable of each state."""
    draws = fit.posterior["posterior"][name]
    return draws.mean(("chain", "draw")).values.ravel(), draws.std(("chain", "draw")).values.ravel()


@pytest.mark.slow
def test_scale_and_degrees_of_freedom_are_recovered():
    fit = ppl.fit(ppl.GMM(components=2, emission="student_t"), student(1_000), restarts=1)
    for name, truth in {"mean": [0.0, 12.0], "scale": [1.0, 2.0]}.items():
        mean, sd = posterior(fit, name)
        assert (abs(mean - truth) < 4 * sd).all(), name
        assert (sd < 0.2).all()
    dof, sd = posterior(fit, "dof")
    assert abs(dof[0] - 2) < 4 * sd[0] < 2
    assert dof[1] > 8


def test_outliers_do_not_move_the_means():
    """Five per cent of cells a hundred standard deviations away, beside the same rows without them."""
    rng = np.random.default_rng(1)
    x = np.where(np.arange(300) % 2, 3.0, -3.0)[:, None] + rng.normal(size=(300, 1))
    hit = x.copy()
    hit[rng.choice(300, 15, replace=False)] += 100 * rng.choice([-1, 1], (15, 1))

    def means(emission, rows):
        fit = ppl.fit(ppl.GMM(emission=emission, covariance="diag"), rows)
        (e,), S = fit.bound.emissions, fit.params[emission][0, :, 0]
        weight, total = (S[:, 1], S[:, 2]) if emission == "student_t" else (S[:, 0], S[:, 1])
        return (e.centre + e.scale * total / weight).numpy()

    there = means("student_t", x)
    np.testing.assert_allclose(there, [-3.0, 3.0], atol=0.3)
    np.testing.assert_allclose(means("student_t", hit), there, atol=0.2)
    assert abs(means("gaussian", hit) - there).max() > 1.5


def test_a_given_number_of_degrees_of_freedom_stays():
    fit = ppl.fit(ppl.GMM(components=1, emission="student_t", student_t_dof=4.0), student(100))
    assert (fit.posterior["posterior"]["dof"] == 4.0).all()
    assert fit.bound.parameters == 2
    scale = fit.resolved.student_t_variance
    assert fit.model.student_t_variance is None
    assert 1 / 3 - 1e-9 <= scale <= 1


def test_gaussian_and_student_t_columns_learn_scales_of_their_own():
    """What was learned makes the same model again."""
    x = np.c_[student(120), np.random.default_rng(1).normal(size=(120, 1))]
    fit = ppl.fit(ppl.GMM(emission={"x0": "student_t", "x1": "gaussian"}), x, restarts=2)
    assert fit.resolved.student_t_variance != fit.resolved.state_variance
    elbo = fit.bound.elbo(fit.bound.dataset_batch(fit.data), fit.params)[0]
    assert float(elbo) == pytest.approx(fit.elbo, abs=1e-6)


def test_units_of_student_t_do_not_matter():
    x = student(80)
    x[np.random.default_rng(0).random(x.shape) < 0.2] = np.nan
    one, two = (ppl.fit(ppl.HMM(emission="student_t"), v, restarts=1) for v in (x, 1000 * x + 7))
    assert two.elbo == pytest.approx(one.elbo - np.count_nonzero(~np.isnan(x)) * math.log(1000), abs=1e-3)
    torch.testing.assert_close(one.params["student_t"], two.params["student_t"], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_mean_and_dispersion_are_recovered():
    rng = np.random.default_rng(2)
    truth = {"mean": np.array([3.0, 40.0]), "dispersion": np.array([0.5, 0.2])}
    size = 1 / truth["dispersion"]
    z = np.arange(1_500) % 2
    x = rng.negative_binomial(size[z], (size / (size + truth["mean"]))[z])[:, None].astype(float)
    fit = ppl.fit(ppl.GMM(components=2, emission="negative_binomial"), x, restarts=2)
    for name, value in truth.items():
        mean, sd = posterior(fit, name)
        assert (abs(mean - value) < 4 * sd).all(), name
        assert (sd < 0.15 * value).all(), name


@pytest.mark.slow
def test_counts_of_a_poisson_have_little_dispersion():
    x = np.random.default_rng(3).poisson(20.0, 400)[:, None].astype(float)
    fit = ppl.fit(ppl.GMM(components=1, emission="negative_binomial"), x, types={"x0": "count"})
    assert posterior(fit, "dispersion")[0] < 0.02
    poisson = ppl.fit(ppl.GMM(components=1, emission="poisson"), x, types={"x0": "count"})
    assert fit.score()["log_density"].mean() == pytest.approx(poisson.score()["log_density"].mean(), abs=0.02)


def test_held_out_rows_with_heavy_tails_are_likelier():
    rng = np.random.default_rng(4)
    x, later = rng.standard_t(2.5, (400, 1)), rng.standard_t(2.5, (400, 1))
    t, normal = (
        ppl.fit(ppl.GMM(components=1, emission=e), x).score(later)["log_density"].mean()
        for e in ("student_t", "gaussian")
    )
    best = ss.t(2.5).logpdf(later).mean()
    assert normal + 0.1 < t < best + 0.01
    assert t > best - 0.02
