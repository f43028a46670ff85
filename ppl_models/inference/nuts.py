"""The no-U-turn sampler, several chains side by side.

    u' = −∂H/∂p,  H(u, p) = −log p(u) + ½ pᵀ M⁻¹ p

A path is doubled, forwards or backwards at random, until it turns back on itself; the next point is drawn
from all of it by its density (Hoffman & Gelman 2014, The No-U-Turn Sampler, JMLR 15,
https://jmlr.org/papers/v15/hoffman14a.html), with multinomial weights and the generalised criterion of
Betancourt (2017, A conceptual introduction to Hamiltonian Monte Carlo, https://arxiv.org/abs/1701.02434).
The tree is not recursed into but walked leaf by leaf, with the few ends of subtrees kept that a turn is
looked for between (Phan, Pradhan & Jankowiak 2019, https://arxiv.org/abs/1912.11554; Lao & Dillon 2019,
Unrolled implementation of no-U-turn sampler), so that all chains go on in step, and a density that takes many
points at once costs hardly more than that of one.

Each chain adapts by itself, as in Stan: its step size by dual averaging to an acceptance of `ACCEPT`, its
diagonal M⁻¹ by the variances of windows that double (Stan Development Team, Reference Manual, §15.2).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_models.inference.gaussian import LogDensity

ACCEPT = 0.85
"""Acceptance that step sizes aim at."""

DEPTH = 10
"""Doublings of a path at most."""

DIVERGED = 1_000.0
"""Nats of energy by which a path that loses its way is known."""

FIRST, WINDOW, LAST = 75, 25, 50
"""Iterations of the warm-up before M is looked at, of its first window, and after the last one."""


@dataclass(frozen=True, eq=False)
class Chains:
    """What the chains went through after their warm-up.

    Attributes:
        points: (C, T, d).
        divergent: (C,) paths that lost their way.
        deepest: (C,) paths that were cut off at `DEPTH` doublings.
        accepted: (C,) mean acceptance.
        step: (C,) step sizes.
        leaps: gradients of the longest chain, warm-up and all.
    """

    points: Tensor
    divergent: Tensor
    deepest: Tensor
    accepted: Tensor
    step: Tensor
    leaps: int


def nuts(
    log_density: LogDensity,
    start: Tensor,
    *,
    draws: int,
    warmup: int,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> Chains:
    """Chains from some points, by torch's global generator.

    Args:
        log_density: of points (C, d) values and gradients; −∞ where there is none.
        start: where chains begin, (C, d), apart from one another.
        draws: T of each after the warm-up.
        warmup: iterations before them.
        told: called as (iterations done, of all).
    """
    C, d = start.shape
    state = _State(start, *log_density(start))
    inverse_mass = torch.ones(C, d, dtype=start.dtype)
    averaging = _Averaging(_first_step(log_density, state, inverse_mass))
    ends, spread = _windows(warmup), _Welford(C, d)
    points = torch.empty(C, draws, d, dtype=start.dtype)
    divergent, deepest = torch.zeros(C), torch.zeros(C)
    accepted, leaps = torch.zeros(C, dtype=start.dtype), 0
    for t in range(warmup + draws):
        step = averaging.step if t < warmup else averaging.settled
        path = _path(log_density, state, inverse_mass, step)
        state, leaps = path.state, leaps + path.leaps
        if t < warmup:
            averaging.update(path.accepted)
            if FIRST <= t < warmup - LAST:
                spread.add(state.u)
            if t in ends:
                inverse_mass = spread.variance()
                spread = _Welford(C, d)
                averaging = _Averaging(_first_step(log_density, state, inverse_mass))
        else:
            points[:, t - warmup] = state.u
            divergent += path.diverged
            deepest += path.deepest
            accepted += path.accepted / draws
        told(t + 1, warmup + draws)
    return Chains(points, divergent, deepest, accepted, averaging.settled, leaps)


@dataclass(frozen=True)
class _State:
    """Where chains are: u (C, d), log p (C,), its gradient (C, d)."""

    u: Tensor
    value: Tensor
    slope: Tensor

    def where(self, chosen: Tensor, other: "_State") -> "_State":
        """This one of the chains that are `chosen`, else the other."""
        at = chosen[:, None]
        return _State(
            torch.where(at, self.u, other.u),
            torch.where(chosen, self.value, other.value),
            torch.where(at, self.slope, other.slope),
        )


@dataclass(frozen=True)
class _Path:
    """What one iteration came to."""

    state: _State
    accepted: Tensor
    diverged: Tensor
    deepest: Tensor
    leaps: int


def _path(log_density: LogDensity, state: _State, inverse_mass: Tensor, step: Tensor) -> _Path:
    """One path of every chain."""
    C = len(state.u)
    p = torch.randn_like(state.u) / inverse_mass.sqrt()
    energy = _energy(state.value, p, inverse_mass)
    left = right = (state, p)
    chosen, total, weight = state, p, torch.zeros(C, dtype=p.dtype)  # log Σ e^{H₀ − H} of the path
    going = torch.ones(C, dtype=torch.bool)
    diverged, chance = torch.zeros(C, dtype=torch.bool), torch.zeros(C, dtype=p.dtype)
    count, leaps, depth = torch.zeros(C, dtype=p.dtype), 0, 0
    while bool(going.any()) and depth < DEPTH:
        forwards = torch.rand(C) < 0.5
        sign = torch.where(forwards, 1.0, -1.0).to(p.dtype)
        end = _either(forwards, right, left)
        tree = _tree(log_density, end, inverse_mass, sign * step, energy, 2**depth, going)
        leaps += tree.leaps
        chance, count = chance + tree.chance, count + tree.count
        diverged = diverged | (tree.diverged & going)
        grown = going & tree.whole
        accept = grown & (torch.rand(C, dtype=p.dtype).log() < tree.weight - weight)  # for the new half
        chosen = tree.chosen.where(accept, chosen)
        weight = torch.where(grown, torch.logaddexp(weight, tree.weight), weight)
        total = torch.where(grown[:, None], total + tree.total, total)
        right = _either(grown & forwards, tree.end, right)
        left = _either(grown & ~forwards, tree.end, left)
        going = grown & ~_turned(inverse_mass, left[1], right[1], total)
        depth += 1
    return _Path(chosen, chance / count.clamp_min(1.0), diverged, going, leaps)


@dataclass(frozen=True)
class _Tree:
    """A new half of a path.

    Attributes:
        chosen: a point of it, drawn by its density.
        weight: log Σ e^{H₀ − H}.
        total: Σ p.
        end: state and momentum at its far end.
        whole: chains in which it neither turned nor lost its way.
        diverged: chains that lost their way.
        chance: sum of min(1, e^{H₀ − H}).
        count: leaves.
        leaps: gradients.
    """

    chosen: _State
    weight: Tensor
    total: Tensor
    end: tuple[_State, Tensor]
    whole: Tensor
    diverged: Tensor
    chance: Tensor
    count: Tensor
    leaps: int


def _tree(
    log_density: LogDensity,
    end: tuple[_State, Tensor],
    inverse_mass: Tensor,
    step: Tensor,
    energy: Tensor,
    leaves: int,
    going: Tensor,
) -> _Tree:
    """`leaves` leaps on from an end, until a chain turns back within them.

    A leaf n that is odd closes the subtrees whose last leaf it is: one for each of its trailing ones, of
    2, 4, … leaves. Their first leaves are even, and what was there (the momentum, and the sum of all up to
    it) is kept at as many places as there are ones in n / 2.
    """
    state, p = end
    C = len(state.u)
    chosen, total = state, torch.zeros_like(p)
    weight = torch.full((C,), -math.inf, dtype=p.dtype)
    diverged, turned = torch.zeros(C, dtype=torch.bool), torch.zeros(C, dtype=torch.bool)
    chance, count = torch.zeros(C, dtype=p.dtype), torch.zeros(C, dtype=p.dtype)
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    leaps = 0
    for n in range(leaves):
        active = going & ~diverged & ~turned
        if not bool(active.any()):
            break
        leaps += 1
        fresh, moved = _leap(log_density, state, p, inverse_mass, step)
        gain = _finite(energy - _energy(fresh.value, moved, inverse_mass))
        lost = active & (gain < -DIVERGED)
        diverged, alive = diverged | lost, active & ~lost
        chance = torch.where(active, chance + gain.exp().clamp_max(1.0), chance)
        count = count + active
        heavier = torch.logaddexp(weight, gain)
        take = alive & (torch.rand(C, dtype=p.dtype).log() < gain - heavier)  # evenly within a half
        chosen = fresh.where(take, chosen)
        weight = torch.where(alive, heavier, weight)
        total = torch.where(alive[:, None], total + moved, total)
        state, p = fresh.where(alive, state), torch.where(alive[:, None], moved, p)
        place = (n >> 1).bit_count()
        if n % 2 == 0:
            kept[place] = (p, total)
            continue
        trailing = ((n ^ (n + 1)).bit_length()) - 1
        for i in range(place, place - trailing, -1):
            first, upto = kept[i]
            turned = turned | (alive & _turned(inverse_mass, first, p, total - upto + first))
    whole = going & ~diverged & ~turned
    return _Tree(chosen, weight, total, (state, p), whole, diverged, chance, count, leaps)


def _leap(
    log_density: LogDensity, state: _State, p: Tensor, inverse_mass: Tensor, step: Tensor
) -> tuple[_State, Tensor]:
    """One leapfrog step."""
    at = step[:, None]
    p = p + 0.5 * at * state.slope
    u = state.u + at * inverse_mass * p
    value, slope = log_density(u)
    return _State(u, value, slope), p + 0.5 * at * slope


def _energy(value: Tensor, p: Tensor, inverse_mass: Tensor) -> Tensor:
    return 0.5 * (inverse_mass * p**2).sum(1) - value


def _finite(gain: Tensor) -> Tensor:
    """−∞ where the density has no number."""
    return gain.nan_to_num(-math.inf, -math.inf, -math.inf)


def _turned(inverse_mass: Tensor, first: Tensor, last: Tensor, total: Tensor) -> Tensor:
    """Whether the ends of a path, whose momenta sum to `total`, come closer to each other; either order."""
    middle = total - 0.5 * (first + last)
    return ((inverse_mass * first * middle).sum(1) <= 0) | ((inverse_mass * last * middle).sum(1) <= 0)


def _either(
    chosen: Tensor, first: tuple[_State, Tensor], second: tuple[_State, Tensor]
) -> tuple[_State, Tensor]:
    return first[0].where(chosen, second[0]), torch.where(chosen[:, None], first[1], second[1])


def _first_step(log_density: LogDensity, state: _State, inverse_mass: Tensor) -> Tensor:
    """Step sizes (C,) of which one leap is accepted about half of the time (algorithm 4 of the paper)."""
    C = len(state.u)
    step = torch.full((C,), 0.5, dtype=state.u.dtype)
    p = torch.randn_like(state.u) / inverse_mass.sqrt()
    before = _energy(state.value, p, inverse_mass)
    direction = torch.zeros(C, dtype=state.u.dtype)
    for _ in range(40):
        fresh, moved = _leap(log_density, state, p, inverse_mass, step)
        gain = _finite(before - _energy(fresh.value, moved, inverse_mass))
        own = torch.where(gain > math.log(0.5), 1.0, -1.0).to(step)
        direction = torch.where(direction == 0, own, direction)
        going = own == direction
        if not bool(going.any()):
            break
        step = torch.where(going, step * 2.0**direction, step)
    return step


class _Averaging:
    """Dual averaging of log step sizes, chain by chain (Nesterov 2009; Hoffman & Gelman, §3.2)."""

    def __init__(self, step: Tensor) -> None:
        self.centre = (10 * step).log()
        self.log_step, self.log_mean = step.log(), torch.zeros_like(step)
        self.error, self.count = torch.zeros_like(step), 0

    def update(self, accepted: Tensor) -> None:
        """One iteration was accepted so often."""
        self.count += 1
        share = 1 / (self.count + 10)
        self.error = (1 - share) * self.error + share * (ACCEPT - accepted)
        self.log_step = self.centre - self.count**0.5 / 0.05 * self.error
        share = self.count**-0.75
        self.log_mean = share * self.log_step + (1 - share) * self.log_mean

    @property
    def step(self) -> Tensor:
        """While it is adapted."""
        return self.log_step.exp()

    @property
    def settled(self) -> Tensor:
        """Afterwards."""
        return self.log_mean.exp() if self.count else self.step


class _Welford:
    """Variances (C, d) of points that come one after another."""

    def __init__(self, chains: int, dimension: int) -> None:
        self.count = 0
        self.mean = torch.zeros(chains, dimension, dtype=torch.float64)
        self.square = torch.zeros(chains, dimension, dtype=torch.float64)

    def add(self, u: Tensor) -> None:
        """A point of each chain."""
        self.count += 1
        off = u - self.mean
        self.mean = self.mean + off / self.count
        self.square = self.square + off * (u - self.mean)

    def variance(self) -> Tensor:
        """Drawn towards 10⁻³ as by five points, as Stan does."""
        n = self.count
        return n / (n + 5) * self.square / max(n - 1, 1) + 1e-3 * 5 / (n + 5)


def _windows(warmup: int) -> tuple[int, ...]:
    """The iterations after which M is learned anew; the last window takes what is left.

    Example:
        >>> _windows(1_000)
        (99, 149, 249, 449, 949)
    """
    found, at, size = [], FIRST, WINDOW
    last = warmup - LAST
    while at + size <= last:
        if at + size + 2 * size > last:
            size = last - at
        at += size
        found.append(at - 1)
        size *= 2
    return tuple(found)
