"""What results carry: the index, kept columns, types, and names that get out of each other's way."""

import json

import numpy as np
import pandas as pd
import pytest

import ppl_models as ppl
from ppl_models.draws import free, variable_names
from ppl_models.verbs import VERBS

N = 40


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, N)
    index = pd.MultiIndex.from_arrays(
        [rng.permutation(N), np.repeat(["p", "q"], N // 2)], names=["id", "half"]
    )
    table = pd.DataFrame(
        {
            "x": 6 * z + rng.normal(size=N),
            "visits": pd.array(rng.poisson(2 + 6 * z), dtype="Int64"),
            "flag": pd.array(z == 1, dtype="boolean"),
            "zip": np.where(rng.random(N) < 0.5, "02134", "10001"),
            "y": z,
        },
        index=index,
    )
    table.loc[table.index[::5], "visits"] = pd.NA
    table.loc[table.index[1::5], "flag"] = pd.NA
    table.loc[table.index[2::5], "zip"] = None
    return table


@pytest.fixture(scope="module")
def mixture(frame):
    return ppl.fit(ppl.GMM(components=2, covariance="diag"), frame.drop(columns="y"))


def test_results_have_the_index_of_the_data(frame, mixture):
    table = frame.drop(columns="y")
    for verb in (mixture.predict, mixture.score, mixture.transform, mixture.impute):
        assert verb().index.equals(frame.index)
        assert verb(table.iloc[7:20]).index.equals(frame.index[7:20])
    aligned = frame.assign(k=mixture.predict(table.sample(frac=1, random_state=1))["component"])
    assert aligned["k"].tolist() == mixture.predict()["component"].tolist()
    assert mixture.predict(table.reset_index(drop=True)).index.equals(pd.RangeIndex(N))
    twice = mixture.impute(copies=2)
    assert twice[twice["copy"] == 1].index.equals(frame.index)


def test_results_have_the_types_of_the_data(frame, mixture):
    filled = mixture.impute()
    assert filled[list(frame.columns[:4])].dtypes.equals(frame.dtypes[:4])
    assert not filled[list(frame.columns[:4])].isna().any(axis=None)
    drawn = mixture.sample(30, seed=1)
    assert [str(drawn[c].dtype) for c in ("visits", "flag")] == ["Int64", "boolean"]
    assert {*drawn["zip"]} == {"02134", "10001"}


def test_a_regression_predicts_the_labels_it_was_given(frame):
    data = frame[["x", "y"]].copy()
    data.iloc[3, 0] = np.nan
    with pytest.warns(ppl.PplWarning, match="1 row of 40 not used"):
        fit = ppl.fit(ppl.Logistic(missing_rows="drop"), data, target="y")
    found = fit.predict()["class"]
    assert str(found.dtype) == "Int64"  # as one row has no prediction
    assert found.isna().sum() == 1
    assert (found == frame["y"]).mean() > 0.9
    assert any("not used" in note for note in fit.notes)
    assert "not used" in repr(fit)
    assert "not used" in fit._repr_html_()
    pair = ppl.fit(ppl.Logistic(), {"X": frame[["x"]], "y": frame["y"]})
    assert ppl.fit(ppl.Logistic(), frame[["x"]], frame["y"]).elbo == pair.elbo
    assert (pair.predict({"X": frame[["x"]]})["class"] == frame["y"]).mean() > 0.9
    assert str(pair.predict()["class"].dtype) == "int64"


def test_a_run_keeps_types_and_index(frame, mixture, tmp_path):
    again = ppl.load(mixture.save(tmp_path / "run"))
    pd.testing.assert_frame_equal(again.impute(), mixture.impute())
    pd.testing.assert_frame_equal(again.sample(5, seed=1), mixture.sample(5, seed=1))


def test_columns_are_kept(frame, mixture):
    table = frame.drop(columns="y").assign(component="mine", probability_0=1)
    found = mixture.predict(table, keep="all")
    assert list(found.columns) == [*table.columns, "component_", "probability_0_", "probability_1"]
    assert found["component"].tolist() == ["mine"] * N
    assert list(mixture.score(table, keep=["component"]).columns) == ["component", "log_density"]
    assert list(mixture.impute(table, keep="all").columns)[:2] == ["component", "probability_0"]
    with pytest.raises(ppl.UsageError, match="no column 'nothing'"):
        mixture.predict(table, keep="nothing")


CLASHES = ["step", "state", "component", "table", "sequence", "share", "row", "draw", "index", "1"]
CLASHES += ["intercept", "log_density", "table_sd", "state_0", "class"]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (ppl.GMM(components=2, covariance="diag"), {}),
        pytest.param(ppl.HMM(states=2, covariance="diag"), {"time": "step"}, marks=pytest.mark.slow),
        pytest.param(ppl.HMM(states=2, covariance="diag"), {"sequence": "state"}, marks=pytest.mark.slow),
        (ppl.Logistic(), {"target": "class"}),
        (ppl.GMM(components=1, covariance="diag"), {"target": "share"}),
    ],
    ids=["mixture", "time", "sequence", "regression", "classes"],
)
def test_names_of_columns_clash_with_nothing(model, options, tmp_path):
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.normal(size=(N, len(CLASHES))), columns=CLASHES)
    table["step"], table["state"] = np.arange(N), np.repeat(["p", "q"], N // 2)
    table["class"] = table["share"] = rng.choice(["a", "a_lower"], N)
    if "target" not in options:
        table.iloc[::6, 3] = np.nan
    fit = ppl.fit(model, table, **options)
    for name, verb in VERBS.items():
        if isinstance(fit.bound, verb.needs):
            found = getattr(fit, name)()
            assert found.columns.is_unique
            rows = json.loads(found.to_json(orient="records"))
            assert len(rows[0]) == len(found.columns)
    again = ppl.load(fit.save(tmp_path / "run"))
    assert len(again.summary()) == len(fit.summary())
    if isinstance(model, ppl.Logistic):
        assert fit.summary().index.is_unique
        assert {"intercept", "intercept_"} <= {*fit.summary().index}


def test_free_names():
    assert variable_names(["row", "a/b", "a_b", "x"]) == ["row_", "a_b", "a_b_", "x"]
    assert free("state", {"state", "state_"}) == "state__"


def test_a_summary_of_scores_leaves_blank_rows_out(mixture, frame):
    table = frame.drop(columns="y").copy()
    table.iloc[0] = [np.nan, pd.NA, pd.NA, None]
    scores, (found,) = (
        mixture.score(table)["log_density"],
        mixture.score(table, summary=True).to_dict("records"),
    )
    assert (found["rows"], found["left_out"]) == (N - 1, 1)
    assert found["mean"] == pytest.approx(scores[1:].mean())
    assert found["standard_error"] == pytest.approx(scores[1:].sem())


def test_notes_speak_python_in_python():
    fit = ppl.fit(ppl.GMM(components=1), {"visits": np.arange(1, 61) % 7})
    assert any("types=" in note for note in fit.notes)
    assert not any("--" in note for note in fit.notes)


def test_values_of_another_type_than_an_option_has_are_refused():
    fit = ppl.fit(ppl.GMM(components=1), np.random.default_rng(0).normal(size=(30, 1)), restarts=1)
    for ask, said in (
        (lambda: fit.summary(level="x"), "level must be a number, got 'x'"),
        (lambda: fit.impute(level=None), "level must be a number, got None"),
        (lambda: fit.anomalies(rate="0.1"), "rate must be a number, got '0.1'"),
        (lambda: fit.sample(rows="3"), "rows must be a whole number, got '3'"),
        (lambda: fit.predict(draws=[1]), "draws must be a whole number"),
    ):
        with pytest.raises(ppl.UsageError, match=said.replace(".", r"\.").replace("[", r"\[")):
            ask()
    assert len(fit.sample(np.int64(3))) == 3
    assert len(fit.summary(level=np.float32(0.5))) > 0
