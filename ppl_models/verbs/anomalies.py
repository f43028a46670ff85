"""Rows that are unlike the others: how surprising each is, how rarely that happens, and which cell it is."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Unpack, cast

from ppl_models.annotations import Metavar, count
from ppl_models.capabilities import Conditional, Criticises, Regresses, Scores, Sequences
from ppl_models.data import Later
from ppl_models.errors import UsageError
from ppl_models.verbs.base import Seed, verb
from ppl_models.verbs.cells import Cell, cells_of, why
from ppl_models.verbs.surprise import Judged, judged, p_values

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ppl_models.data import Dataset
    from ppl_models.record import Record

EXPLAINED = 100
"""Rows that are explained where none are singled out by a rate."""

STEPS = 0.01
"""The rate of anomalous steps that stretches are made of, if none is given."""

By = Literal["row", "cell", "sequence", "stretch"]


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

    which holds where the model does. With `calibration` or `folds` it is conformal: it holds for any model,
    if the row is exchangeable with those that calibrate, as steps of a sequence are not (Bates, Candès, Lei,
    Romano & Sesia 2023, Annals of Statistics 51, https://doi.org/10.1214/22-AOS2244). `fdr` is by Benjamini &
    Hochberg (1995, JRSS B 57). Of a sequence of T steps −2 Σ log p_t ~ χ²_2T (Fisher's method), as the tails
    one step ahead are independent under the model.

    Args:
        fit: the fit.
        data: new rows, or None for those of the fit.
        rate: rows with a p-value of at most this are listed.
        fdr: rows are listed such that this share of them is expected to be normal.
        by: `row`; `cell`: a row for each cell of the rows that are listed or explained; `sequence`; or
            `stretch`: runs of anomalous steps, at a `rate` of 0.01 if none is given.
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
        `column`, the cell that stands out most, its `value`, what was `expected` of it given the others of
        its row, `lower` and `upper`, and `why` in words. That cell has the largest −log p(x_j | x_−j), in
        sds of its column or relative to as many levels. `cell` has for each cell `surprise`,
        −log p(x_j | x_−j), and `marginal_surprise`, −log p(x_j). `stretch` has `start` and `end`, `steps`,
        how many of them are `anomalous`, the total `surprise`, the smallest `p_value`, and the `column` named
        most often. `attrs["notes"]` says what the p-values rest on.

    Raises:
        UsageError: options that cannot be meant.
        Unsupported: the model has one density for all rows.
    """
    import numpy as np
    import torch

    from ppl_models.later import later
    from ppl_models.tables import check_level, seeded

    _check(fit, rate, fdr, by, calibration, folds, data)
    count("explain", explain, 0)
    count("gap", gap, 0)
    dataset, tails, seed = later(fit, data, reading), check_level(level), seeded(fit, seed, 15)
    units = by == "sequence"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = judged(fit, dataset, draws, seed, units)
        p, rests_on = p_values(fit, dataset, found, calibration, folds, draws, seed, units, data is None)
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
            cells = cells_of(fit, dataset, np.sort(which), tails)
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


def _check(fit: "Record", rate: Any, fdr: Any, by: str, calibration: Any, folds: int, data: Any) -> None:
    """Refuse options that cannot be meant, or not together.

    Raises:
        UsageError: naming them.
    """
    if by not in ("row", "cell", "sequence", "stretch"):
        raise UsageError(f"by must be row, cell, sequence or stretch, got {by!r}")
    if by in ("sequence", "stretch") and not isinstance(fit.bound, Sequences):
        raise UsageError(
            f"by {by} is of models of sequences, and rows of {fit.name} are independent; use row"
        )
    if rate is not None and fdr is not None:
        raise UsageError("rate and fdr are two ways to say how many; give one of them")
    for name, value in (("rate", rate), ("fdr", fdr)):
        if value is not None and not 0 < value < 1:
            raise UsageError(f"{name} must be between 0 and 1, got {value}")
    if by == "sequence" and isinstance(fit.bound, Scores) and folds > len(fit.data.lengths):
        raise UsageError(
            f"folds must be at most the {len(fit.data.lengths)} sequences of the fit, got {folds}"
        )
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


def _by_row(
    data: "Dataset", found: Judged, p: "np.ndarray", cells: "dict[int, list[Cell]]"
) -> "pd.DataFrame":
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
        table.add("why", [None if c is None else why(data, c) for c in first])
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
            "upper": c.upper, "why": why(data, c),
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
