"""What a joint model lends to another beside features (`ppl_models.later`): rows, and shares of classes."""

from dataclasses import replace

import numpy as np

from ppl_models.capabilities import Samples
from ppl_models.comparison.folds import classes
from ppl_models.data import Dataset
from ppl_models.errors import DataError, UsageError
from ppl_models.record import Record


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
