"""The adversarial rule: a generator against a critic, neither of which has a density.

    critic     min_ψ E[f(D(x̃) − D(x))] + γ/2 E‖∇D(x)‖² + γ/2 E‖∇D(x̃)‖²,   f(t) = log(1 + eᵗ)
    generator  min_θ E[f(D(x) − D(x̃))],   x̃ = G_θ(z)

Every generated row x̃ is paired with a real row x: what counts is which of the two is the more convincing, so
that no mode can be given up without being noticed. The zero-centred penalties on real and generated rows make
the game converge locally (Huang, Gokaslan, Kuleshov & Tompkin 2024, The GAN is dead; long live the GAN!,
NeurIPS, https://arxiv.org/abs/2501.05441; Jolicoeur-Martineau 2019, The relativistic discriminator, ICLR,
https://arxiv.org/abs/1807.00734; Mescheder, Geiger & Nowozin 2018, Which training methods for GANs do
actually converge?, ICML, https://arxiv.org/abs/1801.04406).

Both players move once a step, by Adam without a first moment (β₁ = 0). What is kept is an exponential average
of the weights (Yazıcı et al. 2019, ICLR, https://arxiv.org/abs/1806.04498). Neither loss says how good
the generator is: a policy looks at the target's `evidence` every `LOOK` steps, and ends the fit by that.

A step whose losses or gradients are not finite is not applied, and the step size is halved; where that
happens again, the last good weights come back with a tenth of it. After eight failures without a look
between them that has none, the fit has diverged.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppl_models.inference.conjugate import Info
from ppl_models.inference.gradient import (
    FAILURES,
    GradientState,
    Policy,
    Rows,
    StochasticTarget,
    copied,
    not_applied,
    put,
    remembered,
    shuffled,
    weights,
)
from ppl_models.inference.loop import FROM_START, Course, Status, Trained
from ppl_models.inference.policies import Patience
from ppl_models.inference.settings import AdversarialSettings
from ppl_models.inference.stochastic import train_by

_lerp: Any = torch._foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]
_norm: Any = torch._foreach_norm  # pyright: ignore[reportPrivateImportUsage]

LOOK = 250
"""Steps between two looks at the two-sample test."""

AVERAGED, HORIZON = 5, 1_000
"""Every so many steps the weights enter the average, which forgets over so many steps."""

STEPS = 20_000
"""Steps at most."""

BETAS = 0.0, 0.99
"""Of Adam: no first moment, as the players' gradients turn."""


Given = tuple[Tensor | None, ...]


class Pair(NamedTuple):
    """Real rows, and generated ones of which each is paired with one of them.

    Attributes:
        real: (B, I) as the critic is shown them.
        fake: (B, I) generated, a function of the generator's weights.
        given: what the critic is shown beside either, such as labels and masks, (B, ...) each or None.
        weight: (B,) how much each pair counts, of mean one; None if all count alike.
    """

    real: Tensor
    fake: Tensor
    given: Given = ()
    weight: Tensor | None = None


class AdversarialTarget(StochasticTarget):
    """What the rule asks of a model: two players within its module, and a test of the generator.

    `evidence` is the two-sample score of held-out rows against generated ones at the weights of the module,
    from 0 (told apart without error) to 1 (not told apart), with the same noise every time.

    Attributes:
        penalty: γ, the weight of both gradient penalties.
    """

    penalty: float = 1.0

    @abstractmethod
    def players(self) -> tuple[nn.Module, nn.Module]:
        """The critic and the generator."""

    @abstractmethod
    def pair(self, rows: Tensor) -> Pair:
        """Real rows and generated ones, by torch's global generator.

        Args:
            rows: indices (B,) of the real rows, int64.
        """

    @abstractmethod
    def critic(self, shown: Tensor, given: Given) -> Tensor:
        """D of rows, (B,)."""


def relativistic(better: Tensor, worse: Tensor, weight: Tensor | None = None) -> Tensor:
    """E log(1 + exp(worse − better)): what it costs that the one does not beat the other, pair by pair."""
    each = softplus(worse - better)
    return each.mean() if weight is None else (each * weight).mean()


def slopes(target: AdversarialTarget, shown: Tensor, given: Given) -> tuple[Tensor, Tensor]:
    """D, and ‖∇_x D(x)‖² of each row, (B,) both, through which gradients flow.

    Args:
        target: whose critic.
        shown: (B, I) rows.
        given: what is shown beside them.
    """
    shown = shown.detach().requires_grad_(True)
    d = target.critic(shown, given)
    (slope,) = torch.autograd.grad(d.sum(), shown, create_graph=True)
    return d, slope.flatten(1).square().sum(1)


def critic_loss(target: AdversarialTarget, pair: Pair) -> Tensor:
    """The critic's: see the module."""
    twice = tuple(None if t is None else torch.cat([t, t]) for t in pair.given)
    d, steep = slopes(target, torch.cat([pair.real, pair.fake]), twice)  # both at once: rows are independent
    (real, fake), (r1, r2) = d.chunk(2), steep.chunk(2)
    penalty = r1 + r2 if pair.weight is None else (r1 + r2) * pair.weight
    return relativistic(real, fake, pair.weight) + 0.5 * target.penalty * penalty.mean()


def generator_loss(target: AdversarialTarget, pair: Pair) -> Tensor:
    """The generator's: see the module."""
    with torch.no_grad():
        real = target.critic(pair.real, pair.given)
    return relativistic(target.critic(pair.fake, pair.given), real, pair.weight)


@dataclass(frozen=True, eq=False)
class AdversarialRule:
    """A step of the critic, then one of the generator, averaged.

    Attributes:
        policy: when to cut the step size and when to stop.
        learning_rate: of both, once warmed up.
        warm_up: steps over which it rises.
        batch_size: B pairs; all rows at once if there are no more than that.
        seed: of the order of the rows.
    """

    policy: Policy
    learning_rate: float = 1e-3
    warm_up: int = 100
    batch_size: int = 64
    seed: int = 0

    name = "adversarial (relativistic pairing, Adam)"

    def start(self, target: AdversarialTarget) -> GradientState:
        """Nothing learned yet."""
        own = weights(target.module)
        players = [p for player in target.players() for p in player.parameters()]
        fused = players[0].device.type in ("cpu", "cuda")
        optimiser = torch.optim.Adam(players, lr=self.learning_rate, betas=BETAS, fused=fused)
        best = torch.full((1,), -torch.inf, dtype=torch.float64)
        return GradientState(optimiser, copied(own), best, good=copied(own))

    def batches(self, state: GradientState, target: AdversarialTarget) -> Iterator[Rows]:
        """The rows in an order that follows from the seed and the pass, from where the state is."""
        return shuffled(self.batch_size, self.seed, state, target)

    def found(self, state: GradientState, target: AdversarialTarget) -> tuple[dict[str, Tensor], float]:
        """The best weights that the policy has seen, and their score; before it has looked, the average."""
        if best := remembered(state):
            return best, float(state.best)
        now = copied(weights(target.module))
        put(target.module, state.average)
        score = target.evidence()
        put(target.module, now)
        return state.average, score

    def step(
        self, problem: AdversarialTarget, state: GradientState, batch: Rows
    ) -> tuple[GradientState, Info]:
        """Both players move; now and then a look at the test."""
        rate = self.learning_rate * state.shrink * min(1.0, (state.step + 1) / (self.warm_up + 1))
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        critic, generator = problem.players()
        pair = problem.pair(batch.index)
        # the critic learns from rows whose generator does not learn by it, and the other way round
        sound = self._move(state, critic, critic_loss(problem, pair._replace(fake=pair.fake.detach())))
        sound = sound and self._move(state, generator, generator_loss(problem, pair))
        if not sound:
            not_applied(problem.module, state)
        state.step += 1
        state.position += 1
        if batch.last:
            state.epoch, state.position = state.epoch + 1, 0
        if state.step % AVERAGED == 0:
            self._average(state, problem)
        kept, left = {}, math.inf
        if state.step % LOOK == 0:
            if state.numbers.pop("clean", 1.0):
                state.failures = 0
            look = self.policy.look(state, problem)
            left = 0.0 if look.left <= 0 else math.inf  # of a score nothing is known of what is left
            state.numbers["over"] = float(look.left <= 0)
            if look.weights is not None and look.elbo is not None:
                kept = {name: value[None] for name, value in look.weights.items()}
                state.best = torch.tensor([look.elbo], dtype=torch.float64)
                state.good = copied(weights(problem.module))
        if state.failures >= FAILURES:
            put(problem.module, state.good)
            nothing = torch.full((1,), torch.nan, dtype=torch.float64)
            return state, Info(nothing, torch.zeros(1, dtype=torch.bool), False, rate, {})
        seen = state.best.clamp(min=0.0)  # before the first look: told apart without error
        return state, Info(seen, torch.ones(1, dtype=torch.bool), True, rate, kept, left)

    def _move(self, state: GradientState, player: nn.Module, loss: Tensor) -> bool:
        """A step of Adam of one player alone, whether it could be taken."""
        own = [*player.parameters()]
        found = torch.autograd.grad(loss, own, allow_unused=True)
        length = torch.stack(_norm([g for g in found if g is not None])).sum() + loss.detach().abs()
        if not bool(length.isfinite()):
            return False
        for weight, gradient in zip(own, found, strict=True):
            weight.grad = gradient
        state.optimiser.step()
        state.optimiser.zero_grad(set_to_none=True)  # what has no gradient is left alone by the next step
        return True

    @torch.no_grad()
    def _average(self, state: GradientState, target: AdversarialTarget) -> None:
        """Over `HORIZON` steps, at first over a tenth of those that there were."""
        rate = AVERAGED / min(HORIZON, 0.1 * state.step + AVERAGED)
        own = weights(target.module)
        _lerp([state.average[n] for n in own], list(own.values()), min(rate, 1.0))


def train_adversarial(
    target: AdversarialTarget,
    settings: AdversarialSettings,
    course: Course = FROM_START,
    *,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
) -> Trained:
    """Set the generator against the critic until held-out rows are told from its own no less easily.

    Args:
        target: the players and the test.
        settings: how long to wait for a better score, among others.
        course: a checkpoint to go on from, and whom to tell.
        learning_rate: if the settings do not say it.
        batch_size: likewise.

    Returns:
        The best weights and their score; with a checkpoint also where it has converged, as what is trained on
        the generator afterwards may be interrupted.
    """
    size = min(settings.batch_size or batch_size, target.rows)
    policy = Patience(settings.patience, gain=settings.tolerance)
    rule = AdversarialRule(
        policy, settings.learning_rate or learning_rate, batch_size=size, seed=settings.seed
    )
    over = course.resume is not None and course.resume.numbers.get("policy.over", 0.0) > 0
    most = 0 if over else settings.most(STEPS)
    found = train_by(rule, target, settings, course, "adversarial", most, goes_on=True)
    return replace(found, status=Status.CONVERGED, reason="") if over else found
