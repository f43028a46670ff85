"""Chains of regressions on the row before: evidence and predictions in closed form, and what is refused."""

import itertools
import math

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from scipy.special import betaln, digamma, gammaln
from scipy.stats import multivariate_t, norm

import ppl_models as ppl
from ppl_models.data.excerpt import excerpt
from ppl_models.draws import select_draws
from ppl_models.errors import PplWarning, UsageError

SIZES = {"state_variance": 0.4, "mean_precision": 0.05, "covariance_dof": 5.0}


def series(n, seed, columns=1, lengths=None):
    """Calm with φ = .9, wild with φ = −.5, about 20."""
    rng, z, x = np.random.default_rng(seed), 0, np.zeros(columns)
    rows, states = [], []
    for t in range(n):
        z = 1 - z if rng.random() < 0.03 else z
        if lengths and t % lengths == 0:
            x = np.zeros(columns)
        x = (0.9, -0.5)[z] * x + (0.3, 1.0)[z] * rng.normal(size=columns)
        rows.append(20 + 5 * x)
        states.append(z)
    table = pd.DataFrame(rows, columns=list("xyz")[:columns])
    if lengths:
        table.insert(0, "id", (np.arange(n) // lengths).astype(str))
    return table, np.array(states)


def standard(fit):
    """Standardised rows, and what a change of units adds to the log density of a row."""
    columns = [c for c in fit.data.schema.columns if not c.labelled]
    mean, sd = (np.array([getattr(c, name) for c in columns]) for name in ("mean", "sd"))
    return (fit.data.values - mean) / sd, -np.log(sd).sum()


def log_t(x, r, dof, weight, size):
    """Log p(x_1 … x_n) of a regression on r, each row a t given those before; and the t of the next."""
    Q, P = x.shape[1], r.shape[1]
    L, cross, scatter, total = weight * np.eye(P), np.zeros((P, Q)), dof * size * np.eye(Q), 0.0

    def ahead(row):
        M = np.linalg.solve(L, cross)
        W = scatter - M.T @ L @ M
        own = dof - Q + 1
        return multivariate_t(row @ M, (1 + row @ np.linalg.solve(L, row)) * W / own, own)

    for now, row in zip(x, r, strict=True):
        total += ahead(row).logpdf(now)
        L, cross = L + np.outer(row, row), cross + np.outer(row, now)
        scatter, dof = scatter + np.outer(now, now), dof + 1
    return total, ahead


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_one_state_is_the_regression_in_closed_form(covariance):
    table, _ = series(40, 0, 2, lengths=20)
    model = ppl.HMM(states=1, autoregressive=True, covariance=covariance, **SIZES)
    fit = ppl.fit(model, table, sequence="id", restarts=1)
    u, units = standard(fit)
    after = np.flatnonzero(np.arange(40) % 20)
    expected = 40 * units + norm.logpdf(u[[0, 20]]).sum()
    aheads = []
    for own in [[0, 1]] if covariance == "full" else [[0], [1]]:
        r = np.column_stack([np.ones(38), u[after - 1][:, own]])
        value, ahead = log_t(u[after][:, own], r, 5.0, 0.05, 0.4)
        expected += value
        aheads.append((own, ahead))
    assert fit.trained.elbo == pytest.approx(expected, abs=1e-8)
    # the next row's density is a ratio of two Z, and Student's t
    factor, S = fit.bound.factors["gaussian"], fit.params["gaussian"]
    new = ppl.read(table.assign(x=[*table.x[:39], 23.0]), sequence="id", schema=fit.data.schema)
    rows = fit.bound.rows(new).values[-1:]
    more = fit.bound.batch(rows, fit.bound.rows(new.subset(np.array([39]))).rows)
    t = factor.collect(more.backend.problem.features(0, slice(0, 1)).matrix[None], torch.ones(1, 1))
    found = float(factor.log_normalizer(S + t) - factor.log_normalizer(S))
    mean, sd = fit.data.schema.columns[0].mean, fit.data.schema.columns[0].sd
    now = np.array([(23.0 - mean) / sd, u[39, 1]])
    expected = sum(ahead(np.array([1.0, *u[38, own]])).logpdf(now[own]) for own, ahead in aheads)
    assert found == pytest.approx(expected, abs=1e-6)


def _moved(factor, S, direction, h):
    return float(factor.log_normalizer(S + h * direction) - factor.log_normalizer(S - h * direction)) / (
        2 * h
    )


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_expectations_are_the_slope_of_log_z_with_sizes_learned(covariance):
    table, _ = series(60, 1, 2)
    fit = ppl.fit(ppl.HMM(states=2, autoregressive=True, covariance=covariance), table, restarts=1, steps=3)
    factor, S = fit.model.bind(fit.data.schema).factors["gaussian"], fit.params["gaussian"]
    assert factor.prior.widest is not None
    direction = S * torch.as_tensor(np.random.default_rng(0).uniform(0, 1, (1, 2, 1, 1)))
    found = float((factor.expected_natural(S) * direction).sum())
    assert _moved(factor, S, direction, 1e-4) == pytest.approx(found, rel=1e-5)


def test_bound_and_density_against_all_paths():
    x = np.array([20.0, 21.5, 20.4, 23.0, 18.0, 20.2])
    fit = ppl.fit(ppl.HMM(autoregressive=True, **SIZES), pd.DataFrame({"x": x}), restarts=3)
    u, units = standard(fit)
    r = np.column_stack([np.ones(5), u[:-1]])
    total = -np.inf
    for z in itertools.product(range(2), repeat=6):
        z, p = np.array(z), math.log(0.5) + norm.logpdf(u[0, 0]) + 6 * units
        for k in range(2):
            into = z[1:][z[:-1] == k]
            p += betaln(1 + (into == 0).sum(), 1 + (into == 1).sum()) - betaln(1, 1)
            p += log_t(u[1:][z[1:] == k], r[z[1:] == k], 5.0, 0.05, 0.4)[0]
        total = np.logaddexp(total, p)
    assert fit.trained.elbo < total
    assert fit.trained.elbo == pytest.approx(_elbo(fit, u, r) + 6 * units, abs=2e-3)  # settled to less
    exact = fit.bound.elbo(fit.batch, fit.params)[0]
    assert float(exact) == pytest.approx(_elbo(fit, u, r) + 6 * units, abs=1e-9)
    theta = fit.bound.structure_theta(fit.draws)
    user = fit.posterior.posterior
    found = fit.bound.log_evidence(fit.batch, fit.draws)
    mean, sd = fit.data.schema.columns[0].mean, fit.data.schema.columns[0].sd
    for s in range(2):
        start, A = theta["start"][s].numpy(), theta["transition"][s].numpy()
        a, b, scale = (user[name].values[0, s, :, 0] for name in ("mean", "coefficient", "sd"))
        p = 0.0
        for z in itertools.product(range(2), repeat=6):
            z = np.array(z)
            path = start[z[0]] * A[z[:-1], z[1:]].prod()
            p += (
                path
                * norm.pdf(x[0], mean, sd)
                * norm.pdf(x[1:], a[z[1:]] + b[z[1:]] * (x[:-1] - mean), scale[z[1:]]).prod()
            )
        assert float(found[s]) == pytest.approx(math.log(p), abs=1e-9)


def _elbo(fit, u, r):
    """Log Σ_z exp E_q[log p(u, z | θ)] − KL(q(θ) ‖ p(θ)), over all paths."""
    S, density, kl = fit.params["gaussian"][0, :, 0].numpy(), np.zeros((6, 2)), 0.0
    density[0] = norm.logpdf(u[0, 0])
    for k in range(2):
        n, sr, sx, srr, srx, sxx = S[k]
        L = np.array([[n, sr], [sr, srr]]) + 0.05 * np.eye(2)
        m, inverse = np.linalg.solve(L, [sx, srx]), np.linalg.inv(L)
        a, b, a0, b0 = (5 + n) / 2, (2.0 + sxx - m @ L @ m) / 2, 2.5, 1.0
        spread = np.einsum("ti,ij,tj->t", r, inverse, r)
        off = (u[1:, 0] - r @ m) ** 2 * a / b + spread
        density[1:, k] = 0.5 * (digamma(a) - np.log(b) - np.log(2 * np.pi) - off)
        ridge = 0.05 * (a / b * m @ m + np.trace(inverse)) - 2 + np.linalg.slogdet(L)[1] - 2 * np.log(0.05)
        kl += 0.5 * ridge + (a - a0) * digamma(a) - gammaln(a) + gammaln(a0)
        kl += a0 * np.log(b / b0) + a * (b0 - b) / b
    logs = []
    for c in [fit.params["start"][0].numpy(), *fit.params["transition"][0].numpy()]:
        logs.append(digamma(1 + c) - digamma((1 + c).sum()))
        kl += c @ logs[-1] - betaln(*(1 + c)) + betaln(1, 1)
    total = -np.inf
    for z in itertools.product(range(2), repeat=6):
        z = np.array(z)
        path = logs[0][z[0]] + np.array(logs[1:])[z[:-1], z[1:]].sum()
        total = np.logaddexp(total, path + density[np.arange(6), z].sum())
    return total - kl


@pytest.fixture(scope="module")
def regimes():
    table, z = series(300, 2)
    return ppl.fit(ppl.HMM(autoregressive=True), table, restarts=2), z


@pytest.mark.slow
def test_regimes_are_found(regimes):
    fit, z = regimes
    assert (fit.predict()["state"] == z).mean() > 0.95
    found = fit.posterior.posterior["coefficient"].values[0, :, :, 0]
    np.testing.assert_array_less(np.abs(found.mean(0) - [0.9, -0.5]), 3 * found.std(0))
    assert (found.std(0) < 0.1).all()
    alone = ppl.fit(ppl.HMM(), fit.data, restarts=2)
    assert fit.score()["log_density"].mean() > alone.score()["log_density"].mean() + 0.1


def test_classes_may_differ_in_what_follows_a_row():
    rng, rows = np.random.default_rng(7), []
    for i in range(24):
        x, phi = rng.normal(), (-0.8, 0.8)[i % 2]
        for _ in range(12):
            rows.append((str(i), x, "up" if i % 2 else "down"))
            x = phi * x + 0.6 * rng.normal()
    table = pd.DataFrame(rows, columns=["id", "x", "kind"])
    model = ppl.HMM(states=1, autoregressive=True)
    fit = ppl.fit(model, table, sequence="id", target="kind", restarts=1)
    truth = table.groupby("id", sort=False)["kind"].first().to_numpy()
    assert (fit.predict()["class"].to_numpy() == truth).mean() > 0.9


def test_forecasts_follow_the_recursion():
    table, _ = series(60, 3)
    table["x"] = table["x"].iloc[0] + 0.1 * np.cumsum(table["x"] - 20)  # far from its mean at the end
    fit = ppl.fit(ppl.HMM(states=1, autoregressive=True), table, restarts=1)
    user, x = fit.posterior.posterior, np.full(len(fit.posterior.posterior.draw), table["x"].iloc[-1])
    ahead, noise = fit.forecast(4), 0.0
    for h in range(4):
        a, b, sd = (user[name].values[0, :, 0, 0] for name in ("mean", "coefficient", "sd"))
        x = a + b * (x - fit.data.schema.columns[0].mean)
        noise = sd**2 + b**2 * noise
        assert ahead["x_sd"][h] == pytest.approx(np.sqrt(x.var() + noise.mean()), rel=0.08)
        error = ahead["x_sd"][h] / math.sqrt(len(x))
        assert ahead["x"][h] == pytest.approx(x.mean(), abs=5 * error)


def test_a_random_walk_is_carried_on_without_a_warning(recwarn):
    walk = pd.DataFrame({"x": 100 + np.cumsum(np.random.default_rng(1).normal(size=200))})
    fit = ppl.fit(ppl.HMM(states=1, autoregressive=True), walk, restarts=1)
    fit.forecast(2)
    assert not recwarn.list
    with pytest.warns(PplWarning, match="fall back to levels"):
        ppl.fit(ppl.HMM(states=1), walk, restarts=1).forecast(2)


def test_samples_have_the_autocorrelation_of_their_state():
    table, _ = series(400, 4)
    fit = ppl.fit(ppl.HMM(autoregressive=True), table, restarts=2)
    drawn = fit.sample(400, sequences=5, seed=1)
    step = drawn.assign(before=drawn.groupby("sequence")["x"].shift()).dropna()
    for k, phi in enumerate((0.9, -0.5)):
        own = step[step["state"] == k]
        assert np.polyfit(own["before"], own["x"], 1)[0] == pytest.approx(phi, abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_gaps_begin_anew_and_densities_are_proper(covariance):
    table, _ = series(80, 5, 2)
    table.loc[[3, 20], "x"] = np.nan
    fit = ppl.fit(ppl.HMM(autoregressive=True, covariance=covariance), table, restarts=1)
    column = fit.data.schema.columns[0]
    x = np.linspace(-30, 70, 401)
    own = norm.logpdf(x, column.mean, column.sd)

    def of(before, y):  # p(x | the row before, y missing or not), on a grid
        rows = pd.DataFrame({"id": np.repeat(np.arange(len(x)).astype(str), 2)})
        rows["x"] = np.column_stack([np.full(len(x), before), x]).ravel()
        rows["y"] = np.column_stack([np.full(len(x), 21.0), np.full(len(x), y)]).ravel()
        data = ppl.read(rows, sequence="id", schema=fit.data.schema)
        found = fit.bound.log_density(fit.bound.rows(data), select_draws(fit.draws, slice(0, 2)))
        return found[:, 1::2].exp().numpy()

    step = x[1] - x[0]
    np.testing.assert_allclose(of(22.0, np.nan).sum(1) * step, 1.0, atol=1e-6)
    np.testing.assert_allclose(of(np.nan, np.nan), np.broadcast_to(np.exp(own), (2, len(x))), atol=1e-12)
    given = np.abs(of(22.0, np.nan) - np.exp(own)).max()
    assert (given < 1e-12) == (covariance == "full")  # with a full covariance a row needs all its cells


@pytest.mark.slow
def test_it_is_the_same_after_storing(regimes, tmp_path):
    fit, _ = regimes
    fit.save(tmp_path / "run")
    again = ppl.load(tmp_path / "run")
    assert again.model.autoregressive
    pd.testing.assert_frame_equal(again.forecast(3), fit.forecast(3))
    pd.testing.assert_frame_equal(again.score(), fit.score())


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({"covariance": "tied"}, {}, "covariance full .* or diag"),
        ({"emission": "student_t"}, {}, "gaussian columns, and there are none"),
        ({}, {"robust": 0.1}, "robust leaves rows out"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, options, message):
    with pytest.raises(UsageError, match=message):
        ppl.fit(ppl.HMM(autoregressive=True, **fields), series(30, 0, 2)[0], **options)


def test_transformed_columns_are_refused():
    with pytest.raises(UsageError, match="marginals plain"):
        ppl.HMM(autoregressive=True, marginals="auto")


def test_excerpts_know_the_row_before():
    table, _ = series(50, 6)
    bound = ppl.HMM(autoregressive=True).bind(ppl.read(table).schema)
    inside = bound.inside.dataset(ppl.read(table))
    part = bound.inside.dataset(excerpt(inside, 20, ordered=True, seed=0))
    at = np.searchsorted(table["x"].sort_values(), part.values[:, 0])
    at = table["x"].sort_values().index[at].to_numpy()
    np.testing.assert_array_equal(part.values[at > 0, 1], table["x"].to_numpy()[at[at > 0] - 1])
    assert np.isnan(part.values[at == 0, 1]).all()


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.filterwarnings("ignore:Singular sample")
def test_the_pyro_program_has_the_same_density(covariance):
    table, _ = series(8, 2, 2)
    table.loc[3, "x"] = np.nan
    fit = ppl.fit(ppl.HMM(autoregressive=True, covariance=covariance, **SIZES), table, restarts=1)
    torch.manual_seed(0)
    nodes = pyro.poutine.trace(fit.model.model).get_trace(fit.data).nodes
    theta = {
        name: {at.partition(".")[2]: node["value"] for at, node in nodes.items() if at.startswith(f"{name}.")}
        for name in fit.bound.factors
    }
    rows, out = fit.bound.rows(fit.data), torch.empty(1, 8, 2, dtype=torch.float64)
    fit.bound.density(rows, fit.bound.natural(theta))(slice(0, 8), out)
    found = out[0] + fit.bound.log_base(rows.values)[:, None]
    for t in range(8):
        observed = nodes[f"x_{t}_gaussian"]
        expected = float(observed["fn"].log_prob(observed["value"]).sum())
        assert float(found[t, nodes[f"z_{t}"]["value"]]) == pytest.approx(expected, abs=1e-9)
