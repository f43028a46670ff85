"""Generalised linear models beside integrals that are done another way."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import ppl_models as ppl
from ppl_models.errors import DataError, UsageError


def table(n: int = 120, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(5, 2, n)
    return pd.DataFrame({"x": x, "k": np.array(["a", "b", "c"])[rng.integers(3, size=n)]}), 0.4 * (x - 5) / 2


def moments_on_a_grid(log_p: np.ndarray, *axes: np.ndarray) -> list[tuple[float, float]]:
    """Means and sds of the coordinates under exp(log_p) on a grid."""
    w = np.exp(log_p - log_p.max())
    w /= w.sum()
    found = []
    for i, axis in enumerate(axes):
        p = w.sum(tuple(j for j in range(w.ndim) if j != i))
        mean = p @ axis
        found.append((mean, np.sqrt(p @ (axis - mean) ** 2)))
    return found


def posterior(fit, *names: str) -> list[tuple[float, float]]:
    summary = fit.summary()
    return [(summary["mean"][name], summary["sd"][name]) for name in names]


def alike(found, expected, share: float = 0.08) -> None:
    """Means within a share of an sd, sds as well: those of 4,000 draws have errors of 0.016 and 0.011."""
    for (m, s), (mean, sd) in zip(found, expected, strict=True):
        assert abs(m - mean) < share * sd
        assert s == pytest.approx(sd, rel=share)


def test_an_intercept_and_a_dispersion_are_those_of_a_grid():
    y = np.random.default_rng(1).negative_binomial(1.5, 0.3, 25)
    fit = ppl.fit(ppl.GLM(family="negative_binomial", formula="y ~ 1", intercept_scale=2.0), {"y": y})
    a, log_alpha = np.linspace(-1, 4, 300), np.linspace(-4, 3, 300)
    r = np.exp(-log_alpha)
    log_p = stats.norm.logpdf(a, 0, 2)[:, None] + log_alpha - np.exp(log_alpha)
    for value in y:
        log_p = log_p + stats.nbinom.logpmf(value, r, r / (r + np.exp(a)[:, None]))
    w = np.exp(log_p - log_p.max())
    p = w.sum(0) / w.sum()
    alpha = np.exp(log_alpha)
    mean = p @ alpha
    expected = [moments_on_a_grid(log_p, a, log_alpha)[0], (mean, np.sqrt(p @ (alpha - mean) ** 2))]
    alike(posterior(fit, "intercept", "dispersion"), expected, 0.12)
    evidence = np.log(w.sum()) + log_p.max() + np.log((a[1] - a[0]) * (log_alpha[1] - log_alpha[0]))
    assert fit.elbo == pytest.approx(evidence, abs=0.1)


def test_groups_of_a_normal_are_those_of_the_marginal_likelihood():
    """Given (σ, τ) everything is Gaussian; these are summed out on a grid."""
    rng = np.random.default_rng(2)
    g = np.repeat(np.arange(6), 8)
    y = 3 + rng.normal(0, 0.7, 6)[g] + rng.normal(size=48)
    fit = ppl.fit(ppl.GLM(formula="y ~ (1 | g)"), {"y": y, "g": [f"g{i}" for i in g]})
    unit, shift = y.std(), y.mean()
    z = (y - shift) / unit
    G = np.eye(6)[g]
    log_sigma, log_tau = np.linspace(-1.0, 0.5, 60), np.linspace(-5, 1.5, 90)
    log_p = np.empty((60, 90))
    u0 = np.empty((60, 90, 2))
    for i, s in enumerate(np.exp(log_sigma)):
        for j, t in enumerate(np.exp(log_tau)):
            W = np.column_stack([np.ones(48), G])
            P = np.diag([1e-2, *np.full(6, t**-2)]) + W.T @ W / s**2
            V = np.linalg.inv(P)
            m = V @ W.T @ z / s**2
            prior = -np.log(10.0) - 6 * np.log(t)
            log_like = -48 * np.log(s) - 0.5 * z @ z / s**2 + 0.5 * m @ P @ m - 0.5 * np.linalg.slogdet(P)[1]
            log_p[i, j] = log_like + prior + np.log(s) - s + np.log(t) - 0.5 * t**2
            u0[i, j] = m[1], V[1, 1]
    w = np.exp(log_p - log_p.max())
    w /= w.sum()
    mean = (w * u0[..., 0]).sum()
    sd = np.sqrt((w * (u0[..., 1] + u0[..., 0] ** 2)).sum() - mean**2)
    tau, p = np.exp(log_tau), w.sum(0)
    of_tau = p @ tau, np.sqrt(p @ tau**2 - (p @ tau) ** 2)
    expected = [(mean * unit, sd * unit), (of_tau[0] * unit, of_tau[1] * unit)]
    alike(posterior(fit, "1|g[g0]", "group_sd[1|g]"), expected, 0.1)
    new = fit.predict({"g": ["g0", "elsewhere"]}, unseen="missing")
    assert new["mean_upper"][1] - new["mean_lower"][1] > 1.5 * (new["mean_upper"][0] - new["mean_lower"][0])


FAMILIES = {
    "normal": lambda rng, f: 10 + 3 * f + rng.normal(size=len(f)),
    "student_t": lambda rng, f: f + 0.3 * rng.standard_t(3, size=len(f)),
    "poisson": lambda rng, f: rng.poisson(np.exp(f)),
    "negative_binomial": lambda rng, f: rng.negative_binomial(3, 3 / (3 + np.exp(f))),
    "gamma": lambda rng, f: np.exp(f) * rng.gamma(4, size=len(f)) / 4,
    "binomial": lambda rng, f: rng.binomial(1, 1 / (1 + np.exp(-f))),
    "ordinal": lambda rng, f: np.digitize(2 * f + rng.logistic(size=len(f)), [-1, 0.5, 2]),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_weighed_draws_are_near_the_exact_joint(family):
    """The guide is scored against the exact density, k̂ says how near it is, and its program is the same."""
    d, f = table()
    d["y"] = FAMILIES[family](np.random.default_rng(4), f)
    fit = ppl.fit(ppl.GLM(family=family), d, target="y")
    assert fit.posterior_draws.k_hat < 0.7 or fit.posterior_draws.even > 0.9
    assert abs(fit.summary()["mean"]["x"]) > 0
    values = fit.bound.pyro_values(
        {k: {n: v[:1] for n, v in s.items()} for k, s in fit.posterior_draws.theta.items()}
    )
    import pyro

    trace = pyro.poutine.trace(pyro.condition(fit.model.model, data=values)).get_trace(fit.data)
    ours = float(fit.posterior_draws.log_p[0])
    assert float(trace.log_prob_sum()) == pytest.approx(ours, rel=1e-9)


def test_an_exposure_is_an_offset_of_its_logarithm():
    d, f = table()
    rng = np.random.default_rng(5)
    d["years"] = rng.uniform(0.5, 20, len(d))
    d["log_years"] = np.log(d["years"])
    d["y"] = rng.poisson(d["years"] * np.exp(f))
    one = ppl.fit(ppl.GLM(family="poisson", exposure="years", formula="y ~ x"), d)
    two = ppl.fit(ppl.GLM(family="poisson", offset="log_years", formula="y ~ x"), d)
    assert one.elbo == pytest.approx(two.elbo, abs=1e-6)
    assert one.summary()["mean"]["x"] == pytest.approx(0.2, abs=0.05)
    assert one.predict(d.head(1).assign(years=1000.0))["mean"][0] > 100


def test_trials_are_what_successes_are_of():
    d, f = table()
    d["n"] = 12
    d["y"] = np.random.default_rng(6).binomial(12, 1 / (1 + np.exp(-f)))
    fit = ppl.fit(ppl.GLM(family="binomial", trials="n"), d, target="y")
    assert "n" not in fit.bound.names
    found = fit.predict()
    assert found["upper"].max() <= 12
    assert found["mean"].mean() == pytest.approx(d["y"].mean(), rel=0.05)
    with pytest.raises(DataError, match="--trials"):
        ppl.fit(ppl.GLM(family="binomial"), d.drop(columns="n"), target="y")


@pytest.mark.parametrize(
    ("family", "low", "message"), [("poisson", -1.0, "whole"), ("gamma", 0.0, "positive")]
)
def test_targets_outside_of_the_support_are_refused(family, low, message):
    d, f = table()
    d["y"] = np.where(np.arange(len(d)) == 3, low, np.abs(f) + 1.5)
    with pytest.raises(DataError, match=message):
        ppl.fit(ppl.GLM(family=family), d, target="y")


def test_a_target_that_is_exactly_a_line_is_not_trusted():
    x = np.random.default_rng(0).normal(size=60)
    fit = ppl.fit(ppl.GLM(), {"x": x, "y": 2 * x + 1}, "y")
    assert fit.check().verdict == "not trusted"
    assert fit.predict({"x": [3.0]})["mean"][0] == pytest.approx(7.0, abs=1e-4)


def test_links_that_a_family_has_not_are_refused():
    d, f = table()
    with pytest.raises(UsageError, match="poisson has no link identity; it has log or softplus"):
        ppl.fit(ppl.GLM(family="poisson", link="identity"), d.assign(y=1), target="y")


@pytest.mark.slow
def test_prediction_intervals_cover():
    """90 % of 2,000 new rows ± 3 standard errors, and some of the posterior's own."""
    d, f = table(400, 7)
    rng = np.random.default_rng(8)
    d["y"] = FAMILIES["gamma"](rng, f)
    fit = ppl.fit(ppl.GLM(family="gamma"), d, target="y")
    new, g = table(2_000, 9)
    y = FAMILIES["gamma"](rng, g)
    found = fit.predict(new, level=0.9)
    inside = ((found["lower"] <= y) & (y <= found["upper"])).mean()
    assert abs(inside - 0.9) < 0.035


def test_ordered_levels_keep_their_order():
    d, f = table(300)
    y = FAMILIES["ordinal"](np.random.default_rng(4), f)
    fit = ppl.fit(ppl.GLM(family="ordinal"), d.assign(y=y), target="y")
    shares = fit.predict().filter(like="probability").filter(regex="_[0-3]$")
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    np.testing.assert_allclose(shares.mean(), np.bincount(y) / len(y), atol=0.03)
    cuts = fit.summary().filter(like="cutpoint", axis=0)["mean"]
    assert list(cuts) == sorted(cuts)


def test_large_tables_have_one_gaussian_and_the_same_answer():
    """Where covariances at many nodes would not fit, the mode is the only node."""
    from ppl_models.regression import hyper

    d, f = table(200)
    d["y"] = FAMILIES["normal"](np.random.default_rng(4), f)
    many = ppl.fit(ppl.GLM(), d, target="y")
    before, hyper.NUMBERS = hyper.NUMBERS, 0
    try:
        one = ppl.fit(ppl.GLM(), d, target="y")
    finally:
        hyper.NUMBERS = before
    assert torch.is_tensor(one.params["scale_tril"])
    assert "log_weight" not in one.params
    alike(posterior(one, "x", "sigma"), posterior(many, "x", "sigma"), 0.1)


def test_counts_that_vary_more_than_a_family_draws_are_seen():
    rng = np.random.default_rng(0)
    x = rng.normal(size=300)
    mean = np.exp(1 + 0.5 * x)
    alike, wide = rng.poisson(mean), rng.negative_binomial(2, 2 / (2 + mean))
    fit = ppl.fit(ppl.GLM(family="poisson"), pd.DataFrame({"x": x, "y": alike}), target="y")
    assert fit.check().trusted
    fit = ppl.fit(ppl.GLM(family="poisson"), pd.DataFrame({"x": x, "y": wide}), target="y")
    (found,) = [each for each in fit.check().checks if each.name == "model against data"]
    assert found.level == "warn"
    assert "--family=negative_binomial" in found.reason
