"""`evaluate` against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.datasets import load_iris

import ppl_models as ppl
from ppl_models.errors import DataError, UsageError
from ppl_models.verbs.evaluate import auc


@pytest.fixture(scope="module")
def two():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=300), "z": rng.normal(size=300)})
    frame["y"] = np.where(rng.logistic(size=300) < frame.x, "yes", "no")
    return ppl.fit(ppl.Logistic(), frame.head(150), target="y"), frame.tail(150).reset_index(drop=True)


def test_two_classes_as_scikit_learn_has_them(two):
    fit, test = two
    table = fit.evaluate(test)
    p = fit.predict(test)
    yes, y = p["probability_yes"], (test.y == "yes").astype(int)
    value = table["value"]
    assert value["accuracy"] == pytest.approx(metrics.accuracy_score(test.y, p["class"]))
    assert value["log_loss"] == pytest.approx(metrics.log_loss(y, yes), rel=1e-9)
    assert value["brier"] == pytest.approx(metrics.brier_score_loss(y, yes), rel=1e-9)
    assert value["auc"] == pytest.approx(metrics.roc_auc_score(y, yes))
    confusion = table.loc["confusion", "rows"].to_numpy().reshape(2, 2)
    assert (confusion == metrics.confusion_matrix(test.y, p["class"])).all()
    bins = table.loc["calibration"]
    assert bins["rows"].sum() == 150
    at = np.minimum((yes * 10).astype(int), 9)
    np.testing.assert_allclose(bins["value"], y.groupby(at).mean())
    np.testing.assert_allclose(bins["probability"], yes.groupby(at).mean())
    error = (bins["rows"] / 150 * (bins["value"] - bins["probability"]).abs()).sum()
    assert value["calibration_error"] == pytest.approx(error)
    assert len(fit.evaluate(test, bins=4).loc["calibration"]) <= 4
    assert fit.evaluate(test, threshold=1.0)["value"]["accuracy"] == pytest.approx((test.y == "no").mean())


def test_several_classes():
    X, y = load_iris(return_X_y=True)
    frame = pd.DataFrame(X[:, :2], columns=list("ab")).assign(y=[f"k{v}" for v in y])
    fit = ppl.fit(ppl.Logistic(), frame[::2], target="y")
    test = frame[1::2].reset_index(drop=True)
    table = fit.evaluate(test)
    p = fit.predict(test)[[f"probability_k{c}" for c in range(3)]].to_numpy()
    assert "auc" not in table.index
    assert table["value"]["log_loss"] == pytest.approx(metrics.log_loss(y[1::2], p), rel=1e-9)
    assert table["value"]["brier"] == pytest.approx(((p - np.eye(3)[y[1::2]]) ** 2).sum(1).mean())
    assert len(table.loc["confusion"]) == 9


def test_weights_of_the_test_rows_are_rows(two):
    fit, test = two
    weight = np.random.default_rng(1).integers(0, 4, 150)
    rows = test.loc[np.repeat(np.arange(150), weight)].reset_index(drop=True)
    data = ppl.read(test, schema=fit.data.schema, weights=weight)
    pd.testing.assert_frame_equal(fit.evaluate(data), fit.evaluate(rows))
    score, positive = np.round(np.random.default_rng(0).random(80), 1), np.arange(80) % 3 == 0
    w = np.random.default_rng(2).random(80)
    assert auc(score, positive, w) == pytest.approx(metrics.roc_auc_score(positive, score, sample_weight=w))


def test_what_cannot_be_evaluated(two):
    fit, test = two
    with pytest.raises(DataError, match="no row has its target 'y'"):
        fit.evaluate(test.drop(columns="y"))
    with pytest.raises(UsageError, match="bins"):
        fit.evaluate(test, bins=0)
    some = test.assign(y=test.y.where(test.index > 9))
    table = fit.evaluate(some)
    assert table["rows"]["accuracy"] == 140
    assert table["value"]["not_evaluated"] == 10
