"""The rows that follow a sequence."""

from typing import TYPE_CHECKING, Annotated, Any, Unpack

from ppl_models.annotations import count
from ppl_models.capabilities import Continues
from ppl_models.data import Later
from ppl_models.threads import threads_for
from ppl_models.verbs.base import Seed, verb

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.data import Dataset
    from ppl_models.record import Record

BUDGET, LEAST = 200_000_000, 20
"""Draws × numbers a draw that sequences are filtered by, about, and the least draws."""


@verb("ppl forecast latest --steps 20 --level 0.8", needs=(Continues,))
def forecast(
    fit: "Record",
    steps: Annotated[int, "How many rows ahead."] = 10,
    data: Any = None,
    *,
    level: Annotated[float, "Probability of the intervals."] = 0.9,
    seed: Seed = None,
    **reading: Unpack[Later],
) -> "pd.DataFrame":
    """The rows after the last one of each sequence, with intervals.

    Each draw of the parameters filters the sequence to its end, then walks on from there: intervals hold
    the uncertainty of parameters, states and emissions (the full posterior predictive).

    Args:
        fit: the fit.
        steps: how far ahead.
        data: the sequences to go on from, or None for those of the fit.
        level: probability of the intervals.
        seed: of the walks; the fit's if not given.
        **reading: options of `ppl_models.data.read`.

    Returns:
        A row for each sequence and step: for a number its mean, `_sd`, `_lower` and `_upper`; for a label
        the most probable one and its `_probability`; and `state_k`, the probabilities of the states.
    """
    import numpy as np
    import pandas as pd
    import torch

    from ppl_models.later import later
    from ppl_models.tables import Result, check_level, seeded, some_draws, spread

    steps, tails = count("steps", steps), check_level(level)
    dataset, schema = later(fit, data, reading), fit.data.schema
    _warn_of_trends(dataset, fit.bound.lagged)
    rows = fit.bound.rows(dataset, fit.settings.device)
    theta = some_draws(fit, dataset, BUDGET // max(1, steps * len(dataset.lengths) // dataset.rows), LEAST)
    tables: list[pd.DataFrame] = []
    found: dict[str, None] = {}
    with torch.random.fork_rng(devices=[]), threads_for(fit.bound.numbers(dataset)):
        torch.manual_seed(seeded(fit, seed, 11))
        for i, ahead in enumerate(fit.bound.ahead(rows, steps, theta)):
            front = [name for name in (schema.sequence, schema.time) if name is not None]
            table = Result([*front, *schema.names])
            sequence = np.full(steps, dataset.sequence_ids[i] or str(i), dtype=object)
            if schema.sequence is not None:
                table.own(schema.sequence, sequence)
            elif len(dataset.lengths) > 1:
                table.add("sequence", sequence)
            times, frequency = _times_after(dataset, i, steps)
            found |= {frequency: None} if frequency else {}
            if times is not None:
                table.own(str(schema.time), times)
            table.add("step", np.arange(1, steps + 1))
            for j, column in enumerate(schema.columns):
                spread(table, column, ahead.values[:, :, j], tails)
            for name, share in ahead.shares.items():
                for k, which in enumerate(ahead.names or range(share.shape[1])):
                    table.add(f"{name}_{which}", share[:, k])
            tables.append(table.frame())
    result = pd.concat(tables, ignore_index=True)
    if found:
        result.attrs["notes"] = [f"{schema.time} goes on in {', '.join(found)}"]
    return result


def _warn_of_trends(data: "Dataset", carried: "tuple[int, ...]") -> None:
    """Say of columns that trend or wander that regimes of levels do not carry them on."""
    import numpy as np

    from ppl_models.errors import warn
    from ppl_models.misfit import wanders

    starts = np.zeros(data.rows, dtype=bool)
    starts[data.offsets[:-1]] = True
    found = [
        c.name
        for j, c in enumerate(data.schema.columns)
        if not c.labelled and j not in carried and wanders(np.asarray(data.values[:, j]), starts)
    ]
    if found:
        names = ", ".join(map(repr, found))
        what = "each trends, or wanders" if len(found) > 1 else "it trends, or wanders"
        warn(
            f"{names}: {what} like a random walk, and is forecast to fall back to levels that were seen "
            "before; fit differences or returns, and forecast these"
        )


def _times_after(data: "Dataset", index: int, steps: int) -> "tuple[Any, str]":
    """The times that follow a sequence, and their frequency; None where they are not regular."""
    import numpy as np

    from ppl_models.data.dates import calendar, read_dates, written

    if data.schema.time is None or data.times is None:
        return None, ""
    times = data.times[data.offsets[index] : data.offsets[index + 1]]
    if not isinstance(times, np.ndarray):
        read = read_dates(times)
        if isinstance(read, int):
            return None, ""
        goes_on = calendar(read.when, steps)
        return (None, "") if goes_on is None else (written(goes_on.ahead, read.style), goes_on.name)
    if times.dtype.kind not in "iuf" or len(times) < 2:
        return None, ""
    gaps = np.diff(times.astype(float))
    if not np.allclose(gaps, gaps[0]):
        return None, ""
    ahead = times[-1] + gaps[0] * np.arange(1, steps + 1)
    return (ahead.astype(np.int64) if (ahead == np.rint(ahead)).all() else ahead), f"steps of {gaps[0]:g}"
