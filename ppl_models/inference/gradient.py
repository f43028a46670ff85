"""The gradient rule: stochastic gradients of the ELBO, for whatever is differentiable.

    θ_{t+1} = θ_t + ρ_t · Adam(∇_θ ELBO(θ_t; batch))

with the step size ρ_t warmed up over the first steps and cut when a policy says that it no longer pays
(Kingma & Ba 2015, Adam, https://arxiv.org/abs/1412.6980). What is kept is not the last iterate but an
average of them (Polyak & Juditsky 1992, SIAM J. Control Optim. 30). Nobody has to guess a number of steps: a
policy looks at the evidence now and then (`ppl_models.inference.policies`).

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
from ppl_models.inference.muon import Muon
from ppl_models.inference.natural import Natural, NaturalGradient
from ppl_models.inference.ranks import Ranks, Share

_copy: Any = torch._foreach_copy_  # pyright: ignore[reportPrivateImportUsage]
_multiply: Any = torch._foreach_mul_  # pyright: ignore[reportPrivateImportUsage]
_norm: Any = torch._foreach_norm  # pyright: ignore[reportPrivateImportUsage]
_lerp: Any = torch._foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]

FAILURES = 8
"""Failures, without a whole pass that has none, after which a fit has diverged."""

LEAST = 100
"""Steps between two looks at the evidence, at least."""

LOWEST = 0.01
"""What is left of a step size that falls on a line, where training goes on beyond its end."""

NOW = "now."
"""Begins the names of weights in a message to the other ranks."""

AVERAGED = 10
"""Every so many steps an iterate enters the average."""


class StochasticTarget(ABC):
    """What every rule on mini-batches asks of a model.

    Attributes:
        module: everything that is learned, as named parameters.
        rows: N, of which the rule draws mini-batches.
        warm_up: passes over the data during which the loss is not yet the ELBO.
    """

    module: nn.Module
    rows: int
    warm_up: float = 0.0

    @abstractmethod
    def evidence(self) -> float:
        """The ELBO in nats a row, of rows held out where there are any, with the same noise every time."""

    def where(self) -> str:
        """Which site, column or row is not finite, for the message of a fit that diverged."""
        return "the ELBO"


class GradientTarget(StochasticTarget):
    """What this rule asks beside it."""

    @abstractmethod
    def loss(self, rows: Tensor, epoch: float) -> Tensor:
        """Minus the ELBO in nats a row, a scalar, differentiable; drawn by torch's global generator.

        Args:
            rows: indices (B,) of the batch, int64.
            epoch: passes over the data so far, for what is warmed up.
        """


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

    def seen(self, state: "GradientState", target: StochasticTarget) -> None:
        """Told of every step."""
        ...

    def look(self, state: "GradientState", target: StochasticTarget) -> Kept:
        """Asked now and then."""
        ...


@dataclass(eq=False)
class GradientState:
    """What is carried; the weights themselves are those of the target's module.

    Attributes:
        optimiser: Adam, or the natural-gradient rule, with its moments.
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

    optimiser: torch.optim.Optimizer
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


def remembered(state: GradientState) -> dict[str, Tensor]:
    """The best weights that the policy has seen; nothing before it has looked."""
    return {n.removeprefix("best."): v for n, v in state.tensors.items() if n.startswith("best.")}


def shuffled(batch_size: int, seed: int, state: GradientState, target: StochasticTarget) -> Iterator[Rows]:
    """The rows in an order that follows from the seed and the pass, from where the state is.

    Args:
        batch_size: B; all rows at once if there are no more than that.
        seed: of the order.
        state: how many passes and batches are done.
        target: how many rows there are.
    """
    N = target.rows
    number = max(1, -(-N // batch_size))
    device = next(target.module.parameters()).device
    while True:
        order = torch.arange(N)
        if number > 1:
            generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + state.epoch)
            order = torch.randperm(N, generator=generator)
        parts = order.to(device).tensor_split(number)
        first = state.position
        for at, part in enumerate(parts[first:], first):
            yield Rows(part, N / len(part), at == number - 1)


def not_applied(module: nn.Module, state: GradientState) -> None:
    """After a step that was not finite: a shorter one next, from good weights if it was not the batch."""
    state.failures += 1
    state.numbers["clean"] = 0.0
    state.shrink *= 0.5
    if state.failures > 1:
        state.shrink *= 0.2
        put(module, state.good)
        state.average = copied(state.good)
        state.optimiser.state.clear()


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
        weight_decay: decoupled decay of the weights, as AdamW has it (Loshchilov & Hutter 2019, ICLR,
            https://arxiv.org/abs/1711.05101); 0 is Adam.
        natural: of a Gaussian over all weights; the weights are its mean then, and Adam is not used.
        decay: steps after which ρ, falling on a line from the first step on, is zero; 0 if it does not fall.
        matrices: names of the weights that are stepped by Muon (`ppl_models.inference.muon`).
        team: processes that each take a part of every mini-batch, if there are several.
    """

    policy: Policy
    learning_rate: float = 1e-3
    warm_up: int = 100
    clip: float = 100.0
    batch_size: int = 128
    seed: int = 0
    autocast: torch.dtype | None = None
    weight_decay: float = 0.0
    natural: Natural | None = None
    decay: int = 0
    matrices: frozenset[str] = frozenset()
    team: Ranks | None = None

    @property
    def name(self) -> str:
        """For people."""
        return "stochastic gradient (Adam)" if self.natural is None else "stochastic natural gradient"

    def start(self, target: GradientTarget) -> GradientState:
        """Nothing learned yet."""
        own = weights(target.module)
        device = next(iter(own.values())).device.type
        fused = device in ("cpu", "cuda")
        optimiser: torch.optim.Optimizer
        if self.natural is not None:
            optimiser = self.natural.optimiser(target.module, self.learning_rate)
        elif self.matrices:
            some = [p for name, p in target.module.named_parameters() if name in self.matrices]
            optimiser = Muon(target.module.parameters(), some, lr=self.learning_rate, fused=fused)
        elif self.weight_decay > 0:
            optimiser = torch.optim.AdamW(
                target.module.parameters(),
                lr=self.learning_rate,
                weight_decay=self.weight_decay,
                fused=fused,
            )
        else:
            optimiser = torch.optim.Adam(target.module.parameters(), lr=self.learning_rate, fused=fused)
        best = torch.full((1,), -torch.inf, dtype=torch.float64)
        return GradientState(optimiser, copied(own), best, good=copied(own))

    def batches(self, state: GradientState, target: GradientTarget) -> Iterator[Rows]:
        """The rows in an order that follows from the seed and the pass, from where the state is."""
        return shuffled(self.batch_size, self.seed, state, target)

    def found(self, state: GradientState, target: StochasticTarget) -> tuple[dict[str, Tensor], float]:
        """The best weights that the policy has seen, and their ELBO; before it has looked, those of now.

        Of the natural-gradient rule the sds of all weights are beside them, as `sd.*`.
        """
        own = weights(target.module)
        best, elbo = remembered(state) or own, float(state.best)
        if not math.isfinite(elbo):  # the policy has not looked yet
            elbo = target.evidence() * target.rows
        if isinstance(state.optimiser, NaturalGradient):
            sds = zip(own, state.optimiser.sds(), strict=True)
            best = best | {f"sd.{name}": value.detach() for name, value in sds}
        return best, elbo

    def step(self, problem: GradientTarget, state: GradientState, batch: Rows) -> tuple[GradientState, Info]:
        """One step of Adam, and at the end of a pass a look at the evidence."""
        per_pass = max(1, -(-problem.rows // self.batch_size))
        if not state.step:
            state.numbers["first"] = problem.evidence()
        epoch = state.epoch + state.position / per_pass
        rate = self.learning_rate * state.shrink * min(1.0, (state.step + 1) / (self.warm_up + 1))
        if self.decay:
            rate *= max(1.0 - state.step / self.decay, LOWEST)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        optimiser = state.optimiser
        with optimiser.drawn() if isinstance(optimiser, NaturalGradient) else nullcontext():
            loss, length = self._gradient(problem, state, batch.index, epoch)
        if math.isfinite(loss) and math.isfinite(length):
            if length > self.clip:
                scale = self.clip / length
                _multiply([p.grad for p in problem.module.parameters() if p.grad is not None], scale)
            state.optimiser.step()
        else:
            not_applied(problem.module, state)
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
                not_applied(problem.module, state)
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
        if self.team is None or len(rows) < self.team.size:
            total = self._backward(problem, state, rows, epoch)
        else:
            given = {f"{NOW}{name}": value for name, value in weights(problem.module).items()}
            given |= {"rows": rows, "epoch": torch.tensor(epoch, dtype=torch.float64)}
            found = self.team.sum("gradient", given, self.share(problem, state))
            total = float(found.pop("loss"))
            for name, parameter in problem.module.named_parameters():
                parameter.grad = found[name].to(parameter) if name in found else None
        gradients = [p.grad for p in problem.module.parameters() if p.grad is not None]
        norms = _norm(gradients)
        return total, float(torch.stack(norms).square().sum().sqrt())

    def share(self, problem: GradientTarget, state: GradientState) -> Share:
        """What a rank of the team can sum: loss and gradient of its part of a mini-batch, as shares of it.

        Whatever parts a mini-batch is cut into, they add up to the gradient of its mean loss.
        """
        assert self.team is not None
        rank, size = self.team.rank, self.team.size

        def gradient(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
            if rank:
                put(problem.module, {n.removeprefix(NOW): v for n, v in given.items() if n.startswith(NOW)})
            state.optimiser.zero_grad(set_to_none=True)
            rows = given["rows"].to(next(problem.module.parameters()).device)
            part = rows.tensor_split(size)[rank]
            share = len(part) / len(rows)
            loss = self._backward(problem, state, part, float(given["epoch"]), share)
            own = {n: p.grad for n, p in problem.module.named_parameters() if p.grad is not None}
            return {"loss": torch.tensor(loss, dtype=torch.float64), **own}

        return {"gradient": gradient}

    def _backward(
        self, problem: GradientTarget, state: GradientState, rows: Tensor, epoch: float, whole: float = 1.0
    ) -> float:
        """The mean loss of some rows times `whole`, whose gradient is added to that of the parameters."""
        before = torch.get_rng_state()
        device = rows.device.type
        while True:
            try:
                total = 0.0
                for part in rows.tensor_split(state.micro):
                    with self._precision(device):
                        loss = problem.loss(part, epoch)
                    share = whole * len(part) / len(rows)
                    (loss if share == 1.0 else loss * share).backward()
                    total += float(loss.detach()) * share
                return total
            except torch.OutOfMemoryError:
                if state.micro >= len(rows):
                    raise
                state.micro = min(2 * state.micro, len(rows))
                torch.set_rng_state(before)
                state.optimiser.zero_grad(set_to_none=True)
                if device == "cuda":
                    torch.cuda.empty_cache()

    def _precision(self, device: str) -> AbstractContextManager[Any]:
        return nullcontext() if self.autocast is None else torch.autocast(device, self.autocast)

    @torch.no_grad()
    def _average(self, state: GradientState, target: GradientTarget, per_pass: int) -> None:
        """An average that forgets, over about half a pass and at least a hundred steps."""
        horizon = max(per_pass / 2, 100.0) / AVERAGED
        rate = max(1.0 / horizon, AVERAGED / (state.step + AVERAGED))
        own = weights(target.module)
        _lerp([state.average[n] for n in own], list(own.values()), rate)
