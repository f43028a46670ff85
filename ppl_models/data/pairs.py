"""Predictors and a target apart, as scikit-learn has them: X and y; and sparse matrices."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppl_models.data.arrays import from_array, is_array, to_numpy
from ppl_models.data.files import check_memory
from ppl_models.data.frames import from_columns, from_frame
from ppl_models.data.messages import quoted
from ppl_models.data.partitions import is_partitioned
from ppl_models.data.shaped import outer
from ppl_models.data.table import Table
from ppl_models.errors import UsageError


@dataclass(frozen=True)
class Pair:
    """Rows of predictors, and the target of each.

    Attributes:
        X: Anything that holds a table.
        y: (n,) or (n, 1) values: an array, a tensor, a series, a list.
        name: What the target is called; that of the series, or `y`, if not given.
    """

    X: Any
    y: Any
    name: str | None = None


def is_sparse(data: Any) -> bool:
    """Whether it is a sparse matrix or array of SciPy."""
    return hasattr(data, "toarray") and hasattr(data, "nnz") and hasattr(data, "shape")


def from_sparse(data: Any, source: str = "sparse matrix") -> Table:
    """A sparse matrix as the dense one that every model computes with.

    Raises:
        DataError: It would not fit into memory.
    """
    rows, columns = data.shape
    check_memory(source, 3 * 8 * rows * columns)
    table = from_array(np.asarray(data.toarray()), source)
    share = 100 * data.nnz / max(rows * columns, 1)
    table.notes.append(f"{rows:,} × {columns:,}, {share:.2g} % of the cells stored, made dense")
    return table


def _shape(data: Any) -> tuple[int, ...] | None:
    """The shape of what holds numbers or a table; None of anything else."""
    if is_sparse(data) or is_array(data) or hasattr(data, "iloc") or hasattr(data, "to_arrow"):
        return tuple(data.shape) if hasattr(data, "shape") else (len(data),)
    if isinstance(data, list | tuple) and data:
        depth, length = outer(data)
        return (length,) if depth == 1 else (length, len(data[0]))
    return None


def as_pair(data: Any) -> Any:
    """A tuple of predictors, in two or more dimensions, and as many targets as a `Pair`; all else as it is.

    Two arrays of as many columns are two sequences.
    """
    if not isinstance(data, tuple) or len(data) != 2:
        return data
    if is_partitioned(data[0]):  # how long it is is not known yet
        return Pair(*data)
    first, second = map(_shape, data)
    if first is None or second is None or len(first) < 2 or first[0] != second[0]:
        return data
    column = len(second) == 2 and second[1] == 1 and first[1:] != (1,)
    return Pair(*data) if len(second) == 1 or column else data


def unwrapped(data: Any) -> Any:
    """`{"X": X, "y": y}` as a `Pair` and `{"X": X}` as X, for models that take a table."""
    if not isinstance(data, Mapping):
        return data
    shapes = {name: _shape(value) for name, value in data.items()}
    wide = [name for name, shape in shapes.items() if shape is not None and len(shape) > 1]
    if len(wide) != 1 or len(data) > 2:
        return data
    (name,) = wide
    others = [other for other in data if other != name]
    return Pair(data[name], data[others[0]], str(others[0])) if others else data[name]


def with_target(table: Table, pair: Pair, name: str | None) -> str:
    """Add the target to a table of predictors, and return its name.

    Args:
        table: the predictors; it is changed.
        pair: the target.
        name: what it was called in the fit, if there was one.

    Raises:
        UsageError: They differ in length, or in the order of their indexes.
    """
    y = pair.y
    shape = _shape(y)
    if is_array(y):
        y = to_numpy(y).reshape(len(y), -1)[:, 0] if shape and len(shape) == 2 and shape[1] == 1 else y
    elif isinstance(y, list | tuple):
        y = np.asarray(y).ravel() if shape and len(shape) == 2 and shape[1] == 1 else y
    frame = hasattr(y, "iloc") or hasattr(y, "to_arrow")
    own = from_frame(y) if frame else from_columns({"y": y})
    if len(own.columns) != 1:
        raise UsageError(f"the target is one column, got {len(own.columns)}")
    ((column, cells),) = own.columns.items()
    if own.rows != table.rows:
        raise UsageError(
            f"target must be the name of one column, or one value for each of the {table.rows:,} rows, "
            f"got {own.rows:,} values"
        )
    _check_order(table.index, own.index)
    called = name or pair.name or (column if frame and column not in ("x0", "0") else "y")
    while name is None and called in table.names:
        called += "_"
    parts = table.parts

    def joined(wanted: Collection[str]) -> Iterator[Mapping[str, Any]]:
        start, rest = 0, [each for each in wanted if each != called]
        for block in parts(rest or [table.names[0]]) if parts else ():
            length = len(next(iter(block.values())))
            more = {called: cells[start : start + length]} if called in wanted else {}
            yield {each: block[each] for each in rest} | more
            start += length

    table.columns, table.matrix = {**table.columns, called: cells}, None
    table.came[called] = own.came[column]
    table.names = [*table.names, called]
    table.parts = joined if parts else None
    return called


def _check_order(first: Any, second: Any) -> None:
    """Refuse rows that are the same by their indexes and in another order."""
    if first is None or second is None or first.equals(second):
        return
    if len(first) == len(second) and first.sort_values().equals(second.sort_values()):
        raise UsageError(
            "the indexes of the predictors and the target are in different orders; "
            f"align them with y.loc[X.index] (the first are {quoted(first[0])} and {quoted(second[0])})"
        )
