"""Columns side by side: the (n, C) numbers of a data set."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ppl_models.data.cells import Labels, Numbers, missing_numbers
from ppl_models.data.schema import Column
from ppl_models.data.spill import Spill
from ppl_models.data.survey import Survey
from ppl_models.data.types import values_of


def matrix(
    survey: Survey, columns: Sequence[Column], absent: Collection[str] = (), *, changed: bool = False
) -> np.ndarray:
    """The columns as (n, C) float64, C-contiguous, NaN where missing.

    It is the array that the table came in, if nothing in it changes; in memory, for a table that is; else
    a read-only map of a temporary file.

    Args:
        survey: What was read.
        columns: The columns, in order, and their levels.
        absent: Those that the table does not have: all of their cells are missing.
        changed: Whether some cells are to become missing.

    Raises:
        OutputError: There is no room on disk for a table that does not fit into memory.
    """
    table = survey.table
    if table.matrix is not None and not changed and _unchanged(survey, columns):
        return table.matrix
    present = [column.name for column in columns if column.name not in absent]
    if table.parts is None or not present:
        values = np.full((table.rows, len(columns)), np.nan)
        for cells in survey.cells(present):
            _fill(values, columns, cells)
        return values
    with Spill(table.source, table.rows, len(columns)) as spill:
        for cells in survey.cells(present):
            block = np.full((_length(cells), len(columns)), np.nan)
            _fill(block, columns, cells)
            spill.append(block)
        return spill.array()


def _fill(values: np.ndarray, columns: Sequence[Column], cells: Mapping[str, Numbers | Labels]) -> None:
    for j, column in enumerate(columns):
        if column.name in cells:
            values[:, j] = values_of(column, cells[column.name])


def _length(cells: Mapping[str, Numbers | Labels]) -> int:
    first = next(iter(cells.values()))
    return len(first.codes) if isinstance(first, Labels) else len(first.values)


def _unchanged(survey: Survey, columns: Sequence[Column]) -> bool:
    """Whether the numbers of an array are those of the columns: no sentinels, and no codes but themselves."""
    given = survey.table.matrix
    return (
        given is not None
        and given.dtype == np.float64
        and given.flags.c_contiguous
        and [column.name for column in columns] == list(survey.table.columns)
        and not missing_numbers(survey.missing)
        and all(column.levels == tuple(map(str, range(len(column.levels)))) for column in columns)
    )
