"""Draws of a guide moved to the posterior: many short Hamiltonian chains at once.

Every draw u of a guide starts a chain of its own that leaves the exact posterior as it is: a random
momentum p ~ N(0, I) in the coordinates x of u = m + L x, some leapfrog steps of size ε, and Metropolis'
accept or reject (Neal 2011, MCMC using Hamiltonian dynamics, Handbook of MCMC, ch. 5,
https://arxiv.org/abs/1206.1901). With L Lᵀ the guide's covariance the posterior is nearly round in x, so
that one path of length about π/2 forgets nearly all of where it began. Chains that begin close to the
posterior and are many need only be so long that they forget the guide (Hoffman & Sountsov 2022, AISTATS;
Margossian et al. 2024, Nested R̂, Bayesian Analysis 19). Whether they did can be
seen: the correlation across chains between where they were half-way and where they are, of every
coordinate and of its square about the mean.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_models.inference.gaussian import LogDensity

LEAPS = 4
"""Leapfrog steps a path; with steps of about 0.4 a quarter of a turn."""

ACCEPTED = 0.8
"""Share of paths that should be accepted: the step is as long as that allows."""

FORGOTTEN = 0.15
"""Correlation with half-way up to which the start counts as forgotten."""


@dataclass(frozen=True)
class Moved:
    """Where the chains ended.

    Attributes:
        points: where the chains were in the last rounds, (rounds kept · S, d).
        log_p: log density at the points.
        accepted: share of the paths of the last round.
        memory: the largest correlation with half-way.
        limit: the one up to which the start counts as forgotten.
        rounds: paths of every chain.
    """

    points: Tensor
    log_p: Tensor
    accepted: float
    memory: float
    limit: float
    rounds: int

    @property
    def forgot(self) -> bool:
        """Whether the draws no longer depend on the guide."""
        return self.memory <= self.limit


def move(
    log_density: LogDensity,
    points: Tensor,
    scale_tril: Tensor,
    *,
    most: int,
    identify: Callable[[Tensor], Tensor] = lambda u: u,
    least: int = 8,
    keep: int = 8,
    leaps: int = LEAPS,
    jump: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]] | None = None,
    late: Callable[[], bool] = lambda: False,
) -> Moved:
    """Move points until they have forgotten where they came from.

    Args:
        log_density: the exact log joint density and its gradient.
        points: draws of a guide, (S, d).
        scale_tril: the factor of the covariance in whose coordinates to move.
        most: rounds at most, before those that are kept.
        identify: names states of points in one way, where the density does not tell them apart.
        least: rounds after which to look first; then each time that they have doubled.
        keep: rounds to go on once the start is forgotten, all of whose points are returned.
        leaps: leapfrog steps of a path.
        jump: other moves that leave the posterior as it is, made before each path: from points, log densities
            and gradients to others.
        late: whether there is no time for a further round.
    """
    u = points.clone()
    value, slope = log_density(u)
    slope = slope @ scale_tril
    limit = FORGOTTEN + 3 / math.sqrt(len(u))
    log_step, half, check, memory, accepted = math.log(0.4), u, least, 1.0, 0.0
    done, kept = 0, []
    while done < most or len(kept) < keep:
        done += 1
        if jump is not None:
            u, value, own = jump(
                u, value, torch.linalg.solve_triangular(scale_tril, slope, upper=False, left=False)
            )
            slope = own @ scale_tril
        ended, new_value, new_slope, energy = _path(
            log_density, u, value, slope, scale_tril, math.exp(log_step), leaps
        )
        chance = energy.clamp_max(0.0).exp().nan_to_num(0.0)
        accept = torch.rand(len(u), dtype=torch.float64) < chance
        u = torch.where(accept[:, None], ended, u)
        value = torch.where(accept, new_value, value)
        slope = torch.where(accept[:, None], new_slope, slope)
        accepted = float(chance.mean())
        if done <= least:  # only in the beginning, so that later rounds leave the posterior as it is
            log_step += 0.7 / math.sqrt(done) * (accepted - ACCEPTED)
        if kept or done > most or memory <= limit:
            kept.append((u, value))
            if len(kept) == keep or late():
                break
            continue
        if late():
            kept = [(u, value)]
            break
        if done == check // 2:
            half = identify(u)
        if done == check:
            memory = correlation(half, identify(u))
            half, check = identify(u), 2 * check
    everything = identify(torch.cat([u for u, _ in kept]))
    return Moved(everything, torch.cat([v for _, v in kept]), accepted, memory, limit, done)


def _path(
    log_density: LogDensity, u: Tensor, value: Tensor, slope: Tensor, L: Tensor, step: float, leaps: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One path of every chain: its end, the density and slope there, and the gain of log density."""
    p = torch.randn_like(u)
    size = step * (0.8 + 0.4 * torch.rand(len(u), 1, dtype=u.dtype))
    kinetic = 0.5 * (p**2).sum(1)
    end, end_value, end_slope = u, value, slope
    for _ in range(leaps):
        p = p + 0.5 * size * end_slope
        end = end + (size * p) @ L.T
        end_value, gradient = log_density(end)
        end_slope = gradient @ L
        p = p + 0.5 * size * end_slope
    return end, end_value, end_slope, end_value - 0.5 * (p**2).sum(1) - value + kinetic


def correlation(before: Tensor, after: Tensor) -> float:
    """The largest correlation across chains of a coordinate, or of its square about the mean."""

    def each(a: Tensor, b: Tensor) -> Tensor:
        a, b = a - a.mean(0), b - b.mean(0)
        return (a * b).mean(0) / ((a**2).mean(0) * (b**2).mean(0)).clamp_min(1e-300).sqrt()

    mean = after.mean(0)
    return float(torch.cat([each(before, after), each((before - mean) ** 2, (after - mean) ** 2)]).max())
