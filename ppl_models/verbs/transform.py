"""Rows as features for other programs."""

from typing import TYPE_CHECKING, Annotated, Any, Unpack

from ppl_models.capabilities import Latents, Named
from ppl_models.data import Later
from ppl_models.verbs.base import Needs, verb

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.record import Record


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
    from ppl_models.later import features, later
    from ppl_models.tables import by_row

    dataset = later(fit, data, reading)
    result = by_row(dataset)
    for name, values in features(fit, dataset, draws).items():
        result.add(name, values)
    return result.frame()
