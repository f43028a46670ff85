"""One name for each state in every draw, where the density is the same under every renaming."""

from itertools import permutations

import torch
from torch import Tensor

from ppl_models.draws import Draws
from ppl_models.latent.joint import Joint
from ppl_models.latent.unconstrained import GaussianGuide

MOST = 5
"""States up to which every order is tried."""


def by_first_column(joint: Joint, theta: Draws) -> Tensor | None:
    """States of each draw in order of the mean of the only column, (S, K); None if there are more."""
    only, *others = joint.emissions
    if others or len(only.columns) > 1:
        return None
    found = only.user(theta[only.name])
    for name in ("mean", "rate", "probability"):
        if name in found:
            return found[name][0][..., 0].argsort(1)
    return None


def identify(joint: Joint, guide: GaussianGuide, points: Tensor) -> Tensor:
    """Points (S, d) with the states named alike.

    In order of the mean of the column, where there is only one; else as the guide is most probable, which
    is what Stephens (2000, Dealing with label switching in mixture models, J. R. Statist. Soc. B 62) does
    with a fixed target.

    Args:
        joint: the model.
        guide: the Gaussian whose names of the states count.
        points: u (S, d).

    Returns:
        The points with states renamed, (S, d); as they are where states are not alike, or where there are
        more than `MOST` and no single column to order them by.
    """
    if not joint.symmetric:
        return points
    theta, _ = guide.space.theta(points)
    order = by_first_column(joint, theta)
    if order is not None:
        return guide.space.point(joint.permute(theta, order))
    if joint.states > MOST:
        return points
    best, best_log_q = points, guide.log_point(points)
    for other in permutations(range(joint.states)):
        if other == tuple(range(joint.states)):
            continue
        renamed = guide.space.point(joint.permute(theta, torch.tensor(other).expand(len(points), -1)))
        log_q = guide.log_point(renamed)
        better = log_q > best_log_q
        best = torch.where(better[:, None], renamed, best)
        best_log_q = torch.where(better, log_q, best_log_q)
    return best
