"""How surprising rows are, how rarely that happens, and which cells it is, against closed forms."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats as ss
import torch
from fits import uncalibrated
from scipy.special import logsumexp

import ppl_models as ppl
from ppl_models import conformal
from ppl_models.draws import select_draws
from ppl_models.errors import PplError, UsageError
from ppl_models.latent import surprise

COVARIANCE = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.3], [0.0, 0.3, 1.0]])


def table(seed, n=400):
    """Three numbers that hang together, and a label that goes with the first."""
    rng = np.random.default_rng(seed)
    x = rng.multivariate_normal([0, 5, -3], COVARIANCE, n)
    kind = np.where(rng.random(n) < 1 / (1 + np.exp(-4 * x[:, 0])), "high", "low")
    return pd.DataFrame({"speed": x[:, 0], "load": x[:, 1], "heat": x[:, 2], "kind": kind})


@pytest.fixture(scope="module")
def mixture():
    return uncalibrated(ppl.fit(ppl.GMM(components=2), table(1), restarts=2))


@pytest.fixture(scope="module")
def chain():
    """Two hundred days in two regimes, of which days 60 to 64 are like no other."""
    rng = np.random.default_rng(4)
    z = np.arange(200) // 25 % 2
    x = rng.normal(4.0 * z, 1.0)
    x[60:65] = -9 + rng.normal(size=5)
    days = pd.date_range("2024-01-01", periods=200).strftime("%Y-%m-%d")
    fit = ppl.fit(ppl.HMM(states=2), pd.DataFrame({"day": days, "x": x}), time="day", robust=0.05, restarts=3)
    return uncalibrated(fit)


@pytest.mark.slow
def test_the_tail_of_a_gaussian_is_that_of_chi_squared():
    x = table(2, 1_000)[["speed", "load", "heat"]].to_numpy()
    fit = ppl.fit(ppl.GMM(components=1), x)
    torch.manual_seed(0)
    found = surprise.tails(fit.bound, fit.data, fit.draws, 40_000)
    centred = x - x.mean(0)
    distance = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(np.cov(x.T)), centred)
    exact = ss.chi2.sf(distance, 3)
    error = np.sqrt(exact * (1 - exact) / np.where(found < 0.02, 40_000, 4_000))
    assert (np.abs(found - exact) < 5 * error + 0.06 * exact + 1e-4).all()


def test_missing_cells_are_left_out_of_the_tail():
    x = table(2, 1_000)[["speed", "load", "heat"]].to_numpy(copy=True)
    x[::2, 1] = np.nan
    fit = ppl.fit(ppl.GMM(components=1), x)
    torch.manual_seed(0)
    found = surprise.tails(fit.bound, fit.data, fit.draws, 8_000)[::2]
    both = x[:, [0, 2]]
    centred, inverse = (both - both.mean(0))[::2], np.linalg.inv(np.cov(both.T))
    exact = ss.chi2.sf(np.einsum("ni,ij,nj->n", centred, inverse, centred), 2)
    np.testing.assert_allclose(found, exact, atol=0.05)


def test_cells_are_judged_exactly_under_the_draws(mixture):
    """Every marginal and conditional of the mixture of the draws, by SciPy and enumeration of states."""
    some = np.arange(12)
    torch.manual_seed(0)
    (found,) = surprise.explained(mixture.bound, mixture.data, some, mixture.draws, 2_000)
    theta = select_draws(mixture.draws, slice(0, surprise.DRAWS))
    variables, _ = mixture.bound.variables(theta)
    named = {name: value for name, (_, value) in variables.items()}
    mean, sd = (next(v for n, v in named.items() if n.endswith(what)) for what in ("mean", "sd"))
    pairs = next(v for n, v in named.items() if n.endswith("correlation"))
    rate = next(v for n, v in named.items() if n == "probability_kind")
    x = mixture.data.values[some]
    S, K = named["weight"].shape

    def log_p(cells):
        parts = []
        for s in range(S):
            for k in range(K):
                C = pairs[s, k] * np.outer(sd[s, k], sd[s, k])
                j = [c for c in cells if c < 3]
                total = np.full(len(x), np.log(named["weight"][s, k] / S))
                if j:
                    total += ss.multivariate_normal(mean[s, k][j], C[np.ix_(j, j)]).logpdf(x[:, j])
                if 3 in cells:
                    total += np.log(rate[s, k, x[:, 3].astype(int)])
                parts.append(total)
        return logsumexp(parts, 0)

    for j in range(4):
        others = [c for c in range(4) if c != j]
        np.testing.assert_allclose(found.marginal[:, j], -log_p([j]), rtol=1e-6)
        np.testing.assert_allclose(
            found.conditional[:, j], log_p(others) - log_p(range(4)), rtol=1e-6, atol=1e-9
        )
    share = found.drawn[:, :, 3].mean(0)
    own = np.exp(-found.conditional[:, 3])
    p = np.where(x[:, 3] == 1, own, 1 - own)
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 2_000) + 0.02).all()


def test_steps_of_a_chain_are_judged_by_what_came_before(chain):
    """The tail one step ahead by the forward recursion and by quadrature over the line."""
    theta = select_draws(chain.draws, slice(0, surprise.DRAWS))
    named = {name: value for name, (_, value) in chain.bound.variables(theta)[0].items()}
    x, S = chain.data.values[:, 0], len(named["start"])
    line = np.linspace(-25, 25, 20_001)
    torch.manual_seed(0)
    found = surprise.tails(chain.bound, chain.data, chain.draws, 40_000)
    now = named["start"]
    for t in range(40):
        mean, sd = named["mean"][..., 0], named["sd"][..., 0]
        density = (now[..., None] * ss.norm.pdf(line, mean[..., None], sd[..., None])).sum((0, 1)) / S
        own = ss.norm.pdf(x[t], mean, sd)
        exact = density[density <= (now * own).sum() / S].sum() * (line[1] - line[0])
        points = 40_000 if found[t] < surprise.LOW else surprise.COARSE
        assert abs(found[t] - exact) < 5 * np.sqrt(exact / points) + 2e-3
        now = now * own
        now = np.einsum("sj,sjk->sk", now / now.sum(1, keepdims=True), named["transition"])


def test_the_planted_cell_is_named_first(mixture):
    """One of three numbers of each row is moved by four to six sds, either way."""
    rng, rows = np.random.default_rng(5), table(6, 120)
    which = rng.integers(0, 3, 120)
    sds = np.array([rows.iloc[:, j].std() for j in range(3)])
    for i, j in enumerate(which):
        rows.iloc[i, j] += rng.choice([-1, 1]) * rng.uniform(4, 6) * sds[j]
    found = mixture.anomalies(rows, explain=120).sort_values("row")
    assert (found["column"] == rows.columns[which]).mean() >= 0.9
    first = found.iloc[0]
    assert first["why"].startswith(f"{first['column']} {first['value']}, expected ")
    cells = mixture.anomalies(rows, by="cell", explain=10)
    assert len(cells) == 40
    assert (cells.groupby("row", sort=False)["column"].first().to_numpy() == found.loc[
        cells["row"].drop_duplicates(), "column"].to_numpy()).all()  # fmt: skip


def test_a_row_that_no_component_can_have_is_the_most_surprising():
    x = table(2, 60)[["speed", "load"]]
    later = x.head(5).assign(speed=[*x["speed"].head(4), 1e300])
    found = ppl.fit(ppl.GMM(components=2, covariance="diag"), x, restarts=1).anomalies(later)
    assert found.iloc[0][["row", "surprise", "column"]].tolist() == [4, np.inf, "speed"]
    assert found.iloc[0]["p_value"] < 1e-3


def test_rows_are_in_order_and_rates_cut_them(mixture):
    rows = table(7, 50)
    rows.loc[17, "load"] = 12.0
    found = mixture.anomalies(rows)
    assert found["row"].iloc[0] == 17
    assert found.index[0] == 17
    assert found["p_value"].is_monotonic_increasing
    density = mixture.score(rows)["log_density"].to_numpy()
    np.testing.assert_allclose(-density[found["row"]], found["surprise"])
    some = mixture.anomalies(rows, rate=0.2)
    assert (some["p_value"] <= 0.2).all()
    assert len(some) == (found["p_value"] <= 0.2).sum()
    assert mixture.anomalies(rows, fdr=0.05)["row"].tolist() == [17]


def test_split_conformal_counts_the_calibration_rows(mixture):
    rows, normal = table(7, 20), table(8, 99)
    found = mixture.anomalies(rows, calibration=normal).sort_values("row")
    s, c = (-mixture.score(each)["log_density"].to_numpy() for each in (rows, normal))
    exact = [(1 + (c >= each).sum()) / 100 for each in s]
    np.testing.assert_allclose(found["p_value"], exact)
    assert "exchangeable" in found.attrs["notes"][0]


def test_folds_calibrate_with_rows_that_their_fit_has_not_seen(mixture):
    """The counts of two fits to halves, by fits to the same halves; rows of the fit by their ranks."""
    rows = table(1, 60)[["speed", "load"]]
    fit = ppl.fit(ppl.GMM(components=1), rows)
    new = table(7, 10)[["speed", "load"]]
    found = fit.anomalies(new, folds=2, explain=0, seed=3)["p_value"].sort_index()
    fold, count = np.random.default_rng(3).permutation(np.arange(60) % 2), np.zeros(10)
    for k in (0, 1):
        data = fit.data.subset(fold != k)
        part = ppl.fit(ppl.GMM(components=1), data)
        s, c = (-part.score(each)["log_density"].to_numpy() for each in (new, rows[fold == k]))
        count += (c[:, None] >= s).sum(0)
    np.testing.assert_allclose(found, (1 + count) / 61, atol=1e-12)
    own = fit.anomalies(folds=2, explain=0)
    assert sorted(own["p_value"].round(6)) == sorted(np.repeat(np.arange(1, 31) / 30, 2).round(6))
    with pytest.raises(UsageError, match="evenly spread"):
        fit.anomalies(folds=2, fdr=0.1)


def test_conformal_p_values_are_uniform_at_most():
    """Of 4,000 new rows each with 19 calibration rows, ties too: P(p ≤ k/20) ≤ k/20."""
    rng = np.random.default_rng(0)
    for scores in (rng.normal(size=(4_000, 20)), rng.poisson(1, (4_000, 20)).astype(float)):
        p = np.array([conformal.p_values([(row[:1], row[1:])])[0] for row in scores])
        for k in (1, 2, 10):
            assert (p <= k / 20 + 1e-12).mean() < k / 20 + 4 * np.sqrt(k / 20 * (1 - k / 20) / 4_000)
    assert np.isnan(conformal.p_values([(np.array([np.nan]), np.array([1.0]))])).all()


def test_stretches_have_dates(chain):
    found = chain.anomalies(by="stretch", rate=0.001)
    first = found.iloc[0]
    assert (first["start"], first["end"]) == ("2024-03-01", "2024-03-05")
    assert first["steps"] == 5
    assert first["anomalous"] >= 4
    assert first["column"] == "x"
    assert (chain.anomalies(by="stretch", rate=0.001, gap=0)["anomalous"] >= 1).all()


@pytest.mark.slow
def test_sequences_are_judged_by_fishers_method():
    """Of 40 new sequences one has no regimes: it is first, and the others' p-values are uniform."""
    rng = np.random.default_rng(0)

    def walks(number, odd=None):
        rows = []
        for i in range(number):
            z = np.cumsum(rng.random(30) < 0.1) % 2
            x = rng.normal(4.0 * z) if i != odd else rng.normal(2.0, 5.0, 30)
            rows.append(pd.DataFrame({"who": f"s{i:02}", "x": x}))
        return pd.concat(rows, ignore_index=True)

    fit = uncalibrated(ppl.fit(ppl.HMM(states=2), walks(30), sequence="who", restarts=2))
    new = walks(40, odd=7)
    found = fit.anomalies(new, by="sequence", draws=5_000)
    assert found["who"].iloc[0] == "s07"
    steps = fit.anomalies(new, draws=5_000, explain=0)
    own = steps[steps["who"] == "s00"]["p_value"]
    exact = ss.chi2.sf(-2 * np.log(own).sum(), 60)
    np.testing.assert_allclose(found.set_index("who").loc["s00", "p_value"], exact)
    assert ss.kstest(found["p_value"].iloc[1:], "uniform").pvalue > 0.01


def test_labels_and_numbers_of_conditional_models_are_judged():
    rows = table(3, 300)
    rows.loc[5, "kind"] = "low" if rows.loc[5, "speed"] > 0 else "high"
    rows.loc[5, "speed"] = 3.0 * np.sign(rows.loc[5, "speed"])
    fit = ppl.fit(ppl.Logistic(), rows, target="kind")
    found = fit.anomalies()
    assert found["row"].iloc[0] == 5
    assert found["column"].iloc[0] == "kind"
    p = fit.predict()[[c for c in fit.predict() if c.startswith("probability")]].to_numpy()
    own = np.exp(-found.sort_values("row")["surprise"].to_numpy())
    np.testing.assert_allclose(found.sort_values("row")["p_value"], np.where(own > 0.5, 1.0, own), atol=0.02)
    assert p.shape[0] == 300
    rows.loc[9, "heat"] += 8.0
    numbers = ppl.fit(ppl.GLM(), rows.drop(columns="kind"), target="heat").anomalies(explain=3)
    assert numbers["row"].iloc[0] == 9
    assert numbers["p_value"].iloc[0] < 1e-6
    assert numbers["lower"].iloc[0] < numbers["upper"].iloc[0] < rows.loc[9, "heat"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": 0.1, "fdr": 0.1}, "give one of them"),
        ({"rate": 1.5}, "between 0 and 1"),
        ({"by": "stretch"}, "models of sequences"),
        ({"by": "day"}, "by must be"),
        ({"folds": 1}, "folds must be 0, or 2"),
        ({"folds": 2, "calibration": "a.csv"}, "give one of them"),
        ({"explain": -1}, "explain must be"),
        ({"draws": 0}, "draws must be"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(mixture, options, said):
    with pytest.raises(PplError, match=said):
        mixture.anomalies(**options)


@pytest.mark.slow
def test_false_positives_are_as_many_as_promised_on_twenty_data_sets():
    """At 5 %: conformal ones of heavy tails under a Gaussian, of which the model's own are wrong; and those
    of a model that holds. Normal rows alone, then FDR with a tenth of the rows moved."""
    made = {"split": 0, "folds": 0, "own": 0, "wrong": 0}
    false, listed = [], 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        heavy = rng.standard_t(3, (900, 2))
        fit = ppl.fit(ppl.GMM(components=1), heavy[:200])
        new, normal = heavy[500:600], heavy[600:]
        made["split"] += (fit.anomalies(new, calibration=normal, explain=0)["p_value"] <= 0.05).sum()
        made["folds"] += (fit.anomalies(new, folds=4, explain=0)["p_value"] <= 0.05).sum()
        made["wrong"] += (fit.anomalies(new, explain=0)["p_value"] <= 0.01).sum()
        light = rng.normal(size=(600, 2))
        right = ppl.fit(ppl.GMM(components=1), light[:500])
        made["own"] += (right.anomalies(light[500:], explain=0)["p_value"] <= 0.05).sum()
        moved = np.r_[new, new[:10] + 40.0]
        found = fit.anomalies(moved, calibration=normal, fdr=0.2, explain=0)["row"]
        false.append((found < 100).sum() / max(len(found), 1))
        listed += (found >= 100).sum()
    sd = (0.05 * 0.95 * 2_000) ** 0.5
    shared = (0.05 * 0.95 * 20 * 100**2 / 300) ** 0.5  # the calibration rows are shared by the new ones
    for name in ("split", "folds", "own"):
        assert abs(made[name] - 100) < 3 * (sd + shared), made
    assert made["wrong"] > 40, made  # twice as many as the 20 that the model promises
    assert np.mean(false) < 0.2 + 3 * np.std(false) / 20**0.5
    assert listed >= 0.9 * 200
