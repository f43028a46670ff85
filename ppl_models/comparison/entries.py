"""What stands in a comparison: models, estimators, and one helped by another."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ppl_models.capabilities import Conditional, Scores
from ppl_models.comparison.answers import Answer, answer
from ppl_models.comparison.folds import described
from ppl_models.comparison.lending import shares, with_rows, without_target
from ppl_models.comparison.peers import fit_peer
from ppl_models.data import Dataset, Kind
from ppl_models.engine import fitted, settings_for
from ppl_models.errors import DataError
from ppl_models.inference.loop import FROM_START, Status
from ppl_models.later import with_features
from ppl_models.model import Model
from ppl_models.record import Record


@dataclass(frozen=True, eq=False)
class FittedOwn:
    """A fit of a model of the toolkit."""

    record: Record

    @property
    def verdict(self) -> str:
        """What its own checks say."""
        return self.record.report.verdict

    @property
    def joint(self) -> bool:
        """Whether it has a density of the predictors too, so that rows without a label teach it something."""
        return isinstance(self.record.bound, Scores) and isinstance(self.record.bound, Conditional)

    def answer(self, test: Dataset, density: bool = True) -> Answer:
        """Predictive distributions."""
        return answer(self.record, test, density)


@dataclass(frozen=True)
class Own:
    """A model of the toolkit, and how it is trained."""

    model: Model
    settings: Mapping[str, Any] = field(default_factory=dict)

    def fit(self, train: Dataset, seed: int) -> FittedOwn:
        """Fit it to a training part."""
        how = settings_for(self.model, {"seed": seed} | dict(self.settings))
        record = fitted(self.model, train, how, FROM_START)
        if record.status is Status.INTERRUPTED:  # a fit answers Ctrl-C with what there is; here all ends
            raise KeyboardInterrupt
        return FittedOwn(record)

    def sees(self, data: Dataset) -> Dataset:
        """The rows with the kinds of column that the model asks for, where they can be changed."""
        return recast(data, self.model)


@dataclass(frozen=True)
class Peer:
    """An estimator of scikit-learn."""

    estimator: Any

    def fit(self, train: Dataset, seed: int) -> Any:
        """Fit its pipeline to a training part."""
        return fit_peer(self.estimator, train, seed)

    def sees(self, data: Dataset) -> Dataset:
        """The rows as they are."""
        return data


@dataclass(frozen=True, eq=False)
class FittedOnFeatures:
    """A conditional model on columns and features, and the joint one that the features are of."""

    first: Any
    second: Record
    joint: bool = False

    @property
    def verdict(self) -> str:
        """That of the model that predicts."""
        return self.first.verdict

    def answer(self, test: Dataset, density: bool = True) -> Answer:
        """Predictive distributions given columns and features."""
        return self.first.answer(with_features(test, self.second), density)


@dataclass(frozen=True)
class OnFeatures:
    """A conditional model on the columns and on the features of a joint one, which never sees the target."""

    first: Own | Peer
    second: Own

    def fit(self, train: Dataset, seed: int) -> FittedOnFeatures:
        """Fit the joint one to the predictors, and the conditional one to them and its features."""
        record = self.second.fit(without_target(train), seed).record
        return FittedOnFeatures(self.first.fit(described(with_features(train, record)), seed), record)

    def sees(self, data: Dataset) -> Dataset:
        """As the conditional one does."""
        return self.first.sees(data)


@dataclass(frozen=True)
class OnRows:
    """A conditional model on the rows and on rows drawn from a joint one of all columns.

    Attributes:
        first: the conditional model.
        second: the joint one, fitted with the target to the same training part.
        rows: how many are drawn; as many as there are if None.
        balance: whether they are drawn given classes, so that these are even.
    """

    first: Own | Peer
    second: Own
    rows: int | None = None
    balance: bool = False

    def fit(self, train: Dataset, seed: int) -> Any:
        """Fit the joint one, draw, and fit the conditional one to both."""
        record = self.second.fit(train, seed).record
        more = with_rows(train, record, self.rows, balance=self.balance, seed=seed)
        found = self.first.fit(described(more), seed)
        return Reweighed(found, shares(train), shares(more)) if self.balance else found

    def sees(self, data: Dataset) -> Dataset:
        """As the conditional one does."""
        return self.first.sees(data)


@dataclass(frozen=True, eq=False)
class Reweighed:
    """Probabilities put back to the shares of classes that there were before they were evened out.

        p'(c | x) ∝ p(c | x) π_c / π'_c

    (Saerens, Latinne & Decaestecker 2002, Adjusting the outputs of a classifier to new a priori
    probabilities, Neural Computation 14, https://doi.org/10.1162/089976602753284446).
    """

    first: Any
    before: np.ndarray
    after: np.ndarray
    joint: bool = False

    @property
    def verdict(self) -> str:
        """That of the model that predicts."""
        return self.first.verdict

    def answer(self, test: Dataset, density: bool = True) -> Answer:
        """Predictive distributions."""
        found = self.first.answer(test, density)
        p = found.p * self.before / self.after
        return replace(found, p=p / p.sum(1, keepdims=True))


Entry = Own | Peer | OnFeatures | OnRows


def recast(data: Dataset, model: Model) -> Dataset:
    """The rows with kinds of numbers that a model wants otherwise, such as counts for a Poisson likelihood.

    Raises:
        DataError: it wants labels for numbers, which is a matter of reading: say it with `types`.
    """
    wanted = {name: Kind(kind) for name, kind in model.types(data.schema).items()}
    columns = []
    for column in data.schema.columns:
        kind = wanted.get(column.name, column.kind)
        if kind != column.kind and (column.labelled or kind in (Kind.BINARY, Kind.CATEGORICAL)):
            raise DataError(
                f"{data.source}, column {column.name!r}: {model.name} wants it {kind}; say --types "
                f"{column.name}={kind}, for all models"
            )
        columns.append(replace(column, kind=kind))
    return replace(data, schema=replace(data.schema, columns=tuple(columns)))
