"""Whether what is said of a state is the data's or the prior's."""

import numpy as np
import torch
from torch import Tensor

from ppl_models.checks import Check
from ppl_models.draws import Params
from ppl_models.latent.joint import Joint

LOOKED_AT = ("mean", "rate", "sd", "scale", "correlation")
"""Parameters whose estimates do not run off to an end: those of levels do wherever a level was not seen."""

MANY = 1e4
"""Times that the rows are seen again, after which the prior says nothing."""

MOST = 1.0
"""Posterior standard deviations that a prior may move a parameter by without a word."""

DRAWS, NUMBERS = (64, 400), 4_000_000
"""Draws of the guide, least and most, and numbers in all of them."""


def influence(joint: Joint, params: Params, needed: int) -> list[Check]:
    """Say it where the prior moves a parameter by more than its posterior standard deviation.

    The guide is compared with that of the same rows seen ten thousand times, whose means are all but the
    estimates of maximum likelihood. States with too few rows to estimate anything are left to
    `ppl_models.latent.checks.occupancy`.

    Args:
        joint: the model over the columns, with nothing of its prior left open.
        params: expected sufficient statistics, R = 1.
        needed: the least rows of a state that is looked at.
    """
    there = joint.occupied(params) >= needed
    most, where = MOST, ""
    for e in joint.emissions:
        try:
            own, rows = _draw(joint, e.name, params, 1.0), _draw(joint, e.name, params, MANY)
        except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
            continue  # cells lie so far apart that rounding leaves no covariance to be drawn
        for name in set(own) & set(LOOKED_AT):
            (value, dims), without = own[name], rows[name][0]
            moved = (value.mean(0) - without.mean(0)).abs() / value.std(0).clamp_min(1e-300)
            moved = torch.where(value.std(0) > 1e-9 * value.mean(0).abs(), moved, 0.0)  # 1 of a correlation
            if len(moved) == joint.states:
                moved[~there] = 0.0
            if float(moved.max()) > most:
                most = float(moved.max())
                at = np.unravel_index(int(moved.argmax()), moved.shape)
                columns = [joint.schema.columns[e.columns[d]].name for d in at[1 : 1 + len(dims)]]
                where = f"{name} of {' and '.join(columns)} in {joint.structure.noun} {at[0]}"
    if not where:
        return []
    reason = (
        f"the prior, not the data, says where the {where} is: it moves it by {most:.1f} posterior standard "
        "deviations; more rows, or a weaker prior (covariance_dof, state_variance), would tell"
    )
    return [Check("prior", most, "warn", reason)]


def _draw(joint: Joint, name: str, params: Params, times: float) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
    """Parameters of a family in the user's units, of rows that were seen so many times."""
    e, S = next(e for e in joint.emissions if e.name == name), times * params[name].cpu()
    number = int(np.clip(NUMBERS // max(S.numel(), 1), *DRAWS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return e.user(e.draw(S.expand(number, *S.shape[1:])))
