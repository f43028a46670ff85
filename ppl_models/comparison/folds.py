"""The same parts of the rows for every model."""

from typing import NamedTuple

import numpy as np

from ppl_models.data import Dataset
from ppl_models.errors import DataError, UsageError


class Fold(NamedTuple):
    """Rows to fit to and rows to be scored on, as increasing positions."""

    train: np.ndarray
    test: np.ndarray


def folds_of(data: Dataset, number: int, repeats: int, seed: int) -> list[Fold]:
    """Parts of the rows, by what the data are.

    - Several sequences: whole sequences, none of which is in both parts (scikit-learn's `GroupKFold`).
    - Rows of one sequence with a time: forward, each part with all rows before it to fit to
      (`TimeSeriesSplit`); there are no repeats of it.
    - Classes to predict: stratified, shuffled by the seed (`StratifiedKFold`).
    - Otherwise shuffled (`KFold`).

    Args:
        data: the rows, in order.
        number: of parts, J.
        repeats: of the whole, each shuffled anew.
        seed: of the shuffles.

    Raises:
        UsageError: fewer than two parts, or repeats of what cannot be shuffled.
        DataError: there are too few rows, sequences or rows of a class.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit

    if number < 2 or repeats < 1:
        raise UsageError(f"a comparison has at least 2 folds and 1 repeat, got {number} and {repeats}")
    many, forward = len(data.lengths) > 1, data.schema.time is not None
    units, what = (len(data.lengths), "sequences") if many else (data.rows, "rows")
    if units < 2 * number:
        raise DataError(
            f"{data.source}: {units} {what} are too few for {number} folds; give --folds 2 at least"
        )
    rows = np.arange(data.rows)
    y = classes(data)
    if forward and not many:
        if repeats > 1:
            raise UsageError("folds forward in time have no repeats; leave --repeats out")
        return [Fold(a, b) for a, b in TimeSeriesSplit(number).split(rows)]
    found: list[Fold] = []
    for repeat in range(repeats):
        if many:
            owner = np.repeat(np.arange(units), data.lengths)
            order = np.random.default_rng(seed + repeat).permutation(units)
            parts = GroupKFold(number).split(rows, groups=order[owner])
        elif y is not None:
            known = np.where(np.isnan(y), -1, y)
            least = int(np.unique(known, return_counts=True)[1].min())
            cut = StratifiedKFold if least >= number else KFold  # a class too rare to be in every part
            parts = cut(number, shuffle=True, random_state=seed + repeat).split(rows, known)
        else:
            parts = KFold(number, shuffle=True, random_state=seed + repeat).split(rows)
        found += [Fold(np.sort(a), np.sort(b)) for a, b in parts]
    return found


def classes(data: Dataset) -> np.ndarray | None:
    """The codes of the target, NaN where it is missing; None of a number, or without one."""
    target = data.schema.target
    if target is None or not data.schema.columns[data.names.index(target)].labelled:
        return None
    return np.asarray(data.column(target))


def ordered(data: Dataset, seed: int) -> np.ndarray:
    """An order of the units (rows, or sequences) of which every beginning has about the shares of classes.

    Args:
        data: a training part.
        seed: of the order.

    Returns:
        (units,) positions of rows, or of sequences where there are several. Rows with a time are from the
        last back, as those are what a forecast would be made from.
    """
    rng = np.random.default_rng(seed)
    if len(data.lengths) > 1:
        return rng.permutation(len(data.lengths))
    if data.schema.time is not None:
        return np.arange(data.rows)[::-1]
    y = classes(data)
    if y is None:
        return rng.permutation(data.rows)
    y, place = np.where(np.isnan(y), -1, y), np.empty(data.rows)
    for c in np.unique(y):
        own = np.flatnonzero(y == c)
        place[rng.permutation(own)] = (np.arange(len(own)) + rng.uniform()) / len(own)
    return np.argsort(place, kind="stable")


def first_of(data: Dataset, order: np.ndarray, size: int) -> Dataset:
    """The first `size` units of an order, as data whose columns are described anew."""
    if len(data.lengths) > 1:
        mask = np.repeat(np.isin(np.arange(len(data.lengths)), order[:size]), data.lengths)
        return described(data.subset(mask))
    return described(data.subset(np.sort(order[:size])))


def described(data: Dataset) -> Dataset:
    """The same rows, with what the schema says of the numbers in them (mean, sd, ends) learned from them.

    Kinds and levels stay: they say what the columns are, not how their cells are distributed.
    """
    from dataclasses import replace

    values = data.values
    columns = []
    for j, column in enumerate(data.schema.columns):
        x = values[:, j]
        x = x[~np.isnan(x)]
        own = {"missing": int(len(values) - len(x))}
        if len(x):
            own |= {"minimum": float(x.min()), "maximum": float(x.max())}
        if not column.labelled and len(x):
            own |= {"mean": float(x.mean()), "sd": float(x.std()) or 1.0}
        columns.append(replace(column, **own))
    return replace(data, schema=replace(data.schema, columns=tuple(columns)))


def filled(data: Dataset, train: Dataset) -> Dataset:
    """Rows with missing predictors filled in by the training part's means and most frequent levels."""
    from dataclasses import replace

    values = np.array(data.values)
    for j, column in enumerate(data.schema.columns):
        holes = np.isnan(values[:, j])
        if column.name == data.schema.target or not holes.any():
            continue
        x = train.values[:, j]
        x = x[~np.isnan(x)]
        if not len(x):
            values[holes, j] = 0.0
        elif column.labelled or column.integer:
            seen, times = np.unique(x, return_counts=True)
            values[holes, j] = seen[times.argmax()]
        else:
            values[holes, j] = x.mean()
    return replace(data, values=values)
