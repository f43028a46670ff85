"""The weights of the rows: how often each counts, or how much it matters.

A weight is a *count* where a row stands for so many like it, and then it is information: Σ w rows. A weight
of *importance* (1/p of a survey, a weight of a class, one of weights that sum to one) says whom a row speaks
for and says nothing of how many were asked. Such weights are scaled to the effective sample size of Kish,

    w_n ← w_n Σ w / Σ w²,    so that    Σ w = (Σ w)² / Σ w²  ≤  the number of rows,

which is how many rows of equal weight have a mean of the same variance (Kish 1965, Survey Sampling, section
11.7). A factor common to all weights then makes no difference.
"""

from typing import Any

import numpy as np

from ppl_models.data.arrays import to_numpy
from ppl_models.data.cells import Labels, Numbers
from ppl_models.data.messages import clean, quoted
from ppl_models.data.schema import Meaning
from ppl_models.data.survey import parse
from ppl_models.data.table import Table
from ppl_models.errors import DataError, UsageError

_FEW = 50
"""Rows up to which whole numbers are counts although none is 1: a table of counts is short, or has rare
cells, and the weights of a survey are neither, though they may be whole persons."""


def meaning_of(weight: np.ndarray) -> Meaning:
    """What weights are taken for, if nobody says: whole numbers for counts, others for importance.

    Whole numbers of which none is 1, in more than 50 rows, are importance: persons that those of a survey
    stand for.

    Example:
        >>> meaning_of(np.array([1.0, 3.0, 2.0])), meaning_of(np.array([0.2, 0.3, 0.5]))
        ('counts', 'importance')
    """
    some = weight[weight > 0]
    if (some != np.rint(some)).any() or (len(some) > _FEW and some.min() > 1):
        return "importance"
    return "counts"


def unit_of(weight: np.ndarray, meaning: Meaning) -> float:
    """The weight that counts as one row: 1 of counts, Σ w² / Σ w of importance.

    Example:
        >>> unit_of(np.full(4, 0.25), "importance")
        0.25
    """
    return 1.0 if meaning == "counts" else float(weight @ weight / weight.sum())


def weight_note(weight: np.ndarray, meaning: Meaning) -> list[str]:
    """What weights were taken for, where it makes a difference: one sentence at most."""
    some = weight[weight > 0]
    if (some == 1).all():
        return []
    if meaning == "counts":
        return [
            f"weights are taken as counts: {len(some):,} rows stand for {some.sum():,.6g}; --weights-are "
            "importance says otherwise"
        ]
    size = some.sum() / unit_of(some, meaning)
    return [
        f"weights are taken as importance, not as counts: {len(some):,} rows say as much as {size:,.1f} of "
        "equal weight (Kish's effective sample size); --weights-are counts says otherwise"
    ]


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
