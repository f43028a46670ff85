"""The design matrix of a regression: which columns, which rows, and their standardisation.

    z_nj = (x_nj − x̄_j) / u_j

with x̄_j the mean over the rows that are used, weighted by the rows' weights, so that a weight of 2 is a row
that is there twice. The unit u_j is what a prior scale is for:

    a number                u_j its standard deviation s_j (divisor Σ w), 1 for a constant one
    a dummy                 1: the difference that a level makes, however rare it is
    a dummy times a number  the standard deviation of the number

The L − 1 dummies of one label are then mixed, z ← z R with R Rᵀ = (I + 11ᵀ)/2, so that independent
coefficients φ_j ~ N(0, scale²) are differences β = R φ of which *every* one, between any two levels, is
N(0, scale²): no level is special, also not the first (as for classes: see `ppl_models.regression.priors`).
R = (I + k 11ᵀ)/√2 with k = (√L − 1)/(L − 1) is a sum by row, not a product of matrices.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset, Schema
from ppl_models.data.messages import Change, listed, plural
from ppl_models.errors import DataError, UsageError
from ppl_models.regression import groups
from ppl_models.regression.coding import Coding, TreatmentCoding, cells_of
from ppl_models.regression.formula import FormulaCoding
from ppl_models.regression.groups import GroupCoding, Term
from ppl_models.regression.missing import (
    ImputedCoding,
    LevelCoding,
    Seen,
    kept_note,
    new_holes,
    seen_in,
)

BLOCK = 8_192
"""Rows that are coded at once."""

_CONSTANT = 1e-12
"""A column whose sd is below this share of its largest value does not vary."""

_SAME = 1e-9


class Block(NamedTuple):
    """Some rows.

    Attributes:
        Z: (m, p + 1), with a first column of ones.
        y: targets (m,): classes, int64, or standardised numbers, float64.
        weight: (m,), or None.
        offset: (m,) what is added to the linear predictor, or None.
        trials: (m,) of a binomial, or None.
    """

    Z: Tensor
    y: Tensor
    weight: Tensor | None
    offset: Tensor | None = None
    trials: Tensor | None = None

    def part(self, at: slice) -> "Block":
        """Some of the rows."""
        return Block(self.Z[at], self.y[at], *(None if v is None else v[at] for v in self[2:]))

    def predictor(self, f: Tensor) -> Tensor:
        """Z B (..., m, K) with the offset."""
        return f if self.offset is None else f + self.offset[:, None]


@dataclass(frozen=True)
class Beside:
    """Columns of the table that a regression knows beside its predictors, by index.

    Attributes:
        offset: what is added to the linear predictor.
        exposure: whose logarithm is.
        trials: of a binomial.
    """

    offset: int | None = None
    exposure: int | None = None
    trials: int | None = None

    @property
    def used(self) -> tuple[int, ...]:
        """Those that there are."""
        return tuple(i for i in (self.offset, self.exposure, self.trials) if i is not None)

    def of(self, values: np.ndarray) -> tuple[Tensor | None, Tensor | None]:
        """Offset and trials of rows, (m,) each, or None."""
        offset = None if self.offset is None else torch.from_numpy(values[:, self.offset].copy())
        if self.exposure is not None:
            log = torch.from_numpy(values[:, self.exposure].copy()).log()
            offset = log if offset is None else offset + log
        return offset, None if self.trials is None else torch.from_numpy(values[:, self.trials].copy())


@dataclass(frozen=True, eq=False)
class Design:
    """How rows become predictors, fixed by the rows of the fit.

    Attributes:
        coding: from the table's columns to the p columns of X.
        target: index of the target column in the table.
        levels: the labels of the C classes; the first is the reference; none where the target is a number.
        mean: x̄, (p,), in the user's units.
        sd: s, (p,).
        unit: u, (p,).
        groups: positions of the dummies of one label, for each label.
        seen: what the rows of the fit have in each column of the table; None where rows with missing
            predictors are left out.
        rows: (n,) bool, the rows of the fit's table that are used: target and predictors are there.
        weight: Σ w over the used rows: their number, without weights.
        constant: columns of X that do not vary.
        notes: what was noticed, a sentence each.
        beside: columns of the table beside the predictors.
        target_shift: what is taken from a target that is a number,
        target_unit: and what it is then divided by.
    """

    coding: Coding
    target: int
    levels: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    unit: np.ndarray
    groups: tuple[np.ndarray, ...]
    seen: Seen | None
    rows: np.ndarray
    weight: float
    constant: tuple[int, ...]
    notes: tuple[str, ...]
    beside: Beside = Beside()
    target_shift: float = 0.0
    target_unit: float = 1.0

    @property
    def terms(self) -> tuple[Term, ...]:
        """What varies by group."""
        return self.coding.terms if isinstance(self.coding, GroupCoding) else ()

    @property
    def base(self) -> Coding:
        """The coding of the columns that are the same for every group."""
        if isinstance(self.coding, GroupCoding):
            return self.coding.base
        return getattr(self.coding, "within", self.coding)  # of a kernel, the predictors that it is over

    @property
    def predictors(self) -> tuple[int, ...]:
        """Columns of the table that say something of every group."""
        return self.base.used

    @property
    def widths(self) -> tuple[int, ...]:
        """How many levels each of these has, which are the last columns of X."""
        return tuple(self.coding.widths) if isinstance(self.coding, GroupCoding) else ()

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
        Z[:, 1:] *= 1 / self.unit
        for group in self.groups:
            own = group + 1
            Z[:, own] = _mixed(Z[:, own], -1)
        return Z

    def unknown(self, values: np.ndarray) -> np.ndarray | None:
        """(m, T) weights of terms whose group was never seen, or None where no coefficient varies."""
        return self.coding.unknown(values) if isinstance(self.coding, GroupCoding) else None

    def block(self, values: np.ndarray, Z: np.ndarray, weight: np.ndarray | None) -> Block:
        """Rows that have everything: cells (m, C), [1, Z] of them, and weights (m,)."""
        y = values[:, self.target]
        if self.levels:
            target = torch.from_numpy(y.astype(np.int64))
        else:
            target = torch.from_numpy((y - self.target_shift) / self.target_unit)
        w = None if weight is None else torch.from_numpy(np.array(weight, np.float64))
        return Block(torch.from_numpy(Z), target, w, *self.beside.of(values))

    def in_units(self, coefficient: np.ndarray) -> np.ndarray:
        """Coefficients (..., p, K) of Z as those of X, in the user's units: β = R φ / u."""
        found = np.array(coefficient)
        for group in self.groups:
            found[..., group, :] = _mixed(found[..., group, :], -2)
        return found / self.unit[:, None]

    def unmixed(self, Z: np.ndarray) -> np.ndarray:
        """Columns of Z without their first, (m, p), with each dummy in a column of its own again."""
        if not self.groups:
            return Z[:, 1:]
        found = np.array(Z[:, 1:])
        for group in self.groups:
            found[:, group] = _mixed(found[:, group], -1, inverse=True)
        return found

    def remarks(self, data: Dataset) -> list[str]:
        """What is to be known of later rows: what stands in for cells that the fit never lacked."""
        return [] if self.seen is None else new_holes(data.schema, self.base, self.seen, data.values)

    def essence(self) -> dict[str, np.ndarray]:
        """All that `build` took from the rows without a formula, so that `recalled` can do without them."""
        found = {
            "mean": self.mean, "sd": self.sd, "unit": self.unit, "weight": np.array([self.weight]),
            "constant": np.array(self.constant, np.float64),
            "target": np.array([self.target_shift, self.target_unit]),
            "groups": np.concatenate([[len(g), *g] for g in self.groups] or [np.zeros(0)]).astype(np.float64),
        }  # fmt: skip
        if self.seen is not None:
            found |= {f"seen.{name}": value.astype(np.float64) for name, value in self.seen._asdict().items()}
        if isinstance(self.coding, ImputedCoding):
            found |= {"centre": self.coding.centre, "covariance": self.coding.covariance}
        return found


def recalled(
    schema: Schema, essence: Mapping[str, np.ndarray], beside: Beside = Beside(), classes: bool = True
) -> Design:
    """A design without a formula from its `essence`.

    Args:
        schema: of the table.
        essence: of the design.
        beside: as for `build`.
        classes: as for `build`.
    """
    target, groups, at = target_index(schema), [], 0
    shift, unit = map(float, essence["target"])
    lengths = essence["groups"].astype(np.intp)
    while at < len(lengths):
        groups.append(lengths[at + 1 : at + 1 + lengths[at]])
        at += 1 + lengths[at]
    seen = None
    if "seen.holes" in essence:
        seen = Seen(*(essence[f"seen.{name}"] for name in Seen._fields))

    def make(schema: Schema, filled: Callable[[np.ndarray], np.ndarray]) -> Coding:
        return TreatmentCoding(schema, target, beside.used)

    coding: Coding
    if "covariance" in essence and seen is not None:
        coding = ImputedCoding(make, schema, target, seen, (essence["centre"], essence["covariance"]))
    elif seen is not None:
        coding = LevelCoding(make, schema, target, seen, None)
    else:
        coding = make(schema, lambda values: values)
    return Design(
        coding, target, schema.columns[target].levels if classes else (), essence["mean"], essence["sd"],
        essence["unit"], tuple(groups), seen, np.zeros(0, bool), float(essence["weight"][0]),
        tuple(int(j) for j in essence["constant"]), (), beside, shift, unit,
    )  # fmt: skip


def _mixed(x: np.ndarray, axis: int, *, inverse: bool = False) -> np.ndarray:
    """R x along an axis of L − 1 entries, R = ((I + 11ᵀ)/2)^½; or R⁻¹ x."""
    n = x.shape[axis]
    root = math.sqrt(n + 1)
    k, scale = ((1 / root - 1) / n, math.sqrt(2)) if inverse else ((root - 1) / n, math.sqrt(0.5))
    return scale * (x + k * x.sum(axis, keepdims=True))


def build(
    schema: Schema,
    formula: str | None,
    data: Dataset,
    missing_rows: str = "drop",
    *,
    mixed: bool = True,
    beside: Beside = Beside(),
    classes: bool = True,
) -> Design:
    """Make the design of a table.

    Args:
        schema: of the table; its `target` is what is predicted.
        formula: or None for every other column, labels by treatment coding.
        data: the rows of the fit.
        missing_rows: what becomes of rows with missing predictors: `drop`, `level` or `impute`.
        mixed: whether the prior is to be the same for the difference of any two levels; else of each from the
            first, which keeps those apart that a sparse prior is to choose among.
        beside: columns that are no predictors.
        classes: whether the target is one of some classes.

    Raises:
        UsageError: there is no target or no predictor, or the formula cannot be meant.
        DataError: no row has everything, a value is not finite, or the target has one class only.
    """
    target = target_index(schema)
    weight = getattr(data, "weight", None)
    seen = None if missing_rows == "drop" else seen_in(data, target, weight)
    formula, terms = groups.split(formula)
    base = _coding(schema, target, formula, data, seen, missing_rows, beside.used)
    coding = GroupCoding(base, terms, schema, data.values) if terms else base
    if not coding.names and formula is None:
        raise UsageError(
            f"{data.source}: there is nothing to predict {schema.names[target]} from; add columns, or say "
            f"--formula '{schema.names[target]} ~ 1' for its mean"
        )
    rows, moments, prints, example = _scan(data, coding, (target, *beside.used), weight)
    levels = schema.columns[target].levels if classes else ()
    if classes:
        _check_classes(data, target, rows, weight)
    else:
        _check_numbers(data, target, rows)
    mean, sd, largest = moments.mean, moments.sd, moments.largest
    constant = np.flatnonzero(sd <= _CONSTANT * np.maximum(largest, np.finfo(float).tiny))
    if isinstance(coding, GroupCoding):  # whose columns are in the units of their prior
        mean[coding.population :], sd[coding.population :] = 0.0, 1.0
        constant = constant[constant < coding.population]
    sd = np.where(np.isin(np.arange(len(sd)), constant), 1.0, sd)
    always = (*beside.used, *(coding.group if isinstance(coding, GroupCoding) else ()))
    notes = [*_missing(data, rows, tuple({*always, *(base.used if seen is None else ())}), target)]
    if seen is not None:
        kept = _incomplete(data, rows, base)
        notes += [note] if (note := kept_note(schema, base, seen, kept, missing_rows)) else []
    if len(constant):
        names = listed(coding.names[j] for j in constant)
        notes.append(f"{names} did not vary among the rows used: only the prior speaks of it")
    notes += _duplicates(coding, mean, sd, moments.shift, prints, {*constant.tolist(), *_of_groups(coding)})
    unit, labels = _units(data, base, sd[: len(base.names)], rows, example)
    unit = np.concatenate([unit, sd[len(base.names) :]])
    return Design(
        coding, target, levels, mean, sd, unit, labels if mixed else (), seen, rows, moments.weight,
        tuple(constant.tolist()), tuple(notes), beside,
    )  # fmt: skip


def _coding(
    schema: Schema,
    target: int,
    formula: str | None,
    data: Dataset,
    seen: Seen | None,
    missing_rows: str,
    leave: tuple[int, ...],
) -> Coding:
    """From the columns of the table to those of X, but for what varies by group."""

    def make(schema: Schema, filled: Callable[[np.ndarray], np.ndarray]) -> Coding:
        if formula is None:
            return TreatmentCoding(schema, target, leave)
        known = ~np.isnan(data.values[:, target])
        return FormulaCoding(
            formula, schema, target, filled(data.values if known.all() else data.values[known])
        )

    if seen is None or not seen.holes.any():
        # later rows may lack what no row of the fit does: what stands in for it needs no column
        return (
            make(schema, lambda values: values)
            if seen is None
            else LevelCoding(make, schema, target, seen, formula)
        )
    if missing_rows == "impute":
        use = ~np.isnan(data.values[:, target])
        weight = getattr(data, "weight", None)
        rows = np.flatnonzero(use if weight is None else use & (weight > 0))
        return ImputedCoding(make, schema, target, seen, data.values[rows])
    return LevelCoding(make, schema, target, seen, formula)


def _incomplete(data: Dataset, rows: np.ndarray, coding: Coding) -> int:
    """Rows that are used although they lack a predictor."""
    used = list(coding.used)
    found = 0
    for lo in range(0, data.rows, BLOCK):
        values = data.values[lo : lo + BLOCK]
        found += int((np.isnan(values[:, used]).any(1) & rows[lo : lo + BLOCK]).sum())
    return found


SAMPLE = 2_000
"""Rows in which the number beside a dummy is looked at."""


def _units(
    data: Dataset, coding: Coding, sd: np.ndarray, rows: np.ndarray, example: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The unit of each column, and the dummies that are of one label.

    Args:
        data: the rows of the fit.
        coding: of the columns.
        sd: of the columns, 1 for constant ones.
        rows: which are used.
        example: of each column a row where it is not 0; −1 if there is none.
    """
    unit = np.array(sd)
    unit[list(coding.flags)] = 1.0
    groups: dict[int, list[int]] = {}
    mixed: dict[tuple[tuple[int, float], ...], list[int]] = {}
    for j, origin in enumerate(coding.origins):
        labels = [i for i in origin if i in coding.categories]
        if not labels or j in coding.flags:
            continue
        unit[j] = 1.0
        if len(labels) < len(origin):
            if example[j] >= 0:
                cells = cells_of(coding, data.values[[example[j]]])[0]
                mixed.setdefault(tuple((i, float(cells[i])) for i in labels), []).append(j)
        elif len(origin) == 1:
            groups.setdefault(origin[0], []).append(j)
    index = np.flatnonzero(rows)
    index = index[:: max(1, len(index) // SAMPLE)]
    for cells, own in mixed.items():  # the number as it would be if every row had the level
        values = np.array(data.values[index])
        for i, code in cells:
            values[:, i] = code
        found = coding.matrix(values)[:, own].std(0)
        unit[own] = np.where(found > 0, found, 1.0)
    values = data.values[index[:1]]
    kept = [np.array(own) for i, own in groups.items() if len(own) > 1 and _dummies(coding, values, i, own)]
    return unit, tuple(kept)


FAR = 2.0
"""Standard deviations beyond the smallest and largest value of the fit from which a number is far outside."""

NAMED = 3
"""Columns far outside that have a line of their own; more of them would hide what they say."""


def outside(design: Design, data: Dataset) -> list[str]:
    """Numbers of later rows so far outside those of the fit that what is said of them is an extrapolation."""
    found: list[tuple[int, str]] = []
    for i in design.predictors:
        column = data.schema.columns[i]
        if column.labelled:
            continue
        low, high = column.minimum - FAR * column.sd, column.maximum + FAR * column.sd
        x = data.values[:, i]
        far = x[(x < low) | (x > high)]  # NaN is neither
        if len(far):
            furthest = far[np.argmax(np.abs(far - (low + high) / 2))]
            said = (
                f"{plural(len(far), 'row')} with {column.name!r} far outside the rows of the fit "
                f"({column.minimum:.6g} to {column.maximum:.6g}, here {furthest:.6g}): what is said of "
                f"{'it' if len(far) == 1 else 'them'} is extrapolated"
            )
            found.append((len(far), said))
    if len(found) <= NAMED:
        return [said for _, said in found]
    most = sorted(found, key=lambda each: -each[0])[:NAMED]
    return [*(said for _, said in most), f"and so in {plural(len(found) - NAMED, 'further column')}"]


def _dummies(coding: Coding, row: np.ndarray, column: int, own: list[int]) -> bool:
    """Whether columns of X are the dummies of the levels of one column of the table beyond the first."""
    codes = [code for _, code in coding.categories[column]]
    if len(own) != len(codes) - 1:
        return False
    values = np.repeat(row, len(codes), 0)
    values[:, column] = codes
    return np.array_equal(coding.matrix(values)[:, own], np.eye(len(codes))[:, 1:])


def _of_groups(coding: Coding) -> range:
    return range(coding.population, len(coding.names)) if isinstance(coding, GroupCoding) else range(0)


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
    data: Dataset, coding: Coding, needed: tuple[int, ...], weight: np.ndarray | None
) -> tuple[np.ndarray, _Moments, np.ndarray, np.ndarray]:
    """One pass over the rows.

    Returns:
        The rows to use, moments of the columns, two random projections of each column (2, p + 1), and of each
        column with a dummy in it the first row that is not 0 there, (p,), −1 where there is none.
    """
    p = len(coding.names)
    usable = np.zeros(data.rows, bool)
    if isinstance(coding, GroupCoding):
        needed = (*needed, *coding.group)
    moments = _Moments(np.zeros(p), np.zeros(p), np.zeros(p), np.zeros(p))
    prints = np.zeros((2, p + 1))
    example = np.full(p, -1)
    labels = [set(origin) & set(coding.categories) for origin in coding.origins]
    pending = np.array(
        [j for j in range(p) if labels[j] and len(labels[j]) < len(coding.origins[j])], np.intp
    )
    rng = np.random.default_rng(0)
    for lo in range(0, data.rows, BLOCK):
        values = data.values[lo : lo + BLOCK]
        X = coding.matrix(values)
        total = X.sum(1)
        ok = np.isfinite(total)
        if not ok.all():
            _check_finite(data, coding, X, ok, lo)
        ok &= ~np.isnan(values[:, list(needed)]).any(1)
        w = None if weight is None else weight[lo : lo + BLOCK]
        if w is not None:
            ok &= w > 0
        usable[lo : lo + BLOCK] = ok
        if len(pending):
            there = (X[:, pending] != 0) & ok[:, None]
            example[pending] = np.where(there.any(0), lo + there.argmax(0), -1)
            pending = pending[example[pending] < 0]
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
    return usable, moments, prints, example


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


def _check_numbers(data: Dataset, target: int, rows: np.ndarray) -> None:
    name, y = data.schema.names[target], data.values[rows, target]
    if not len(y):
        raise DataError(
            f"{data.source}: no row has both a target {name} and all of its predictors; leave out "
            "columns with many missing cells with --ignore"
        )
    if y.min() == y.max():
        raise DataError(
            f"{data.source}: every row that is used has {name} = {y[0]:g}; there is nothing to predict"
        )


def _missing(data: Dataset, rows: np.ndarray, needed: tuple[int, ...], target: int) -> list[str]:
    """What was left out, and because of which columns: those without which a row is not used."""
    left = int(len(rows) - rows.sum())
    if not left:
        return []
    unknown = int(np.isnan(data.values[:, target]).sum())
    columns = data.schema.columns
    holes = {columns[i].name: int(np.isnan(data.values[:, i]).sum()) for i in needed}
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
