"""The adversarial rule: its losses in closed form, games that it must settle, steps that it must refuse."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ppl_models.inference import adversarial
from ppl_models.inference.adversarial import (
    AdversarialRule,
    AdversarialTarget,
    Pair,
    critic_loss,
    generator_loss,
    relativistic,
    train_adversarial,
)
from ppl_models.inference.loop import Course, Status
from ppl_models.inference.policies import Patience
from ppl_models.inference.settings import AdversarialSettings


class Dirac(AdversarialTarget):
    """All real rows are at 0, the generator's one at θ, and the critic is D(x) = ψ x.

    Its only equilibrium is (0, 0), around which gradient descent goes in circles without a penalty
    (Mescheder, Geiger & Nowozin 2018).
    """

    rows = 8

    def __init__(self, penalty: float, poisoned: bool = False) -> None:
        self.penalty, self.poisoned, self.steps = penalty, poisoned, 0
        self.module = nn.ModuleDict({"critic": nn.Linear(1, 1, bias=False), "generator": nn.Linear(1, 1)})
        for value, weight in zip((1.0, 0.0, 1.0), self.module.parameters(), strict=True):
            weight.data.fill_(value)

    @property
    def point(self) -> tuple[float, float]:
        """θ and ψ."""
        critic, _, theta = (float(w.detach()) for w in self.module.parameters())
        return theta, critic

    def players(self):
        return self.module["critic"], self.module["generator"]

    def pair(self, rows):
        self.steps += 1
        real = torch.full((len(rows), 1), math.nan if self.poisoned and self.steps % 3 == 0 else 0.0)
        return Pair(real, self.module["generator"](torch.zeros(len(rows), 1)))

    def critic(self, shown, given):
        return self.module["critic"](shown)[:, 0]

    def evidence(self):
        return 1.0 / (1.0 + abs(self.point[0]))


def test_losses_are_those_of_the_paper():
    target = Dirac(penalty=3.0)
    real, fake = torch.tensor([[0.5], [-1.0]]), torch.tensor([[2.0], [0.25]])
    apart = (fake - real)[:, 0].numpy()  # ψ = 1: D(x) = x, whose slope is 1 at both
    wanted = np.log1p(np.exp(apart)).mean() + 0.5 * 3.0 * (1 + 1)
    assert float(critic_loss(target, Pair(real, fake)).detach()) == pytest.approx(wanted, abs=1e-6)
    wanted = np.log1p(np.exp(-apart)).mean()
    assert float(generator_loss(target, Pair(real, fake)).detach()) == pytest.approx(wanted, abs=1e-6)


def test_weights_of_pairs_count_as_copies_of_them():
    better, worse = torch.tensor([0.3, -1.0]), torch.tensor([0.1, 2.0])
    again = torch.tensor([0, 1, 1])
    weighted = relativistic(better, worse, torch.tensor([2 / 3, 4 / 3]))
    assert float(weighted) == pytest.approx(float(relativistic(better[again], worse[again])), abs=1e-6)


def test_penalties_are_the_squared_slopes_by_differences():
    target = Dirac(penalty=1.0)
    torch.manual_seed(0)
    target.module["critic"] = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    real, fake, h = torch.randn(4, 3), torch.randn(4, 3), 1e-3

    def steep(x):
        sides = [target.critic(x + s * h * e, ()) for e in torch.eye(3) for s in (1, -1)]
        return sum(((a - b) / (2 * h)).square() for a, b in zip(sides[::2], sides[1::2], strict=True))

    wanted = relativistic(target.critic(real, ()), target.critic(fake, ()))
    wanted = wanted + 0.5 * (steep(real) + steep(fake)).mean()
    assert float(critic_loss(target, Pair(real, fake)).detach()) == pytest.approx(
        float(wanted.detach()), rel=1e-3
    )


@pytest.mark.parametrize(("penalty", "settles"), [(1.0, True), (1e-6, False)])
def test_the_penalties_settle_a_game_that_goes_in_circles_without_them(penalty, settles):
    target = Dirac(penalty)
    rule = AdversarialRule(Patience(1_000), 0.02, warm_up=0, batch_size=8)
    state = rule.start(target)
    batches, far = rule.batches(state, target), 0.0
    for step in range(260):
        state, _ = rule.step(target, state, next(batches))
        if step >= 200:
            far = max(far, math.hypot(*target.point))
    assert (far < 0.1) == settles


def train(target, course=None, **settings):
    torch.manual_seed(0)
    return train_adversarial(target, AdversarialSettings(**settings), course or Course(), learning_rate=0.02)


def test_it_stops_by_the_evidence_and_keeps_the_best(monkeypatch):
    monkeypatch.setattr(adversarial, "LOOK", 25)
    target = Dirac(1.0)
    target.module["critic"].weight.data.fill_(-0.5)  # towards the real rows from the start
    found = train(target, patience=3)
    assert found.status is Status.CONVERGED
    assert found.elbo > 0.95
    assert 1 / (1 + abs(float(found.params["generator.bias"]))) == pytest.approx(found.elbo, abs=1e-6)


def test_going_on_is_the_same_as_never_having_stopped(monkeypatch):
    monkeypatch.setattr(adversarial, "LOOK", 25)
    whole = train(Dirac(1.0), steps=80)
    first = train(Dirac(1.0), steps=44)
    assert first.status is Status.MAX_STEPS
    again = train(Dirac(1.0), Course(resume=first.checkpoint, history=first.history), steps=80)
    assert all(torch.equal(whole.params[name], again.params[name]) for name in whole.params)
    assert whole.elbo == again.elbo


def test_a_step_that_is_not_finite_is_not_applied():
    target = Dirac(1.0, poisoned=True)
    rule = AdversarialRule(Patience(10), 0.02, warm_up=0, batch_size=8)
    state = rule.start(target)
    batches = rule.batches(state, target)
    for _ in range(3):
        before = target.point
        state, info = rule.step(target, state, next(batches))
    assert target.point == before
    assert state.failures == 1
    assert state.shrink == 0.5
    assert bool(info.elbo.isfinite())


def test_a_game_that_is_never_finite_has_diverged_and_says_so():
    target = Dirac(math.inf)
    found = train(target, steps=50)
    assert found.status is Status.DIVERGED
    assert "was not finite" in found.reason
    assert all(bool(value.isfinite().all()) for value in found.params.values())
