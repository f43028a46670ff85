"""The kind of a column, and its cells as numbers of that kind.

The rules, for cells that are not missing:

- Truth values, and text that says yes and no (`yes/no`, `y/n`, `true/false`, `t/f`, `on/off`, in any case):
  binary. Numbers that are all 0 or 1: binary.
- Other whole numbers: counts if none is negative, the largest is at most 1000 and the smallest is below 10.
  Counts of rare things come near zero; measurements in whole units (a length of 172 to 231 mm, a year, a
  wait of 43 to 96 minutes) do not.
- Other numbers: continuous.
- Other text: categorical, also if there are only two values. The levels are in natural order: `a2` before
  `a10`.

A rule cannot know what a number means, which is why every kind can be given instead.
"""

import re

import numpy as np

from ppl_models.data.cells import Dates, Labels, Numbers, Parsed, label, whole
from ppl_models.data.messages import listed, quoted
from ppl_models.data.schema import Column, Kind
from ppl_models.data.table import Table

MOST_LEVELS = 50
_LARGEST_COUNT = 1000
_SMALL_COUNT = 10
_NO_YES = ({"no", "yes"}, {"n", "y"}, {"false", "true"}, {"f", "t"}, {"off", "on"})
_YES = {"yes", "y", "true", "t", "on"}


def infer(parsed: Numbers | Labels) -> Kind:
    """The kind that the module's rules give to a column."""
    if isinstance(parsed, Labels):
        truth = {text.lower() for text in parsed.labels} in _NO_YES and len(parsed.labels) == 2
        return Kind.BINARY if truth else Kind.CATEGORICAL
    if not parsed.integer:
        return Kind.CONTINUOUS
    low, high = np.nanmin(parsed.values), np.nanmax(parsed.values)
    if low >= 0 and high <= 1:
        return Kind.BINARY
    return Kind.COUNT if 0 <= low < _SMALL_COUNT and high <= _LARGEST_COUNT else Kind.CONTINUOUS


def levels_of(parsed: Numbers | Labels) -> tuple[str, ...]:
    """The levels of a column in their order: no before yes, then natural order."""
    if isinstance(parsed, Numbers):
        observed = np.unique(parsed.values[~np.isnan(parsed.values)])
        return tuple(label(value) for value in observed.tolist())
    seen = [parsed.labels[code] for code in np.unique(parsed.codes[parsed.codes >= 0])]
    if parsed.typed and {*parsed.labels} == {"false", "true"}:
        return ("false", "true")
    return tuple(
        sorted(
            seen, key=lambda text: (text.lower() in _YES and infer(parsed) is Kind.BINARY, *_natural(text))
        )
    )


def _natural(text: str) -> tuple:
    """A sorting key: numbers by value, first; digits inside text by value."""
    try:
        return (0, float(text), [], text)
    except ValueError:
        parts = re.split(r"([0-9]+)", text)
        return (1, 0.0, [(int(p), "") if p.isdecimal() else (-1, p.casefold()) for p in parts], text)


def column(table: Table, name: str, parsed: Numbers | Labels, kind: Kind) -> tuple[Column, np.ndarray]:
    """Describe a column of a given kind, and turn its cells into numbers.

    Raises:
        DataError: The cells cannot be of that kind.
    """
    levels: tuple[str, ...] = ()
    if kind in (Kind.BINARY, Kind.CATEGORICAL):
        levels = levels_of(parsed)
        if kind is Kind.BINARY:
            levels = _two(table, name, levels)
        values = codes_of(parsed, levels)
    else:
        values = numbers_of(table, name, parsed, kind)
    observed = values[~np.isnan(values)]
    if not observed.size:
        raise table.column_error(name, "every cell is missing; leave the column out with --ignore")
    with np.errstate(over="ignore"):
        mean, sd = (0.0, 1.0) if levels else (float(observed.mean()), float(observed.std()))
    if not np.isfinite(sd):
        row = int(np.nanargmax(np.abs(values)))
        raise table.column_error(name, f"{values[row]:g} is too large to compute with; correct it", row)
    low, high = float(observed.min()), float(observed.max())
    described = Column(
        name=name,
        kind=kind,
        levels=levels,
        integer=not levels and whole(values),
        mean=low if low == high and not levels else mean,
        sd=sd if sd > 0 and low < high else 1.0,
        minimum=low,
        maximum=high,
        missing=len(values) - observed.size,
    )
    return described, values


def _two(table: Table, name: str, levels: tuple[str, ...]) -> tuple[str, ...]:
    if len(levels) > 2:
        raise table.column_error(
            name, f"a binary column has two values, this one has {len(levels)}: {listed(levels)}"
        )
    if len(levels) == 1:
        if levels[0] in ("0", "1"):
            return ("0", "1")
        raise table.column_error(
            name, f"a binary column has two values, this one has only {quoted(levels[0])}"
        )
    return levels


def codes_of(parsed: Numbers | Labels, levels: tuple[str, ...]) -> np.ndarray:
    """Codes of the cells among the levels, NaN where missing: (n,) float64."""
    position = {level: float(i) for i, level in enumerate(levels)}
    if isinstance(parsed, Labels):
        return np.array([*(position.get(text, np.nan) for text in parsed.labels), np.nan])[parsed.codes]
    if levels == ("0", "1"):
        return parsed.values
    codes = np.full(len(parsed.values), np.nan)
    for level, code in position.items():
        codes[parsed.values == float(level)] = code
    return codes


def numbers_of(table: Table, name: str, parsed: Parsed, kind: Kind) -> np.ndarray:
    """The cells as numbers, (n,) float64, checked to be counts where that is the kind.

    Raises:
        DataError: A cell is not a number, or not a count.
    """
    if isinstance(parsed, Dates):
        raise table.column_error(
            name, "dates are not modelled; name the column with --time, or leave it out with --ignore"
        )
    if isinstance(parsed, Labels):
        if {*parsed.labels} == {"false", "true"} and parsed.typed:
            return np.where(parsed.codes < 0, np.nan, parsed.codes)
        row = int(np.argmax(parsed.codes >= 0))
        raise table.column_error(
            name,
            f"{quoted(parsed.labels[parsed.codes[row]])} is not a number, and the column is to be {kind}",
            row,
        )
    if kind is Kind.COUNT:
        wrong = (parsed.values < 0) | (parsed.values != np.trunc(parsed.values)) & ~np.isnan(parsed.values)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise table.column_error(name, f"{parsed.values[row]:g} is not a count (0, 1, 2, …)", row)
    return parsed.values
