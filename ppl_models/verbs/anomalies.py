"""Rows that are unlike the others: how surprising each is, how rarely that happens, and which cell it is."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Unpack, cast

from ppl_models import conformal
from ppl_models.annotations import Metavar, count
from ppl_models.capabilities import (
    Conditional,
    Criticises,
    Explained,
    Explains,
    Regresses,
    Samples,
    Scores,
    Sequences,
    Tails,
)
from ppl_models.data import Later
from ppl_models.errors import DataError, Unsupported, UsageError
from ppl_models.verbs.base import Seed, verb

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pandas as pd

    from ppl_models.data import Dataset
    from ppl_models.record import Record

MIXED, DRAWN = 50_000, 2_000
"""New rows that tails are found by, of models that know their tails by cheap ones, and of others."""

CELLS = 400
"""Draws of each cell given the others."""

SPREAD = 50_000, 200
"""Draws × rows that the distribution of a number is averaged over, about, and the least draws."""

EXPLAINED = 100
"""Rows that are explained where none are singled out by a rate."""

STEPS = 0.01
"""The rate of anomalous steps that stretches are made of, if none is given."""

By = Literal["row", "cell", "sequence", "stretch"]


class Judged(NamedTuple):
    """How surprising units (rows or sequences) are.

    Attributes:
        surprise: (n,) the larger, the more surprising; NaN where nothing can be said.
        tail: (n,) how probable it is under the model to be no less surprising; None where it cannot say.
    """

    surprise: "np.ndarray"
    tail: "np.ndarray | None"


@verb("ppl anomalies latest new.csv --fdr 0.05", needs=(Scores, Conditional, Regresses, Criticises))
def anomalies(
    fit: "Record",
    data: Any = None,
    *,
    rate: Annotated[float | None, "List those that so small a share of normal ones would equal."] = None,
    fdr: Annotated[float | None, "List so many that this share of them is expected to be normal."] = None,
    by: Annotated[
        By,
        "What is listed: rows, the cells of those rows, sequences, or stretches of anomalous steps.",
    ] = "row",
    calibration: Annotated[
        str | None,
        "Normal rows that the fit has not seen: p-values are conformal, and need no model to be right.",
        Metavar("FILE"),
    ] = None,
    folds: Annotated[
        int, "Fit again to all rows but those of a fold, which calibrate: conformal p-values without a file."
    ] = 0,
    explain: Annotated[int, "Rows that are explained by their cells where no rate is given."] = EXPLAINED,
    gap: Annotated[int, "Steps between two anomalous ones that a stretch goes over."] = 2,
    level: Annotated[float, "Probability of the intervals."] = 0.9,
    draws: Annotated[
        int | None,
        "New rows by which p-values are found; 50,000 of mixtures and chains, 2,000 of others if not given.",
    ] = None,
    seed: Seed = None,
    **reading: Unpack[Later],
) -> "pd.DataFrame":
    """Rows, steps or sequences by how surprising they are, with p-values and the cells that make them so.

    The surprise of a row is −log p(x_n) in nats, θ integrated out; within a sequence given the rows before;
    without a joint density −log p(y_n | x_n) of its label or number; without either the critic's score. Its
    p-value is by default the model's own,

        p = P(p(X) ≤ p(x_n)),    X ~ p(· | the rows before),

    which holds where the model does. With `calibration` or `folds` it is conformal: it holds for any model, if
    the row is exchangeable with those that calibrate, as steps of a sequence are not (Bates, Candès, Lei,
    Romano & Sesia 2023, Annals of Statistics 51, https://doi.org/10.1214/22-AOS2244). `fdr` is by Benjamini &
    Hochberg (1995, JRSS B 57). Of a sequence of T steps −2 Σ log p_t ~ χ²_2T (Fisher's method), as the tails
    one step ahead are independent under the model.

    Args:
        fit: the fit.
        data: new rows, or None for those of the fit.
        rate: rows with a p-value of at most this are listed.
        fdr: rows are listed such that this share of them is expected to be normal.
        by: `row`, `cell`: a row for each cell of the rows that are listed or explained; `sequence`; `stretch`:
            runs of anomalous steps, at a `rate` of 0.01 if none is given.
        calibration: rows that are known to be normal and that the fit has not seen; a path or a table.
        folds: 2 or more. New rows are compared with the rows of the fit, each scored by a fit that has not
            seen it (cross-conformal); rows of the fit with others of their fold.
        explain: rows that are explained without a rate, the most surprising ones.
        gap: steps between two anomalous ones that a stretch goes over.
        level: probability of the intervals.
        draws: new rows that p-values are found by; the smallest p-value is 1 / (draws + 1).
        seed: of the draws; the fit's if not given.
        **reading: options of `ppl_models.data.read`.

    Returns:
        The most surprising first: `row` (counted from 0), `surprise`, `p_value`; of rows that are explained
        `column`, the cell that stands out most, its `value`, what was `expected` of it given the others of its
        row, `lower` and `upper`, and `why` in words. That cell has the largest −log p(x_j | x_−j) in standard
        deviations of its column, or relative to as many levels. `cell` has for each cell `surprise`,
        −log p(x_j | x_−j), and `marginal_surprise`, −log p(x_j). `stretch` has `start` and `end`, `steps`, how
        many of them are `anomalous`, the total `surprise`, the smallest `p_value`, and the `column` that is
        named most often. `attrs["notes"]` says what the p-values rest on.

    Raises:
        UsageError: options that cannot be meant.
        Unsupported: the model has one density for all rows.
    """
    import numpy as np
    import pandas as pd
    import torch

    from ppl_models.tables import check_level, later, seeded

    _check(fit, rate, fdr, by, calibration, folds, data)
    count("explain", explain, 0)
    count("gap", gap, 0)
    dataset, tails, seed = later(fit, data, reading), check_level(level), seeded(fit, seed, 15)
    units = by == "sequence"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = _judged(fit, dataset, draws, seed, units)
        p, rests_on = _p_values(fit, dataset, found, calibration, folds, draws, seed, units, data is None)
    notes = [rests_on]
    order = np.lexsort((-np.nan_to_num(found.surprise, nan=-np.inf), np.nan_to_num(p, nan=2.0)))
    flagged = _flagged(p, STEPS if by == "stretch" and rate is None and fdr is None else rate, fdr, notes)
    listed = order if flagged is None else order[flagged[order]]
    if units:
        table = _sequences(dataset, found, p).iloc[listed]
    else:
        which = listed[:explain] if flagged is None else listed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            cells = _cells(fit, dataset, np.sort(which), tails, seed)
        if by == "stretch":
            assert flagged is not None
            table = _stretches(dataset, found, p, flagged, gap, cells)
        elif by == "cell":
            table = _by_cell(dataset, which, p, cells)
        else:
            table = _by_row(dataset, found, p, cells).iloc[listed]
    if by in ("cell", "stretch", "sequence"):
        table = table.reset_index(drop=True)
    table.attrs["notes"] = notes
    return cast("pd.DataFrame", table)


def _check(
    fit: "Record", rate: Any, fdr: Any, by: str, calibration: Any, folds: int, data: Any
) -> None:
    """Refuse options that cannot be meant, or not together.

    Raises:
        UsageError: naming them.
    """
    if by not in ("row", "cell", "sequence", "stretch"):
        raise UsageError(f"by must be row, cell, sequence or stretch, got {by!r}")
    if by in ("sequence", "stretch") and not isinstance(fit.bound, Sequences):
        raise UsageError(f"by {by} is of models of sequences, and rows of {fit.name} are independent; use row")
    if rate is not None and fdr is not None:
        raise UsageError("rate and fdr are two ways to say how many; give one of them")
    for name, value in (("rate", rate), ("fdr", fdr)):
        if value is not None and not 0 < value < 1:
            raise UsageError(f"{name} must be between 0 and 1, got {value}")
    if by == "sequence" and isinstance(fit.bound, Scores) and folds > len(fit.data.lengths):
        raise UsageError(f"folds must be at most the {len(fit.data.lengths)} sequences of the fit, got {folds}")
    if folds != 0 and folds < 2:
        raise UsageError(f"folds must be 0, or 2 or more, got {folds}")
    if folds and calibration is not None:
        raise UsageError("calibration and folds are two ways to calibrate; give one of them")
    if folds and data is None and fdr is not None:
        raise UsageError(
            "the rows of the fit that calibrate one another have evenly spread p-values, of which fdr never "
            "takes one; give DATA or --rate, or leave --folds out"
        )
    if folds and isinstance(fit.bound, Sequences) and by != "sequence":
        raise UsageError("folds cut sequences apart; use it with --by sequence, or give --calibration")


# How surprising


def _judged(fit: "Record", data: "Dataset", draws: int | None, seed: int, units: bool) -> Judged:
    """Rows, or sequences: their surprise, and the model's own tail probabilities."""
    import numpy as np

    surprise = _surprise(fit, data, seed)
    tail = _tail(fit, data, surprise, draws, seed)
    if tail is not None:
        blank = np.isnan(data.values).all(1)
        surprise, tail = (np.where(blank, np.nan, each) for each in (surprise, tail))
    if not units:
        return Judged(surprise, tail)
    from scipy.stats import chi2

    assert tail is not None
    first, known = data.offsets[:-1], ~np.isnan(tail)
    fisher = -2 * np.add.reduceat(np.log(np.where(known, tail, 1.0)), first)
    steps = np.add.reduceat(known.astype(int), first)
    total = np.add.reduceat(np.nan_to_num(surprise), first)
    nothing = steps == 0
    return Judged(
        np.where(nothing, np.nan, total),
        np.where(nothing, np.nan, chi2.sf(fisher, 2 * np.maximum(steps, 1))),
    )


def _surprise(fit: "Record", data: "Dataset", seed: int) -> "np.ndarray":
    """−log p of each row, by what the model has of it."""
    from ppl_models.tables import some_draws
    from ppl_models.verbs.score import log_scores

    bound = fit.bound
    if not isinstance(bound, Scores | Conditional | Regresses):
        rows = bound.rows(data, fit.settings.device)
        return -bound.criticise(rows, some_draws(fit, data, 100_000_000, 10))
    found = log_scores(fit, data, None, seed)
    density = found.get("log_density", found.get("log_probability"))
    assert density is not None
    if len(density) != data.rows:
        raise Unsupported(f"{fit.name} has one density for all rows, of which none stands out by itself")
    return -density


def _tail(
    fit: "Record", data: "Dataset", surprise: "np.ndarray", draws: int | None, seed: int
) -> "np.ndarray | None":
    """P(as surprising, or more) of each row under the model; None where it cannot say."""
    import numpy as np

    bound = fit.bound
    if isinstance(bound, Tails):
        return bound.tails(data, fit.draws, count("draws", MIXED if draws is None else draws))
    number = count("draws", DRAWN if draws is None else draws)
    if isinstance(bound, Samples) and isinstance(bound, Scores | Criticises) and bound.exchangeable:
        return _simulated(fit, data, surprise, number, seed)
    if isinstance(bound, Scores):
        return None
    if isinstance(bound, Conditional):
        return _of_labels(fit, data)
    found = np.full(data.rows, np.nan)
    for at, value, new in _numbers(fit, data):
        below, under = new.new.cdf(value).double().mean(0).numpy(), 0.0
        if new.discrete:
            under = new.new.cdf(value - 1).double().mean(0).numpy()
            found[at] = np.minimum(1.0, 2 * np.minimum(below, 1 - under))
        else:
            found[at] = 2 * np.minimum(below, 1 - below)
    found[np.isnan(surprise)] = np.nan
    return found


def _simulated(
    fit: "Record", data: "Dataset", surprise: "np.ndarray", number: int, seed: int
) -> "np.ndarray":
    """The share of new rows of the model that are as surprising, among rows that lack the same cells."""
    import numpy as np

    bound, found = fit.bound, np.full(data.rows, np.nan)
    patterns, owner = np.unique(np.isnan(data.values), axis=0, return_inverse=True)
    owner = owner.ravel()
    number = max(200, number // len(patterns))
    drawn = bound.sample(number, fit.draws, None).values
    for k, pattern in enumerate(patterns):
        cells = np.where(pattern, np.nan, drawn)
        new = replace(
            data, values=np.ascontiguousarray(cells), lengths=np.array([number]), sequence_ids=("",),
            times=None, weight=None, index=None, kept=None,
        )  # fmt: skip
        rows = owner == k
        found[rows] = (1 + conformal.above(surprise[rows], _surprise(fit, new, seed))) / (number + 1)
    return found


def _of_labels(fit: "Record", data: "Dataset") -> "np.ndarray":
    """Σ_c p_c [p_c ≤ p_y] of each row: how probable a label is that is no more probable than its own."""
    import numpy as np

    p, y = _predicted(fit, data), data.column(str(data.schema.target))
    known = ~np.isnan(y) & ~np.isnan(p[:, 0])
    own = np.where(known, p[np.arange(len(p)), np.nan_to_num(y).astype(int)], np.nan)
    tail = np.where(p <= own[:, None] * (1 + 1e-9), p, 0.0).sum(1)
    return np.where(known, np.minimum(tail, 1.0), np.nan)


def _predicted(fit: "Record", data: "Dataset") -> "np.ndarray":
    """Probabilities of the classes, (n, C)."""
    from ppl_models.tables import some_draws
    from ppl_models.verbs.predict import ASSIGN

    return fit.bound.predictive(fit.bound.rows(data, fit.settings.device), some_draws(fit, data, *ASSIGN))


def _numbers(fit: "Record", data: "Dataset") -> "Iterator[tuple[np.ndarray, Any, Any]]":
    """Positions of rows, their targets, and the distributions of new ones."""
    import numpy as np
    import torch

    from ppl_models.tables import some_draws

    y = np.array(data.column(str(data.schema.target)))
    rows = fit.bound.rows(data, fit.settings.device)
    for part in fit.bound.predicted(rows, some_draws(fit, data, *SPREAD)):
        yield part.index, torch.from_numpy(y[part.index]).nan_to_num(0.0), part


# How rarely


def _p_values(
    fit: "Record", data: "Dataset", found: Judged, calibration: Any, folds: int, draws: int | None,
    seed: int, units: bool, own: bool,
) -> "tuple[np.ndarray, str]":  # fmt: skip
    """P-values, and what they rest on."""
    import numpy as np

    from ppl_models.tables import later

    if calibration is not None:
        normal = later(fit, calibration, {})
        if normal.rows < 1:
            raise DataError(f"{normal.source}: no rows to calibrate with")
        judged = _judged(fit, normal, draws, seed, units)
        p = conformal.p_values([(_score(fit, found), _score(fit, judged))])
        m, what = len(judged.surprise), "sequences" if units else "rows"
        said = f"p-values are conformal, by {m} {what} of {normal.source}, of which none is below {1 / (m + 1):.2g}"
        return p, f"{said}: they hold if normal {what} are exchangeable with these" + (
            "" if units or not isinstance(fit.bound, Sequences) else ", which steps of a series are nearly at best"
        )
    if folds:
        return _by_folds(fit, data, folds, draws, seed, units, own)
    if found.tail is None:
        return np.full(data.rows, np.nan), (
            f"{fit.name} does not know how rare its rows are: give --calibration, normal rows that it has not seen, "
            "for p-values"
        )
    said = "p-values are the model's own, and hold where it does"
    return found.tail, f"{said}; --calibration and --folds give conformal ones, which hold for any model"


def _score(fit: "Record", found: Judged) -> "np.ndarray":
    """What conformal p-values compare: the surprise of rows, or how far out the model has those of chains."""
    import numpy as np

    if found.tail is None or not isinstance(fit.bound, Sequences):
        return found.surprise
    return -np.log(found.tail)


def _by_folds(
    fit: "Record", data: "Dataset", folds: int, draws: int | None, seed: int, units: bool, own: bool
) -> "tuple[np.ndarray, str]":
    """Each row of the fit is scored by a fit that has not seen its fold."""
    import numpy as np

    from ppl_models.engine import fitted

    whole = fit.data
    if fit.absent is not None:
        raise UsageError(f"{fit.path} was saved without the rows of the fit (--slim), which folds need")
    number = len(whole.lengths) if units else whole.rows
    if folds > number:
        raise UsageError(f"folds must be at most {number}, got {folds}")
    fold = np.random.default_rng(seed).permutation(np.arange(number) % folds)
    parts, p = [], np.full(number, np.nan)
    for k in range(folds):
        out = fold == k
        rows = np.repeat(out, whole.lengths) if units else out
        part = fitted(fit.model, whole.subset(~rows), fit.settings)
        held = _score(part, _judged(part, whole.subset(rows), draws, seed, units))
        if own:
            p[out] = conformal.ranks(held)
        else:
            parts.append((_score(part, _judged(part, data, draws, seed, units)), held))
    what = "sequences" if units else "rows"
    if own:
        return p, f"p-values are the ranks of {what} among others of their fold: as many are small as anywhere"
    said = f"p-values are cross-conformal, by the {number} {what} of the fit in {folds} folds"
    return conformal.p_values(parts), f"{said}: they hold, nearly, if normal {what} are exchangeable with these"


def _flagged(p: "np.ndarray", rate: float | None, fdr: float | None, notes: list[str]) -> Any:
    """Which are listed, (n,) bool; None for all."""
    import numpy as np

    if (rate is None and fdr is None) or not len(p):
        return None
    if np.isnan(p).all():
        raise UsageError(f"there are no p-values to go by: {notes[0]}")
    if rate is not None:
        return p <= rate
    from scipy.stats import false_discovery_control

    known = ~np.isnan(p)
    found = np.zeros(len(p), dtype=bool)
    found[known] = false_discovery_control(p[known]) <= fdr
    least, needed = float(np.nanmin(p)), float(fdr or 0) / int(known.sum())
    if not found.any() and (p == least).sum() > 0 and least > needed:
        notes.append(
            f"the smallest p-value is {least:.2g}; a single row is listed at fdr {fdr} from {needed:.2g} on, "
            "which takes more --draws, or more rows that calibrate"
        )
    return found


# Which cells


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


def _cells(
    fit: "Record", data: "Dataset", index: "np.ndarray", tails: tuple[float, float], seed: int
) -> "dict[int, list[Cell]]":
    """Of rows in increasing order: their cells, what stands out most first."""
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

    p, at = _predicted(fit, data), data.names.index(str(data.schema.target))
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
    for rows, _, new in _numbers(fit, data):
        use = [i for i, row in enumerate(rows.tolist()) if row in wanted and not np.isnan(data.values[row, at])]
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


def _why(data: "Dataset", cell: Cell) -> str:
    """`speed 41, expected 12 to 18`."""
    from math import isnan

    name, last = data.names[cell.column], cell.expected
    if not isnan(cell.lower):
        low, high = (_number(end, cell.upper - cell.lower) for end in (cell.lower, cell.upper))
        last = f"{low} to {high}" if low != high else low
    return f"{name} {cell.value}, expected {last}"


# Tables


def _by_row(data: "Dataset", found: Judged, p: "np.ndarray", cells: "dict[int, list[Cell]]") -> "pd.DataFrame":
    import numpy as np

    from ppl_models.tables import by_row

    table, n = by_row(data), data.rows
    table.add("row", np.arange(n))
    table.add("surprise", found.surprise)
    table.add("p_value", p)
    if cells:
        first = [cells[i][0] if cells.get(i) else None for i in range(n)]
        table.add("column", [None if c is None else data.names[c.column] for c in first])
        table.add("value", [None if c is None else c.value for c in first])
        table.add("expected", [None if c is None else c.expected for c in first])
        table.add("lower", np.array([np.nan if c is None else c.lower for c in first]))
        table.add("upper", np.array([np.nan if c is None else c.upper for c in first]))
        table.add("why", [None if c is None else _why(data, c) for c in first])
    return table.frame()


def _by_cell(
    data: "Dataset", which: "np.ndarray", p: "np.ndarray", cells: "dict[int, list[Cell]]"
) -> "pd.DataFrame":
    import pandas as pd

    if not cells and len(which):
        raise UsageError("this model does not say which cells are surprising; list rows")
    rows = [
        {
            "row": int(i), "p_value": p[i], "column": data.names[c.column], "surprise": c.surprise,
            "marginal_surprise": c.marginal, "value": c.value, "expected": c.expected, "lower": c.lower,
            "upper": c.upper, "why": _why(data, c),
        }
        for i in which
        for c in cells.get(int(i), ())
    ]  # fmt: skip
    names = ["row", "p_value", "column", "surprise", "marginal_surprise", "value", "expected"]
    return pd.DataFrame(rows, columns=[*names, "lower", "upper", "why"])


def _sequences(data: "Dataset", found: Judged, p: "np.ndarray") -> "pd.DataFrame":
    import numpy as np

    from ppl_models.tables import Result

    sequence = data.schema.sequence
    table = Result([sequence] if sequence else [])
    names = [s or str(i) for i, s in enumerate(data.sequence_ids)]
    (table.own if sequence else table.add)(sequence or "sequence", np.array(names, dtype=object))
    table.add("steps", data.lengths)
    table.add("surprise", found.surprise)
    table.add("p_value", p)
    return table.frame()


def _stretches(
    data: "Dataset", found: Judged, p: "np.ndarray", flagged: "np.ndarray", gap: int,
    cells: "dict[int, list[Cell]]",
) -> "pd.DataFrame":  # fmt: skip
    """Runs of anomalous steps, with at most `gap` others in between, in the order of their smallest p."""
    import numpy as np
    import pandas as pd

    owner = np.repeat(np.arange(len(data.lengths)), data.lengths)
    steps = np.flatnonzero(flagged)
    ends = np.flatnonzero((np.diff(steps) > gap + 1) | (np.diff(owner[steps]) != 0))
    runs = np.split(steps, ends + 1) if len(steps) else []
    rows = []
    for run in runs:
        a, b = int(run[0]), int(run[-1])
        named = [data.names[cells[i][0].column] for i in run.tolist() if cells.get(i)]
        row: dict[str, Any] = {}
        if len(data.lengths) > 1 or data.schema.sequence is not None:
            own = int(owner[a])
            row[data.schema.sequence or "sequence"] = data.sequence_ids[own] or str(own)
        when = data.times if data.times is not None else range(data.rows)
        row |= {"start": when[a], "end": when[b], "first_row": a, "last_row": b, "steps": b - a + 1}
        row |= {"anomalous": len(run), "surprise": float(np.nansum(found.surprise[a : b + 1]))}
        row |= {"p_value": float(np.nanmin(p[run]))}
        row |= {"column": max(named, key=named.count) if named else None}
        rows.append(row)
    names = ["start", "end", "first_row", "last_row", "steps", "anomalous", "surprise", "p_value", "column"]
    table = pd.DataFrame(rows, columns=None if rows else names)
    return table.sort_values("p_value", kind="stable") if rows else table
