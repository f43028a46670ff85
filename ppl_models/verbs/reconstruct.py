"""Rows as their latents have them."""

from typing import TYPE_CHECKING, Annotated, Any, Unpack

from ppl_models.annotations import count
from ppl_models.capabilities import Decodes
from ppl_models.data import Later
from ppl_models.verbs.base import Seed, verb

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.record import Record


@verb("ppl reconstruct latest new.csv -o expected.csv", needs=(Decodes,))
def reconstruct(
    fit: "Record",
    data: Any = None,
    *,
    draws: Annotated[int, "Of the latents of each row."] = 50,
    seed: Seed = None,
    **reading: Unpack[Later],
) -> "pd.DataFrame":
    """The table as the latents of each row have it: expected values, and most probable labels.

    E_q[E[x_nj | z_n]] in the user's units. Missing cells are reconstructed too; `impute` weighs its draws,
    and has intervals.

    Args:
        fit: the fit.
        data: new data, or None for the data of the fit.
        draws: of z for each row, from the guide.
        seed: of these; the fit's if not given.
        **reading: options of `ppl_models.data.read`.

    Returns:
        The table; of a label the most probable one, with its `_probability`.
    """
    import numpy as np
    import torch

    from ppl_models.later import later
    from ppl_models.tables import by_row, seeded

    number, dataset, bound = count("draws", draws), later(fit, data, reading), fit.bound
    values = np.array(dataset.values)
    sure: dict[int, np.ndarray] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, seed, 13))
        for block in bound.decode(bound.rows(dataset, fit.settings.device), number, fit.draws):
            for j, cells in block.best.items():
                values[block.index, j] = cells
            for j, probability in block.sure.items():
                sure.setdefault(j, np.full(dataset.rows, np.nan))[block.index] = probability
    table = dataset.frame(values)
    result = by_row(dataset, table.columns)
    for name, cells in table.items():
        result.own(str(name), cells.array)
    for j, probability in sure.items():
        result.add(f"{dataset.names[j]}_probability", probability)
    return result.frame()
