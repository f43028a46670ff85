"""A recorded function gives what the function gives, and chains what the forward algorithm gives."""

from dataclasses import dataclass

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm

import ppl_models as ppl
from ppl_models.data import read
from ppl_models.models.program.bound import ProgramBound
from ppl_models.models.program.density import Density
from ppl_models.models.program.recording import Unrecorded, recorded

T, K = 30, 3


@dataclass(frozen=True)
class Chain(ppl.PyroModel):
    """A hand-written chain of K states, second order or first, with a number of its own for every step."""

    order: int = 1
    walk: bool = False

    def model(self, data):
        stay = pyro.sample("stay", dist.Beta(4.0, 2.0))
        m = pyro.sample("m", dist.Normal(torch.arange(K) * 2.0, 1.0).to_event(1))
        A = stay * torch.eye(K) + (1 - stay) / K
        before, last = None, torch.zeros((), dtype=torch.long)
        for t in pyro.markov(range(T), history=self.order):
            shift = pyro.sample(f"shift_{t}", dist.Normal(0.0, 0.1)) if self.walk else 0.0
            p = A[last] if before is None or self.order == 1 else 0.5 * (A[last] + A[before])
            before, last = last, pyro.sample(f"z_{t}", dist.Categorical(p))
            pyro.sample(f"y_{t}", dist.Normal(m[last] + shift, 1.0), obs=data["y"][t])


@dataclass(frozen=True)
class Walk(ppl.PyroModel):
    """A curved posterior, whose draws are moved."""

    def model(self, data):
        a = pyro.sample("a", dist.Normal(0.0, 3.0))
        b = pyro.sample("b", dist.Normal(a**2, 0.5))
        with pyro.plate("rows", 4):
            pyro.sample("y", dist.Normal(b, 3.0), obs=data["y"])


@pytest.fixture
def y():
    return np.random.default_rng(0).normal(size=T) * 2 + 2


def prepared(model, y):
    data = read({"y": y})
    return ProgramBound(model, data.schema).prepare(data).density


def forward(y, u):
    """Log p(x | θ) of the first-order chain, in NumPy."""
    stay, m = 1 / (1 + np.exp(-u[0])), u[1:]
    A = stay * np.eye(K) + (1 - stay) / K
    alpha = np.log(A[0]) + norm.logpdf(y[0], m)
    for t in range(1, T):
        alpha = logsumexp(alpha[:, None] + np.log(A), axis=0) + norm.logpdf(y[t], m)
    return logsumexp(alpha)


def test_a_chain_is_recorded_and_gives_what_the_forward_algorithm_gives(y):
    density = prepared(Chain(), y)
    assert density._batched is not None
    assert density._batched.batches < density._batched.operations / 2
    points = torch.randn(3, 1 + K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = density.parts(points).likelihood
    assert found.tolist() == pytest.approx([forward(y, u) for u in points.numpy()], rel=1e-12)


@pytest.mark.parametrize("model", [Chain(order=2), Chain(walk=True)], ids=["second order", "walk"])
def test_recorded_chains_have_the_values_and_gradients_of_those_that_are_not(model, y):
    density = prepared(model, y)
    assert density._batched is not None
    points = 0.5 * torch.randn(3, density.dimension, dtype=torch.float64)
    value, slope = density(points)
    density._batched = None
    other, turned = density(points)
    assert torch.allclose(value, other, rtol=1e-12)
    assert torch.allclose(slope, turned, rtol=1e-9, atol=1e-10)


def test_operations_that_are_alike_are_made_at_once():
    x = torch.arange(8.0)

    def function(u):
        parts = [(u[i] * x[i]).sin() + u[3:5].sum() for i in range(8)]
        return [torch.stack(parts).sum(), torch.cat([u[i : i + 2] for i in (5, 2, 0)]), torch.ones(2)]

    u = torch.linspace(-1, 1, 8)
    recording = recorded(function, u)
    assert recording.batches <= 9 < recording.operations
    for point in (u, u.flip(0)):
        for one, other in zip(recording(point), function(point), strict=True):
            assert torch.allclose(one, other)
    many = torch.stack([u, u.flip(0)])
    assert torch.allclose(torch.func.vmap(recording)(many)[0][1], function(u.flip(0))[0])


def test_what_is_written_into_is_recorded_as_a_function_and_random_numbers_are_not_recorded():
    def writes(u):
        p = torch.zeros(3) + 0 * u.sum()
        p[0] = u[0]
        p[1:] += u[1]
        return [p]

    u = torch.tensor([1.0, 2.0])
    assert torch.equal(recorded(writes, u)(u * 3)[0], torch.tensor([3.0, 6.0, 6.0]))
    with pytest.raises(Unrecorded):
        recorded(lambda u: [u + torch.rand(2)], u)


def test_a_budget_ends_searches_steps_and_moves(y, monkeypatch):
    """On a clock that goes on by a second at every look at the density."""
    now = [0.0]
    real = Density.__call__

    def slow(self, points):
        now[0] += 1.0
        return real(self, points)

    monkeypatch.setattr(Density, "__call__", slow)
    monkeypatch.setattr("ppl_models.models.program.train.time.monotonic", lambda: now[0])
    for budget in (10.0, 40.0):
        now[0] = 0.0
        fit = ppl.fit(Walk(), {"y": y[:4]}, budget=budget, restarts=2)
        if fit.status == "max_steps":
            assert "allow more with --budget" in fit.trained.reason
        now[0] += 100.0  # whoever looks at draws later has not less of the budget
        assert fit.posterior_draws.draws > 0
        assert (
            budget <= now[0] - 100.0 <= budget + 9
        )  # Gaussians of the searches, and a step; or a path of the moves
