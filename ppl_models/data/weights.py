"""The weights of the rows: how often each counts."""

from typing import Any

import numpy as np

from ppl_models.data.arrays import to_numpy
from ppl_models.data.cells import Labels, Numbers
from ppl_models.data.messages import clean, quoted
from ppl_models.data.survey import parse
from ppl_models.data.table import Table
from ppl_models.errors import DataError, UsageError


def weight_column(table: Table, name: str, *, missing: tuple[str, ...], decimal: str) -> np.ndarray:
    """The weights in a column, (n,) float64.

    Args:
        table: The data.
        name: The column: numbers or truth values.
        missing: Further texts that mean a missing cell, which no weight may be.
        decimal: The decimal mark of numbers in text.

    Raises:
        DataError: A cell is missing, negative, infinite or not a number, or all are zero.
    """
    cells = parse(table, name, missing=missing, decimal=decimal)
    if isinstance(cells, Labels) and cells.typed and {*cells.labels} == {"false", "true"}:
        cells = Numbers(np.where(cells.codes < 0, np.nan, cells.codes))
    if isinstance(cells, Labels):
        row = int(np.argmax(cells.codes >= 0))
        text = quoted(cells.labels[cells.codes[row]])
        raise table.column_error(name, f"{text} is not a number, and weights are", row)
    if not isinstance(cells, Numbers):
        raise table.column_error(name, "dates, where weights are to be")
    return _checked(table, np.array(cells.values), f", column {quoted(name)}")


def weight_array(table: Table, weights: Any) -> np.ndarray:
    """Weights given by the caller, one for each row, as (n,) float64.

    Raises:
        UsageError: They are not n numbers.
        DataError: One is missing, negative or infinite, or all are zero.
    """
    array = np.asarray(to_numpy(weights))
    if array.ndim != 1 or array.dtype.kind not in "fiub":
        raise UsageError("weights must be the name of a column or a list of numbers, one for each row")
    if len(array) != table.rows:
        raise UsageError(
            f"weights must be as many as the {table.rows} rows of {table.source}, got {len(array)}"
        )
    return _checked(table, array.astype(np.float64), ", weights")


def _checked(table: Table, weight: np.ndarray, where: str) -> np.ndarray:
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        what = "a weight is missing" if np.isnan(weight[row]) else f"the weight {weight[row]:g}"
        reason = f"{what}; weights are finite numbers, 0 or greater"
        raise DataError(f"{clean(table.source)}, {table.place(row)}{where}: {reason}")
    if not weight.any():
        raise DataError(f"{clean(table.source)}{where}: every weight is 0, so that no row counts")
    return weight
