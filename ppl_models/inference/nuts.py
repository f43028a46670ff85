"""The no-U-turn sampler, several chains side by side.

    u' = ∂H/∂p,  p' = −∂H/∂u,  H(u, p) = −log p(u) + ½ pᵀ M⁻¹ p

A path is doubled, forwards or backwards at random, until it turns back on itself; the next point is drawn
from all of it by its density (Hoffman & Gelman 2014, The No-U-Turn Sampler, JMLR 15,
https://jmlr.org/papers/v15/hoffman14a.html), with multinomial weights and the generalised criterion of
Betancourt (2017, A conceptual introduction to Hamiltonian Monte Carlo, https://arxiv.org/abs/1701.02434).
The tree is not recursed into but walked leaf by leaf, with the few ends of subtrees kept that a turn is
looked for between (Phan, Pradhan & Jankowiak 2019, https://arxiv.org/abs/1912.11554; Lao & Dillon 2019,
Unrolled implementation of no-U-turn sampler).

A chain is a generator that yields the point whose density it wants to know. The points of all chains are
looked up at once, as a density that takes several costs hardly more than that of one; and no chain waits for
the longer paths of another, as each goes on to its next iteration by itself. What is left to Python is a
dozen operations a leap, on small arrays of NumPy.

Each chain adapts by itself, as in Stan: its step size by dual averaging to an acceptance of `ACCEPT`, its
diagonal M⁻¹ by the variances of windows that double (Stan Development Team, Reference Manual, §15.2). With
w = √diag M⁻¹ momenta are carried as q = w p, so that they are standard normal, and energies ½ qᵀ q.
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
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

T = TypeVar("T")
Walk = Generator[np.ndarray, tuple[float, np.ndarray], T]
"""Yields points u (d,), is sent log p(u) and its gradient (d,), and ends with what it came to."""


@dataclass(frozen=True, eq=False)
class Chains:
    """What the chains went through after their warm-up.

    Attributes:
        points: (C, T, d).
        divergent: (C,) paths that lost their way.
        deepest: (C,) paths that were cut off at `DEPTH` doublings.
        accepted: (C,) mean acceptance.
        step: (C,) step sizes.
        leaps: evaluations of the density, of C points each: those of the longest chain, warm-up and all.
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
        told: called as (iterations done by every chain, of all).
    """
    C, d = start.shape
    seeds = np.random.SeedSequence(int(torch.randint(2**62, ()))).spawn(C)
    kept = [_Kept(np.empty((draws, d))) for _ in range(C)]
    at = start.double().numpy().copy()  # (C, d), of a chain that is through its last point
    value, slope = (found.double().numpy() for found in log_density(torch.from_numpy(at.copy())))
    walks: dict[int, Walk[None]] = {}
    for c in range(C):
        state = _State(at[c].copy(), float(value[c]), slope[c])
        walks[c] = _chain(state, draws, warmup, np.random.default_rng(seeds[c]), kept[c])
        at[c] = next(walks[c])
    leaps, done = 0, 0
    with np.errstate(all="ignore"):  # a path that loses its way runs over, and is known by its energy
        while walks:
            value, slope = (found.double().numpy() for found in log_density(torch.from_numpy(at.copy())))
            leaps += 1
            for c, walk in [*walks.items()]:
                try:
                    at[c] = walk.send((float(value[c]), slope[c]))
                except StopIteration:
                    del walks[c]
            if (fewest := min(each.done for each in kept)) > done:
                done = fewest
                told(done, warmup + draws)
    numbers = [(each.divergent, each.deepest, each.accepted, each.step) for each in kept]
    divergent, deepest, accepted, step = torch.tensor(numbers, dtype=torch.float64).T
    points = torch.from_numpy(np.stack([each.points for each in kept]))
    return Chains(points, divergent, deepest, accepted, step, leaps)


@dataclass
class _Kept:
    """What one chain has gone through: see `Chains`."""

    points: np.ndarray
    divergent: int = 0
    deepest: int = 0
    accepted: float = 0.0
    step: float = 0.0
    done: int = 0


class _State(NamedTuple):
    """Where a chain is: u (d,), log p, its gradient (d,)."""

    u: np.ndarray
    value: float
    slope: np.ndarray


class _End(NamedTuple):
    """An end of a path: state and momentum q (d,)."""

    state: _State
    q: np.ndarray


def _chain(state: _State, draws: int, warmup: int, rng: np.random.Generator, kept: _Kept) -> Walk[None]:
    """All iterations of one chain."""
    w = np.ones(len(state.u))
    averaging = _Averaging((yield from _first_step(state, w, rng)))
    ends, spread = _windows(warmup), _Welford(len(w))
    for t in range(warmup + draws):
        step = averaging.step if t < warmup else averaging.settled
        path = yield from _path(state, w, step, rng)
        state = path.state
        if t < warmup:
            averaging.update(path.accepted)
            if FIRST <= t < warmup - LAST:
                spread.add(state.u)
            if t in ends:
                w, spread = np.sqrt(spread.variance()), _Welford(len(w))
                averaging = _Averaging((yield from _first_step(state, w, rng)))
        else:
            kept.points[t - warmup] = state.u
            kept.divergent += path.diverged
            kept.deepest += path.deepest
            kept.accepted += path.accepted / draws
        kept.done = t + 1
    kept.step = averaging.settled


class _Path(NamedTuple):
    """What one iteration came to."""

    state: _State
    accepted: float
    diverged: bool
    deepest: bool


def _path(state: _State, w: np.ndarray, step: float, rng: np.random.Generator) -> Walk[_Path]:
    """One path."""
    q = rng.standard_normal(len(w))
    energy = 0.5 * float(q.dot(q)) - state.value
    left = right = _End(state, q)
    chosen, total, weight = state, q, 0.0  # log Σ e^{H₀ − H} of the path
    chance, count = 0.0, 0
    for depth in range(DEPTH):
        forwards = rng.random() < 0.5
        end, signed = (right, step) if forwards else (left, -step)
        tree = yield from _tree(end, w, signed, energy, 2**depth, rng)
        chance, count = chance + tree.chance, count + tree.count
        if not tree.whole:
            return _Path(chosen, chance / count, tree.diverged, False)
        if rng.random() < _exp(tree.weight - weight):  # for the new half
            chosen = tree.chosen
        weight, total = _log_add(weight, tree.weight), total + tree.total
        left, right = (left, tree.end) if forwards else (tree.end, right)
        if _turned(left.q, right.q, total - 0.5 * (left.q + right.q)):
            return _Path(chosen, chance / count, False, False)
    return _Path(chosen, chance / count, False, True)


class _Tree(NamedTuple):
    """A new half of a path.

    Attributes:
        chosen: a point of it, drawn by its density.
        weight: log Σ e^{H₀ − H}.
        total: Σ p.
        end: its far end.
        whole: whether it neither turned nor lost its way.
        diverged: whether it lost its way.
        chance: sum of min(1, e^{H₀ − H}).
        count: leaves.
    """

    chosen: _State
    weight: float
    total: np.ndarray
    end: _End
    whole: bool
    diverged: bool
    chance: float
    count: int


def _tree(
    end: _End, w: np.ndarray, step: float, energy: float, leaves: int, rng: np.random.Generator
) -> Walk[_Tree]:
    """`leaves` leaps on from an end, until the chain turns back within them.

    A leaf n that is odd closes the subtrees whose last leaf it is: one for each of its trailing ones, of
    2, 4, … leaves. Their first leaves are even, and what was there (the momentum, and the sum of all up to
    it, half of it left out) is kept at as many places as there are ones in n / 2.
    """
    (u, _, slope), q = end
    chosen, total, weight, chance = end.state, np.zeros_like(q), -math.inf, 0.0
    drift = step * w
    kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    kick = (half := 0.5 * drift) * slope
    for n in range(leaves):
        q = q + kick
        u = u + drift * q
        value, slope = yield u
        kick = half * slope
        q = q + kick
        gain = _finite(energy - 0.5 * float(q.dot(q)) + value)
        chance += _exp(gain)
        if gain < -DIVERGED:
            return _Tree(chosen, weight, total, end, False, True, chance, n + 1)
        weight = _log_add(weight, gain)
        if rng.random() < _exp(gain - weight):  # evenly within a half
            chosen = _State(u, value, slope)
        total = total + q
        place = (n >> 1).bit_count()
        upto = total - 0.5 * q
        if n % 2 == 0:
            kept[place] = (q, upto)
            continue
        trailing = ((n ^ (n + 1)).bit_length()) - 1
        for i in range(place, place - trailing, -1):
            first, before = kept[i]
            if _turned(first, q, upto - before):
                return _Tree(chosen, weight, total, end, False, False, chance, n + 1)
    return _Tree(chosen, weight, total, _End(_State(u, value, slope), q), True, False, chance, leaves)


def _finite(gain: float) -> float:
    """−∞ where the density has no number."""
    return gain if math.isfinite(gain) else -math.inf


def _exp(gain: float) -> float:
    """min(1, e^gain)."""
    return math.exp(gain) if gain < 0 else 1.0


def _log_add(a: float, b: float) -> float:
    """log(eᵃ + eᵇ), of which only a may be −∞ together with b."""
    high, low = (a, b) if a > b else (b, a)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def _turned(first: np.ndarray, last: np.ndarray, middle: np.ndarray) -> bool:
    """Whether the ends of a path come closer to each other; in either order.

    Args:
        first: q at one end.
        last: q at the other.
        middle: Σ q of all of its points, the ends by half.
    """
    return bool(first.dot(middle) <= 0 or last.dot(middle) <= 0)


def _first_step(state: _State, w: np.ndarray, rng: np.random.Generator) -> Walk[float]:
    """A step size of which one leap is accepted about half of the time (algorithm 4 of the paper)."""
    step, direction = 0.5, 0
    q = rng.standard_normal(len(w))
    before = 0.5 * float(q.dot(q)) - state.value
    for _ in range(40):
        moved = q + 0.5 * step * w * state.slope
        value, slope = yield state.u + step * w * moved
        moved = moved + 0.5 * step * w * slope
        gain = _finite(before - 0.5 * float(moved.dot(moved)) + value)
        own = 1 if gain > math.log(0.5) else -1
        direction = direction or own
        if own != direction:
            break
        step *= 2.0**direction
    return step


class _Averaging:
    """Dual averaging of a log step size (Nesterov 2009; Hoffman & Gelman, §3.2)."""

    def __init__(self, step: float) -> None:
        self.centre = math.log(10 * step)
        self.log_step, self.log_mean = math.log(step), 0.0
        self.error, self.count = 0.0, 0

    def update(self, accepted: float) -> None:
        """One iteration was accepted so often."""
        self.count += 1
        share = 1 / (self.count + 10)
        self.error = (1 - share) * self.error + share * (ACCEPT - accepted)
        self.log_step = self.centre - self.count**0.5 / 0.05 * self.error
        share = self.count**-0.75
        self.log_mean = share * self.log_step + (1 - share) * self.log_mean

    @property
    def step(self) -> float:
        """While it is adapted."""
        return math.exp(self.log_step)

    @property
    def settled(self) -> float:
        """Afterwards."""
        return math.exp(self.log_mean) if self.count else self.step


class _Welford:
    """Variances (d,) of points that come one after another."""

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self.mean, self.square = np.zeros(dimension), np.zeros(dimension)

    def add(self, u: np.ndarray) -> None:
        """A point of the chain."""
        self.count += 1
        off = u - self.mean
        self.mean = self.mean + off / self.count
        self.square = self.square + off * (u - self.mean)

    def variance(self) -> np.ndarray:
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
