"""Draws of a Gaussian moved to the posterior by short Hamiltonian chains, where it is too far from it.

The chains go on in stages, each twice as long as the one before, or with paths that go twice as far if the
last were too short to forget, and in the coordinates of the covariance that was found so far, until a stage
no longer moves the middle and the width of a parameter. That they forgot where they were half-way is not
enough by itself: a tail that the Gaussian does not reach is entered slowly, and each stage then moves them a
little further.
"""

import math

import torch
from torch import Tensor

from ppl_models.draws import Params
from ppl_models.inference.gaussian import cholesky
from ppl_models.inference.moves import LEAPS, move
from ppl_models.inference.psis import smooth
from ppl_models.models.program.modes import Jump, gaussians, images, refreshed, within
from ppl_models.models.program.program import Program
from ppl_models.threads import threads_for

DIMENSIONS, CHAINS = 1_000, 500
"""Of the posterior at most, and how many chains at most."""

WORK = 60_000_000
"""Numbers × chains × gradients of a stage, about; large models get fewer chains, at least `FEWEST`."""

FEWEST = 128

MOST = 200_000_000
"""The same at most, beyond which nothing is moved."""

FIRST, STAGES, KEPT = 12, 5, 16
"""Paths of the first stage, stages at most, and paths of each whose points are kept."""

STILL = 0.1
"""Share of an sd by which a stage may move the middle or a side, beside what chance does."""


def movable(bound: Program) -> bool:
    """Whether the data is small enough, and there is time."""
    if bound.late():
        return False
    return bound.parameters <= DIMENSIONS and bound.density.cells * FEWEST * 4 * 16 <= MOST


def moved(bound: Program, params: Params) -> dict[str, Tensor]:
    """Points of the posterior, and how far they forgot the Gaussian: what `restored_guide` takes."""
    chains = int(min(max(WORK // (bound.density.cells * 4 * 16), FEWEST), CHAINS))
    with threads_for(bound.density.cells * chains):
        points = _weighed(bound, params, chains)
        drawn = bound.point(bound.draw(params, 20 * bound.parameters + CHAINS))
        q, group = gaussians(params), images(params)
        covariance = within(q, drawn)
        before, rounds, change, found, leaps = None, FIRST, 1.0, None, LEAPS
        for _ in range(STAGES):
            if found is not None and bound.late():
                break
            points = points[_along(points)]  # chains beside one another begin near one another
            several = len(q.log_weight) > 1 or group is not None
            jump = Jump(bound.density, q, group) if several else None
            found = move(
                bound.density, points, _factor(covariance), most=rounds, least=FIRST, keep=KEPT, leaps=leaps,
                jump=jump, late=bound.late,
            )  # fmt: skip
            change = 1.0 if before is None else _change(before, found.points)
            if before is not None and change <= _still(bound, chains) and found.forgot:
                break
            if found.forgot:  # else paths that go further
                rounds *= 2
            else:
                leaps *= 2
            before = found.points
            points = found.points[-chains:]
            q = refreshed(q, found.points)
            covariance = 0.5 * covariance + 0.5 * within(q, found.points)
        assert found is not None
    rest = found.memory if change <= _still(bound, chains) else 1.0  # the moments had not come to rest
    memory = torch.tensor([rest, found.limit], dtype=torch.float64)
    return {"points": found.points, "memory": memory, "chains": torch.tensor([float(chains)])}


def _along(points: Tensor) -> Tensor:
    """The order of points along the direction in which they differ most."""
    x = (points - points.mean(0)) / points.std(0).clamp_min(1e-300)
    return (x @ torch.linalg.svd(x, full_matrices=False)[2][0]).argsort()


def _still(bound: Program, chains: int) -> float:
    """How far the quantile that moved most may have moved, in sds: chance is larger among many."""
    return STILL + max(2.0, 0.9 * (2 * math.log(3 * bound.parameters)) ** 0.5) / chains**0.5


def _weighed(bound: Program, params: Params, chains: int) -> Tensor:
    """Draws of the Gaussian chosen by their importance weights, so that tails are entered from the start."""
    u = bound.point(bound.draw(params, 4 * chains))
    theta = bound.theta(u)
    log_p = bound.log_evidence(bound.density, theta) + bound.log_prior(theta)
    weight = torch.from_numpy(smooth((log_p - bound.log_q(theta, params)).numpy()).log_weight).exp()
    if not bool(torch.isfinite(weight).all()):
        return u[:chains]
    return u[torch.multinomial(weight, chains, replacement=True)]


def _factor(covariance: Tensor) -> Tensor:
    nugget = 1e-9 * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=covariance.dtype)
    return cholesky(covariance + nugget)


def _change(before: Tensor, after: Tensor) -> float:
    """How far the quantiles of −1, 0 and 1 sds of a normal moved, in sds.

    Not moments: where a scale may be next to zero, those of its logarithm belong to a few points.
    """
    at = torch.tensor([0.159, 0.5, 0.841], dtype=after.dtype)
    old, new = before.quantile(at, dim=0), after.quantile(at, dim=0)
    return float(((new - old) / (0.5 * (new[2] - new[0])).clamp_min(1e-300)).abs().max())
