"""The gradient rule: stochastic gradients of the ELBO, for whatever is differentiable.

    θ_{t+1} = θ_t + ρ_t · Adam(∇_θ ELBO(θ_t; batch))

with the step size ρ_t warmed up over the first steps and cut when a policy says that it no longer pays
(Kingma & Ba 2015, Adam, https://arxiv.org/abs/1412.6980). What is kept is not the last iterate but an
average of them (Polyak & Juditsky 1992, SIAM J. Control Optim. 30). Nobody has to guess a number of steps:

- `Patience`, for networks: the ELBO of held-out rows at the averaged weights, after every pass. When it has
  not risen for some passes, the step size is cut and training goes on from the best weights; after two cuts
  it ends. What is kept is the best.
- `Stationary`, for the guide of a posterior: the iterates are a Markov chain around the optimum. When the
  two halves of the last window agree (split R-hat) and the window is worth enough independent iterates for
  its mean to be known (MCSE), their average is the answer at this step size; then the step size is cut, until
  the ELBO of the average no longer rises (Dhaka et al. 2020, NeurIPS, https://arxiv.org/abs/2009.00666;
  Welandawe et al. 2022, https://arxiv.org/abs/2203.15945).

A step whose loss or gradient is not finite is not applied, and the step size is halved; where that happens
again, or the evidence is below what it was in the beginning, the last good weights come back with a tenth
of it. After eight failures without a whole pass between them that has none, the fit has diverged. Where a
GPU runs out of memory, the batch is taken in halves whose gradients add up to the same step.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ppl_models.inference.conjugate import Info

_copy: Any = torch._foreach_copy_  # pyright: ignore[reportPrivateImportUsage]
_multiply: Any = torch._foreach_mul_  # pyright: ignore[reportPrivateImportUsage]
_norm: Any = torch._foreach_norm  # pyright: ignore[reportPrivateImportUsage]
_lerp: Any = torch._foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]

FAILURES = 8
"""Failures, without a whole pass that has none, after which a fit has diverged."""

LEAST = 100
"""Steps between two looks at the evidence, at least."""

AVERAGED = 10
"""Every so many steps an iterate enters the average."""


class GradientTarget(ABC):
    """What the rule asks of a model.

    Attributes:
        module: everything that is learned, as named parameters.
        rows: N, of which the rule draws mini-batches.
        warm_up: passes over the data during which the loss is not yet the ELBO.
    """

    module: nn.Module
    rows: int
    warm_up: float = 0.0

    @abstractmethod
    def loss(self, rows: Tensor, epoch: float) -> Tensor:
        """Minus the ELBO in nats a row, a scalar, differentiable; drawn by torch's global generator.

        Args:
            rows: indices (B,) of the batch, int64.
            epoch: passes over the data so far, for what is warmed up.
        """

    @abstractmethod
    def evidence(self) -> float:
        """The ELBO in nats a row, of rows held out where there are any, with the same noise every time."""

    def where(self) -> str:
        """Which site, column or row is not finite, for the message of a fit that diverged."""
        return "the ELBO"


class Rows(NamedTuple):
    """A mini-batch: the indices of its rows, N/B, and whether a pass over the data ends with it."""

    index: Tensor
    scale: float
    last: bool


class Kept(NamedTuple):
    """What a policy says: the weights that are now the best, if they changed, and what is left to gain.

    The ELBO, nats a row, is None where the policy has not looked at it yet.
    """

    weights: dict[str, Tensor] | None
    elbo: float | None
    left: float


class Policy(Protocol):
    """When to cut the step size, and when to stop."""

    def seen(self, state: "GradientState", target: GradientTarget) -> None:
        """Told of every step."""
        ...

    def look(self, state: "GradientState", target: GradientTarget) -> Kept:
        """Asked now and then."""
        ...


@dataclass(eq=False)
class GradientState:
    """What is carried; the weights themselves are those of the target's module.

    Attributes:
        optimiser: Adam with its moments.
        average: of the iterates, by name of the weights.
        step: steps taken.
        epoch: passes over the data that are done.
        position: batches of this pass that are done.
        best: (1,) the ELBO of the best weights, of all rows.
        shrink: what the step size is multiplied with.
        failures: since the last whole pass without one.
        micro: parts in which a batch is taken.
        numbers: what the policy remembers.
        tensors: what else it remembers.
        good: weights that were fine, to go back to.
    """

    optimiser: torch.optim.Adam
    average: dict[str, Tensor]
    best: Tensor
    step: int = 0
    epoch: int = 0
    position: int = 0
    shrink: float = 1.0
    failures: int = 0
    micro: int = 1
    looked: int = 0
    numbers: dict[str, float] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    good: dict[str, Tensor] = field(default_factory=dict)

    def select(self, keep: Tensor) -> "GradientState":
        """The state: there is only one."""
        return self


def weights(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of a module by name, detached, not copied."""
    return {name: value.detach() for name, value in module.named_parameters()}


def copied(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies."""
    return {name: value.clone() for name, value in values.items()}


@torch.no_grad()
def put(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Write weights into a module."""
    own = weights(module)
    _copy([own[name] for name in values], list(values.values()))


@dataclass(frozen=True, eq=False)
class GradientRule:
    """Adam on mini-batches, averaged.

    Attributes:
        learning_rate: ρ once it is warmed up.
        warm_up: steps over which it rises.
        clip: gradients longer than this are shortened to it; they are of the ELBO a row.
        batch_size: B; all rows at once if there are no more than that.
        seed: of the order of the rows.
        policy: when to cut ρ and when to stop.
        autocast: the type of the products on a device that is faster in it, or None.
    """

    policy: Policy
    learning_rate: float = 1e-3
    warm_up: int = 100
    clip: float = 100.0
    batch_size: int = 128
    seed: int = 0
    autocast: torch.dtype | None = None

    name = "stochastic gradient (Adam)"

    def start(self, target: GradientTarget) -> GradientState:
        """Nothing learned yet."""
        own = weights(target.module)
        device = next(iter(own.values())).device.type
        optimiser = torch.optim.Adam(
            target.module.parameters(), lr=self.learning_rate, fused=device in ("cpu", "cuda")
        )
        best = torch.full((1,), -torch.inf, dtype=torch.float64)
        return GradientState(optimiser, copied(own), best, good=copied(own))

    def batches(self, state: GradientState, target: GradientTarget) -> Iterator[Rows]:
        """The rows in an order that follows from the seed and the pass, from where the state is."""
        N = target.rows
        number = max(1, -(-N // self.batch_size))
        device = next(target.module.parameters()).device
        while True:
            order = torch.arange(N)
            if number > 1:
                generator = torch.Generator().manual_seed(1_000_003 * (self.seed + 1) + state.epoch)
                order = torch.randperm(N, generator=generator)
            parts = order.to(device).tensor_split(number)
            first = state.position
            for at, part in enumerate(parts[first:], first):
                yield Rows(part, N / len(part), at == number - 1)

    def step(self, problem: GradientTarget, state: GradientState, batch: Rows) -> tuple[GradientState, Info]:
        """One step of Adam, and at the end of a pass a look at the evidence."""
        per_pass = max(1, -(-problem.rows // self.batch_size))
        if not state.step:
            state.numbers["first"] = problem.evidence()
        epoch = state.epoch + state.position / per_pass
        rate = self.learning_rate * state.shrink * min(1.0, (state.step + 1) / (self.warm_up + 1))
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        loss, length = self._gradient(problem, state, batch.index, epoch)
        if math.isfinite(loss) and math.isfinite(length):
            if length > self.clip:
                scale = self.clip / length
                _multiply([p.grad for p in problem.module.parameters() if p.grad is not None], scale)
            state.optimiser.step()
        else:
            self._failed(problem, state)
        state.step += 1
        state.position += 1
        if batch.last:
            state.epoch, state.position = state.epoch + 1, 0
            if state.numbers.pop("clean", 1.0):
                state.failures = 0
        self.policy.seen(state, problem)
        if state.step % AVERAGED == 0:
            self._average(state, problem, per_pass)
        kept, left = {}, math.inf
        if batch.last and state.step - state.looked >= LEAST:
            state.looked = state.step
            found = self.policy.look(state, problem)
            left = found.left
            if found.elbo is None:
                pass
            elif not found.elbo >= state.numbers["first"]:
                state.failures = max(state.failures, 1)
                self._failed(problem, state)
            elif found.weights is not None:
                kept = {name: value[None] for name, value in found.weights.items()}
                state.best = torch.tensor([found.elbo * problem.rows], dtype=torch.float64)
                state.good = copied(weights(problem.module))
        if state.failures >= FAILURES:
            put(problem.module, state.good)
            nothing = torch.full((1,), torch.nan, dtype=torch.float64)
            return state, Info(nothing, torch.zeros(1, dtype=torch.bool), False, rate, {})
        seen = (
            state.best if math.isfinite(float(state.best)) else torch.tensor([-loss * problem.rows]).double()
        )
        if not math.isfinite(float(seen)):
            seen = torch.full((1,), -1e300, dtype=torch.float64)  # a step that was not applied: no news
        return state, Info(seen, torch.ones(1, dtype=torch.bool), True, rate, kept, left)

    def _gradient(
        self, problem: GradientTarget, state: GradientState, rows: Tensor, epoch: float
    ) -> tuple[float, float]:
        """The loss, and the length of its gradient, which is left with the parameters."""
        state.optimiser.zero_grad(set_to_none=True)
        before = torch.get_rng_state()
        device = rows.device.type
        while True:
            try:
                total = 0.0
                for part in rows.tensor_split(state.micro):
                    with self._precision(device):
                        loss = problem.loss(part, epoch)
                    share = len(part) / len(rows)
                    (loss if share == 1.0 else loss * share).backward()
                    total += float(loss.detach()) * share
                break
            except torch.OutOfMemoryError:
                if state.micro >= len(rows):
                    raise
                state.micro = min(2 * state.micro, len(rows))
                torch.set_rng_state(before)
                state.optimiser.zero_grad(set_to_none=True)
                if device == "cuda":
                    torch.cuda.empty_cache()
        gradients = [p.grad for p in problem.module.parameters() if p.grad is not None]
        norms = _norm(gradients)
        return total, float(torch.stack(norms).square().sum().sqrt())

    def _precision(self, device: str) -> AbstractContextManager[Any]:
        return nullcontext() if self.autocast is None else torch.autocast(device, self.autocast)

    def _failed(self, problem: GradientTarget, state: GradientState) -> None:
        """Not applied: a shorter step next time, from the last good weights if it was not the batch."""
        state.failures += 1
        state.numbers["clean"] = 0.0
        state.shrink *= 0.5
        if state.failures > 1:
            state.shrink *= 0.2
            put(problem.module, state.good)
            state.average = copied(state.good)
            state.optimiser.state.clear()

    @torch.no_grad()
    def _average(self, state: GradientState, target: GradientTarget, per_pass: int) -> None:
        """An average that forgets, over about half a pass and at least a hundred steps."""
        horizon = max(per_pass / 2, 100.0) / AVERAGED
        rate = max(1.0 / horizon, AVERAGED / (state.step + AVERAGED))
        own = weights(target.module)
        _lerp([state.average[n] for n in own], list(own.values()), rate)


@torch.no_grad()
def evidence_of(target: GradientTarget, values: Mapping[str, Tensor]) -> float:
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

    def seen(self, state: GradientState, target: GradientTarget) -> None:
        """Nothing to remember."""

    def look(self, state: GradientState, target: GradientTarget) -> Kept:
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
                before = {
                    n.removeprefix("best."): v for n, v in state.tensors.items() if n.startswith("best.")
                }
                if before:
                    put(target.module, before)
                    state.average = copied(before)
        return Kept(weights_now, max(value, best), left)


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

    def seen(self, state: GradientState, target: GradientTarget) -> None:
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

    def look(self, state: GradientState, target: GradientTarget) -> Kept:
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
