"""Estimators of scikit-learn in a comparison, on the same columns and folds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppl_models.comparison.answers import Answer
from ppl_models.data import Dataset
from ppl_models.errors import DataError, UsageError

ALLOWED = {
    "AdaBoostClassifier": "ensemble",
    "BayesianRidge": "linear_model",
    "BernoulliNB": "naive_bayes",
    "DecisionTreeClassifier": "tree",
    "DecisionTreeRegressor": "tree",
    "DummyClassifier": "dummy",
    "DummyRegressor": "dummy",
    "ExtraTreesClassifier": "ensemble",
    "ExtraTreesRegressor": "ensemble",
    "GaussianNB": "naive_bayes",
    "GaussianProcessClassifier": "gaussian_process",
    "GaussianProcessRegressor": "gaussian_process",
    "GradientBoostingClassifier": "ensemble",
    "GradientBoostingRegressor": "ensemble",
    "HistGradientBoostingClassifier": "ensemble",
    "HistGradientBoostingRegressor": "ensemble",
    "KNeighborsClassifier": "neighbors",
    "KNeighborsRegressor": "neighbors",
    "Lasso": "linear_model",
    "LinearDiscriminantAnalysis": "discriminant_analysis",
    "LinearRegression": "linear_model",
    "LogisticRegression": "linear_model",
    "MLPClassifier": "neural_network",
    "MLPRegressor": "neural_network",
    "QuadraticDiscriminantAnalysis": "discriminant_analysis",
    "RandomForestClassifier": "ensemble",
    "RandomForestRegressor": "ensemble",
    "Ridge": "linear_model",
    "SVR": "svm",
}
"""The classes that a word may name, and the module that each is in: nothing else is imported."""


def peer(name: str, options: Mapping[str, Any]) -> Any:
    """An estimator of scikit-learn by its name.

    Raises:
        UsageError: it is not among those allowed, or has no such option.
    """
    from difflib import get_close_matches
    from importlib import import_module

    if name not in ALLOWED:
        close = get_close_matches(name, ALLOWED, n=2) or sorted(ALLOWED)
        raise UsageError(
            f"sklearn:{name} is not among the estimators to compare with; there is {', '.join(close)}"
        )
    kind = getattr(import_module(f"sklearn.{ALLOWED[name]}"), name)
    known = kind().get_params()
    for option in options:
        if option not in known:
            raise UsageError(f"sklearn:{name} has no option {option!r}; it has {', '.join(known)}")
    return kind(**options)


def pipeline(estimator: Any, data: Dataset) -> Any:
    """The estimator behind what turns columns into numbers, all of it learned from the training part.

    Numbers are imputed by their mean and standardised; labels are imputed by the most frequent one and become
    dummies. Works on arrays of codes as data sets hold them, target left out.

    Args:
        estimator: of scikit-learn.
        data: whose columns.
    """
    from sklearn.base import clone
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = [c for c in data.schema.columns if c.name != data.schema.target]
    labels = [j for j, c in enumerate(columns) if c.labelled]
    numbers = [j for j, c in enumerate(columns) if not c.labelled]
    levels: Any = [np.arange(len(columns[j].levels), dtype=float) for j in labels]
    dummies = OneHotEncoder(
        categories=levels,
        drop="if_binary",
        sparse_output=False,
    )
    parts = []
    if numbers:
        parts.append(
            ("numbers", make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numbers)
        )
    if labels:
        imputer = SimpleImputer(strategy="most_frequent", keep_empty_features=True)
        parts.append(("labels", make_pipeline(imputer, dummies), labels))
    return make_pipeline(ColumnTransformer(parts), clone(estimator))


def apart(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Predictors (n, C − 1) and target (n,) of a data set.

    Raises:
        DataError: it has no target, or arrays beside its rows.
    """
    target = data.schema.target
    if target is None or data.arrays:
        raise DataError(f"{data.source}: estimators of scikit-learn need a table with a target")
    at = data.names.index(target)
    return np.delete(data.values, at, 1), data.values[:, at]


GENERATIVE = {"BernoulliNB", "GaussianNB", "LinearDiscriminantAnalysis", "QuadraticDiscriminantAnalysis"}
"""Those that model p(x | y); none of them learns from rows without a label."""


@dataclass(frozen=True, eq=False)
class FittedPeer:
    """A pipeline that was fitted.

    Attributes:
        fitted: it.
        classes: of the target; 0 of a number.
        verdict: nobody's.
        generative: whether it is of p(x | y).
    """

    fitted: Any
    classes: int
    verdict: str = ""
    generative: bool = False

    def answer(self, test: Dataset, density: bool = True) -> Answer:
        """Probabilities of classes; of a number its mean, and no density but of a Gaussian one."""
        x, y = apart(test)
        if self.classes:
            p = np.zeros((len(x), self.classes))
            p[:, self.fitted.classes_.astype(int)] = self.fitted.predict_proba(x)
            return Answer(p=p)
        mean = np.asarray(self.fitted.predict(x), float)
        return Answer(mean=mean, log_p=np.full(len(x), np.nan), crps=np.abs(mean - y))


def fit_peer(estimator: Any, train: Dataset, seed: int) -> FittedPeer:
    """Fit the pipeline of an estimator to the rows that have a target.

    Raises:
        DataError: it does not predict what the target is, or the rows are weighed.
        UsageError: it gives no probabilities.
    """
    from sklearn.base import clone, is_classifier

    x, y = apart(train)
    if train.weight is not None:
        raise DataError(f"{train.source}: estimators of scikit-learn are compared without weights of rows")
    column = train.schema.columns[train.names.index(str(train.schema.target))]
    name = type(estimator).__name__
    if column.labelled != is_classifier(estimator):
        what = "labels, which it does not" if column.labelled else "a number, and it classifies"
        raise DataError(f"{train.source}: sklearn:{name} is asked to predict {what}")
    if column.labelled and not hasattr(estimator, "predict_proba"):
        raise UsageError(f"sklearn:{name} gives no probabilities, which a comparison is of")
    known = ~np.isnan(y)
    estimator = clone(estimator)
    if "random_state" in estimator.get_params() and estimator.get_params()["random_state"] is None:
        estimator.set_params(random_state=seed)
    made = pipeline(estimator, train)
    made.fit(x[known], y[known].astype(int) if column.labelled else y[known])
    return FittedPeer(made, len(column.levels) if column.labelled else 0, generative=name in GENERATIVE)
