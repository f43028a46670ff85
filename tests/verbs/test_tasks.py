"""The verbs: shapes, sums of probabilities, and agreement with brute force."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats as ss
import torch
from fits import by_hand

import ppl_models as ppl
from ppl_models.errors import DataError, UsageError
from ppl_models.inference.calibration import Calibrated, Learned
from ppl_models.kernels.rows import whole

A, START = np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0.5, 0.5])
MEANS, SDS = np.array([0.0, 5.0]), np.array([1.0, 2.0])


def emit(z, rng):
    """A number, a count, a label of three and a truth value."""
    label = (rng.random(len(z))[:, None] > np.cumsum([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]], 1)[z, :-1]).sum(1)
    return np.c_[
        rng.normal(MEANS[z], SDS[z]), rng.poisson(1 + 4 * z), label, rng.random(len(z)) < 0.1 + 0.8 * z
    ]


def frame(x, lengths):
    """The table that a user would have."""
    table = pd.DataFrame(
        {
            "who": np.repeat([f"s{i}" for i in range(len(lengths))], lengths),
            "day": np.concatenate([np.arange(n) * 2 for n in lengths]),
            "level": x[:, 0],
            "count": x[:, 1],
            "kind": pd.Series([None if np.isnan(v) else "abc"[int(v)] for v in x[:, 2]], dtype=object),
            "flag": pd.Series(
                [None if np.isnan(v) else ["no", "yes"][int(v)] for v in x[:, 3]], dtype=object
            ),
        }
    )
    return table


READ = {"sequence": "who", "time": "day"}
LENGTHS = [120, 1, 79]


@pytest.fixture(scope="module")
def fitted(simulate):
    """A fit of mixed columns with a fifth of the cells missing, the table, and the truth."""
    truth = simulate(emit, LENGTHS, A, START, 5)
    table = frame(np.concatenate(truth.masked(0.2, 3)), LENGTHS)
    fit = ppl.fit(ppl.HMM(states=2), table, restarts=3, types={"count": "count"}, **READ)
    return fit, table, truth


def known(x, weight=1e7, lengths=None):
    """A fit by hand that is all but certain of the chain above and of normal emissions."""
    data = ppl.read(x, lengths=lengths, types={"x0": "continuous"})
    model = ppl.HMM(states=2, covariance="diag")
    joint = model.bind(data.schema)
    column = data.schema.columns[0]
    m, v = (MEANS - column.mean) / column.sd, (SDS / column.sd) ** 2
    emission = np.stack([np.ones(2), m, v + m**2], -1)[:, None]
    parts = {"start": START, "transition": A, "gaussian": emission}
    S = {k: weight * torch.as_tensor(p, dtype=torch.float64)[None] for k, p in parts.items()}
    elbo = float(joint.elbo(joint.dataset_batch(data), S)[0])
    fit = by_hand(model, data, S, elbo)
    fit.__dict__["calibrated"] = Calibrated("mean field", Learned(fit.bound, S))  # as if the data said so
    return fit


@pytest.fixture(scope="module")
def certain(simulate):
    truth = simulate(lambda z, r: r.normal(MEANS[z], SDS[z]), [60, 7], A, START, 9)
    return known(truth.rows, lengths=[60, 7]), truth


def forward(x):
    """Filtered probabilities and log predictive densities of the known chain, by the plain recursion."""
    p, filtered, log_c = START, [], []
    for t, value in enumerate(x):
        joint = (p if t == 0 else p @ A) * np.where(np.isnan(value), 1.0, ss.norm.pdf(value, MEANS, SDS))
        log_c.append(math.log(joint.sum()))
        p = joint / joint.sum()
        filtered.append(p)
    return np.array(filtered), np.array(log_c)


# predict, transform


def test_predict(fitted):
    fit, table, truth = fitted
    found = fit.predict()
    assert list(found) == ["who", "day", "state", "smoothed_0", "smoothed_1", "filtered_0", "filtered_1"]
    assert found["who"].tolist() == table["who"].tolist()
    assert found["day"].tolist() == table["day"].tolist()
    for name in ("smoothed", "filtered"):
        p = found[[f"{name}_0", f"{name}_1"]].to_numpy()
        assert (p >= 0).all()
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-12)
    last = np.cumsum(LENGTHS) - 1
    np.testing.assert_allclose(found["smoothed_0"][last], found["filtered_0"][last])
    assert (found["state"] == truth.path).mean() > 0.9
    assert (found["smoothed_1"].round() == found["state"]).mean() > 0.97


def test_predict_on_new_data_is_predict_on_the_same_data(fitted):
    fit, table, _ = fitted
    pd.testing.assert_frame_equal(fit.predict(table, **READ), fit.predict())
    one = table[table["who"] == "s2"]
    pd.testing.assert_frame_equal(
        fit.predict(one, **READ).reset_index(drop=True), fit.predict()[121:].reset_index(drop=True)
    )


def test_predict_of_a_known_chain(certain):
    fit, truth = certain
    found = fit.predict()
    filtered = np.concatenate([forward(x[:, 0])[0] for x in truth.x])
    np.testing.assert_allclose(found[["filtered_0", "filtered_1"]], filtered, atol=2e-3)


def test_transform(fitted):
    fit, _, _ = fitted
    found = fit.transform()
    assert list(found) == ["who", "day", "state_0", "state_1"]
    np.testing.assert_allclose(found["state_1"], fit.predict()["smoothed_1"])


def test_later_arrays_are_cut_into_sequences():
    values = np.random.default_rng(0).normal(size=(14, 1))
    fit = ppl.fit(ppl.HMM(states=2), values, lengths=[9, 5], restarts=1)
    pd.testing.assert_frame_equal(fit.predict(values, lengths=[9, 5]), fit.predict())


def test_sequences_without_names_are_numbered():
    fit = ppl.fit(ppl.HMM(states=1), [np.random.default_rng(0).normal(size=5), np.ones(2)])
    assert fit.predict()["sequence"].tolist() == ["0"] * 5 + ["1"] * 2
    assert fit.score(by="sequence")["sequence"].tolist() == ["0", "1"]


# score


def test_steps_sum_to_sequences(fitted):
    fit, _, _ = fitted
    steps, sequences = fit.score(), fit.score(by="sequence")
    assert list(steps) == ["who", "day", "log_density"]
    assert list(sequences) == ["who", "steps", "log_density", "log_density_per_step"]
    assert sequences["steps"].tolist() == LENGTHS
    sums = steps.groupby("who", sort=False)["log_density"].sum()
    np.testing.assert_allclose(sequences["log_density"], sums)
    np.testing.assert_allclose(sequences["log_density_per_step"], sums / LENGTHS)


def test_score_of_a_known_chain(certain):
    fit, truth = certain
    wanted = np.concatenate([forward(x[:, 0])[1] for x in truth.x])
    np.testing.assert_allclose(fit.score()["log_density"], wanted, atol=5e-3)


def test_score_is_the_average_over_the_posterior(simulate):
    """Log (1/S) Σ p(x | θ_s), each p(x | θ_s) by a plain recursion at that draw."""
    truth = simulate(lambda z, r: r.normal(MEANS[z], SDS[z]), [40], A, START, 2)
    fit = ppl.fit(ppl.HMM(states=2), truth.rows, restarts=2)
    new = np.array([0.3, np.nan, 6.0, 4.0, -1.0])
    found = fit.score(new[:, None])["log_density"].to_numpy()
    posterior = fit.posterior["posterior"]
    start, A_, mean, sd = (posterior[v].values[0] for v in ("start", "transition", "mean", "sd"))
    total = np.ones(len(start))
    p = None
    for t, value in enumerate(new):
        p = start if t == 0 else np.einsum("sk,skj->sj", p, A_)
        if not np.isnan(value):
            p = p * ss.norm.pdf(value, mean[..., 0], sd[..., 0])
        now = p.sum(1)
        assert found[t] == pytest.approx(math.log(now.mean() / total.mean()), abs=1e-8)
        total = now


def test_score_has_the_units_of_the_data(fitted):
    fit, table, _ = fitted
    moved = table.assign(level=table["level"] * 100)
    again = ppl.fit(fit.model, moved, restarts=3, types={"count": "count"}, **READ)
    seen = table["level"].notna()
    shift = again.score()["log_density"] - fit.score()["log_density"]
    np.testing.assert_allclose(shift, -math.log(100) * seen, atol=1e-3)


# sample


def test_sample(fitted):
    fit, _, _ = fitted
    one = fit.sample(7)
    assert list(one) == ["state", "level", "count", "kind", "flag"]
    assert len(one) == 7
    many = fit.sample(20, sequences=30, seed=1)
    assert list(many)[0] == "who"
    assert many["who"].tolist() == np.repeat(np.arange(30), 20).tolist()
    assert set(many["kind"]) == set("abc")
    assert set(many["flag"]) == {"no", "yes"}
    assert many["count"].dtype.kind == "i"
    assert not many.isna().any(axis=None)
    pd.testing.assert_frame_equal(many, fit.sample(20, sequences=30, seed=1))
    assert not many.equals(fit.sample(20, sequences=30, seed=2))


def test_sample_of_a_known_chain(certain):
    fit, _ = certain
    found = fit.sample(5, sequences=4_000, seed=3)
    z, x = found["state"].to_numpy().reshape(-1, 5), found["x0"].to_numpy().reshape(-1, 5)
    p = START
    for t in range(5):  # each within 4.5 standard errors: ten comparisons fail together once in 10,000 seeds
        assert abs((z[:, t] == 1).mean() - p[1]) < 4.5 * math.sqrt(p[0] * p[1] / 4_000)
        mean = p @ MEANS
        sd = math.sqrt(p @ (SDS**2 + MEANS**2) - mean**2)
        assert abs(x[:, t].mean() - mean) < 4.5 * sd / math.sqrt(4_000)
        p = p @ A
    assert ss.kstest(x[z == 0], ss.norm(MEANS[0], SDS[0]).cdf).pvalue > 1e-5


# forecast


def test_forecast(fitted):
    fit, _, _ = fitted
    found = fit.forecast(4)
    numbers = [f"{c}{s}" for c in ("level", "count") for s in ("", "_sd", "_lower", "_upper")]
    labels = ["kind", "kind_probability", "flag", "flag_probability"]
    assert list(found) == ["who", "day", "step", *numbers, *labels, "state_0", "state_1"]
    assert found["who"].tolist() == np.repeat(["s0", "s1", "s2"], 4).tolist()
    assert found["step"].tolist() == [1, 2, 3, 4] * 3
    assert found["day"].tolist()[:4] == [240, 242, 244, 246]
    np.testing.assert_allclose(found["state_0"] + found["state_1"], 1)
    assert (found["level_lower"] < found["level"]).all()
    assert (found["level"] < found["level_upper"]).all()
    assert set(found["kind"]) <= set("abc")
    assert found["kind_probability"].between(1 / 3, 1).all()
    pd.testing.assert_frame_equal(found, fit.forecast(4))


def test_forecast_of_a_known_chain(certain):
    """The mixture π_T A^h of the two normals, to 4.5 standard errors of 1,000 draws."""
    fit, truth = certain
    found = fit.forecast(6, level=0.8)
    for i, x in enumerate(truth.x):
        p = forward(x[:, 0])[0][-1]
        for h in range(6):
            p = p @ A
            row = found.iloc[6 * i + h]
            mean = p @ MEANS
            sd = math.sqrt(p @ (SDS**2 + MEANS**2) - mean**2)
            assert abs(row["state_1"] - p[1]) < 4.5 * math.sqrt(p[0] * p[1] / 1000) + 1e-3
            assert abs(row["x0"] - mean) < 4.5 * sd / math.sqrt(1000)
            assert row["x0_sd"] == pytest.approx(sd, rel=0.12)
            for bound, tail in (("x0_lower", 0.1), ("x0_upper", 0.9)):
                reached = p @ ss.norm.cdf(row[bound], MEANS, SDS)
                assert abs(reached - tail) < 4.5 * math.sqrt(0.09 / 1000)


def test_forecast_goes_on_from_new_data(certain):
    fit, _ = certain
    for x, state in ((np.zeros((3, 1)), 0), (np.full((3, 1), 7.0), 1)):
        assert fit.forecast(1, x)["state_1"][0] == pytest.approx(A[state, 1], abs=0.06)


# impute


def test_impute_leaves_observed_cells_alone(fitted):
    fit, table, _ = fitted
    found = fit.impute()
    assert list(found)[:6] == list(table)
    assert not found[list(table)].isna().any(axis=None)
    for name in ("level", "count", "kind", "flag"):
        seen = table[name].notna()
        assert found.loc[seen, name].tolist() == table.loc[seen, name].tolist()
        for column in [c for c in found if c.startswith(f"{name}_")]:
            assert (found[column].notna() == ~seen).all()
    assert set(found["kind"]) <= set("abc")
    assert set(found["flag"]) <= {"no", "yes"}
    assert found["kind_probability"].dropna().between(1 / 3, 1).all()
    spread = [f"{name}{end}" for name in ("level", "count") for end in ("_sd", "_lower", "_upper")]
    assert [*found.columns[6:]] == [*spread, "kind_probability", "flag_probability"]


def test_impute_of_a_complete_table_is_the_table(certain):
    fit, truth = certain
    found = fit.impute()
    assert found["x0"].tolist() == truth.rows[:, 0].tolist()
    assert [c for c in found if c.startswith("x0_")] == []


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_imputed_intervals_cover(simulate, covariance):
    """90% intervals hold 90% of the masked cells."""
    correlation = 0.8 if covariance == "full" else 0.0

    def rows(z, rng):
        e = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], len(z))
        return np.array([[0.0, 0], [4, -3]])[z] + e * np.array([1.0, 2.0])

    truth = simulate(rows, [800, 400], A, START, 6)
    fit = ppl.fit(ppl.HMM(states=2, covariance=covariance), truth.masked(0.25, 4), restarts=2)
    found = fit.impute(level=0.9)
    inside, total, error, naive = 0, 0, 0.0, 0.0
    for j in range(2):
        holes = np.isnan(fit.data.values[:, j])
        x = truth.rows[holes, j]
        inside += ((found[f"x{j}_lower"][holes] <= x) & (x <= found[f"x{j}_upper"][holes])).sum()
        total += holes.sum()
        error += ((found[f"x{j}"][holes] - x) ** 2).sum()
        naive += ((truth.rows[:, j].mean() - x) ** 2).sum()
    # About 600 cells: 4 standard errors are 4.9%; a further 1% for the posterior's own.
    assert abs(inside / total - 0.9) < 4 * math.sqrt(0.09 / total) + 0.01
    assert error < (0.6 if covariance == "full" else 0.75) * naive  # than filling in the mean


def test_imputed_labels_are_better_than_chance(fitted):
    fit, table, truth = fitted
    found = fit.impute()
    holes = table["kind"].isna().to_numpy()
    true = np.array(list("abc"))[truth.rows[holes, 2].astype(int)]
    right = (found["kind"][holes] == true).mean()
    assert right > 0.5  # a third by chance, 0.7 at best


def test_impute_of_new_rows(certain):
    """With neighbours that are surely of state 0, the cell is of state k with probability ∝ A_0k A_k0."""
    fit, _ = certain
    x = np.array([[-1.0]] * 3 + [[np.nan]] + [[-1.0]] * 3)
    row = fit.impute(x, draws=1000).iloc[3]
    p = np.array([A[0, 0] * A[0, 0], A[0, 1] * A[1, 0]])
    p = p / p.sum()
    sd = math.sqrt(p @ (SDS**2 + MEANS**2) - (p @ MEANS) ** 2)
    assert abs(row["x0"] - p @ MEANS) < 4.5 * sd / math.sqrt(1000) + 0.02
    for bound, tail in (("x0_lower", 0.05), ("x0_upper", 0.95)):  # 4.5 standard errors of 1,000 draws
        assert abs(p @ ss.norm.cdf(row[bound], MEANS, SDS) - tail) < 4.5 * math.sqrt(0.0475 / 1000)


# summary, check


def test_summary(fitted):
    fit, _, _ = fitted
    found = fit.summary(level=0.8)
    assert {"start[0]", "transition[0, 1]", "poisson_rate[1, count]"} <= set(found.index)
    assert found["mean"].notna().all()
    draws = fit.posterior["posterior"]["poisson_rate"].values[0, :, 1, 0]
    row = found.loc["poisson_rate[1, count]"]
    assert row["mean"] == pytest.approx(draws.mean())
    assert row["sd"] == pytest.approx(draws.std(ddof=1), rel=1e-3)
    low, high = row[[c for c in found if "%" in c]]
    assert ((draws > low) & (draws < high)).mean() == pytest.approx(0.8, abs=0.01)
    for k in range(2):
        assert found.loc[[f"transition[{k}, {j}]" for j in range(2)], "mean"].sum() == pytest.approx(1)
    kinds = [f"probability_kind[0, {label}]" for label in "abc"]
    assert found.loc[kinds, "mean"].sum() == pytest.approx(1)


def check_named(fit, name):
    (found,) = [c for c in fit.check().checks if c.name == name]
    return found


def test_a_good_fit_is_trusted(fitted):
    fit, _, _ = fitted
    report = fit.check()
    assert [c.name for c in report.checks] == [
        "converged", "restarts agree", "k-hat", "states visited", "model against data"
    ]  # fmt: skip
    assert report.verdict == "trusted"
    assert report.trusted
    assert report.to_dict()["verdict"] == "trusted"
    assert report.text().startswith("verdict: trusted")


@pytest.mark.slow
def test_an_empty_state_warns():
    x = (np.repeat([0.0, 20.0], 30) + np.random.default_rng(1).normal(size=60))[:, None]
    fit = ppl.fit(ppl.HMM(states=4, transition_concentration=0.05), x, restarts=2)
    found = check_named(fit, "states visited")
    assert sum(found.value) == pytest.approx(60, abs=0.1)
    assert min(found.value) < 1
    assert found.level == "warn"
    assert "never visited" in found.reason
    assert not fit.check().trusted


def test_max_steps_warns(simulate):
    from dataclasses import replace

    fit = ppl.fit(ppl.HMM(states=2), simulate(emit, [60], A, START, 1).rows[:, :1], steps=1)
    if fit.calibrated.memory is not None:  # then it does not matter: the draws were moved on
        assert check_named(fit, "converged").level == "ok"
    other = replace(fit)
    other.__dict__["calibrated"] = replace(fit.calibrated, memory=None)
    found = check_named(other, "converged")
    assert found.level == "warn"
    assert "1 steps" in found.reason
    assert other.check().verdict in ("use with care", "not trusted")


def with_k(fit, k):
    from dataclasses import replace

    other = replace(fit)
    other.__dict__["posterior_draws"] = replace(fit.posterior_draws, k_hat=k)
    return other


@pytest.mark.parametrize(
    ("k", "level", "verdict"),
    [
        (0.0, "ok", "trusted"),
        (0.7, "ok", "trusted"),
        (0.71, "warn", "use with care"),
        (1.0, "warn", "use with care"),
        (1.01, "fail", "not trusted"),
        (math.inf, "fail", "not trusted"),
        (math.nan, "fail", "not trusted"),
    ],
)
def test_levels_of_k_hat(fitted, k, level, verdict):
    fit = with_k(fitted[0], k)
    assert check_named(fit, "k-hat").level == level
    assert fit.check().verdict == verdict


def test_a_guide_that_is_wrong_fails(certain):
    """Certain of a chain that the data are not from."""
    truth = np.random.default_rng(0).normal(50, 9, (80, 1))
    assert check_named(known(truth, weight=100.0), "k-hat").level == "fail"


def test_lonely_restarts_warn(fitted):
    from dataclasses import replace

    fit, _, _ = fitted
    restarts = replace(fit.trained.restarts, elbo=(0.0, -2.0, -3.0))
    other = replace(fit, trained=replace(fit.trained, restarts=restarts))
    found = check_named(other, "restarts agree")
    assert found.level == "warn"
    assert found.value == 1
    assert "2.0 nats" in found.reason

    better = replace(restarts, elbo=(0.0, -0.2, -0.3), gain=7.0)  # than what all of them found
    found = check_named(replace(fit, trained=replace(fit.trained, restarts=better)), "restarts agree")
    assert (found.level, found.value) == ("warn", 0)
    assert "7.0 nats above" in found.reason


# Wrong use


def test_wrong_use_is_one_line(fitted):
    fit, table, _ = fitted
    for call in (
        lambda: fit.score(by="day"),
        lambda: fit.sample(0),
        lambda: fit.sample(5, sequences=True),
        lambda: fit.forecast(2.5),
        lambda: fit.forecast(2, level=1.0),
        lambda: fit.impute(level=0),
        lambda: fit.summary(level=89),
        lambda: fit.predict(sequence="who"),
    ):
        with pytest.raises(UsageError) as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="level"):
        fit.predict(table.drop(columns="level"), **READ)
    with pytest.raises(DataError, match="zebra"):
        fit.predict(table.assign(kind="zebra"), **READ)


def test_states_are_not_mixed_across_sequences(certain):
    fit, truth = certain
    alone = [fit.score(x)["log_density"].to_numpy() for x in truth.x]
    np.testing.assert_allclose(fit.score()["log_density"], np.concatenate(alone), atol=1e-9)
    assert whole([60, 7]).steps == fit.data.rows
