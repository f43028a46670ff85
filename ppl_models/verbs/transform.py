"""Rows as features for other programs."""

from typing import TYPE_CHECKING, Annotated, Any, Unpack

from ppl_models.capabilities import Latents, Named
from ppl_models.data import Later
from ppl_models.threads import threads_for
from ppl_models.verbs.base import Needs, verb

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.record import Record

BUDGET, LEAST = 40_000_000, 5
"""Draws × numbers a draw that features are averaged over, about, and the least draws."""


@verb("ppl transform latest new.csv -o features.parquet", needs=(Latents,), by_row=True)
def transform(
    fit: "Record",
    data: Any = None,
    *,
    draws: Annotated[
        int | None,
        "Draws of the parameters to average over, as many as the answer needs if not given.",
        Needs((Named,)),
    ] = None,
    **reading: Unpack[Later],
) -> "pd.DataFrame":
    """Each row as features for other programs: probabilities of states, or latents.

    Args:
        fit: the fit.
        data: new data, or None for the data of the fit.
        draws: of the parameters; as in `predict`.
        **reading: options of `ppl_models.data.read`.

    Returns:
        A row for each row of the data. Of a mixture `component_k`, of a chain `state_k`: the probabilities of
        its components or states. Of a regression `linear_predictor` and its `_sd`: the log odds against the
        first class. Of a VAE `z_i`, the mean of each latent given the row, and `z_i_sd`. Labels are not
        looked at.
    """
    from ppl_models.later import later
    from ppl_models.tables import averaging, by_row

    dataset = later(fit, data, reading)
    bound, theta = averaging(fit, dataset, BUDGET, LEAST, draws)
    with threads_for(bound.numbers(dataset)):
        cells = bound.latents(bound.rows(dataset, fit.settings.device), theta)
    result = by_row(dataset)
    for name, values in cells.items():
        result.add(name, values)
    return result.frame()
