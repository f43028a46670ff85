"""Surprise and missing cells of chains of regressions, against sums over all paths."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal, norm
from test_autoregressive import series

import ppl_models as ppl
from ppl_models.latent import following, gaps


def learned(table, draws=2, **fields):
    """A chain after some steps from labels at random, its columns, and draws of its parameters."""
    data = ppl.read(table, **({"sequence": "id"} if "id" in table else {}))
    model = ppl.HMM(autoregressive=True, **fields)
    bound = model.bind(model.refer(data))
    batch, rng = bound.dataset_batch(data), np.random.default_rng(1)
    statistics = bound.from_labels(batch, torch.as_tensor(rng.integers(2, size=(1, data.rows))))
    for _ in range(8):
        _, statistics = bound.elbo(batch, statistics)
    torch.manual_seed(0)
    return bound, data.schema, bound.draw(statistics, draws)


def regression(bound, draws):
    """The family, the start and transitions, and a, B, Σ of each draw and state, of standardised rows."""
    (e,) = [e for e in bound.emissions if e.lagged]
    own = bound.structure_theta(draws)
    return e, own["start"].numpy(), own["transition"].numpy(), [v.numpy() for v in e.dense(draws["gaussian"])]


def test_rows_are_as_surprising_as_draws_of_the_mixture_of_all_paths(monkeypatch):
    """Of three rows by quadrature; the sd of a share of 4,000 draws is .008 at most."""
    monkeypatch.setattr(following, "COARSE", 4_000)
    x = np.array([21.0, 19.5, 33.0])
    bound, schema, draws = learned(series(60, 2)[0])
    e, start, A, (a, B, C) = regression(bound, draws)
    u = (x - float(e.centre)) / float(e.scale)
    grid = np.linspace(-30, 30, 60_001)
    densities = []
    for s in range(2):
        w = start[s]
        for t in range(3):
            means = a[s, :, 0] + u[t - 1] * B[s, :, 0, 0] if t else np.zeros(2)
            sds = np.sqrt(C[s, :, 0, 0]) if t else np.ones(2)
            w = w @ A[s] if t else w
            densities.append((t, w, means, sds))
            w = w * norm.pdf(u[t], means, sds)
            w = w / w.sum()
    data = ppl.read(pd.DataFrame({"x": x}), schema=schema)
    found = following.tails(bound, data, draws, 4_000)
    for t in range(3):
        own = [d[1:] for d in densities if d[0] == t]
        f = sum((w * norm.pdf(grid[:, None], m, sd)).sum(1) for w, m, sd in own) / 2
        at = sum((w * norm.pdf(u[t], m, sd)).sum() for w, m, sd in own) / 2
        exact = f[f <= at].sum() * (grid[1] - grid[0])
        assert found[t] == pytest.approx(exact, abs=4.5 * (exact * (1 - exact) / 4_000) ** 0.5 + 1e-3)


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_cells_are_as_surprising_as_their_gaussians_are(covariance):
    """The last of two rows, whose state hangs on the first: cells given the others, and by themselves."""
    table = series(60, 3, 2, lengths=20)[0].assign(n=np.random.default_rng(0).poisson(3, 60))
    bound, schema, draws = learned(table, covariance=covariance)
    x, n = np.array([[21.0, 19.0], [18.5, 22.0]]), np.array([3, 5])
    table = pd.DataFrame({"id": "0", "x": x[:, 0], "y": x[:, 1], "n": n})
    data = ppl.read(table, sequence="id", schema=schema)
    e, start, A, (a, B, C) = regression(bound, draws)
    u, scale = (x - e.centre.numpy()) / e.scale.numpy(), e.scale.numpy()
    rate = bound.variables(draws)[0]["poisson_rate"][1][:, :, 0]
    whole, without, alone = np.zeros(3), np.zeros(3), np.zeros(3)
    for s, k in itertools.product(range(2), repeat=2):
        first = start[s] * np.exp(3 * np.log(rate[s]) - rate[s])  # the first row's x and y are of no state
        w = (first / first.sum()) @ A[s][:, k] / 2
        mean, cov = a[s, k] + u[0] @ B[s, k], C[s, k]
        p_n = np.exp(5 * np.log(rate[s, k]) - rate[s, k]) / 120
        each = norm.pdf(u[1], mean, np.sqrt(np.diag(cov)))
        both = multivariate_normal.pdf(u[1], mean, cov)
        whole += w * both * p_n / scale.prod()
        without += w * np.array([each[1] * p_n / scale[1], each[0] * p_n / scale[0], both / scale.prod()])
        alone += w * np.array([each[0] / scale[0], each[1] / scale[1], p_n])
    (found,) = following.explained(bound, data, np.array([1]), draws, 20)
    order = [schema.names.index(name) for name in ("x", "y", "n")]
    np.testing.assert_allclose(found.conditional[0, order], np.log(without / whole), rtol=1e-6)
    np.testing.assert_allclose(found.marginal[0, order], -np.log(alone), rtol=1e-6)


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_missing_cells_are_drawn_from_the_mixture_over_all_paths(covariance):
    """Means and sds of five missing cells against sums over 2⁵ paths; chains of 20 rounds, one θ."""
    table, _ = series(60, 2, 2)
    bound, schema, one = learned(table, 1, covariance=covariance)
    e, start, A, (a, B, C) = regression(bound, one)
    x = np.array([[20.0, 21.0], [np.nan, 19.0], [np.nan, np.nan], [22.0, 18.0], [np.nan, 20.5]])
    u = (x - e.centre.numpy()) / e.scale.numpy()
    hidden = np.isnan(u).ravel()
    logs, means, squares = [], [], []
    for z in itertools.product(range(2), repeat=5):
        # one Gaussian over all ten numbers: (I − shift) u = a + noise
        M, mean, noise = np.eye(10), np.zeros(10), np.zeros((10, 10))
        for t in range(5):
            at = slice(2 * t, 2 * t + 2)
            noise[at, at] = C[0, z[t]] if t else np.eye(2)
            if t:
                M[at, 2 * t - 2 : 2 * t], mean[at] = -B[0, z[t]].T, a[0, z[t]]
        inverse = np.linalg.inv(M)
        m, P = inverse @ mean, inverse @ noise @ inverse.T
        h, o = hidden, ~hidden
        gain = P[np.ix_(h, o)] @ np.linalg.inv(P[np.ix_(o, o)])
        own = m[h] + gain @ (u.ravel()[o] - m[o])
        var = np.diag(P[np.ix_(h, h)] - gain @ P[np.ix_(o, h)])
        path = start[0][z[0]] * np.prod([A[0][i, j] for i, j in itertools.pairwise(z)])
        logs.append(np.log(path) + multivariate_normal.logpdf(u.ravel()[o], m[o], P[np.ix_(o, o)]))
        means.append(own)
        squares.append(own**2 + var)
    p = np.exp(np.array(logs) - np.logaddexp.reduce(logs))
    mean = p @ np.array(means)
    sd = np.sqrt(p @ np.array(squares) - mean**2)
    data = ppl.read(pd.DataFrame(x, columns=list("xy")), schema=schema)
    (found,) = gaps.complete(bound, data, np.array([1, 2, 4]), 2_000, one)
    rows = np.isnan(x[[1, 2, 4]])
    drawn = ((found.drawn - e.centre.numpy()) / e.scale.numpy())[:, rows]
    assert (found.drawn[:, ~rows] == x[[1, 2, 4]][~rows]).all()
    # Means to 4.5 standard errors, sds to 10 %, kurtosis up to 10: under 1e-3 a seed for all of them.
    np.testing.assert_array_less(np.abs(drawn.mean(0) - mean), 4.5 * sd / 2_000**0.5)
    np.testing.assert_allclose(drawn.std(0), sd, rtol=0.1)


@pytest.mark.slow
def test_verbs_of_a_chain_with_gaps():
    """A value that the column often has stands out if it does not after the row before; gaps are filled."""
    table, _ = series(200, 5)
    table["x"] = 20 + 0.05 * np.cumsum(table["x"] - 20)
    table.loc[[30, 31, 90], "x"] = np.nan
    fit = ppl.fit(ppl.HMM(states=1, autoregressive=True), table, restarts=1)
    odd = table.copy()
    odd.loc[120, "x"] = table["x"].mean() + (4.0 if table["x"][119] < table["x"].mean() else -4.0)
    found = fit.anomalies(odd)
    assert {120, 121} & set(found["p_value"].nsmallest(2).index)
    filled = fit.impute()
    assert not filled["x"].isna().any()
    assert (filled["x_sd"].notna() == table["x"].isna()).all()
    near = table["x"].interpolate()
    assert (filled["x"] - near).abs().max() < 3 * table["x"].diff().std()
    assert len(fit.impute(copies=2)) == 400
