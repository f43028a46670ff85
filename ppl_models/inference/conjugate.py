"""The conjugate natural-gradient rule: variational EM, and its stochastic form.

The guide is q(θ | S) q(z), factors (`ppl_models.inference.factors`) times the optimal q(z) given E_q[η(θ)]:

    local step    q*(z) ∝ exp E_q(θ)[log p(x, z | θ)], with log evidence log Z_z and Ŝ = E_q*(z)[t(x, z)]
    ELBO          log Z_z − Σ_factors KL(q(θ | S) ‖ p(θ))
    global step   S ← (1 − ρ) S + ρ (N/B) Ŝ

The global step is a natural-gradient step of length ρ on the ELBO (Hoffman, Blei, Wang & Paisley 2013,
JMLR 14; Sato 2001). With all rows and ρ = 1 it is variational EM, whose ELBO never falls (Attias 1999;
Beal 2003, https://cse.buffalo.edu/faculty/mbeal/thesis/); with a part of the rows ρ_t = (t + τ)^−κ decays.

Variational EM crawls where states overlap. So in full-batch mode three evaluations make a cycle: two
plain steps S₀ → S₁ → S₂, then the squared extrapolation of Varadhan & Roland (2008, Scand. J. Statist. 35,
https://doi.org/10.1111/j.1467-9469.2007.00585.x), S₀ + 2α r + α² v with r = S₁ − S₀, v = S₂ − 2S₁ + S₀ and
α = |r|/|v|. Where its ELBO is below the one at S₁, it is thrown away and S₂ taken instead: what is carried
never falls either.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from ppl_models.inference.factors import Factor

Statistics = Mapping[str, Float[Tensor, "r ..."]]
"""Expected sufficient statistics of every factor, with one leading dimension of restarts."""


class Weighted(Protocol):
    """A batch: anything that knows how many times it stands for itself in the whole data, N/B."""

    scale: float


class Conjugate(ABC):
    """What the rule asks of a model that has been bound to data."""

    factors: "Mapping[str, Factor]"

    @abstractmethod
    def local(self, batch: Weighted, natural: Statistics) -> tuple[Tensor, dict[str, Tensor]]:
        """The local step: log evidence (R,) of a batch under η, and Ŝ; neither scaled by N/B."""

    def expected_natural(self, statistics: Statistics) -> dict[str, Tensor]:
        """E_q[η(θ)] of every factor."""
        return {name: factor.expected_natural(statistics[name]) for name, factor in self.factors.items()}

    def elbo(self, batch: Weighted, statistics: Statistics) -> tuple[Tensor, dict[str, Tensor]]:
        """The ELBO (R,) at q(θ | S), and Ŝ scaled to the whole data."""
        both = {name: factor.evaluate(statistics[name]) for name, factor in self.factors.items()}
        evidence, found = self.local(batch, {name: natural for name, (natural, _) in both.items()})
        scaled = {name: batch.scale * value for name, value in found.items()}
        return batch.scale * evidence - torch.stack([kl for _, kl in both.values()]).sum(0), scaled


class State(NamedTuple):
    """What is carried from step to step.

    Attributes:
        statistics: S, where the next step evaluates the ELBO.
        step: steps taken.
        best: (R,) the ELBO of the last point that was accepted.
        last: the last accepted points of this cycle, oldest first; empty between cycles.
        fallback: where to go should the extrapolation in `statistics` be worse than `best`.
    """

    statistics: dict[str, Tensor]
    step: int
    best: Tensor
    last: tuple[dict[str, Tensor], ...] = ()
    fallback: dict[str, Tensor] | None = None

    def select(self, restarts: Tensor) -> "State":
        """Only some of the restarts."""

        def pick(statistics: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: value[restarts] for name, value in statistics.items()}

        return State(
            pick(self.statistics),
            self.step,
            self.best[restarts],
            tuple(pick(s) for s in self.last),
            None if self.fallback is None else pick(self.fallback),
        )


class Info(NamedTuple):
    """What is reported of a step.

    Attributes:
        elbo: (R,) of the point that is now accepted.
        accepted: (R,) whether that point is new.
        plain: whether the step was a plain one, whose gains may be extrapolated.
        step_size: ρ, or the length of the extrapolation.
        kept: statistics whose ELBO is at least `elbo`: what to keep, should this have been the last step.
        left: nats that are left to gain, of a rule that knows by itself when it is done: 0 is the end.
    """

    elbo: Tensor
    accepted: Tensor
    plain: bool
    step_size: float
    kept: dict[str, Tensor]
    left: float = float("inf")


@dataclass(frozen=True)
class ConjugateRule:
    """Natural-gradient steps for conjugate models.

    Attributes:
        accelerate: extrapolate in full-batch mode.
        delay: τ of the step size (t + τ)^−κ on mini-batches.
        forgetting: κ of the same, in (0.5, 1].
    """

    accelerate: bool = True
    delay: float = 1.0
    forgetting: float = 0.7

    name = "conjugate natural gradient"

    def init(self, statistics: Statistics) -> State:
        """Start from statistics of a guess, (R, ...)."""
        first = next(iter(statistics.values()))
        return State(dict(statistics), 0, first.new_full((first.shape[0],), -torch.inf))

    def step(self, problem: Conjugate, state: State, batch: Weighted) -> tuple[State, Info]:
        """One evaluation of the ELBO and one move."""
        if batch.scale != 1.0:
            return self._stochastic(problem, state, batch)
        return self._full(problem, state, batch)

    def _stochastic(self, problem: Conjugate, state: State, batch: Weighted) -> tuple[State, Info]:
        rho = (state.step + self.delay) ** -self.forgetting
        elbo, target = problem.elbo(batch, state.statistics)
        moved = {name: torch.lerp(S, target[name], rho) for name, S in state.statistics.items()}
        done = torch.ones_like(elbo, dtype=torch.bool)
        return State(moved, state.step + 1, elbo), Info(elbo, done, True, rho, moved)

    def _full(self, problem: Conjugate, state: State, batch: Weighted) -> tuple[State, Info]:
        current = state.statistics
        elbo, target = problem.elbo(batch, current)
        if state.fallback is not None:
            ok = elbo >= state.best
            fallback = state.fallback
            target = {name: _where(ok, value, fallback[name]) for name, value in target.items()}
            best = torch.where(ok, elbo, state.best)
            kept = {name: _where(ok, value, fallback[name]) for name, value in current.items()}
            return State(target, state.step + 1, best), Info(best, ok, False, 1.0, kept)
        accepted = torch.ones_like(elbo, dtype=torch.bool)
        last = (*state.last, current)
        if not self.accelerate or len(last) < 2:
            last = last if self.accelerate else ()
            return State(target, state.step + 1, elbo, last), Info(elbo, accepted, True, 1.0, current)
        jump, alpha = _extrapolate(problem.factors, last[0], last[1], target)
        following = State(jump, state.step + 1, elbo, (), target)
        return following, Info(elbo, accepted, True, alpha, current)


def _where(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(mask.reshape(-1, *[1] * (yes.dim() - 1)), yes, no)


def _extrapolate(
    factors: "Mapping[str, Factor]", s0: Statistics, s1: Statistics, s2: Statistics
) -> tuple[dict[str, Tensor], float]:
    """The squared extrapolation, shortened towards the plain step α = 1 until the statistics are possible."""
    r = {name: s1[name] - s0[name] for name in s0}
    v = {name: s2[name] - s1[name] - r[name] for name in s0}

    def size(parts: dict[str, Tensor]) -> Tensor:
        return torch.stack([(p**2 / (s0[n].abs() + 1.0)).flatten(1).sum(-1) for n, p in parts.items()]).sum(0)

    alpha = (size(r) / size(v).clamp_min(1e-300)).sqrt().clamp(1.0, 256.0)
    possible = torch.ones_like(alpha, dtype=torch.bool)
    for attempt in range(9):
        if attempt == 8:
            alpha = torch.where(possible, alpha, 1.0)
        jump = {}
        for name in s0:
            a = alpha.reshape(-1, *[1] * (s0[name].dim() - 1))
            jump[name] = s0[name] + 2 * a * r[name] + a**2 * v[name]
        possible = torch.stack([f.possible(jump[name]) for name, f in factors.items()]).all(0)
        if bool(possible.all()):
            break
        alpha = torch.where(possible, alpha, 0.5 * (alpha + 1.0))
    return jump, float(alpha.mean())
