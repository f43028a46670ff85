"""One name for each state in every draw, where the density is the same under every renaming.

States of a draw are named as those of a reference θ* whose rows they share most (Stephens 2000, Dealing with
label switching in mixture models, J. R. Statist. Soc. B 62, https://doi.org/10.1111/1467-9868.00265): with
p_nj = p(z_n = j | x, θ) of the draw and q_nk of the reference, the order of the states minimises

    Σ_n Σ_k p_{n, order(k)} log(p_{n, order(k)} / q_nk),

an assignment of states to states. So the names do not depend on what the states are like: two of equal means
keep apart, and one that no row is in takes what name is left rather than moving the others.
"""

import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.data.excerpt import excerpt
from ppl_models.draws import groups, on_device
from ppl_models.importing import lazy
from ppl_models.latent.unconstrained import ExactPosterior

optimize = lazy("scipy.optimize")

ROWS = 500
"""Rows that states are compared on, about."""

NEVER = 1e-6
"""Probability that stands for none, so that a single row does not name a state."""


class Reference:
    """θ* and the rows that states are compared on.

    Args:
        exact: the log joint density.
        data: its rows, of which an excerpt is taken.
        loc: u* (d,).
        seed: of the excerpt.
    """

    def __init__(self, exact: ExactPosterior, data: Dataset, loc: Tensor, seed: int) -> None:
        self.joint, self.space, self.loc = exact.joint, exact.space, loc
        some = excerpt(data, ROWS, ordered=not self.joint.exchangeable, seed=seed)
        self.batch = (
            exact.batch if some is data else self.joint.dataset_batch(some, exact.batch.values.device)
        )
        self.log_q = self.memberships(loc[None])[0].clamp_min(NEVER).log()  # (n, K)

    def memberships(self, points: Tensor) -> Tensor:
        """p(z_n = k | x, θ(u)), (S, n, K)."""
        joint, batch = self.joint, self.batch
        natural = joint.natural(on_device(self.space.theta(points)[0], batch.values.device))
        return joint.structure.marginals(joint.density(batch, natural), natural, batch.rows).smoothed.cpu()

    def order(self, points: Tensor) -> Tensor:
        """(S, K) which state of each draw has the name k."""
        parts = groups(len(points), 2 * self.log_q.numel())
        return assigned(torch.cat([self.memberships(points[at]).mT @ self.log_q for at in parts]))


def assigned(gain: Tensor) -> Tensor:
    """The order (S, K) of rows i that has the largest Σ_k gain[s, order_k, k], each taken once.

    Args:
        gain: (S, K, K).
    """
    columns = torch.arange(gain.shape[1])
    order = gain.argmax(1)  # as good as can be, where no two are the same
    own = gain.diagonal(dim1=1, dim2=2)
    order[(gain.amax(1) <= own).all(1)] = columns
    for s in (order.sort(1).values != columns).any(1).nonzero().flatten().tolist():
        order[s] = torch.from_numpy(optimize.linear_sum_assignment(gain[s].T.numpy(), maximize=True)[1])
    return order


def identify(reference: Reference, points: Tensor) -> Tensor:
    """Points (S, d) with states named, and factors turned, as in the reference, where nothing else tells."""
    joint, points = reference.joint, _named(reference, points)
    if not joint.rotates:
        return points
    theta, like = (dict(reference.space.theta(u)[0]) for u in (points, reference.loc[None]))
    for e in joint.emissions:
        theta[e.name] = e.aligned(theta[e.name], like[e.name])
    return reference.space.point(theta)


def _named(reference: Reference, points: Tensor) -> Tensor:
    joint = reference.joint
    if not joint.symmetric:
        return points
    order = reference.order(points)
    moved = (order != torch.arange(joint.states)).any(1)
    if not bool(moved.any()):
        return points
    theta, _ = reference.space.theta(points[moved])
    points = points.clone()
    points[moved] = reference.space.point(joint.permute(theta, order[moved]))
    return points


def crosses(reference: Reference, points: Tensor) -> float:
    """The share of draws that have gone over into those of other names of the states."""
    if not reference.joint.symmetric:
        return 0.0
    order = reference.order(points)
    return float((order != torch.arange(reference.joint.states)).any(1).double().mean())
