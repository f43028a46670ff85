"""How good forecasts would have been: made from several points of the past, and held against what came."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Unpack

from ppl_models.annotations import count
from ppl_models.capabilities import Continues
from ppl_models.data import Later
from ppl_models.errors import DataError, UsageError
from ppl_models.threads import threads_for
from ppl_models.verbs.base import Seed, verb

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ppl_models.data import Column, Dataset
    from ppl_models.record import Record

STEPS, FOLDS = 10, 5
"""Rows ahead and points of the past, if not given."""

LABELS = ("accuracy", "log_loss", "brier")
"""Figures of labels."""

LEAST = 2
"""Rows that a forecast goes on from, at least."""


@verb("ppl backtest latest --folds 5 --steps 12", needs=(Continues,))
def backtest(
    fit: "Record",
    data: Any = None,
    *,
    folds: Annotated[
        int | None, "Points of the past that are forecast from; 5 if not given, fewer of short sequences."
    ] = None,
    steps: Annotated[
        int | None, "How many rows ahead from each; 10 if not given, fewer where sequences are short."
    ] = None,
    by: Annotated[
        Literal["column", "step", "fold"], "A row for each column; also for each step ahead, or fold."
    ] = "column",
    refit: Annotated[
        bool | None,
        "Fit again to the rows before each point; by default for the rows of the fit, and not for DATA.",
    ] = None,
    seed: Seed = None,
    **reading: Unpack[Later],
) -> "pd.DataFrame":
    """How good forecasts would have been from points of the past: CRPS, errors and coverage of intervals.

    Rolling-origin evaluation (Tashman 2000, International Journal of Forecasting 16): the last
    `folds` · `steps` rows of each sequence are forecast `steps` at a time, each time from all rows before, by
    a fit that has seen no others. Of draws X of a cell that came out as x,

        crps          E|X − x| − ½ E|X − X'|, in the units of the column (Gneiting & Raftery 2007, JASA 102)
        mae, rmse     of the median, and of the mean
        mae_last      of the last row before, repeated: what a forecast should beat
        coverage_50, coverage_90    share of x inside of equal-tailed intervals
        accuracy, log_loss, brier   of a label instead: of the likeliest, −log p(x), Σ_c (p_c − [x = c])²

    Args:
        fit: the fit.
        data: sequences, or None for those of the fit.
        folds: points of the past. If not given, 5, or as many as the longest sequence has.
        steps: how far ahead; windows do not overlap. If not given, 10, or so many that half of the longest
            sequence is before the first point.
        by: what has a row of its own.
        refit: whether the model is fitted again to the rows before each point. Without it, parameters have
            seen the rows that are forecast, if these are the fit's.
        seed: of the walks; the fit's if not given.
        **reading: options of `ppl_models.data.read`.

    Returns:
        For each `column` (and `step` or `fold`) the figures and the `rows` that they are means of, with
        `crps_error`, the standard error of the mean CRPS over folds, which are not quite independent.

    Raises:
        DataError: the sequences are too short.
        UsageError: an option cannot be meant.
    """
    import numpy as np
    import pandas as pd

    from ppl_models.later import later
    from ppl_models.tables import seeded

    if folds is not None:
        count("folds", folds)
    if steps is not None:
        count("steps", steps)
    if by not in ("column", "step", "fold"):
        raise UsageError(f"by must be column, step or fold, got {by!r}")
    again = data is None if refit is None else refit
    dataset, seed = later(fit, data, reading), seeded(fit, seed, 16)
    if folds is None:
        folds = max(1, min(FOLDS, dataset.steps // (steps or 1) - LEAST))
    if steps is None:
        steps = max(1, min(STEPS, dataset.steps // (2 * folds)))
    long = dataset.lengths >= folds * steps + LEAST
    if not long.any():
        raise DataError(
            f"{dataset.source}: {folds} folds of {steps} steps need sequences of {folds * steps + LEAST} "
            f"rows, and the longest has {dataset.steps}; take fewer --folds or --steps"
        )
    figures: list[dict[str, Any]] = []
    within = np.arange(dataset.rows) - np.repeat(dataset.offsets[:-1], dataset.lengths)
    for fold in range(folds):
        # sequences that are too short to be forecast are learned from whole
        origin = np.where(long, dataset.lengths - (folds - fold) * steps, dataset.lengths)
        before = within < np.repeat(origin, dataset.lengths)
        figures += _fold(fit, dataset, before, long, origin, steps, again, fold, seed)
    table = pd.DataFrame(figures)
    keys = ["column"] if by == "column" else ["column", by]
    groups = table.groupby(keys, sort=False)
    rows = [dict(zip(keys, name, strict=True)) | dict(_means(group)) for name, group in groups]
    found = pd.DataFrame(rows).dropna(axis=1, how="all")
    if not long.all():
        found.attrs["notes"] = [f"{int((~long).sum())} of {len(long)} sequences are too short to be forecast"]
    return found


def _fold(
    fit: "Record", data: "Dataset", before: "np.ndarray", long: "np.ndarray", origin: "np.ndarray",
    steps: int, again: bool, fold: int, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """The figures of every cell that is forecast from one point of the past."""
    import numpy as np
    import torch

    from ppl_models.engine import fitted
    from ppl_models.tables import some_draws
    from ppl_models.verbs.forecast import BUDGET
    from ppl_models.verbs.forecast import LEAST as DRAWS

    past = data.subset(before)
    now = fitted(fit.model, past, fit.settings) if again else fit
    bound = now.bound
    some = past.subset(np.repeat(long, origin))
    rows, found = bound.rows(some, fit.settings.device), []
    theta = some_draws(now, some, BUDGET // max(1, steps * len(some.lengths) // some.rows), DRAWS)
    with torch.random.fork_rng(devices=[]), threads_for(bound.numbers(some)):
        torch.manual_seed(seed + fold)
        for i, ahead in zip(np.flatnonzero(long), bound.ahead(rows, steps, theta), strict=True):
            at = int(data.offsets[i] + origin[i])
            came, last = data.values[at : at + steps], data.values[at - 1]
            for j, column in enumerate(data.schema.columns):
                for t in range(steps):
                    if not np.isnan(came[t, j]):
                        own = _figures(column, ahead.values[:, t, j], came[t, j], last[j])
                        found.append({"column": column.name, "step": t + 1, "fold": fold, **own})
    return found


def _figures(column: "Column", drawn: "np.ndarray", x: float, last: float) -> dict[str, float]:
    """Of draws (S,) of a cell that came out as x."""
    import numpy as np

    from ppl_models.crps import crps

    if column.labelled:
        S, C = len(drawn), len(column.levels)
        p = (np.bincount(drawn.astype(int), minlength=C) + 1 / C) / (S + 1)  # so that none is impossible
        hit, own = np.arange(C) == x, p[int(x)]
        return {
            "accuracy": float(p.argmax() == x), "log_loss": -float(np.log(own)),
            "brier": float(((p - hit) ** 2).sum()),
        }  # fmt: skip
    found = {
        "crps": float(crps(drawn, x)), "mae": abs(float(np.median(drawn)) - x),
        "square": (float(drawn.mean()) - x) ** 2, "mae_last": abs(last - x),
    }  # fmt: skip
    for level in (50, 90):
        low, high = np.quantile(drawn, [0.5 - level / 200, 0.5 + level / 200])
        found[f"coverage_{level}"] = float(low <= x <= high)
    return found


def _means(group: Any) -> "pd.Series":
    """The figures of some cells together."""
    import numpy as np
    import pandas as pd

    found: dict[str, float] = {"rows": float(len(group))}
    for name in ("crps", "mae", "square", "mae_last", "coverage_50", "coverage_90", *LABELS):
        cells = group[name].to_numpy(float) if name in group else np.full(1, np.nan)
        mean = float(cells.mean())
        found["rmse" if name == "square" else name] = float(np.sqrt(mean)) if name == "square" else mean
        if name == "crps":
            fold = group["fold"].to_numpy()
            each = [cells[fold == k].mean() for k in np.unique(fold)] if name in group else []
            spread = np.std(each, ddof=1) / len(each) ** 0.5 if len(each) > 1 else np.nan
            found["crps_error"] = float(spread)
    return pd.Series(found)
