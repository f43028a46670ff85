"""When the gradient rule cuts its step size, and when it stops.

- `Patience`, for networks: the ELBO of held-out rows at the averaged weights, after every pass. When it has
  not risen for some passes, the step size is cut and training goes on from the best weights; after two cuts
  it ends. What is kept is the best.
- `Passes`, for networks whose step size falls on a line: so many passes, or fewer where the ELBO of held-out
  rows has not risen for some looks. What is kept is the best.
- `Stationary`, for the guide of a posterior: the iterates are a Markov chain around the optimum. When the
  two halves of the last window agree (split R-hat) and the window is worth enough independent iterates for
  its mean to be known (MCSE), their average is the answer at this step size; then the step size is cut, until
  the ELBO of the average no longer rises (Dhaka et al. 2020, NeurIPS, https://arxiv.org/abs/2009.00666;
  Welandawe et al. 2022, https://arxiv.org/abs/2203.15945).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ppl_models.inference.gradient import (
    GradientState,
    Kept,
    StochasticTarget,
    copied,
    put,
    remembered,
    weights,
)


@torch.no_grad()
def evidence_of(target: StochasticTarget, values: Mapping[str, Tensor]) -> float:
    """The evidence at other weights than those of the module, which stay."""
    now = copied(weights(target.module))
    put(target.module, values)
    try:
        return target.evidence()
    finally:
        put(target.module, now)


@dataclass(frozen=True)
class Patience:
    """Stops a network by its held-out ELBO.

    Attributes:
        looks: looks without a gain after which the step size is cut.
        cuts: after so many cuts the next such wait ends the fit.
        gain: nats a row that count as a gain.
    """

    looks: int = 10
    cuts: int = 2
    gain: float = 1e-3

    def seen(self, state: GradientState, target: StochasticTarget) -> None:
        """Nothing to remember."""

    def look(self, state: GradientState, target: StochasticTarget) -> Kept:
        """Better than before, or one more look to wait."""
        memory = state.numbers
        value = evidence_of(target, state.average)
        best, mark = memory.get("best", -math.inf), memory.get("mark", -math.inf)
        weights_now = None
        if value > best:
            weights_now, memory["best"] = copied(state.average), value
            remember(state, weights_now)
        if value > mark + self.gain or state.epoch <= target.warm_up:
            memory["mark"], memory["waited"] = max(value, mark), 0.0
        else:
            memory["waited"] = memory.get("waited", 0.0) + 1
        left = max(value - mark, self.gain) if math.isfinite(mark) else math.inf
        if memory["waited"] >= self.looks:
            memory["waited"] = 0.0
            memory["cut"] = memory.get("cut", 0.0) + 1
            if memory["cut"] > self.cuts:
                left = 0.0
            else:
                state.shrink *= 0.3
                before = remembered(state)
                if before:
                    put(target.module, before)
                    state.average = copied(before)
        return Kept(weights_now, max(value, best), left)


@dataclass(frozen=True)
class Passes:
    """Ends a network after so many passes over the data, or when its held-out ELBO no longer rises.

    Attributes:
        passes: over the data.
        looks: looks without a gain after which it ends before.
        gain: nats a row that count as a gain.
    """

    passes: int
    looks: int = 10
    gain: float = 1e-3

    def seen(self, state: GradientState, target: StochasticTarget) -> None:
        """Nothing to remember."""

    def look(self, state: GradientState, target: StochasticTarget) -> Kept:
        """Better than before, or one more look to wait: of the average and of the weights as they are.

        The average is behind while much is learned, and with small steps there is nothing left to average.
        """
        memory = state.numbers
        averaged, now = evidence_of(target, state.average), target.evidence()
        value = max(averaged, now)
        best, mark = memory.get("best", -math.inf), memory.get("mark", -math.inf)
        found = None
        if value > best:
            found = copied(state.average if averaged >= now else weights(target.module))
            memory["best"] = value
            remember(state, found)
        if value > mark + self.gain:
            memory["mark"], memory["waited"] = value, 0.0
        else:
            memory["waited"] = memory.get("waited", 0.0) + 1
        left = max(value - mark, self.gain) if math.isfinite(mark) else math.inf
        if state.epoch >= self.passes or memory["waited"] >= self.looks:
            left = 0.0
        return Kept(found, max(value, best), left)


@dataclass(frozen=True)
class Stationary:
    """Stops the guide of a posterior by the windows of its iterates.

    Attributes:
        r_hat: up to which the two halves of a window agree.
        effective: independent iterates that a window must be worth.
        cuts: of the step size, at most.
        gain: nats that the ELBO of the average must rise by from one step size to the next to go on.
        longest: steps after which a stage ends all the same.
    """

    r_hat: float = 1.1
    effective: float = 20.0
    cuts: int = 8
    gain: float = 0.05
    longest: int = 5_000

    def seen(self, state: GradientState, target: StochasticTarget) -> None:
        """Remember the iterate; every second one is forgotten when there are too many."""
        x = torch.cat([w.flatten() for w in weights(target.module).values()])
        memory = state.numbers
        every = memory.setdefault("every", 1.0)
        if state.step % int(every):
            return
        most = int(min(2_000, max(200, 4e6 // len(x))))
        window = state.tensors.get("window")
        if window is None or len(window) != most:
            window = state.tensors["window"] = x.new_zeros(most, len(x))
        filled = int(memory.get("filled", 0.0))
        if filled == most:
            window[: most // 2] = window[::2][: most // 2].clone()
            filled, memory["every"] = most // 2, 2 * every
        window[filled] = x
        memory["filled"] = float(filled + 1)

    def look(self, state: GradientState, target: StochasticTarget) -> Kept:
        """At the second half of this stage's iterates: do its halves agree, and is its mean known?"""
        memory = state.numbers
        best, left = memory.get("best", -math.inf), math.inf
        filled = int(memory.get("filled", 0.0))
        window = state.tensors["window"][filled // 2 : filled]
        if len(window) < 50:
            return Kept(None, None, left)
        worst, effective = split_r_hat(window)
        long = state.step - memory.get("since", 0.0) > self.longest
        if not long and (worst > self.r_hat or effective < self.effective):
            return Kept(None, None, left)
        mean = split(window.mean(0), target.module)
        value = evidence_of(target, mean)
        found = None
        if value > best:
            found, memory["best"] = mean, value
            remember(state, mean)
            put(target.module, mean)
            state.average = copied(mean)
        gained = (value - best) * target.rows
        memory["cut"] = memory.get("cut", 0.0) + 1
        if memory["cut"] > self.cuts or (memory["cut"] > 1 and gained < self.gain):
            left = 0.0
        state.shrink *= 0.4
        memory |= {"filled": 0.0, "every": 1.0, "since": float(state.step)}
        return Kept(found, max(value, best), left)


def remember(state: GradientState, best: Mapping[str, Tensor]) -> None:
    """Keep the best weights with the state."""
    state.tensors |= {f"best.{name}": value for name, value in best.items()}


def split(x: Tensor, module: nn.Module) -> dict[str, Tensor]:
    """A vector as the weights of a module."""
    own = weights(module)
    parts = x.split([value.numel() for value in own.values()])
    return {name: part.reshape(value.shape) for (name, value), part in zip(own.items(), parts, strict=True)}


def split_r_hat(window: Tensor) -> tuple[float, float]:
    """R-hat of the two halves of iterates (T, P), the worst, and the fewest effective iterates.

    The effective number is T s²/(b v) by the variance v of the means of batches of b = √T iterates (Flegal &
    Jones 2010, Annals of Statistics 38).
    """
    half = len(window) // 2
    parts = window[-2 * half :].reshape(2, half, -1)
    within = parts.var(1).mean(0)
    between = parts.mean(1).var(0)
    moving = within > 1e-20 * (1 + window[-1] ** 2)
    r_hat = ((half - 1) / half + between / within.clamp_min(1e-300)).sqrt()[moving]
    b = max(int(math.sqrt(2 * half)), 1)
    batches = window[-(len(window) // b) * b :].reshape(-1, b, window.shape[1]).mean(1)
    variance = b * batches.var(0)
    effective = (2 * half * within / variance.clamp_min(1e-300))[moving]
    if not len(r_hat):
        return 1.0, math.inf
    return float(r_hat.max()), float(effective.min())
