"""Missing cells filled in."""

from typing import TYPE_CHECKING, Annotated, Any, Unpack, cast

from ppl_models.annotations import count
from ppl_models.capabilities import Completes, Importance
from ppl_models.data import Later
from ppl_models.threads import threads_for
from ppl_models.verbs.base import Needs, Seed, verb

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ppl_models.data import Column, Dataset
    from ppl_models.record import Record
    from ppl_models.tables import Result


@verb(
    "ppl impute latest gaps.csv -o filled.csv",
    needs=(Completes,),
    by_row=True,
    unless=("copies",),
    drawn=True,
)
def impute(
    fit: "Record",
    data: Any = None,
    *,
    level: Annotated[float, "Probability of the intervals."] = 0.9,
    draws: Annotated[int, "Of missing cells, less where data is large."] = 400,
    proposals: Annotated[
        int | None,
        "Draws of the latents of each row, from which those are chosen; 1,000 if not given.",
        Needs((Importance,)),
    ] = None,
    copies: Annotated[int, "Completed tables to return instead, for multiple imputation; 0 for none."] = 0,
    seed: Seed = None,
    **reading: Unpack[Later],
) -> "pd.DataFrame":
    """The table with its missing cells filled in, and intervals for them.

    Cells are drawn from p(x_missing | x_observed), parameters and latents integrated out. A number is filled
    with its mean, a label with the most probable one.

    Args:
        fit: the fit.
        data: a table with missing cells, or None for the data of the fit.
        level: probability of the intervals.
        draws: of missing cells.
        proposals: draws of the latents of each row from the guide, which are weighed.
        copies: how many completed tables to return instead, each with its missing cells drawn, from a draw of
            the parameters of its own where these have a posterior: analyse each table, and combine the
            answers by `ppl_models.pool` (Rubin 1987).
        seed: of the draws; the fit's if not given.
        **reading: options of `ppl_models.data.read`.

    Returns:
        The table, followed for each column that had missing cells by `_sd`, `_lower` and `_upper`, or by
        `_probability` for labels, empty where the cell was observed. With `copies` that many tables one below
        the other, numbered from 0 in the column `copy`.
    """
    import numpy as np
    import pandas as pd
    import torch

    from ppl_models.draws import free
    from ppl_models.later import later
    from ppl_models.tables import check_level, rounded, seeded

    tails, copies = check_level(level), count("copies", copies, 0)
    number = max(count("draws", draws), copies)
    dataset, bound, schema = later(fit, data, reading), fit.bound, fit.data.schema
    if isinstance(bound, Importance):
        proposals = count("proposals", 1_000 if proposals is None else proposals)
        bound = cast(Any, bound.with_particles(proposals))
    missing = np.isnan(dataset.values)
    holes = np.flatnonzero(missing.any(1))
    filled, extra = dataset.values.copy(), dict[tuple[int, str], np.ndarray]()
    completed = np.repeat(filled[None], copies, 0)
    with torch.random.fork_rng(devices=[]), threads_for(bound.numbers(dataset)):
        torch.manual_seed(seeded(fit, seed, 12))
        for block in bound.complete(dataset, holes, number, fit.draws):
            for j, column in enumerate(schema.columns):
                which = missing[block.index, j]
                if not which.any():
                    continue
                at, drawn = block.index[which], block.drawn[:, which, j]
                best = block.best[j][which] if j in block.best else None
                sure = block.sure[j][which] if j in block.sure else None
                completed[:, at, j] = rounded(column, drawn[:copies])
                filled[at, j], said = _cells(column, drawn, tails, best, sure)
                if not column.labelled:
                    filled[at, j] = rounded(column, filled[at, j])
                for name, values in said.items():
                    extra.setdefault((j, name), np.full(dataset.rows, np.nan))[at] = values
    frames = [_table(dataset, values).frame() for values in (completed if copies else ())]
    if copies:
        for i, frame in enumerate(frames):
            frame.insert(0, free("copy", frame.columns), i)
        return pd.concat(frames, ignore_index=dataset.index is None)
    result = _table(dataset, filled)
    for j, column in enumerate(schema.columns):
        for suffix in ("_sd", "_lower", "_upper", "_probability"):
            if (j, suffix) in extra:
                result.add(f"{column.name}{suffix}", extra[j, suffix])
    return result.frame()


def _table(data: "Dataset", values: "np.ndarray") -> "Result":
    """The table with other values, and what stands beside it."""
    from ppl_models.tables import by_row

    table = data.frame(values)
    result = by_row(data, table.columns)
    for name, cells in table.items():
        result.own(str(name), cells.array)
    return result


def _cells(
    column: "Column",
    drawn: "np.ndarray",
    tails: tuple[float, float],
    best: "np.ndarray | None",
    sure: "np.ndarray | None",
) -> "tuple[np.ndarray, dict[str, np.ndarray]]":
    """What to fill cells with, from draws (S, m) and perhaps better values, and what to say of them."""
    import numpy as np

    if column.labelled:
        if best is not None and sure is not None:
            return best, {"_probability": sure}
        share = np.stack([(drawn == code).mean(0) for code in range(len(column.levels))])
        return share.argmax(0).astype(float), {"_probability": share.max(0)}
    lower, upper = np.quantile(drawn, tails, axis=0)
    mean = drawn.mean(0) if best is None else best
    spread = {"_sd": drawn.std(0), "_lower": lower, "_upper": upper}
    return mean, spread
