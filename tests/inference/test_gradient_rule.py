"""The gradient rule: optima it must find, steps it must refuse, and going on as if it never stopped."""

import math
import os
import signal

import pytest
import torch
from torch import nn

from ppl_models.inference.gradient import GradientRule, GradientTarget
from ppl_models.inference.loop import Course, Status
from ppl_models.inference.policies import Patience, Stationary, split_r_hat
from ppl_models.inference.settings import GradientSettings, NetworkSettings
from ppl_models.inference.signals import Whole
from ppl_models.inference.stochastic import train_gradient


@pytest.fixture(autouse=True)
def interruptible():
    """As in a terminal, whatever the process that runs the tests has made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Line(GradientTarget):
    """y = Xb + noise, by squares."""

    def __init__(self, rows: int = 400, poisoned: int | None = None, noise: float = 0.0) -> None:
        g = torch.Generator().manual_seed(0)
        self.X = torch.randn(rows, 5, generator=g)
        self.y = self.X @ torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0]) + 0.3 * torch.randn(rows, generator=g)
        if poisoned is not None:
            self.y[poisoned] = math.nan
        torch.manual_seed(0)
        self.module, self.rows, self.noise = nn.Linear(5, 1), rows, noise

    def loss(self, rows, epoch):
        off = self.module(self.X[rows])[:, 0] - self.y[rows] + self.noise * torch.randn(len(rows))
        return (off**2).mean()

    @torch.no_grad()
    def evidence(self):
        return -float(((self.module(self.X)[:, 0] - self.y) ** 2).mean())

    def where(self):
        return "site 'y', row 8"


class Normal(GradientTarget):
    """A mean-field normal guide of a correlated normal posterior: the best has sds 1/√Λ_ii."""

    rows = 1

    def __init__(self) -> None:
        self.P = torch.tensor([[4.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
        self.m = torch.tensor([3.0, -1.0], dtype=torch.float64)
        self.module = nn.Module()
        self.module.loc = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.module.log_sd = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def _elbo(self, eps):
        z = self.module.loc + self.module.log_sd.exp() * eps - self.m
        return -0.5 * ((z @ self.P) * z).sum(-1).mean() + self.module.log_sd.sum()

    def loss(self, rows, epoch):
        return -self._elbo(torch.randn(1, 2, dtype=torch.float64))

    @torch.no_grad()
    def evidence(self):
        g = torch.Generator().manual_seed(1)
        return float(self._elbo(torch.randn(500, 2, dtype=torch.float64, generator=g)))


def train(target, course=None, network=True, **settings):
    torch.manual_seed(settings.get("seed", 0))
    rule = NetworkSettings if network else GradientSettings
    options = {"learning_rate": 0.02 if network else 0.05, "batch_size": 50}
    return train_gradient(target, rule(**settings), course or Course(), **options)


PATIENCE = 4
"""Looks without a gain, in fits that need not be good ones."""


@pytest.fixture(scope="module")
def never():
    """A fit that was never stopped."""
    return train(Line(noise=0.5), patience=PATIENCE)


def same(a, b):
    return all(torch.equal(a.params[name], b.params[name]) for name in a.params)


@pytest.mark.slow
def test_it_finds_the_least_squares():
    target = Line()
    found = train(target)
    X = torch.cat([target.X, torch.ones(400, 1)], 1)
    exact = torch.linalg.lstsq(X, target.y[:, None]).solution[:, 0]
    weights = torch.cat([found.params["weight"][0, 0], found.params["bias"][0]])
    assert found.status is Status.CONVERGED
    assert float((weights - exact).abs().max()) < 0.005  # a third of a standard error, 0.3/√400


@pytest.mark.slow
def test_a_guide_stops_by_its_iterates_at_the_exact_optimum():
    """Failure rate below 1 %: the averages have an MCSE of about 0.01 sd."""
    target = Normal()
    found = train(target, network=False)
    loc, sd = found.params["loc"][0], found.params["log_sd"][0].exp()
    exact = target.P.diagonal().rsqrt()
    assert found.status is Status.CONVERGED
    assert float(((loc - target.m) / exact).abs().max()) < 0.06
    assert float((sd / exact - 1).abs().max()) < 0.05


@pytest.mark.parametrize(
    "stop", [13, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 105, 401, 1234))]
)
def test_going_on_gives_the_same_numbers(never, stop):
    stopped = train(Line(noise=0.5), steps=stop, patience=PATIENCE)
    assert stopped.status is Status.MAX_STEPS
    course = Course(resume=stopped.checkpoint, history=stopped.history)
    torch.manual_seed(99)  # what the generator is at must not matter
    settings = NetworkSettings(patience=PATIENCE)
    again = train_gradient(Line(noise=0.5), settings, course, learning_rate=0.02, batch_size=50)
    assert same(never, again)
    assert (never.elbo, never.steps) == (again.elbo, again.steps)
    seen = [(line["step"], line["elbo"]) for line in again.history]
    assert seen == [(line["step"], line["elbo"]) for line in never.history]


@pytest.mark.slow
def test_going_on_with_a_guide_gives_the_same_numbers():
    never = train(Normal(), network=False)
    stopped = train(Normal(), network=False, steps=777)
    again = train(Normal(), Course(resume=stopped.checkpoint), network=False)
    assert same(never, again)
    assert never.elbo == again.elbo


def test_a_poisoned_row_ends_in_diverged_and_the_weights_stay_sound():
    found = train(Line(poisoned=7))
    assert found.status is Status.DIVERGED
    assert "site 'y', row 8" in found.reason
    assert all(torch.isfinite(value).all() for value in found.params.values())


@pytest.mark.slow
def test_a_step_size_out_of_all_reason_is_survived():
    found = train(Line(), learning_rate=1e6)
    assert found.status is Status.CONVERGED
    assert found.elbo / 400 > -0.2


def test_one_row_that_fails_once_is_passed_over(monkeypatch):
    target, calls = Line(), []
    plain = target.loss

    def loss(rows, epoch):
        calls.append(epoch)
        return plain(rows, epoch) * (math.nan if len(calls) == 20 else 1.0)

    monkeypatch.setattr(target, "loss", loss)
    found = train(target)
    assert found.status is Status.CONVERGED
    assert found.elbo / 400 > -0.15


def test_out_of_memory_halves_the_batch_and_takes_the_same_step(monkeypatch):
    whole = train(Line(), steps=30)
    target = Line()
    plain = target.loss

    def loss(rows, epoch):
        if len(rows) > 20:
            raise torch.OutOfMemoryError("out of memory")
        return plain(rows, epoch)

    monkeypatch.setattr(target, "loss", loss)
    halved = train(target, steps=30)
    for name, value in whole.params.items():
        torch.testing.assert_close(halved.params[name], value, rtol=1e-4, atol=1e-5)


def test_a_pass_sees_every_row_once_and_its_batches_average_to_the_whole_gradient():
    target, rule = Line(), GradientRule(Patience(), batch_size=64)
    state = rule.start(target)
    batches, rows, total = rule.batches(state, target), [], torch.zeros(1, 5)
    for batch in batches:
        (gradient,) = torch.autograd.grad(target.loss(batch.index, 0.0), [target.module.weight])
        total += gradient * len(batch.index) / target.rows
        rows.append(batch.index)
        assert batch.scale == target.rows / len(batch.index)
        if batch.last:
            break
    assert sorted(torch.cat(rows).tolist()) == list(range(target.rows))
    (whole,) = torch.autograd.grad(target.loss(torch.arange(target.rows), 0.0), [target.module.weight])
    torch.testing.assert_close(total, whole, rtol=1e-4, atol=1e-5)


def test_r_hat_of_halves():
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(1000, 3, generator=g)
    assert split_r_hat(noise)[0] < 1.02
    assert split_r_hat(noise)[1] > 400
    drifting = noise + torch.linspace(0, 5, 1000)[:, None]
    assert split_r_hat(drifting)[0] > 1.5
    walk = noise.cumsum(0)
    assert split_r_hat(walk)[1] < 60
    assert split_r_hat(torch.ones(1000, 3)) == (1.0, math.inf)


def test_the_stationary_policy_waits_for_the_halves_to_agree():
    target, rule = Normal(), GradientRule(Stationary(), learning_rate=0.02, batch_size=1)
    state = rule.start(target)
    for _ in range(100):
        state, info = rule.step(target, state, next(rule.batches(state, target)))
    assert not info.kept  # still on its way
    assert info.left == math.inf


def test_a_signal_waits_for_the_step_to_be_whole():
    reached = []

    def step():
        with Whole() as whole:
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("the end of the step")
            whole.between()
            reached.append("the next step")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert reached == ["the end of the step"]


def test_a_second_signal_does_not_wait():
    reached = []

    def step():
        with Whole():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("the end of the step")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert not reached


def test_an_interrupted_fit_can_go_on(never):
    steps = []

    def progress(phase, step, elbo, left):
        steps.append(step)
        if step == 321:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = train(Line(noise=0.5), Course(progress), patience=PATIENCE)
    assert stopped.status is Status.INTERRUPTED
    assert stopped.steps == steps[-1] == 321
    again = train(Line(noise=0.5), Course(resume=stopped.checkpoint), patience=PATIENCE)
    assert same(never, again)


@pytest.mark.slow
def test_checkpoints_are_kept_on_the_way(never):
    kept = []
    train(Line(noise=0.5), Course(keep=kept.append), steps=40, checkpoint_every=1e-9, patience=PATIENCE)
    assert len(kept) == 40
    again = train(Line(noise=0.5), Course(resume=kept[17].checkpoint), patience=PATIENCE)
    assert same(never, again)
