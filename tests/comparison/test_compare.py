"""compare() against scikit-learn's own cross-validation, and what its tables must say."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import ppl_models as ppl
from ppl_models.comparison.entries import Own
from ppl_models.comparison.lending import with_rows
from ppl_models.later import with_features

IRIS = load_iris(as_frame=True).frame.rename(columns={"target": "y"})
IRIS["y"] = "c" + IRIS["y"].astype(str)
TWO = IRIS[IRIS["y"] != "c0"].reset_index(drop=True)
NB, LR = "sklearn:GaussianNB", "sklearn:LogisticRegression"
JOINT = "gmm:components=1,covariance=diag,restarts=1"


def test_figures_are_those_of_cross_validate():
    """Of scikit-learn's models on the same folds, to 1e-12, also of three classes."""
    found = ppl.compare(IRIS, [LR, NB], "y", folds=5, seed=3)
    own = cross_validate(
        make_pipeline(StandardScaler(), LogisticRegression()),
        IRIS.drop(columns="y").to_numpy(),
        IRIS["y"].to_numpy(),
        cv=StratifiedKFold(5, shuffle=True, random_state=3),
        scoring=("neg_log_loss", "accuracy", "roc_auc_ovr"),
    )
    mine = found.by_fold[found.by_fold["model"] == LR]
    np.testing.assert_allclose(mine["log_loss"], -own["test_neg_log_loss"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(mine["accuracy"], own["test_accuracy"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(mine["auc"], own["test_roc_auc_ovr"], rtol=0, atol=1e-12)
    assert found.table.loc[LR, "log_loss"] == pytest.approx(-own["test_neg_log_loss"].mean(), abs=1e-12)


def test_numbers_are_scored_as_by_cross_validate():
    found = ppl.compare(
        IRIS.drop(columns="y"), ["sklearn:Ridge", "sklearn:DummyRegressor"], "petal width (cm)"
    )
    assert found.loss == "crps"  # of points the absolute error
    assert found.best == "sklearn:Ridge"
    assert found.table.loc["sklearn:DummyRegressor", "against_best"] == "worse"
    assert (found.table["crps"] <= found.table["rmse"]).all()


@pytest.fixture(scope="module")
def whole():
    models = [JOINT, "logistic", NB, LR]
    return ppl.compare(TWO, models, "y", folds=2, missing_cells=True, checks=False)


def test_the_table_is_ordered_and_adds_up(whole):
    table = whole.table
    assert table["log_loss"].is_monotonic_increasing
    assert table["difference"].iloc[0] == 0
    assert table["against_best"].iloc[0] == "best"
    brier = table["miscalibration"] - table["discrimination"] + table["uncertainty"]
    np.testing.assert_allclose(brier, table["brier"], atol=1e-12)
    assert table.loc[JOINT, "log_density"] == pytest.approx(
        whole.by_fold.query("model == @JOINT")["log_density"].mean()
    )
    assert table["log_density"].drop(JOINT).isna().all()
    assert whole.within_noise[0] == whole.best


def test_a_fold_is_a_fit_to_its_rows(whole):
    """The figures of our own model are those that fit() and evaluate() give on the same rows."""
    parts = [*StratifiedKFold(2, shuffle=True, random_state=0).split(TWO, TWO["y"])]
    train, test = (np.sort(each) for each in parts[0])
    fit = ppl.fit(ppl.Logistic(), TWO.iloc[train], "y")
    evaluated = fit.evaluate(TWO.iloc[test])["value"]
    mine = whole.by_fold.query("model == 'logistic' and fold == 0").iloc[0]
    for name in ("log_loss", "accuracy", "auc", "brier"):
        assert mine[name] == pytest.approx(evaluated[name], abs=1e-9)


def test_missing_cells_hurt_and_no_row_is_left_out(whole):
    table = whole.missing_cells.set_index(["model", "missing"])["log_loss"]
    for name in (JOINT, "logistic", LR):
        assert table[name, 0.0] == pytest.approx(whole.table.loc[name, "log_loss"], abs=1e-9)
        assert table[name, 0.5] > table[name, 0.0]


def test_text_markdown_and_json(whole):
    assert whole.text().startswith("Models of y in data frame: 100 rows, 2 stratified folds")
    assert "| model |" in whole.markdown()
    assert json.loads(json.dumps(whole.to_dict(), default=str))["best"] == whole.best
    assert len(whole.probabilities) == 4 * len(TWO)
    assert set(whole.probabilities) >= {"model", "fold", "row", "class", "probability_c1", "probability_c2"}


def test_equal_seeds_give_equal_figures():
    a, b = (
        ppl.compare(TWO, [NB, "sklearn:RandomForestClassifier:n_estimators=5"], "y", seed=1) for _ in "ab"
    )
    pd.testing.assert_frame_equal(a.by_fold.drop(columns=["seconds", "memory_mb"]),
                                  b.by_fold.drop(columns=["seconds", "memory_mb"]))  # fmt: skip


def test_the_learning_curve_ends_at_the_whole_training_part():
    found = ppl.compare(TWO, [NB, LR], "y", folds=3, curve=True, missing_labels=True)
    last = found.curve.groupby("model")[["size", "log_loss"]].last()
    assert (last["size"] == 66).all()
    for name in (NB, LR):
        assert last.loc[name, "log_loss"] == pytest.approx(found.table.loc[name, "log_loss"], abs=0.05)
    assert set(found.crossings["figure"]) == {"log_loss", "error"}
    labels = found.missing_labels.set_index(["model", "labelled", "by"])["log_loss"]
    assert labels[NB, 0.1, "all rows"] == labels[NB, 0.1, "labelled rows"]  # learns nothing from the others


@pytest.mark.slow
def test_rows_without_a_label_help_a_joint_model():
    """Two far groups, a label for three rows of each: the others say where the groups are."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    x = rng.normal(size=(120, 2)) * [1.0, 3.0] + y[:, None] * [3.0, 0.0]
    table = pd.DataFrame(x, columns=["a", "b"]).assign(y=np.where(y, "yes", "no"))
    found = ppl.compare(
        table, ["gmm:components=1,restarts=1"], "y", folds=2, missing_labels=True, checks=False
    )
    loss = found.missing_labels.set_index(["labelled", "by"])["log_loss"]
    assert loss[0.1, "all rows"] < loss[0.1, "labelled rows"]


@pytest.mark.slow
def test_help_is_compared_with_the_model_alone():
    found = ppl.compare(
        TWO, [f"{NB}+gmm:components=2,restarts=1", f"{NB}@{JOINT},rows=50"], "y", folds=2, checks=False
    )
    assert set(found.gains["alone"]) == {NB}
    gains = found.gains.set_index(["model", "figure"])
    for name, row in gains.iterrows():
        if name[1] == "log_loss":
            assert row["gain"] == pytest.approx(
                found.table.loc[NB, "log_loss"] - found.table.loc[name[0], "log_loss"]
            )
        assert row["lower"] <= row["gain"] <= row["upper"]


@pytest.fixture(scope="module")
def joint_fit():
    return ppl.fit(ppl.GMM(components=2), TWO.drop(columns="y"), restarts=1)


@pytest.mark.slow
def test_features_are_what_transform_says(joint_fit):
    more = with_features(ppl.read(TWO, target="y"), joint_fit)
    assert more.names[-1] == "y"
    np.testing.assert_allclose(more.column("gmm_component_1"), joint_fit.transform(TWO)["component_1"])


@pytest.mark.slow
def test_a_model_on_the_features_of_a_run(joint_fit):
    fit = ppl.fit(ppl.Logistic(), TWO, "y", features_from=joint_fit)
    assert "gmm_component_1" in fit.data.names
    assert any("features of gmm added" in note for note in fit.notes)
    with pytest.raises(ppl.UsageError, match="rows says how many"):
        ppl.fit(ppl.Logistic(), TWO, "y", rows=3)


@pytest.mark.slow
def test_later_rows_get_their_features_of_the_run_that_lent_them(joint_fit, tmp_path):
    joint_fit.save(tmp_path / "mixture")
    fit = ppl.fit(ppl.Logistic(), TWO, "y", features_from=tmp_path / "mixture")
    fit.save(tmp_path / "both")
    more = TWO.assign(gmm_component_1=joint_fit.transform(TWO)["component_1"])
    wanted = ppl.fit(ppl.Logistic(), more[[*TWO.columns[:-1], "gmm_component_1", "y"]], "y").predict(more[:9])
    (tmp_path / "moved").mkdir()
    for name in ("mixture", "both"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    found = ppl.load(tmp_path / "moved" / "both").predict(TWO[:9].drop(columns="y"))
    pd.testing.assert_frame_equal(found, wanted, check_exact=False, rtol=1e-6)
    ppl.fit(joint_fit.model, TWO[5:].drop(columns="y"), restarts=1, seed=3).save(
        tmp_path / "moved" / "mixture", force=True
    )
    with pytest.raises(ppl.RunError, match="was fitted again since"):
        ppl.load(tmp_path / "moved" / "both").predict(TWO[:9])


def test_balanced_rows_make_classes_even():
    table = TWO.drop(index=range(10))
    record = ppl.fit(ppl.GMM(components=1), table, "y", restarts=1)
    data = ppl.read(table, target="y")
    more = with_rows(data, record, None, balance=True, seed=0)
    assert (more.column("y") == 0).sum() == (more.column("y") == 1).sum() == 50
    x, new = data.values[:, :-1], more.values[len(table) :, :-1]
    assert (new.min(0) >= x.min(0)).all()
    assert (new.max(0) <= x.max(0)).all()


def test_finished_runs_are_scored_as_they_stand():
    train, test = TWO[::2], TWO[1::2]
    fits = {"a": ppl.fit(ppl.Logistic(), train, "y"), "b": ppl.fit(ppl.Logistic(prior_scale=0.2), train, "y")}
    found = ppl.compare(test, fits, "y")
    for name, fit in fits.items():
        loss = fit.evaluate(test).loc["log_loss", "value"]
        assert found.table.loc[name, "log_loss"] == pytest.approx(loss, abs=1e-9)
    p = {name: fit.score(test)["log_probability"].to_numpy() for name, fit in fits.items()}
    d = p["a"] - p["b"]
    assert found.table["standard_error"].iloc[1] == pytest.approx(d.std() / 50**0.5, rel=1e-6)


def test_densities_are_compared_without_a_target():
    found = ppl.compare(IRIS.drop(columns="y"), ["gmm:components=1,restarts=1", JOINT], folds=2, checks=False)
    assert found.loss == "negative_log_density"
    assert found.best == "gmm:components=1,restarts=1"  # the columns are correlated


def test_an_entry_that_cannot_be_fitted_says_why():
    found = ppl.compare(IRIS, [NB, "sklearn:Ridge"], "y", folds=2)
    assert "asked to predict labels" in found.table.loc["sklearn:Ridge", "failed"]
    with pytest.raises(ppl.DataError, match="no model could be compared"):
        ppl.compare(IRIS, ["sklearn:Ridge"], "y", folds=2)


@pytest.mark.slow
def test_a_field_is_selected_by_held_out_rows():
    fit = ppl.select(ppl.Logistic(), IRIS, {"prior_scale": [0.01, 2.5]}, folds=2, target="y")
    assert fit.model.prior_scale == 2.5
    rows = {row["prior_scale"]: row for row in fit.candidates}
    assert rows[0.01]["against_best"] == "worse"
    alone = ppl.compare(IRIS, {"m": Own(ppl.Logistic())}, "y", folds=2, checks=False)
    assert rows[2.5]["log_loss"] == pytest.approx(alone.table["log_loss"].iloc[0], abs=1e-9)
    with pytest.raises(ppl.UsageError, match="no field 'nothing'"):
        ppl.select(ppl.Logistic(), IRIS, {"nothing": [1]}, target="y")
