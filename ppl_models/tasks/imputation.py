"""Missing cells filled in by a joint model."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_models.models.bound import groups, on_device, select_draws
from ppl_models.models.joint import all_rows
from ppl_models.tasks.common import check_level, index_frame, resolve, seeded, spread

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.fitting import Fit


def impute(
    fit: "Fit",
    data: Any = None,
    *,
    level: float = 0.9,
    seed: int | None = None,
    draws: int = 400,
    **reading: Any,
) -> "pd.DataFrame":
    """The table with its missing cells filled in, and intervals for them.

    For each draw of the parameters a path of states is drawn given all observed cells, and the missing
    cells given the state and what else is observed in their row. A number is filled with the mean of its
    draws, a label with the most probable one.

    Args:
        fit: the fit.
        data: a table with missing cells, or None for the data of the fit.
        level: probability of the intervals.
        seed: the fit's, if not given.
        draws: how many, less where data is large.
        **reading: options of `ppl_models.data.read`.

    Returns:
        The table, followed for each column that had missing cells by `_lower` and `_upper`, or by
        `_probability` for labels, empty where the cell was observed.
    """
    import pandas as pd

    tails = check_level(level)
    dataset = resolve(fit, data, reading)
    joint, rows = fit.bound, all_rows(dataset)
    missing = np.isnan(dataset.values)
    holes = np.flatnonzero(missing.any(1))
    filled = dataset.values.copy()
    extra: dict[str, np.ndarray] = {}
    if len(holes):
        batch = joint.dataset_batch(dataset, fit.settings.device)
        number = int(np.clip(200_000_000 // (dataset.rows * joint.states), 50, draws))
        p = fit.posterior_draws
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeded(fit, seed, 12))
            chosen = (
                torch.randperm(p.draws)[:number] if number <= p.draws else torch.randint(p.draws, (number,))
            )
            theta = select_draws(p.theta, chosen)
            given = torch.as_tensor(dataset.values[holes])
            parts = []
            for at in groups(number, dataset.rows * joint.states):
                some = select_draws(theta, at)
                natural = joint.natural(on_device(some, batch.values.device))
                path = joint.structure.draw_paths(joint.density(batch, natural), natural, rows).cpu()
                parts.append(joint.emit(some, path[:, holes], given).numpy())
        drawn = np.concatenate(parts)  # (S, holes, C)
        for j, column in enumerate(dataset.schema.columns):
            cells = missing[holes, j]
            if not cells.any():
                continue
            at = holes[cells]
            for label, values in spread(column, drawn[:, cells, j], tails).items():
                if label == column.name:
                    codes = {name: code for code, name in enumerate(column.levels)}
                    filled[at, j] = [codes[v] for v in values] if column.labelled else values
                elif not label.endswith("_sd"):
                    extra[label] = np.full(dataset.rows, np.nan)
                    extra[label][at] = values
    table, index = dataset.frame(filled), index_frame(dataset)
    front = index[[name for name in index.columns if name not in table.columns]]
    return pd.concat([front, table, pd.DataFrame(extra, index=table.index)], axis=1)
