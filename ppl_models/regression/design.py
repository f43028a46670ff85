"""The design matrix of a regression: which columns, which rows, and their standardisation.

    z_nj = (x_nj − x̄_j) / s_j

with x̄_j and s_j the mean and standard deviation (divisor Σ w) over the rows that are used, weighted by the
rows' weights, so that a weight of 2 is a row that is there twice. Every column is standardised, dummies
too; s_j = 1 for a constant one.
"""

from dataclasses import dataclass

import numpy as np

from ppl_models.data import Dataset, Schema
from ppl_models.data.messages import Change, listed, plural
from ppl_models.errors import DataError, UsageError
from ppl_models.regression.coding import Coding, TreatmentCoding
from ppl_models.regression.formula import FormulaCoding

BLOCK = 8_192
"""Rows that are coded at once."""

_CONSTANT = 1e-12
"""A column whose sd is below this share of its largest value does not vary."""

_SAME = 1e-9


@dataclass(frozen=True, eq=False)
class Design:
    """How rows become predictors, fixed by the rows of the fit.

    Attributes:
        coding: from the table's columns to the p columns of X.
        target: index of the target column in the table.
        levels: the labels of the C classes; the first is the reference.
        mean: x̄, (p,), in the user's units.
        sd: s, (p,).
        rows: (n,) bool, the rows of the fit's table that are used: target and predictors are there.
        weight: Σ w over the used rows: their number, without weights.
        constant: columns of X that do not vary.
        notes: what was noticed, a sentence each.
    """

    coding: Coding
    target: int
    levels: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    rows: np.ndarray
    weight: float
    constant: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the p columns: `age`, `kind[long]`."""
        return self.coding.names

    def matrix(self, data: Dataset, rows: slice = slice(None)) -> np.ndarray:
        """X of some rows, (m, p), in the user's units; NaN in rows with a missing predictor."""
        return self.coding.matrix(data.values[rows])

    def standardised(self, values: np.ndarray) -> np.ndarray:
        """Cells of the table (m, C) to [1, Z], (m, p + 1)."""
        X = self.coding.matrix(values)
        Z = np.empty((len(X), X.shape[1] + 1))
        Z[:, 0] = 1.0
        np.subtract(X, self.mean, out=Z[:, 1:])
        Z[:, 1:] *= 1 / self.sd
        return Z


def build(schema: Schema, formula: str | None, data: Dataset) -> Design:
    """Make the design of a table.

    Args:
        schema: of the table; its `target` is what is predicted.
        formula: or None for every other column, labels by treatment coding.
        data: the rows of the fit.

    Raises:
        UsageError: there is no target or no predictor, or the formula cannot be meant.
        DataError: no row has everything, a value is not finite, or the target has one class only.
    """
    target = target_index(schema)
    coding: Coding
    if formula is None:
        coding = TreatmentCoding(schema, target)
    else:
        known = ~np.isnan(data.values[:, target])
        coding = FormulaCoding(
            formula, schema, target, data.values[known] if not known.all() else data.values
        )
    if not coding.names:
        raise UsageError(
            f"{data.source}: there is nothing to predict {schema.names[target]} from; add columns"
        )
    weight = getattr(data, "weight", None)
    rows, moments, prints = _scan(data, coding, target, weight)
    levels = schema.columns[target].levels
    _check_classes(data, target, rows, weight)
    mean, sd, largest = moments.mean, moments.sd, moments.largest
    constant = np.flatnonzero(sd <= _CONSTANT * np.maximum(largest, np.finfo(float).tiny))
    sd = np.where(np.isin(np.arange(len(sd)), constant), 1.0, sd)
    notes = [*_missing(data, rows, coding, target)]
    if len(constant):
        names = listed(coding.names[j] for j in constant)
        notes.append(f"{names} did not vary among the rows used: only the prior speaks of it")
    notes += _duplicates(coding, mean, sd, moments.shift, prints, set(constant.tolist()))
    return Design(
        coding, target, levels, mean, sd, rows, moments.weight, tuple(constant.tolist()), tuple(notes)
    )


def target_index(schema: Schema) -> int:
    """Where the target is among the columns.

    Raises:
        UsageError: if there is none.
    """
    name = getattr(schema, "target", None)
    if name is None:
        raise UsageError("a regression needs to know what to predict: name a column with --target")
    return schema.names.index(name)


@dataclass
class _Moments:
    """Weighted mean and sum of squares of each column, merged block by block.

    (Chan, Golub & LeVeque 1983, Algorithms for computing the sample variance, American Statistician 37.)
    """

    mean: np.ndarray
    square: np.ndarray
    largest: np.ndarray
    shift: np.ndarray
    weight: float = 0.0

    @property
    def sd(self) -> np.ndarray:
        return np.sqrt(self.square / self.weight) if self.weight > 0 else np.zeros_like(self.mean)

    def add(self, X: np.ndarray, w: np.ndarray | None) -> None:
        total = float(len(X) if w is None else w.sum())
        if not total > 0:
            return
        mean = X.mean(0) if w is None else w @ X / total
        centred = X - mean
        square = np.einsum("ij,ij->j", centred, centred if w is None else centred * w[:, None])
        step = mean - self.mean
        both = self.weight + total
        self.square += square + step**2 * (self.weight * total / both)
        self.mean += step * (total / both)
        self.weight = both
        np.maximum(self.largest, np.abs(X).max(0), out=self.largest)


def _scan(
    data: Dataset, coding: Coding, target: int, weight: np.ndarray | None
) -> tuple[np.ndarray, _Moments, np.ndarray]:
    """One pass: rows to use, moments of the columns, and two random projections of each column (2, p + 1)."""
    p = len(coding.names)
    usable = np.zeros(data.rows, bool)
    moments = _Moments(np.zeros(p), np.zeros(p), np.zeros(p), np.zeros(p))
    prints = np.zeros((2, p + 1))
    rng = np.random.default_rng(0)
    for lo in range(0, data.rows, BLOCK):
        values = data.values[lo : lo + BLOCK]
        X = coding.matrix(values)
        total = X.sum(1)
        ok = np.isfinite(total)
        if not ok.all():
            _check_finite(data, coding, X, ok, lo)
        ok &= ~np.isnan(values[:, target])
        w = None if weight is None else weight[lo : lo + BLOCK]
        if w is not None:
            ok &= w > 0
        usable[lo : lo + BLOCK] = ok
        if not ok.all():
            X, w = X[ok], None if w is None else w[ok]
        if not len(X):
            continue
        if moments.weight == 0:
            moments.shift = X[0].copy()
        moments.add(X, w)
        random = rng.normal(size=(2, len(X)))
        prints[:, :-1] += random @ (X - moments.shift)
        prints[:, -1] += random.sum(1)
    return usable, moments, prints


def _check_finite(data: Dataset, coding: Coding, X: np.ndarray, ok: np.ndarray, lo: int) -> None:
    """A value that is not finite although no cell was missing comes from the formula."""
    used = list(coding.used)
    bad = np.flatnonzero(~ok & ~np.isnan(data.values[lo : lo + len(X), used]).any(1))
    if len(bad):
        row = int(bad[0])
        column = coding.names[int(np.flatnonzero(~np.isfinite(X[row]))[0])] if len(X[row]) else ""
        raise DataError(
            f"{data.source}, row {lo + row + 1}: '{column}' is not a finite number there; correct the formula"
        )


def _check_classes(data: Dataset, target: int, rows: np.ndarray, weight: np.ndarray | None) -> None:
    column = data.schema.columns[target]
    codes = data.values[rows, target]
    if not len(codes):
        raise DataError(
            f"{data.source}: no row has both a target {column.name} and all of its predictors; leave out "
            "columns with many missing cells with --ignore"
        )
    seen = np.unique(codes)
    if len(column.levels) < 2 or len(seen) < 2:
        level = column.levels[int(seen[0])]
        raise DataError(
            f"{data.source}: every row that is used has {column.name} = {level}; a regression needs "
            "two classes"
        )


def _missing(data: Dataset, rows: np.ndarray, coding: Coding, target: int) -> list[str]:
    """What was left out, and because of which columns."""
    left = int(len(rows) - rows.sum())
    if not left:
        return []
    unknown = int(np.isnan(data.values[:, target]).sum())
    columns = data.schema.columns
    holes = {columns[i].name: int(np.isnan(data.values[:, i]).sum()) for i in coding.used}
    worst = [name for name, count in sorted(holes.items(), key=lambda item: -item[1]) if count]
    reasons = []
    if unknown:
        reasons.append(f"{plural(unknown, 'row')} without a target")
    if worst:
        reasons.append(f"missing cells in {listed(worst)}")
    why = " and ".join(reasons) or "of weight zero"
    return [Change(f"{plural(left, 'row')} of {len(rows):,} not used: {why}")]


def _duplicates(
    coding: Coding,
    mean: np.ndarray,
    sd: np.ndarray,
    shift: np.ndarray,
    prints: np.ndarray,
    constant: set[int],
) -> list[str]:
    """Columns that are equal up to scale and sign have equal random projections once standardised."""
    z = (prints[:, :-1] - (mean - shift) * prints[:, -1:]) / sd  # (2, p)
    z = z * np.where(z[0] < 0, -1.0, 1.0)
    order = [j for j in np.argsort(z[0], kind="stable").tolist() if j not in constant]
    same = []
    for a, b in zip(order, order[1:], strict=False):
        if (np.abs(z[:, a] - z[:, b]) <= _SAME * (1 + np.abs(z[:, a]))).all():
            first, second = sorted((a, b))
            same.append(f"{coding.names[first]} and {coding.names[second]}")
    if not same:
        return []
    return [f"columns that are the same up to scale: {listed(same, 3)}; the prior shares the effect out"]
