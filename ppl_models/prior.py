"""Draws of the prior, and what they predict, as data: of models whose prior can be drawn from."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_models.capabilities import Fitted, PriorDraws, Priors
from ppl_models.data import Dataset
from ppl_models.draws import variable_names
from ppl_models.errors import Unsupported
from ppl_models.posterior import LEAST, arviz_of, groups_of, pairs_once

if TYPE_CHECKING:
    import xarray as xr

PREDICTED = 40_000_000
"""Numbers of data sets that are drawn."""

PRIOR = 1_000
"""Draws of the prior."""


def prior_to_arviz(fit: Fitted) -> Any:
    """Draws of the prior and what they predict beside the data, as `to_arviz` has those of the posterior.

    Raises:
        Unsupported: the prior cannot be drawn from.
    """
    return arviz_of(prior_groups_of(fit))


def everything_to_arviz(fit: Fitted) -> Any:
    """The groups of the posterior and those of the prior together: see `to_arviz`, `prior_to_arviz`.

    Raises:
        Unsupported: the prior cannot be drawn from.
    """
    return arviz_of(prior_groups_of(fit) | groups_of(fit))


def prior_groups_of(fit: Fitted, draws: int = PRIOR, data: Dataset | None = None) -> dict[str, "xr.Dataset"]:
    """`prior`, `prior_predictive` and `observed_data`, by column, or by site of a user-defined model.

    Args:
        fit: the fit, whose posterior is not looked at.
        draws: of the prior; fewer where data sets are large, at least `LEAST`.
        data: the rows that data sets are drawn in place of; those of the fit if None.

    Raises:
        Unsupported: the prior cannot be drawn from, or there are no rows.
    """
    import xarray as xr

    bound, data = fit.bound, fit.data if data is None else data
    seed = fit.settings.seed + 6
    if not isinstance(bound, PriorDraws):
        raise Unsupported(
            f"{fit.name} has no prior that data could be drawn from: its weights are point estimates"
        )
    if not data.rows and not data.arrays:
        raise Unsupported(f"what the prior of {fit.name} predicts is of rows, and {fit.data.source} has none")
    if isinstance(bound, Priors):
        return bound.prior_groups(seed, draws)
    if not bound.generates:
        raise Unsupported(f"{fit.name} has a pseudo-likelihood, from which no data can be drawn")
    number = int(np.clip(PREDICTED // max(data.values.size, 1), min(LEAST, draws), draws))
    theta = bound.prior_draws(number, seed)
    variables, coords = bound.variables(theta)
    names, at = variable_names(data.names), {"chain": [0], "draw": np.arange(number)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        drawn = bound.replicate(data, theta)
    given = [((drawn[..., i] == x) | np.isnan(x)).all() for i, x in enumerate(data.values.T)]
    prior = xr.Dataset(
        {n: (("chain", "draw", *dims), v[None]) for n, (dims, v) in variables.items()}, coords=at | coords
    )
    return {
        "prior": pairs_once(prior),
        "prior_predictive": xr.Dataset(
            {n: (("chain", "draw", "row"), drawn[None, ..., i]) for i, n in enumerate(names) if not given[i]},
            coords=at,
        ),
        "observed_data": xr.Dataset(
            {n: ("row", data.values[:, i]) for i, n in enumerate(names) if not given[i]}
        ),
    }
