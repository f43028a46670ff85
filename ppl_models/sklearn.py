"""Estimators for scikit-learn: the models of this package in pipelines, searches and cross-validation.

    estimator                    fits                          gives
    MixtureModel                 GMM                           clusters, log p(x), features, samples
    HiddenMarkovModel            HMM                           states, log p(x_t | x_<t), samples
    VariationalAutoencoder       VAE                           latents, log p(x), samples
    AnomalyDetector              GMM                           inliers and outliers by log p(x)
    MixtureClassifier            GMM with a target             classes by Bayes' rule
    LogisticClassifier           Logistic                      classes
    SupportVectorClassifier      SVM                           classes, with probabilities
    NeuralClassifier             MLP                           classes
    GeneralizedLinearRegressor   GLM                           numbers, with intervals
    NeuralRegressor              MLP                           numbers, with intervals

The parameters of an estimator are the fields of its model and the settings of its update rule, as `ppl.fit`
has them; `random_state` takes the place of `seed`. After `fit`, `result_` is the `ppl.Fit` with its
posterior, checks and verbs. Missing cells may be NaN. Data frames keep their labels; of a numeric array,
columns of floating point are continuous, and others are what they look like (`ppl_models.data.read`).

The estimators follow scikit-learn's contract (https://scikit-learn.org/stable/developers/develop.html), and
its own checks are run on all of them. A chain reads rows in order: give `sequence=`, the sequence of each
row, which cross-validation splits along with the rows where it is requested (metadata routing,
`set_fit_request(sequence=True)`), or `lengths=` where nothing is split.
"""

from collections.abc import Sequence
from dataclasses import fields
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClusterMixin,
    DensityMixin,
    OutlierMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.utils import assert_all_finite, check_consistent_length, check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_feature_names,  # pyright: ignore[reportPrivateUsage]
    _check_n_features,  # pyright: ignore[reportPrivateUsage]
    _check_sample_weight,  # pyright: ignore[reportPrivateUsage]
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from ppl_models.api import fit
from ppl_models.errors import DataError
from ppl_models.model import Model
from ppl_models.registry import find

if TYPE_CHECKING:
    from ppl_models.api import Fit

__all__ = [
    "AnomalyDetector",
    "GeneralizedLinearRegressor",
    "HiddenMarkovModel",
    "LogisticClassifier",
    "MixtureClassifier",
    "MixtureModel",
    "NeuralClassifier",
    "NeuralRegressor",
    "SupportVectorClassifier",
    "VariationalAutoencoder",
]

NOT_PARAMETERS = {"seed", "checkpoint_every"}
"""Settings that are `random_state`, or of runs on disk."""


def _initialised(model: type[Model], **own: Any) -> Any:
    """An `__init__` with the fields of a model and the settings of its rule as keywords.

    Args:
        model: whose fields and settings they are.
        **own: parameters of the estimator itself, with their defaults.
    """
    names = {f.name: f.default for f in fields(model) if f.init}
    rule = {f.name: f.default for f in fields(model.settings) if f.name not in NOT_PARAMETERS}
    defaults = names | rule | own | {"random_state": 0}
    keyword = Parameter.KEYWORD_ONLY

    def __init__(self: Any, **given: Any) -> None:
        for name, value in shown.bind(self, **given).kwargs.items():
            setattr(self, name, value)
        for name in defaults.keys() - given.keys():
            setattr(self, name, defaults[name])

    shown = Signature(
        [Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)]
        + [Parameter(name, keyword, default=value) for name, value in defaults.items()]
    )
    __init__.__signature__ = shown  # type: ignore[attr-defined]
    return __init__


class _Estimator(BaseEstimator):
    """What all share: a table for `ppl.fit`, and the fit."""

    model: ClassVar[type[Model]]
    result_: "Fit"

    @property
    def _continuous(self) -> bool:
        """Whether a target that is a number is continuous, rather than what it looks like."""
        return getattr(self, "family", "auto") in ("auto", "normal", "student_t", "gamma")

    def __init_subclass__(cls, **own: Any) -> None:
        super().__init_subclass__()
        if "model" in vars(cls):
            cls.__init__ = _initialised(cls.model, **own)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _table(self, X: Any, *, reset: bool) -> tuple[pd.DataFrame, dict[str, str]]:
        """A data frame with the names of the fit, and the kinds of columns that are known beforehand.

        A data frame with labels goes through as it is; what is numeric is checked as scikit-learn does.
        """
        if hasattr(X, "__dataframe__") and not isinstance(X, pd.DataFrame):
            X = X.to_pandas()
        if isinstance(X, pd.DataFrame) and not all(map(pd.api.types.is_numeric_dtype, X.dtypes)):
            _check_feature_names(self, X, reset=reset)
            _check_n_features(self, X, reset=reset)
            return X.reset_index(drop=True), {}
        values = validate_data(
            self, X, reset=reset, ensure_all_finite="allow-nan", ensure_min_samples=2 if reset else 1
        )
        names = getattr(self, "feature_names_in_", None)
        names = [f"x{j}" for j in range(values.shape[1])] if names is None else list(names)
        floats = np.issubdtype(values.dtype, np.floating) and not isinstance(X, pd.DataFrame)
        frame = pd.DataFrame(values, columns=names).reset_index(drop=True)
        return frame, dict.fromkeys(names, "continuous") if floats else {}

    def _train(
        self, X: Any, y: Any = None, sample_weight: Any = None, order: Any = None, **reading: Any
    ) -> "Fit":
        """Fit the model to a table, with the target and the weights as columns of it, rows in an order."""
        table, types = self._table(X, reset=True)
        if order is not None:
            table = table.iloc[order].reset_index(drop=True)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, table)
            reading["weights"] = _beside(table, "sample_weight", sample_weight)
        if y is not None:
            reading["target"] = _beside(table, "y", y)
            types |= (
                {reading["target"]: "continuous"} if isinstance(y, np.ndarray) and self._continuous else {}
            )
        params = self.get_params(deep=False)
        if isinstance(params.get("class_weight"), dict | None):
            params["class_weight"] = "none"  # weights of rows by now
        given = {f.name: params[f.name] for f in fields(self.model) if f.init}
        rule = {f.name: params[f.name] for f in fields(self.model.settings) if f.name not in NOT_PARAMETERS}
        seed = params["random_state"]
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31 - 1)
        self.result_ = fit(self.model(**given), table, seed=int(seed), types=types, **rule, **reading)
        return self.result_

    def _say(self, verb: str, X: Any, **options: Any) -> pd.DataFrame:
        """What a verb of the fit says of new rows."""
        check_is_fitted(self)
        return getattr(self.result_, verb)(self._table(X, reset=False)[0], **options)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "result_")


def _beside(table: pd.DataFrame, name: str, values: Any) -> str:
    """Add a column under a name that is free, and give that name."""
    while name in table.columns:
        name += "_"
    table[name] = values
    return name


def _probabilities(found: pd.DataFrame, prefix: str) -> np.ndarray:
    """The columns PREFIX_0, PREFIX_1, …, (n, K)."""
    names = [f"{prefix}_{k}" for k in range(sum(c.startswith(f"{prefix}_") for c in found.columns))]
    return found[[name for name in names if name in found.columns]].to_numpy()


class _Density(DensityMixin, _Estimator):
    """What joint models of independent rows share: densities, samples and features."""

    def fit(self, X: Any, y: Any = None) -> Any:
        """Fit the model to the rows of X, (n, d); y is not looked at."""
        self._train(X)
        return self

    def score(self, X: Any, y: Any = None) -> float:
        """The mean log predictive density of a row in nats, in the units of X."""
        return float(self._say("score", X)["log_density"].mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """New rows, (n, d), drawn from the posterior predictive distribution."""
        check_is_fitted(self)
        seed = None if random_state is None else check_random_state(random_state).randint(2**31 - 1)
        found = self.result_.sample(n_samples, seed=seed)
        return found[[c.name for c in self.result_.data.schema.columns]].to_numpy()


class _Features(TransformerMixin, _Estimator):
    """What gives features of rows shares."""

    def transform(self, X: Any) -> np.ndarray:
        """Features of each row, (n, k): see `ppl_models.Fit.transform`."""
        return self._say("transform", X).to_numpy()

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """The names of the features."""
        check_is_fitted(self)
        return np.asarray(self.result_.transform(self.result_.data.frame().head(1)).columns, dtype=object)


class MixtureModel(_Features, ClusterMixin, _Density):
    """Mixture model of the rows of a table, as `sklearn.mixture.GaussianMixture`, with its posterior.

        π ~ Dirichlet(α),   z_n ~ Categorical(π),   x_n | z_n ~ emission(φ_{z_n})

    Parameters are those of `ppl_models.GMM` and of its update rule.

    Attributes:
        result_: the `ppl_models.Fit`.
        labels_: the most probable component of each row of the fit, (n,).
        weights_: the posterior means of the weights, (K,).
    """

    model = find("gmm")

    def fit(self, X: Any, y: Any = None) -> "MixtureModel":
        """Fit the mixture to the rows of X, (n, d); y is not looked at."""
        self._train(X)
        probabilities = self.predict_proba(X)
        self.labels_ = probabilities.argmax(1)
        self.weights_ = probabilities.mean(0)
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """The log predictive density log p(x_n | data) of each row in nats, (n,), in the units of X."""
        return self._say("score", X)["log_density"].to_numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable component of each row, (n,)."""
        return self.predict_proba(X).argmax(1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The responsibilities p(z_n = k | x_n, data), (n, K)."""
        return _probabilities(self._say("predict", X), "probability")


class VariationalAutoencoder(_Features, _Density):
    """Variational autoencoder; `transform` gives the posterior means of the latents.

    `score` is by importance draws of latents, which depend on the place of a row; `result_.score` has rows.

    Parameters are those of `ppl_models.VAE` and of its update rule.
    """

    model = find("vae")


class AnomalyDetector(OutlierMixin, _Estimator, contamination=0.1):
    """Outliers as rows of low density under a mixture.

    score_samples(x) = log p(x | data), and a row is an outlier (−1) below the quantile `contamination` of the
    scores of the fit.

    Parameters are those of `ppl_models.GMM` and of its update rule, and:

    Attributes:
        contamination: the share of outliers in the rows of the fit, in (0, 0.5].
        offset_: the score below which a row is an outlier, in nats.
    """

    model = find("gmm")

    def fit(self, X: Any, y: Any = None) -> "AnomalyDetector":
        """Fit the mixture to the rows of X, (n, d); y is not looked at."""
        if not 0 < self.contamination <= 0.5:
            raise ValueError(f"contamination must be in (0, 0.5], got {self.contamination}")
        self._train(X)
        self.offset_ = float(np.quantile(self.score_samples(X), self.contamination))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """The log predictive density of each row in nats, (n,): the lower, the more anomalous."""
        return self._say("score", X)["log_density"].to_numpy()

    def decision_function(self, X: Any) -> np.ndarray:
        """The score above the limit, (n,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """1 for inliers and −1 for outliers, (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)


class HiddenMarkovModel(ClusterMixin, _Estimator):
    """Hidden Markov model of sequences of rows.

    Without `sequence` and `lengths`, all rows are one sequence. Parameters are those of `ppl_models.HMM` and
    of its update rule.

    Attributes:
        result_: the `ppl_models.Fit`.
        labels_: the most probable path of the rows of the fit (Viterbi), (n,).
    """

    model = find("hmm")

    def fit(
        self, X: Any, y: Any = None, *, sequence: Any = None, lengths: Sequence[int] | None = None
    ) -> "HiddenMarkovModel":
        """Fit the chain.

        Args:
            X: the rows, (n, d), in order within each sequence.
            y: not looked at.
            sequence: the sequence that each row belongs to, (n,).
            lengths: of the sequences, where their rows follow each other; not with `sequence`.
        """
        order, sizes = _sequences(X, sequence, lengths)
        self._train(X, order=order, lengths=sizes)
        self.labels_ = self.predict(X, sequence=sequence, lengths=lengths)
        return self

    def predict(self, X: Any, *, sequence: Any = None, lengths: Sequence[int] | None = None) -> np.ndarray:
        """The most probable path of states (Viterbi), (n,)."""
        return self._by_row("predict", X, sequence, lengths)["state"].to_numpy().astype(int)

    def predict_proba(
        self, X: Any, *, sequence: Any = None, lengths: Sequence[int] | None = None
    ) -> np.ndarray:
        """The smoothed probabilities p(z_t = k | x_1 … x_T), (n, K)."""
        return _probabilities(self._by_row("predict", X, sequence, lengths), "smoothed")

    def score_samples(
        self, X: Any, *, sequence: Any = None, lengths: Sequence[int] | None = None
    ) -> np.ndarray:
        """The log predictive density log p(x_t | x_1 … x_{t−1}, data) of each row in nats, (n,)."""
        return self._by_row("score", X, sequence, lengths)["log_density"].to_numpy()

    def score(
        self, X: Any, y: Any = None, *, sequence: Any = None, lengths: Sequence[int] | None = None
    ) -> float:
        """The mean log predictive density of a row, in nats."""
        return float(self.score_samples(X, sequence=sequence, lengths=lengths).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """One new sequence of so many rows, (n, d)."""
        check_is_fitted(self)
        seed = None if random_state is None else check_random_state(random_state).randint(2**31 - 1)
        found = self.result_.sample(n_samples, seed=seed)
        return found[[c.name for c in self.result_.data.schema.columns]].to_numpy()

    def _by_row(self, verb: str, X: Any, sequence: Any, lengths: Any) -> pd.DataFrame:
        """What a verb says of each row, in the order of the rows."""
        check_is_fitted(self)
        table, _ = self._table(X, reset=False)
        order, sizes = _sequences(table, sequence, lengths)
        found = getattr(self.result_, verb)(table.iloc[order].reset_index(drop=True), lengths=sizes)
        found.index = order
        return found.sort_index()


class _Classifier(ClassifierMixin, _Estimator):
    """What classifiers share.

    Attributes:
        result_: the `ppl_models.Fit`.
        classes_: the labels, sorted, (C,).
    """

    def fit(self, X: Any, y: Any) -> Any:
        """Fit the model to predictors X, (n, d), and their labels y, (n,)."""
        return self._classes(X, y)

    def _classes(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        table, _ = self._table(X, reset=True)
        y = _target(self, table, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"classification needs 2 classes at least, got 1 class: {self.classes_[0]!r}")
        labels = pd.Categorical.from_codes(codes, [str(c) for c in range(len(self.classes_))])
        if isinstance(weights := getattr(self, "class_weight", None), dict):
            sample_weight = compute_sample_weight(weights, y) * (
                1 if sample_weight is None else sample_weight
            )
        self._train(X, labels, sample_weight)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities p(y_n = c | x_n, data), (n, C), in the order of `classes_`."""
        found = self._say("predict", X)
        return found[[f"probability_{c}" for c in range(len(self.classes_))]].to_numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, (n,)."""
        most = self.predict_proba(X).argmax(1)
        return self.classes_[most]


class MixtureClassifier(_Classifier):
    """A mixture for each class, and Bayes' rule: p(y | x) ∝ p(y) p(x | y).

    Parameters are those of `ppl_models.GMM`, with `components` of each class, and of its update rule.
    """

    model = find("gmm")


class LogisticClassifier(_Classifier):
    """Bayesian logistic regression. Parameters are those of `ppl_models.Logistic` and of its update rule.

    `class_weight` may be a dictionary of weights as well, as scikit-learn has it.
    """

    model = find("logistic")

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LogisticClassifier":
        """Fit the regression to predictors X, (n, d), their labels y, (n,), and weights, (n,).

        Whole weights count rows; others have the effective size of Kish.
        """
        return self._classes(X, y, sample_weight)


class SupportVectorClassifier(_Classifier):
    """Bayesian support vector machine, with probabilities.

    Parameters are those of `ppl_models.SVM` and of its update rule.
    """

    model = find("svm")


class NeuralClassifier(_Classifier):
    """Neural network with an exact Bayesian head.

    Parameters are those of `ppl_models.MLP` and of its update rule.
    """

    model = find("mlp")


class _Regressor(RegressorMixin, _Estimator):
    """What regressors share."""

    def fit(self, X: Any, y: Any) -> Any:
        """Fit the model to predictors X, (n, d), and numbers y, (n,)."""
        return self._numbers(X, y)

    def _numbers(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        table, _ = self._table(X, reset=True)
        self._train(X, _target(self, table, y).astype(float), sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The posterior predictive means E[y_n | x_n, data], (n,)."""
        return self._say("predict", X)["mean"].to_numpy()

    def predict_interval(self, X: Any, level: float = 0.9) -> np.ndarray:
        """Equal-tailed intervals of new observations, (n, 2)."""
        return self._say("predict", X, level=level)[["lower", "upper"]].to_numpy()


class GeneralizedLinearRegressor(_Regressor):
    """Bayesian generalised linear model of a number.

    Parameters are those of `ppl_models.GLM` and of its update rule.
    """

    model = find("glm")

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "GeneralizedLinearRegressor":
        """Fit the regression to predictors X, (n, d), numbers y, (n,), and weights, (n,).

        Whole weights count rows; others have the effective size of Kish.
        """
        return self._numbers(X, y, sample_weight)


class NeuralRegressor(_Regressor):
    """Neural network with an exact Bayesian head, of a number.

    Parameters are those of `ppl_models.MLP` and of its update rule.
    """

    model = find("mlp")


def _target(estimator: Any, table: pd.DataFrame, y: Any) -> np.ndarray:
    """The target as an array, (n,), without missing values.

    Raises:
        ValueError: it is not there, not finite, or not of as many rows.
    """
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None.")
    y = np.asarray(column_or_1d(y, warn=True))
    assert_all_finite(y, input_name="y")
    check_consistent_length(table, y)
    return y


def _sequences(X: Any, sequence: Any, lengths: Any) -> tuple[np.ndarray, list[int]]:
    """The order of rows in which sequences follow each other, and their lengths.

    Raises:
        DataError: both are given, or do not fit the rows.
    """
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    if sequence is not None and lengths is not None:
        raise DataError("sequence and lengths both say where the sequences are; give one of them")
    if sequence is None:
        return np.arange(n), [n] if lengths is None else [int(size) for size in lengths]
    names = np.asarray(sequence)
    if names.shape != (n,):
        raise DataError(f"sequence must name the sequence of each of {n} rows, got shape {names.shape}")
    codes, found = pd.factorize(names)
    return np.argsort(codes, kind="stable"), np.bincount(codes, minlength=len(found)).tolist()
