"""Which cells of a row are surprising, and what was expected of them: what `anomalies` says of rows."""

from typing import TYPE_CHECKING, NamedTuple

from ppl_models.capabilities import Conditional, Criticises, Explained, Explains, Scores
from ppl_models.verbs.surprise import class_probabilities, new_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from ppl_models.data import Dataset
    from ppl_models.record import Record

CELLS = 400
"""Draws of each cell given the others."""


class Cell(NamedTuple):
    """A cell of a row, and what was expected of it.

    Attributes:
        column: its position.
        value, expected: as people write them.
        lower, upper: ends of the interval, of numbers.
        surprise, marginal: nats; NaN where unknown.
        stands_out: by which the cells of a row are ranked.
    """

    column: int
    value: str
    expected: str
    lower: float
    upper: float
    surprise: float
    marginal: float
    stands_out: float


def cells_of(
    fit: "Record", data: "Dataset", index: "np.ndarray", tails: tuple[float, float]
) -> "dict[int, list[Cell]]":
    """Of some rows by their positions: their cells, what stands out most first.

    Args:
        fit: the fit.
        data: all rows.
        index: positions of those to be explained, increasing.
        tails: the probabilities of the ends of the intervals.
    """
    if not len(index):
        return {}
    bound = fit.bound
    if isinstance(bound, Explains):
        return dict(_from_draws(data, bound.explain(data, index, fit.draws, CELLS), tails))
    if isinstance(bound, Scores | Criticises):
        return {}
    if isinstance(bound, Conditional):
        return _from_labels(fit, data, index)
    return _from_numbers(fit, data, index, tails)


def _from_draws(
    data: "Dataset", parts: "Iterator[Explained]", tails: tuple[float, float]
) -> "Iterator[tuple[int, list[Cell]]]":
    import numpy as np

    columns = data.schema.columns
    unit = np.array([len(c.levels) if c.labelled else 1 / (c.sd or 1.0) for c in columns])
    for part in parts:
        lower, upper = np.quantile(part.drawn, tails, axis=0)
        mean = np.median(part.drawn, axis=0)
        ranked = part.conditional - np.log(unit)
        for i, row in enumerate(part.index):
            own = []
            for j, column in enumerate(columns):
                x = data.values[row, j]
                if np.isnan(x):
                    continue
                if column.labelled:
                    share = np.bincount(part.drawn[:, i, j].astype(int), minlength=len(column.levels))
                    best, low, high = int(share.argmax()), np.nan, np.nan
                    said = f"{column.levels[best]} ({share[best] / share.sum():.2f})"
                    value = column.levels[int(x)]
                else:
                    low, high, value = float(lower[i, j]), float(upper[i, j]), f"{x:.6g}"
                    said = _number(float(mean[i, j]), high - low)
                own.append(
                    Cell(
                        j, value, said, low, high, float(part.conditional[i, j]),
                        float(part.marginal[i, j]), float(ranked[i, j]),
                    )
                )  # fmt: skip
            yield int(row), sorted(own, key=lambda cell: -cell.stands_out)


def _from_labels(fit: "Record", data: "Dataset", index: "np.ndarray") -> "dict[int, list[Cell]]":
    import numpy as np

    p, at = class_probabilities(fit, data), data.names.index(str(data.schema.target))
    levels, found = data.schema.columns[at].levels, {}
    for row in index:
        y, best = data.values[row, at], p[row].argmax()
        if not np.isnan(y) and not np.isnan(p[row, 0]):
            said = f"{levels[best]} ({p[row, best]:.2f})"
            off = -float(np.log(max(p[row, int(y)], 1e-300)))
            found[int(row)] = [Cell(at, levels[int(y)], said, np.nan, np.nan, off, np.nan, off)]
    return found


def _from_numbers(
    fit: "Record", data: "Dataset", index: "np.ndarray", tails: tuple[float, float]
) -> "dict[int, list[Cell]]":
    import numpy as np

    at, found, wanted = data.names.index(str(data.schema.target)), {}, {*index.tolist()}
    for rows, _, new in new_numbers(fit, data):
        use = [
            i for i, row in enumerate(rows.tolist()) if row in wanted and not np.isnan(data.values[row, at])
        ]
        if not use:
            continue
        drawn = np.concatenate([new.new.sample().double()[:, use].numpy() for _ in range(20)])
        lower, upper = np.quantile(drawn, tails, axis=0)
        mean = new.new.mean.double().mean(0).numpy()
        for i, low, high in zip(use, lower, upper, strict=True):
            row = int(rows[i])
            said = _number(float(mean[i]), float(high - low))
            value = f"{data.values[row, at]:.6g}"
            found[row] = [Cell(at, value, said, float(low), float(high), np.nan, np.nan, 0.0)]
    return found


def _number(x: float, width: float) -> str:
    """A number to two digits of the width of its interval."""
    from math import floor, isfinite, log10

    if not (isfinite(x) and isfinite(width)) or width <= 0:
        return f"{x:.4g}"
    digits = 1 - floor(log10(width))
    return f"{round(x, digits):.{max(digits, 0)}f}"


def why(data: "Dataset", cell: Cell) -> str:
    """`speed 41, expected 12 to 18`."""
    from math import isnan

    name, last = data.names[cell.column], cell.expected
    if not isnan(cell.lower):
        low, high = (_number(end, cell.upper - cell.lower) for end in (cell.lower, cell.upper))
        last = f"{low} to {high}" if low != high else low
    return f"{name} {cell.value}, expected {last}"
