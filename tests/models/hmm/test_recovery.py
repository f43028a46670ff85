"""Simulate from known models, fit, and find what was put in."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats as ss

import ppl_models as ppl

A = np.array([[0.92, 0.08], [0.15, 0.85]])
LENGTHS = [500, 1, 250, 90, 159]
ROTATED = np.array([[1.0, 0.6], [0.6, 0.8]])

# Emissions of two states, and what the posterior should say of them: variable -> (state, column).
EMISSIONS = {
    "full": (
        {"covariance": "full"},
        lambda z, r: np.where(
            z[:, None] == 0,
            r.multivariate_normal([0, 0], ROTATED, len(z)),
            r.multivariate_normal([2.5, 1], [[0.5, -0.2], [-0.2, 1]], len(z)),
        ),
        {"mean": [[0, 0], [2.5, 1]], "sd": np.sqrt([[1, 0.8], [0.5, 1]])},
    ),
    "tied": (
        {"covariance": "tied"},
        lambda z, r: np.array([[0.0, 0], [2.5, 1]])[z] + r.multivariate_normal([0, 0], ROTATED, len(z)),
        {"mean": [[0, 0], [2.5, 1]], "sd": np.sqrt([[1, 0.8], [1, 0.8]])},
    ),
    "diag": (
        {"covariance": "diag"},
        lambda z, r: r.normal(np.array([[0.0, 10], [2.5, 12]])[z], np.array([[1.0, 3], [0.5, 1]])[z]),
        {"mean": [[0, 10], [2.5, 12]], "sd": [[1, 3], [0.5, 1]]},
    ),
    "spherical": (
        {"covariance": "spherical"},
        lambda z, r: r.normal(np.array([[0.0, 0], [2.0, 2]])[z], np.array([[1.2], [0.6]])[z], (len(z), 2)),
        {"mean": [[0, 0], [2, 2]]},
    ),
    "poisson": (
        {"emission": "poisson"},
        lambda z, r: r.poisson(np.array([[1.0, 6], [5, 3]])[z]),
        {"rate": [[1, 6], [5, 3]]},
    ),
    "bernoulli": (
        {"emission": "bernoulli"},
        lambda z, r: r.random((len(z), 4)) < np.array([[0.1, 0.2, 0.9, 0.5], [0.8, 0.9, 0.2, 0.6]])[z],
        {"probability": [[0.1, 0.2, 0.9, 0.5], [0.8, 0.9, 0.2, 0.6]]},
    ),
    "categorical": (
        {"emission": "categorical"},
        lambda z, r: np.stack(
            [
                (r.random(len(z))[:, None] > np.cumsum(np.array(p)[z], 1)[:, :-1]).sum(1)
                for p in ([[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]], [[0.7, 0.1, 0.2], [0.1, 0.8, 0.1]])
            ],
            1,
        ),
        {
            "probability_x0": [[0.8, 0.1, 0.1], [0.1, 0.2, 0.7]],
            "probability_x1": [[0.7, 0.1, 0.2], [0.1, 0.8, 0.1]],
        },
    ),
    "exponential": (
        {"emission": "exponential"},
        lambda z, r: r.exponential(np.array([[1.0, 50], [8, 10]])[z]),
        {"mean": [[1, 50], [8, 10]]},
    ),
    "gamma": (
        {"emission": "gamma"},
        lambda z, r: r.gamma(np.array([[2.0, 5], [6, 1]])[z], np.array([[0.5, 1], [1, 2]])[z]),
        {"shape": [[2, 5], [6, 1]], "mean": [[1, 5], [6, 2]]},
    ),
    "mixed": (
        {"emission": "x0=gaussian,x1=poisson,x2=bernoulli"},
        lambda z, r: np.c_[r.normal(2.0 * z, 1), r.poisson(1 + 3 * z), r.random(len(z)) < 0.2 + 0.6 * z],
        {"gaussian_mean": [[0], [2]], "poisson_rate": [[1], [4]], "bernoulli_probability": [[0.2], [0.8]]},
    ),
}
KINDS = {"poisson": "count", "bernoulli": "binary", "categorical": "categorical"}


def read(x, options):
    """Read with kinds that follow from the emission rather than from the draws."""
    C = x[0].shape[1]
    family = options.get("emission", "gaussian")
    if "," in family:
        kinds = {c: KINDS.get(f, "continuous") for c, f in (pair.split("=") for pair in family.split(","))}
    else:
        kinds = {f"x{j}": KINDS.get(family, "continuous") for j in range(C)}
    return ppl.read(x, types=kinds)


def draws_of(fit, name):
    return fit.bound.variables(fit.posterior_draws.theta)[0][name][1]


WITHOUT_CELLS = {"full", "mixed", "bernoulli"}  # those that are quick have cells missing; others are complete


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        pytest.param(
            name, missing, marks=() if (name in WITHOUT_CELLS) == (missing > 0) else pytest.mark.slow
        )
        for name, missing in itertools.product(EMISSIONS, (0.0, 0.2))
    ],
)
def test_recovery(simulate, name, missing):
    options, emit, truth = EMISSIONS[name]
    known = simulate(emit, LENGTHS, A, [0.6, 0.4], seed=17)
    fit = ppl.fit(ppl.HMM(states=2, **options), read(known.masked(missing, 1), options), restarts=2)
    assert fit.status == "converged"
    truth = {"transition": A, **truth}
    # Within 5 posterior sds, a guide's sds being up to a third too small: 1 in 1,000 for 20 parameters, say.
    for variable, value in truth.items():
        draws = draws_of(fit, variable)
        z = (draws.mean(0) - np.asarray(value)) / draws.std(0)
        assert np.abs(z).max() < 5, (variable, z)
        assert draws.std(0).max() < 0.25 * max(1.0, np.abs(value).max())  # and something was learnt
    path = fit.predict()["state"].to_numpy()
    assert (path == known.path).mean() > (0.9 if missing == 0 else 0.8)


def test_three_states_of_one_mean(simulate):
    """States that differ in nothing but their spread."""
    three = np.full((3, 3), 0.025) + 0.925 * np.eye(3)
    known = simulate(lambda z, r: r.normal(0, np.array([0.3, 1.5, 8.0])[z]), [1_500], three, [1 / 3] * 3, 2)
    fit = ppl.fit(ppl.HMM(states=3), known.x, restarts=3)
    sd = np.sort(draws_of(fit, "sd").mean(0).ravel())
    np.testing.assert_allclose(sd, [0.3, 1.5, 8.0], rtol=0.15)


def test_selection_finds_the_number_of_states(simulate):
    three = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    known = simulate(lambda z, r: r.normal(4.0 * z[:, None], 1, (len(z), 2)), [500], three, [1 / 3] * 3, 4)
    fit = ppl.select(ppl.HMM(), known.x, {"states": range(1, 6)}, restarts=3)
    assert fit.bound.states == 3
    evidence = [c["evidence"] for c in fit.candidates]
    assert [c["states"] for c in fit.candidates] == [1, 2, 3, 4, 5]
    assert max(evidence) == evidence[2]


# One state: the guide is the posterior, and the ELBO the evidence


def one_state(x, types=None, **options):
    fit = ppl.fit(ppl.HMM(states=1, **options), ppl.read(x, types=types))
    p = fit.posterior_draws
    assert fit.status == "converged"
    np.testing.assert_allclose(p.log_p - p.log_q, fit.elbo, atol=1e-6)  # Bayes' rule at every draw
    assert p.k_hat < 0.1
    return fit


def check_draws(draws, exact):
    """Draws (S, C) against a frozen distribution with arrays for parameters."""
    S = len(draws)
    assert (np.abs(draws.mean(0) - exact.mean()) < 4.5 * exact.std() / S**0.5).all()
    for c in range(draws.shape[1]):  # each p-value is below 1e-5 once in 100,000 seeds
        column = exact.dist(**{name: values[c] for name, values in exact.kwds.items()})
        assert ss.kstest(draws[:, c], column.cdf).pvalue > 1e-5


def columns(x):
    """Sequences as one table, the observed cells of each column."""
    rows = np.concatenate(x)
    return [column[~np.isnan(column)] for column in rows.T]


@pytest.mark.parametrize("missing", [0.0, 0.2], ids=["complete", "missing"])
def test_one_poisson_state(simulate, missing):
    x = simulate(lambda z, r: r.poisson([2.0, 5.0], (len(z), 2)), [60, 1], [[1]], [1], 3).masked(missing, 2)
    fit = one_state(x, {"x0": "count", "x1": "count"}, emission="poisson", rate_shape=1.5, rate_rate=0.7)
    exact, shape, rate = 0.0, [], []
    for y in columns(x):
        m = y.mean()
        for i, v in enumerate(y):
            odds = (0.7 + m * i) / m
            exact += ss.nbinom(1.5 + y[:i].sum(), odds / (1 + odds)).logpmf(v)
        shape.append(1.5 + y.sum())
        rate.append(0.7 / m + len(y))
    assert fit.elbo == pytest.approx(exact, abs=1e-7)
    check_draws(draws_of(fit, "rate")[:, 0], ss.gamma(a=np.array(shape), scale=1 / np.array(rate)))


@pytest.mark.parametrize("missing", [0.0, 0.2], ids=["complete", "missing"])
def test_one_diagonal_state(simulate, missing):
    x = simulate(lambda z, r: r.normal([2.0, 500.0], [1, 90], (len(z), 2)), [60, 1], [[1]], [1], 3).masked(
        missing, 2
    )
    fit = one_state(x, covariance="diag", state_variance=0.25)
    k0, nu, s2 = 0.01, 3.0, 0.25
    exact, df, loc, scale = 0.0, [], [], []
    for y in columns(x):
        n, m, sd = len(y), y.mean(), y.std()
        matrix = s2 * sd**2 * (np.eye(n) + 1 / k0)
        exact += ss.multivariate_t(np.full(n, m), matrix, df=nu).logpdf(y)
        a, b = (nu + n) / 2, (nu * s2 + n) / 2  # of standardised cells, whose mean is 0 and Σx² is n
        df.append(2 * a), loc.append(m), scale.append(sd * math.sqrt(b / (a * (k0 + n))))
    assert fit.elbo == pytest.approx(exact, abs=1e-6)
    check_draws(draws_of(fit, "mean")[:, 0], ss.t(df=np.array(df), loc=np.array(loc), scale=np.array(scale)))


def test_one_full_state(simulate):
    x = simulate(lambda z, r: r.multivariate_normal([0, 3], ROTATED, len(z)), [50], [[1]], [1], 3).x
    fit = one_state(x, state_variance=0.25)
    y = x[0]
    centre, sd, (n, D) = y.mean(0), y.std(0), y.shape
    y = (y - centre) / sd
    exact, k0, nu0 = -n * np.log(sd).sum(), 0.01, D + 2.0
    prior = 0.99 * np.corrcoef(y.T) + 0.01 * np.eye(D)  # W₀⁻¹
    for i in range(n):
        kappa, nu, seen = k0 + i, nu0 + i, y[:i]
        m = seen.sum(0) / kappa
        inverse = prior + seen.T @ seen - kappa * np.outer(m, m)
        df = nu - D + 1
        exact += ss.multivariate_t(m, inverse * (kappa + 1) / (kappa * df), df=df).logpdf(y[i])
    assert fit.elbo == pytest.approx(exact, abs=1e-6)
    inverse = prior + y.T @ y
    precision = ss.wishart(nu0 + n, np.linalg.inv(inverse))
    drawn = fit.posterior_draws.theta["gaussian"]["precision"][:, 0].numpy()
    error = precision.rvs(4_000, random_state=0).std(0) / len(drawn) ** 0.5
    assert (np.abs(drawn.mean(0) - precision.mean()) < 4.5 * error).all()
    df = nu0 + n - D + 1
    scale = sd * np.sqrt(np.diag(inverse) / ((k0 + n) * df))
    check_draws(draws_of(fit, "mean")[:, 0], ss.t(df=np.full(2, df), loc=centre, scale=scale))


@pytest.mark.parametrize("missing", [0.0, 0.2], ids=["complete", "missing"])
def test_one_state_of_labels(simulate, missing):
    x = simulate(lambda z, r: np.c_[r.integers(0, 3, len(z)), r.random(len(z)) < 0.3], [40, 1], [[1]], [1], 3)
    x = x.masked(missing, 2)
    fit = one_state(x, {"x0": "categorical", "x1": "binary"}, level_concentration=0.6)
    exact = 0.0
    for y, levels in zip(columns(x), (3, 2), strict=True):
        each = 0.6 * levels * np.bincount(y.astype(int), minlength=levels) / len(y)  # as frequent as they are
        exact += sum(
            np.log((each[int(v)] + (y[:i] == v).sum()) / (0.6 * levels + i)) for i, v in enumerate(y)
        )
    assert fit.elbo == pytest.approx(exact, abs=1e-8)
    y = columns(x)[1]
    a, b = (1.2 * share + len(y) * share for share in (y.mean(), 1 - y.mean()))
    check_draws(draws_of(fit, "bernoulli_probability")[:, 0], ss.beta(a=np.array([a]), b=np.array([b])))


def test_one_exponential_state(simulate):
    x = simulate(lambda z, r: r.exponential([2.0, 70.0], (len(z), 2)), [60], [[1]], [1], 3).masked(0.2, 2)
    fit = one_state(x, emission="exponential")
    exact, a, scale = 0.0, [], []
    for y in columns(x):
        exact += sum(ss.lomax(1 + i, scale=y.mean() + y[:i].sum()).logpdf(v) for i, v in enumerate(y))
        a.append(1.0 + len(y)), scale.append(y.mean() + y.sum())
    assert fit.elbo == pytest.approx(exact, abs=1e-7)
    check_draws(draws_of(fit, "mean")[:, 0], ss.invgamma(a=np.array(a), scale=np.array(scale)))


def test_one_gamma_state_is_exact(simulate):
    x = simulate(lambda z, r: r.gamma(3.0, 2.0, (len(z), 1)), [80], [[1]], [1], 3).masked(0.2, 2)
    one_state(x, emission="gamma")


def test_one_full_state_with_missing_cells_is_close(simulate):
    """Missing cells are latents of the guide here: close, not exact."""
    x = simulate(lambda z, r: r.multivariate_normal([0, 3], ROTATED, len(z)), [200], [[1]], [1], 3).masked(
        0.2, 2
    )
    fit = ppl.fit(ppl.HMM(states=1), x)
    p = fit.posterior_draws
    assert p.k_hat < 0.7
    ratio = p.log_p - p.log_q
    assert fit.elbo < ratio.mean() + 4 * ratio.std() / p.draws**0.5
    evidence = np.log(np.mean(np.exp(ratio - ratio.max()))) + ratio.max()
    assert evidence - 5 < fit.elbo < evidence + 0.1


QUICK = {("opposite", "tied", 0.2), ("constant", "tied", 0.2)}
SINGULAR = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
    for case in itertools.product(("twice", "opposite", "constant", "wide"), ("full", "tied"), (0.0, 0.2))
]


@pytest.mark.parametrize(("kind", "covariance", "missing"), SINGULAR)
def test_columns_that_depend_on_each_other(simulate, kind, covariance, missing):
    """Singular data have a proper posterior all the same: the prior sees to it."""
    rows = 12 if kind == "wide" else 80  # or more columns than rows
    known = simulate(lambda z, r: r.normal(3.0 * z[:, None], 1, (len(z), 16)), [rows], A, [0.5, 0.5], 5)
    x = known.masked(missing, 2)[0]
    if kind != "wide":
        second = {"twice": x[:, 0], "opposite": 5 - 100 * x[:, 0], "constant": np.full(rows, 4.0)}[kind]
        x = np.c_[x[:, 0], second]
    data = ppl.read(x, types={f"x{j}": "continuous" for j in range(x.shape[1])})
    fit = ppl.fit(ppl.HMM(states=2, covariance=covariance), data, restarts=2)
    assert math.isfinite(fit.elbo)
    assert fit.status == "converged"
    assert np.isfinite(fit.posterior_draws.log_p).all()
    assert np.isfinite(draws_of(fit, "sd")).all()
    np.testing.assert_allclose(fit.predict()[["smoothed_0", "smoothed_1"]].sum(axis=1), 1)
