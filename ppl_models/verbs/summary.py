"""Parameters in the user's units, and the table that is shown with a fit."""

from typing import TYPE_CHECKING, Annotated

from ppl_models.capabilities import Glances, Named, Summarises
from ppl_models.verbs.base import verb

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.record import Record


@verb("ppl summary latest", needs=(Summarises, Named))
def summary(
    fit: "Record", *, level: Annotated[float, "Probability of the intervals."] = 0.89
) -> "pd.DataFrame":
    """Posterior mean, standard deviation and interval of every parameter.

    Of mixtures and chains the columns of ArviZ's `summary`: R-hat and effective sample sizes are left out,
    as draws from a guide are independent, and those figures would say nothing of how far the guide is from
    the posterior; `check` does. Of regressions also odds ratios and average marginal effects; of a VAE its
    latents.

    Args:
        fit: the fit.
        level: probability of the intervals.

    Returns:
        A row for each parameter, by name.
    """
    import pandas as pd

    from ppl_models.posterior import summarise
    from ppl_models.tables import check_level

    tails = check_level(level)
    if not isinstance(fit.bound, Summarises):
        return summarise(fit, level)
    table = pd.DataFrame.from_dict(fit.bound.summarise(fit, tails), orient="index")
    table.index.name = "parameter"
    return table


def glance(fit: "Record") -> "pd.DataFrame":
    """The table that is shown with a fit: of its states, or of its largest coefficients."""
    if isinstance(fit.bound, Glances):
        return fit.bound.glance(fit)
    return summary(fit).reset_index()
