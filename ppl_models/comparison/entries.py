"""What stands in a comparison, and how it is written in one word.

gmm                                a model of the toolkit, with its defaults
gmm:components=3,covariance=diag   with fields of the model and settings of its training
mlp:hidden=50/50                   items of a list are separated by /
FILE.py:Class                      a user-defined model
sklearn:RandomForestClassifier:n_estimators=200
logistic+gmm:components=8          the first on the columns and the features of the second
logistic@gmm:rows=1000             the first on the rows and on rows drawn from the second
logistic@gmm:balance=true          … so that the classes are even
runs/quakes                        the model and settings of a finished run, or `latest`
models.toml                        all tables [models.NAME] of a file
"""

import ast
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np

from ppl_models.annotations import Hint, hints
from ppl_models.capabilities import Conditional, Latents, Samples, Scores
from ppl_models.comparison.answers import Answer, answer
from ppl_models.comparison.folds import classes, described
from ppl_models.comparison.peers import fit_peer, peer
from ppl_models.data import Column, Dataset, Kind
from ppl_models.engine import checked, fitted, settings_for
from ppl_models.errors import DataError, UsageError
from ppl_models.inference.loop import FROM_START, Status
from ppl_models.inference.settings import every_setting
from ppl_models.model import Model
from ppl_models.record import Record
from ppl_models.registry import find


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


def shares(data: Dataset) -> np.ndarray:
    """Of the classes among the rows, with half a row more of each."""
    y = classes(data)
    if y is None:
        raise DataError(f"{data.source}: classes can only be evened out where there are some")
    levels = len(data.schema.columns[data.names.index(str(data.schema.target))].levels)
    count = np.bincount(y[~np.isnan(y)].astype(int), minlength=levels) + 0.5
    return count / count.sum()


def without_target(data: Dataset) -> Dataset:
    """Only the predictors."""
    at = [j for j, name in enumerate(data.names) if name != data.schema.target]
    schema = replace(data.schema, columns=tuple(data.schema.columns[j] for j in at), target=None)
    return replace(data, values=np.ascontiguousarray(data.values[:, at]), schema=schema)


def with_features(data: Dataset, record: Record) -> Dataset:
    """The rows with the features of a joint fit before the target: responsibilities, occupancies, latents.

    Uncertainties of latents (`_sd`) and the last of shares that add up to one are left out.

    Args:
        data: rows with the columns of the fit, and others.
        record: the joint fit.

    Raises:
        UsageError: it has no features.
    """
    import pandas as pd

    from ppl_models.draws import free
    from ppl_models.verbs.transform import transform

    if not isinstance(record.bound, Latents):
        raise UsageError(
            f"{record.name} has no features to give to another model; gmm, hmm and vae have some"
        )
    at = [data.names.index(name) for name in record.data.names if name in data.names]
    if len(at) < len(record.data.names):
        lacks = ", ".join(name for name in record.data.names if name not in data.names)
        raise DataError(f"{data.source}: {record.name} was fitted with {lacks}, which the data do not have")
    schema = replace(record.data.schema)
    mine = replace(data, values=np.ascontiguousarray(data.values[:, at]), schema=schema, kept=None)
    table = transform(record, mine)
    front = {schema.sequence, schema.time, "sequence"}
    names = [n for n in table if n not in front and pd.api.types.is_float_dtype(table[n])]
    names = [n for n in names if not n.endswith("_sd")]
    cells = table[names].to_numpy(float)
    if len(names) > 1 and np.allclose(cells.sum(1), 1.0):
        cells, names = cells[:, 1:], names[1:]
    columns, values = list(data.schema.columns), data.values
    last = len(columns) - (data.schema.target is not None)
    taken = {*data.names}
    new = []
    for name, x in zip(names, cells.T, strict=True):
        sd = float(x.std()) or 1.0
        ends = {"minimum": float(x.min()), "maximum": float(x.max())}
        own = Column(
            free(f"{record.name}_{name}", taken), Kind.CONTINUOUS, mean=float(x.mean()), sd=sd, **ends
        )
        new.append(own)
    values = np.concatenate([values[:, :last], cells, values[:, last:]], 1)
    schema = replace(data.schema, columns=(*columns[:last], *new, *columns[last:]), shape=None)
    return replace(data, values=np.ascontiguousarray(values), schema=schema, path=None)


def with_rows(data: Dataset, record: Record, rows: int | None, *, balance: bool, seed: int) -> Dataset:
    """The rows and rows drawn from a joint fit of the same columns.

    Args:
        data: the rows.
        record: the joint fit, with the same columns and target.
        rows: how many are drawn; as many as there are if None, or as many as make the classes even.
        balance: whether they are drawn given classes, the rarest most often.
        seed: of the draws.

    Raises:
        UsageError: the fit does not make up independent rows.
        DataError: its columns are others, or the rows are of several sequences.
    """
    import torch

    from ppl_models.tables import given_row

    if not isinstance(record.bound, Samples):
        raise UsageError(f"{record.name} does not make up independent rows; gmm and vae do")
    if {*record.data.names} != {*data.names} or len(data.lengths) > 1:
        raise DataError(f"{data.source}: rows of {record.name} have other columns, or belong to sequences")
    order = [record.data.names.index(name) for name in data.names]
    parts = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 10)
        if balance:
            target = str(data.schema.target)
            levels = data.schema.columns[data.names.index(target)].levels
            y = classes(data)
            count = np.bincount(y[~np.isnan(y)].astype(int), minlength=len(levels))  # type: ignore[index]
            lacks = count.max() - count
            if rows is not None:
                lacks = np.floor(lacks * rows / max(lacks.sum(), 1)).astype(int)
            for level, number in zip(levels, lacks.tolist(), strict=True):
                if number:
                    given = given_row(record, {target: level})
                    parts.append(record.bound.sample(number, record.draws, given).values)
        else:
            parts.append(record.bound.sample(rows or data.rows, record.draws, None).values)
    new = np.concatenate(parts)[:, order] if parts else np.zeros((0, len(order)))
    for j, column in enumerate(data.schema.columns):  # as the column has them: whole, and within its ends
        if not column.labelled:
            own = np.clip(new[:, j], column.minimum, column.maximum)
            new[:, j] = np.rint(own) if column.integer else own
    values = np.ascontiguousarray(np.concatenate([data.values, new]))
    weight = None if data.weight is None else np.concatenate([data.weight, np.ones(len(new))])
    return replace(
        data, values=values, weight=weight, lengths=np.array([len(values)], np.int64), times=None, index=None,
        kept=None, path=None, sequence_ids=("",), schema=replace(data.schema, time=None),
    )  # fmt: skip


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


def parsed(word: Any, runs: Sequence[str] = ("runs",)) -> list[tuple[str, Entry | Record]]:
    """The entries that a word, a model, a fit or an estimator means, with their names.

    Args:
        word: as the docstring of this module has it; a `Model`, a fit, an estimator of scikit-learn.
        runs: directories in which finished runs are looked for.

    Raises:
        UsageError: it means nothing.
    """
    if isinstance(word, Record):
        return [(word.path or word.name, word)]
    if isinstance(word, Own | Peer | OnFeatures | OnRows):
        return [(named(word.model) if isinstance(word, Own) else "entry", word)]
    if isinstance(word, Model):
        return [(named(word), Own(checked(word)))]
    if not isinstance(word, str):
        if hasattr(word, "fit") and hasattr(word, "get_params"):
            return [(f"sklearn:{type(word).__name__}", Peer(word))]
        raise UsageError(
            f"{word!r} is no model: give a word such as gmm:components=3, a model, a fit or an estimator"
        )
    if word.endswith(".toml"):
        return _from_toml(Path(word), runs)
    if (found := _run(word, runs)) is not None:
        return [(word, found)]
    return [(word, _entry(word, {}))]


def named(model: Model) -> str:
    """The word of a model: its name and the fields that are not their defaults."""
    said = []
    for each in fields(model):
        value = getattr(model, each.name)
        if each.init and value != each.default:
            said.append(f"{each.name}={'/'.join(map(str, value)) if isinstance(value, tuple) else value}")
    return model.name + (":" + ",".join(said) if said else "")


def _run(word: str, runs: Sequence[str]) -> Record | None:
    """The fit of a run directory of that name, if there is one."""
    from ppl_models import runs as stored

    for path in (Path(word), *(Path(each) / word for each in runs)):
        if (path / "manifest.json").exists():
            return stored.load(path)
    return None


def _from_toml(path: Path, runs: Sequence[str]) -> list[tuple[str, Any]]:
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    tables = told.get("models")
    if not isinstance(tables, dict) or not tables:
        raise UsageError(f"{path} has no tables [models.NAME]")
    found = []
    for name, table in tables.items():
        if not isinstance(table, dict) or not isinstance(table.get("model"), str):
            raise UsageError(f'{path}, [models.{name}]: needs model = "gmm" or another word')
        options = {key: value for key, value in table.items() if key != "model"}
        known = None if options else _run(table["model"], runs)
        found.append((name, known or _entry(table["model"], options)))
    return found


def _entry(word: str, more: Mapping[str, Any]) -> Entry:
    """An entry from a word, and options from elsewhere for its first model."""
    for sign in "+@":
        first, found, second = word.partition(sign)
        if not found:
            continue
        options = _options(second.partition(":")[2])
        special = {k: options.pop(k) for k in ("rows", "balance") if sign == "@" and k in options}
        helper = _single(second.partition(":")[0], options, {})
        helped = _single(*_apart(first), more)
        if not isinstance(helper, Own) or isinstance(helped, OnFeatures | OnRows):
            raise UsageError(f"{word}: what helps must be a joint model of the toolkit, such as gmm or vae")
        if sign == "+":
            return OnFeatures(helped, helper)
        rows = special.get("rows")
        if rows is not None and (not str(rows).isdigit() or int(rows) < 1):
            raise UsageError(f"{word}: rows must be a whole number of at least 1, got {rows!r}")
        balance = str(special.get("balance", "false")).lower()
        if balance not in ("true", "false"):
            raise UsageError(f"{word}: balance must be true or false, got {balance!r}")
        return OnRows(helped, helper, None if rows is None else int(rows), balance == "true")
    return _single(*_apart(word), more)


def _apart(word: str) -> tuple[str, dict[str, str]]:
    """The name of a model, with the file or the package it is of, and its options."""
    name, _, rest = word.partition(":")
    if name == "sklearn" or name.endswith(".py"):
        second, _, rest = rest.partition(":")
        name = f"{name}:{second}"
    return name, _options(rest)


def _options(text: str) -> dict[str, str]:
    found = {}
    for part in text.split(",") if text else ():
        key, sign, value = part.partition("=")
        if not sign or not key.strip() or not value.strip():
            raise UsageError(
                f"{part!r} is not of the form option=value, as in gmm:components=3,covariance=diag"
            )
        found[key.strip()] = value.strip()
    return found


def _single(name: str, options: Mapping[str, str], more: Mapping[str, Any]) -> Own | Peer:
    if name.startswith("sklearn:"):
        return Peer(peer(name.partition(":")[2], {k: _literal(v) for k, v in options.items()} | dict(more)))
    kind = find(name, files=True)
    own, training = hints(kind), every_setting()
    given: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for key, text in [*options.items(), *more.items()]:
        key = key.replace("-", "_")
        if key in own:
            given[key] = value_of(key, text, own[key])
        elif key in training:
            settings[key] = value_of(key, text, training[key][0])
        else:
            raise UsageError(
                f"{name} has no option {key!r}; it has {', '.join([*own, *hints(kind.settings)])}"
            )
    try:
        return Own(checked(kind(**given)), settings)
    except (ValueError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{name}: {' '.join(str(error).split())}") from error


def value_of(name: str, text: Any, about: Hint) -> Any:
    """The value of a field from text, by its type.

    Raises:
        UsageError: it cannot be meant.
    """
    if not isinstance(text, str):
        return tuple(text) if isinstance(text, list) else text
    kind = about.type
    if about.optional and text.lower() == "none":
        return None
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if get_origin(kind) is Literal:
            return {str(each): each for each in get_args(kind)}[text]
        if kind in (int, float):
            return kind(text)
        if about.many in (int, float, str):
            return tuple(about.many(each) for each in text.split("/"))
    except (ValueError, KeyError):
        choice = f": {', '.join(map(str, get_args(kind)))}" if get_origin(kind) is Literal else ""
        raise UsageError(f"{name}={text} cannot be meant{choice}") from None
    return _literal(text) if kind is not str else text


def _literal(text: str) -> Any:
    """A number, a truth value or None where it is one, else the text."""
    word = {"true": "True", "false": "False", "none": "None"}.get(text.lower(), text)
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return text
