"""The estimators keep scikit-learn's contract, and work in what is built on it."""

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import ppl_models as ppl
import ppl_models.sklearn as estimators

ESTIMATORS = [
    estimators.LogisticClassifier(),
    estimators.GeneralizedLinearRegressor(),
    estimators.MixtureModel(components=2, restarts=1, steps=20),
    estimators.AnomalyDetector(components=1, restarts=1, steps=20),
    estimators.HiddenMarkovModel(states=2, restarts=1, steps=20),
    estimators.VariationalAutoencoder(latent=1, hidden=(8,), steps=20),
    estimators.MixtureClassifier(components=1, restarts=1, steps=20),
    estimators.SupportVectorClassifier(),
    estimators.NeuralClassifier(hidden=(8,), members=2, steps=20),
    estimators.NeuralRegressor(hidden=(8,), members=2, steps=20),
]
ORDER = "what a row says depends on the rows before it: that is the model"
EXPLAINED = {
    "HiddenMarkovModel": {
        "check_methods_sample_order_invariance": ORDER,
        "check_methods_subset_invariance": ORDER,
    },
    "LogisticClassifier": {
        "check_sample_weight_equivalence_on_dense_data": "the ELBO is the same to 1e-13, but with more "
        "predictors than rows the draws that are averaged over are others",
    },
    "GeneralizedLinearRegressor": {
        "check_sample_weight_equivalence_on_dense_data": "more predictors than distinct rows leave no noise: "
        "such a fit says that it is not to be trusted, and draws do not agree beyond the rows of the fit",
    },
    "NeuralClassifier": {
        "check_methods_subset_invariance": "matrix products in single precision differ by 4e-7 between "
        "one row and all rows",
    },
}
"""Checks that fail, and why."""


def explained(estimator):
    return EXPLAINED.get(type(estimator).__name__, {})


@pytest.mark.slow
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=explained, xfail_strict=True)
def test_the_whole_contract(estimator, check):
    check(estimator)


def test_parameters_are_those_of_the_model_and_of_its_rule():
    estimator = estimators.MixtureModel(components=3, covariance="diag", restarts=2)
    assert estimator.get_params()["covariance"] == "diag"
    assert clone(estimator).set_params(components=4).components == 4
    assert repr(estimator) == "MixtureModel(components=3, covariance='diag', restarts=2)"
    with pytest.raises(TypeError, match="colour"):
        estimators.MixtureModel(colour="red")


def test_an_estimator_says_what_a_fit_says():
    X = load_iris().data[:, :2]
    estimator = estimators.MixtureModel(components=1, restarts=2).fit(X)
    names = [f"x{j}" for j in range(2)]
    frame = pd.DataFrame(X, columns=names)
    fit = ppl.fit(ppl.GMM(components=1), frame, restarts=2, types=dict.fromkeys(names, "continuous"))
    np.testing.assert_array_equal(estimator.score_samples(X), fit.score()["log_density"])
    np.testing.assert_array_equal(estimator.labels_, fit.predict()["component"])
    assert estimator.sample(7, random_state=1).shape == (7, 2)


@pytest.mark.parametrize("name", ["MixtureClassifier", "LogisticClassifier"])
def test_a_pickle_says_the_same(name):
    X, y = load_iris(return_X_y=True)
    options = {"components": 1} if name == "MixtureClassifier" else {}
    estimator = getattr(estimators, name)(**options).fit(X, np.array(["a", "b", "c"])[y])
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.predict_proba(X), estimator.predict_proba(X))
    assert list(again.classes_) == ["a", "b", "c"]
    assert str(again.result_.check()) == str(estimator.result_.check())


@pytest.mark.slow
def test_pipelines_searches_and_calibration():
    X, y = load_breast_cancer(return_X_y=True)
    X, y = X[:240, :4], y[:240]
    pipeline = make_pipeline(StandardScaler(), estimators.LogisticClassifier())
    assert cross_val_score(pipeline, X, y, cv=2).mean() > 0.85
    found = GridSearchCV(
        estimators.MixtureModel(restarts=1), {"components": [1, 3]}, cv=2
    ).fit(X)  # fmt: skip
    assert found.best_params_["components"] == 3  # columns are skewed: one Gaussian is not enough
    calibrated = CalibratedClassifierCV(estimators.MixtureClassifier(components=1, restarts=1), cv=2)
    assert calibrated.fit(X, y).score(X, y) > 0.85


def test_tables_with_labels_and_missing_cells():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=90), "kind": rng.choice(["u", "v"], 90)})
    y = frame["a"] + (frame["kind"] == "u") + 0.1 * rng.normal(size=90)
    frame.loc[:5, "a"] = np.nan
    found = estimators.GeneralizedLinearRegressor().fit(frame, y)
    assert found.score(frame[6:], y[6:]) > 0.95
    inside = (found.predict_interval(frame)[:, 0] < y) & (y < found.predict_interval(frame)[:, 1])
    assert inside.mean() > 0.8
    columns = ColumnTransformer([("numbers", StandardScaler(), ["a"])], remainder="passthrough")
    columns.set_output(transform="pandas")
    assert make_pipeline(columns, estimators.GeneralizedLinearRegressor()).fit(frame, y).score(frame, y) > 0.8
    mixture = estimators.MixtureModel(restarts=1).set_output(transform="pandas").fit(frame[["a"]])
    assert list(mixture.transform(frame[["a"]]).columns) == ["component_0", "component_1"]


def test_a_regression_of_more_columns_than_distinct_rows():
    """Rows that are repeated leave no noise: the search goes where a factorisation is at its limit."""
    rng = np.random.RandomState(42)
    X, y = rng.rand(15, 30), rng.randint(0, 3, 15)
    rows = np.repeat(np.arange(15), rng.randint(0, 5, 15))
    found = estimators.GeneralizedLinearRegressor().fit(X[rows], y[rows])
    assert np.isfinite(found.predict(X)).all()
    said = str(found.result_.check())
    assert "not trusted" in said
    assert "states" not in said  # which a regression does not have


@pytest.mark.parametrize("name", ["GeneralizedLinearRegressor", "NeuralRegressor"])
def test_a_regressor_takes_few_whole_numbers_for_numbers(name):
    options = {"hidden": (4,), "members": 2, "steps": 10} if name == "NeuralRegressor" else {}
    X, y = np.random.default_rng(0).normal(size=(40, 2)), np.repeat([1, 2], 20)
    found = getattr(estimators, name)(**options).fit(X, y)
    assert found.predict(X).dtype == float
    assert (np.diff(found.predict_interval(X)) > 0).all()


@pytest.mark.usefixtures("_routing")
def test_chains_are_split_by_sequence(simulate):
    known = simulate(
        lambda z, r: r.normal(4.0 * z[:, None], 1), [40] * 6, [[0.9, 0.1], [0.1, 0.9]], [0.5, 0.5], 3
    )
    X, sequence = np.concatenate(known.x), np.repeat(np.arange(6), 40)
    chain = estimators.HiddenMarkovModel(states=2, restarts=1)
    chain.set_fit_request(sequence=True).set_score_request(sequence=True)
    found = cross_validate(
        chain, X, cv=GroupKFold(3), params={"sequence": sequence, "groups": sequence}, error_score="raise"
    )
    assert len(found["test_score"]) == 3
    chain = chain.fit(X, sequence=sequence)
    mixed = np.random.default_rng(0).permutation(240)
    mixed = mixed[np.argsort(mixed % 40, kind="stable")]  # interleaved, in order within each sequence
    back = chain.predict_proba(X[mixed], sequence=sequence[mixed])
    np.testing.assert_allclose(back, chain.predict_proba(X, lengths=[40] * 6)[mixed], atol=1e-12)
    with pytest.raises(ppl.DataError, match="give one of them"):
        chain.predict(X, sequence=sequence, lengths=[40] * 6)


@pytest.fixture
def _routing():
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_anomalies_are_the_rows_that_are_far():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(95, 2)), rng.normal(size=(5, 2)) + 9]
    found = estimators.AnomalyDetector(components=1, contamination=0.05, restarts=1).fit(X)
    assert (found.predict(X)[95:] == -1).all()
    assert (found.predict(X[:95]) == 1).all()
    with pytest.raises(ValueError, match="contamination must be in"):
        estimators.AnomalyDetector(contamination=0.9).fit(X)


PAGE = (Path(__file__).resolve().parents[1] / "docs/sklearn.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_what_the_page_shows_runs(code):
    exec(code, {})
