"""Rows with missing predictors: what stands in for the cells, so that such rows are used and predicted.

    level    a missing label is a level of its own, `kind[missing]`; a missing number is the mean of the
             others, with an indicator beside it, `age[missing]`, where the rows of the fit had missing cells
    impute   a missing number is its expectation given the row's other predictors, a missing label the
             likeliest level, under a normal distribution of numbers and dummies together

A level of its own lets missingness itself speak, and is consistent for predictions however cells came to be
missing, as long as later ones are missing for the same reasons (Josse, Chen, Prost, Scornet & Varoquaux 2024,
On the consistency of supervised learning with missing values, Statistical Papers 65,
https://doi.org/10.1007/s00362-024-01550-4; Van Ness, Bosschieter, Halpin-Gregorio & Udell 2023, The missing
indicator method, KDD, https://doi.org/10.1145/3580305.3599911). Coefficients of other predictors are then
those of a model with the indicator in it, not those of complete rows. What is imputed is taken for observed.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ppl_models.data import Column, Dataset, Schema
from ppl_models.data.messages import listed, plural
from ppl_models.data.schema import Kind
from ppl_models.regression.coding import Coding

BLOCK = 65_536
"""Rows that are looked through at once."""

SOME = 20_000
"""Rows that the normal distribution of the predictors is learned from, at most."""

ROUNDS = 20
"""Passes of EM for it."""


class Seen(NamedTuple):
    """What the rows of a fit have in each of the C columns.

    Attributes:
        holes: (C,) missing cells.
        mean: (C,) of the others; 0 where there are none.
        mode: (C,) the most frequent code of a label, or value of few different ones; the mean of other
            numbers.
    """

    holes: np.ndarray
    mean: np.ndarray
    mode: np.ndarray


def seen_in(data: Dataset, target: int, weight: np.ndarray | None) -> Seen:
    """One pass over the rows that have a target and a weight."""
    C = len(data.schema.columns)
    holes, total, count = np.zeros(C, np.int64), np.zeros(C), np.zeros(C)
    tally: list[dict[float, int]] = [{} for _ in range(C)]
    for lo in range(0, data.rows, BLOCK):
        values = data.values[lo : lo + BLOCK]
        use = ~np.isnan(values[:, target])
        if weight is not None:
            use &= weight[lo : lo + BLOCK] > 0
        values = values[use]
        nan = np.isnan(values)
        holes += nan.sum(0)
        count += (~nan).sum(0)
        total += np.nansum(values, 0)
        for i, column in enumerate(data.schema.columns):
            if (column.labelled or column.integer) and len(tally[i]) <= 1_000:
                cells, times = np.unique(values[~nan[:, i], i], return_counts=True)
                for cell, number in zip(cells.tolist(), times.tolist(), strict=True):
                    tally[i][cell] = tally[i].get(cell, 0) + number
    mean = total / np.maximum(count, 1)
    mode = [max(each, key=each.__getitem__) if each else m for each, m in zip(tally, mean, strict=True)]
    return Seen(holes, mean, np.array(mode))


class LevelCoding:
    """A coding in which missing labels are a level, and missing numbers the mean with an indicator.

    Args:
        make: the coding of a schema whose labels have a further level where some were missing.
        schema: of the table.
        target: index of the target among its columns.
        seen: what the rows of the fit have.
        formula: or None; a number that it uses as a category, `C(size)`, is the most frequent one.
    """

    def __init__(
        self,
        make: Callable[[Schema, Callable[[np.ndarray], np.ndarray]], Coding],
        schema: Schema,
        target: int,
        seen: Seen,
        formula: str | None,
    ) -> None:
        columns = list(schema.columns)
        self._fill = np.where([c.labelled for c in columns], seen.mode, seen.mean)
        for i, column in enumerate(columns):
            if i == target:
                self._fill[i] = np.nan
            elif column.labelled and seen.holes[i]:
                self._fill[i] = len(column.levels)
                columns[i] = _with_level(column)
            elif formula is not None and re.search(rf"C\(\s*`?{re.escape(column.name)}`?\s*[,)]", formula):
                self._fill[i] = seen.mode[i]
        self.inner = make(replace(schema, columns=tuple(columns)), self.filled)
        self.used, self.categories = self.inner.used, self.inner.categories
        self._flagged = [i for i in self.used if seen.holes[i] and not schema.columns[i].labelled]
        levels = {name for name in self.inner.names}
        flags = [_free(columns[i].name, levels) for i in self._flagged]
        self.names = (*self.inner.names, *flags)
        self.origins = (*self.inner.origins, *((i,) for i in self._flagged))
        self.flags = tuple(range(len(self.inner.names), len(self.names)))

    def filled(self, values: np.ndarray) -> np.ndarray:
        """Cells (m, C) with what stands in for missing predictors; itself where none is."""
        nan = np.isnan(values) & ~np.isnan(self._fill)
        return np.where(nan, self._fill, values) if nan.any() else values

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """(m, C) cells of the table to (m, p) float64."""
        X = self.inner.matrix(self.filled(values))
        return np.hstack([X, np.isnan(values[:, self._flagged])]) if self._flagged else X


def _with_level(column: Column) -> Column:
    """The column with a level for missing cells, called so that it is not one of the others."""
    name = "missing"
    while name in column.levels:
        name += " cell"
    return replace(column, kind=Kind.CATEGORICAL, levels=(*column.levels, name))


def _free(name: str, taken: set[str]) -> str:
    found = f"{name}[missing]"
    while found in taken:
        found = f"{found[:-1]} cell]"
    return found


class ImputedCoding:
    """A coding in which missing cells are filled in from the row's other predictors.

    Numbers and dummies of labels, standardised, are taken for jointly normal, x ~ N(0, Σ), Σ learned by EM
    from rows with missing cells too (Little & Rubin 2019, Statistical Analysis with Missing Data, section
    11.2). A missing number is E[x_mis | x_obs] = Σ_mo Σ_oo⁻¹ x_obs, a missing label the level of the largest
    dummy.

    Args:
        make: the coding of the table without missing cells.
        schema: of the table.
        target: index of the target among its columns.
        seen: what the rows of the fit have.
        known: the rows (n, C) of the fit that have a target and a weight, or the centre and covariance (q, q)
            that were learned from them.
    """

    flags: tuple[int, ...] = ()

    def __init__(
        self,
        make: Callable[[Schema, Callable[[np.ndarray], np.ndarray]], Coding],
        schema: Schema,
        target: int,
        seen: Seen,
        known: np.ndarray | tuple[np.ndarray, np.ndarray],
    ) -> None:
        self._plan = [
            (i, code)
            for i, column in enumerate(schema.columns)
            if i != target
            for code in (range(len(column.levels)) if column.labelled else (None,))
        ]
        self._of = np.array([i for i, _ in self._plan])
        self._sd = np.array([1.0 if c.labelled else c.sd or 1.0 for c in schema.columns])
        self._mean = seen.mean
        if isinstance(known, tuple):
            self.centre, self.covariance = known
        else:
            if len(known) > SOME:
                known = known[np.sort(np.random.default_rng(0).choice(len(known), SOME, replace=False))]
            self.centre = np.zeros(len(self._plan))
            W = self._wide(known)
            self.centre = np.nansum(W, 0) / np.maximum((~np.isnan(W)).sum(0), 1)
            self.covariance = _covariance(W - self.centre)
        self.inner = make(schema, self.filled)
        self.names, self.origins = self.inner.names, self.inner.origins
        self.used, self.categories = self.inner.used, self.inner.categories

    def _wide(self, values: np.ndarray) -> np.ndarray:
        """Numbers standardised and all dummies, (m, q), centred; NaN where missing."""
        W = np.empty((len(values), len(self._plan)))
        for j, (i, code) in enumerate(self._plan):
            cell = values[:, i]
            W[:, j] = (
                (cell - self._mean[i]) / self._sd[i]
                if code is None
                else np.where(np.isnan(cell), np.nan, cell == code)
            )
        return W - self.centre

    def filled(self, values: np.ndarray) -> np.ndarray:
        """Cells (m, C) with expectations for missing predictors; itself where none is."""
        holes = np.isnan(values[:, np.unique(self._of)]).any(1)
        if not holes.any():
            return values
        found = np.array(values)
        some = found[holes]
        W = _expected(self._wide(some), self.covariance)[0] + self.centre
        for i in np.unique(self._of):
            nan = np.isnan(some[:, i])
            own = np.flatnonzero(self._of == i)
            if nan.any() and self._plan[own[0]][1] is None:
                some[nan, i] = W[nan, own[0]] * self._sd[i] + self._mean[i]
            elif nan.any():
                some[nan, i] = W[np.ix_(nan, own)].argmax(1)
        found[holes] = some
        return found

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """(m, C) cells of the table to (m, p) float64."""
        return self.inner.matrix(self.filled(values))


def _covariance(W: np.ndarray) -> np.ndarray:
    """Σ of centred rows (m, q) with missing cells, by EM; a hundredth of the variances is added to it."""
    n, q = W.shape
    cov = np.eye(q)
    for _ in range(ROUNDS if np.isnan(W).any() else 1):
        X, spread = _expected(W, cov)
        new = (X.T @ X + spread) / max(n, 1)
        new[np.diag_indices(q)] += 1e-2 * np.maximum(new.diagonal(), 1e-6)
        done = np.abs(new - cov).max() < 1e-3
        cov = new
        if done:
            break
    return cov


def _expected(W: np.ndarray, cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows with E[x_mis | x_obs] in their holes, and the sum of the conditional covariances, (q, q)."""
    X, spread = np.nan_to_num(W), np.zeros_like(cov)
    patterns, which = np.unique(np.isnan(W), axis=0, return_inverse=True)
    for k, mis in enumerate(patterns):
        if not mis.any():
            continue
        rows, obs = np.flatnonzero(which.ravel() == k), ~mis
        gain = np.linalg.solve(cov[np.ix_(obs, obs)], cov[np.ix_(obs, mis)])  # (o, m)
        X[np.ix_(rows, np.flatnonzero(mis))] = X[np.ix_(rows, np.flatnonzero(obs))] @ gain
        spread[np.ix_(mis, mis)] += len(rows) * (cov[np.ix_(mis, mis)] - cov[np.ix_(mis, obs)] @ gain)
    return X, spread


def kept_note(schema: Schema, coding: Coding, seen: Seen, rows: int, how: str) -> str:
    """What is done with rows of the fit that have missing predictors, in a sentence; empty without any.

    Args:
        schema: of the table.
        coding: whose columns count.
        seen: what the rows of the fit have.
        rows: how many of them are used and lack a predictor.
        how: `level` or `impute`.
    """
    holes = {schema.columns[i].name: int(seen.holes[i]) for i in coding.used if seen.holes[i]}
    if not holes or not rows:
        return ""
    worst = listed(name for name, _ in sorted(holes.items(), key=lambda item: -item[1]))
    said = (
        "filled in from the other predictors"
        if how == "impute"
        else "kept, a missing label as a level of its own, a missing number as the mean with an indicator"
    )
    return f"{plural(rows, 'row')} with missing cells in {worst} {said}; --missing-rows drop leaves them out"


def new_holes(schema: Schema, coding: Coding, seen: Seen, values: np.ndarray) -> list[str]:
    """Columns that later rows lack, of which the fit had no missing cell: what stands in for them.

    Args:
        schema: of the table.
        coding: whose columns count.
        seen: what the rows of the fit have.
        values: (n, C) cells of the later rows.
    """
    found = []
    for i in coding.used:
        number = int(np.isnan(values[:, i]).sum())
        if number and not seen.holes[i]:
            column = schema.columns[i]
            what = "its most frequent level" if column.labelled else "its mean"
            rows = plural(number, "row")
            found.append(f"{rows} without {column.name!r}, which no row of the fit lacked: {what} is taken")
    return found
