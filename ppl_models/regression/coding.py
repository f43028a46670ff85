"""Columns of a table as columns of a design matrix: numbers as they are, labels as dummies.

A label with levels 0, 1, …, L−1 becomes L − 1 columns `name[level]`, each 1 where the cell has that level
and 0 where it has another: treatment coding, with the first level as the reference. A missing cell makes
its columns NaN.
"""

from typing import Protocol

import numpy as np

from ppl_models.data.schema import Column, Schema


class Coding(Protocol):
    """How rows of a table become rows of a design matrix."""

    names: tuple[str, ...]
    """Names of the p columns of the matrix."""

    used: tuple[int, ...]
    """The columns of the table that the matrix is made from."""

    origins: tuple[tuple[int, ...], ...]
    """For each column of the matrix, the columns of the table that it depends on."""

    categories: dict[int, tuple[tuple[str, float], ...]]
    """Of the columns of the table that are taken as categories: labels and cells, the reference first."""

    flags: tuple[int, ...]
    """Columns of the matrix that are 1 where a number is missing, and else 0."""

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """(m, C) cells of the table to (m, p) float64, NaN in rows with a missing cell."""
        ...


def cells_of(coding: Coding, values: np.ndarray) -> np.ndarray:
    """Cells of the table (m, C) with what a coding puts in the place of missing ones."""
    return getattr(coding, "filled", lambda cells: cells)(values)


def labelled(column: Column) -> tuple[tuple[str, float], ...]:
    """The levels of a column of labels, with their codes."""
    return tuple((level, float(code)) for code, level in enumerate(column.levels))


class TreatmentCoding:
    """Every column of the schema but the target, labels by treatment coding."""

    flags: tuple[int, ...] = ()

    def __init__(self, schema: Schema, target: int, leave: tuple[int, ...] = ()) -> None:
        columns = [(i, c) for i, c in enumerate(schema.columns) if i != target and i not in leave]
        self.used = tuple(i for i, _ in columns)
        self.plan: list[tuple[int, int | None]] = []  # (column, level), or (column, None) for a number
        names: list[str] = []
        for i, column in columns:
            if column.labelled:
                self.plan += [(i, code) for code in range(1, len(column.levels))]
                names += [f"{column.name}[{level}]" for level in column.levels[1:]]
            else:
                self.plan.append((i, None))
                names.append(column.name)
        self.names = tuple(names)
        self.origins = tuple((i,) for i, _ in self.plan)
        self.categories = {i: labelled(column) for i, column in columns if column.labelled}
        self._numbers = np.array([j for j, (_, code) in enumerate(self.plan) if code is None], np.intp)
        self._from = np.array([self.plan[j][0] for j in self._numbers], np.intp)
        self._run = self._contiguous()

    def _contiguous(self) -> slice | None:
        """The columns as a slice, where all are numbers and next to each other: most tables of numbers."""
        if len(self._from) != len(self.plan) or not len(self._from) or (np.diff(self._from) != 1).any():
            return None
        return slice(int(self._from[0]), int(self._from[-1]) + 1)

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """(m, C) cells of the table to (m, p) float64; a view where that is enough."""
        if self._run is not None:
            return values[:, self._run]
        X = np.empty((len(values), len(self.plan)))
        X[:, self._numbers] = values[:, self._from]
        for j, (i, code) in enumerate(self.plan):
            if code is not None:
                cell = values[:, i]
                X[:, j] = cell == code
                X[np.isnan(cell), j] = np.nan
        return X
