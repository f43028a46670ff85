"""Posteriors of several modes, and draws of all of them, against quadrature."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models.inference.moves import move
from ppl_models.models.program.modes import Gaussians, Jump, applied, completed, symmetries, weighed


@dataclass(frozen=True)
class Square(ppl.PyroModel):
    """t ~ Normal(0, 2), y ~ Normal(t², 1): t and −t cannot be told apart."""

    def model(self, data):
        t = pyro.sample("t", dist.Normal(0.0, 2.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("y", dist.Normal(t**2, 1.0), obs=data["y"])


@dataclass(frozen=True)
class Lopsided(ppl.PyroModel):
    """Two means in known shares that are nearly, and not quite, the same the other way round."""

    share: float = 0.45

    def model(self, data):
        with pyro.plate("component", 2):
            mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        w = torch.tensor([self.share, 1 - self.share])
        with pyro.plate("rows", len(data)):
            z = pyro.sample("z", dist.Categorical(w))
            pyro.sample("y", dist.Normal(mu[z], 1.0), obs=data["y"])


@dataclass(frozen=True)
class Product(ppl.PyroModel):
    """Y ~ Normal(a b, 1)."""

    def model(self, data):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("y", dist.Normal(a * b, 1.0), obs=data["y"])


def draws(fit):
    return {name: v.double().numpy() for name, v in fit.bound.values(fit.posterior_draws.theta).items()}


def on_grid(log_p, *axes):
    """Weights of the points of a grid."""
    grid = np.meshgrid(*axes, indexing="ij")
    value = log_p(*grid)
    weight = np.exp(value - value.max())
    return grid, weight / weight.sum()


def test_a_sign_that_cannot_be_told_has_both_modes():
    y = 1.8 + np.random.default_rng(0).normal(size=20)
    fit = ppl.fit(Square(), pd.DataFrame({"y": y}))
    (t,), w = on_grid(
        lambda t: -0.5 * (t / 2) ** 2 - 0.5 * ((y - t[..., None] ** 2) ** 2).sum(-1), np.linspace(-4, 4, 4001)
    )
    found = draws(fit)["t"]
    assert fit.check().verdict == "trusted", fit.check()
    assert abs(found.mean()) < 0.1
    assert found.std() == pytest.approx(np.sqrt((w * t**2).sum()), rel=0.02)
    assert np.abs(found).std() == pytest.approx(np.sqrt((w * t**2).sum() - (w * abs(t)).sum() ** 2), rel=0.1)
    assert "2 modes, with 50, 50 %" in fit.check().text(200)


def test_two_modes_have_their_shares_of_the_probability():
    rng = np.random.default_rng(1)
    y = np.where(rng.random(40) < 0.45, -1.5, 1.5) + rng.normal(size=40)
    fit = ppl.fit(Lopsided(), pd.DataFrame({"y": y}))
    axis = np.linspace(-4, 4, 241)

    def log_p(a, b):
        density = 0.45 * np.exp(-0.5 * (y - a[..., None]) ** 2) + 0.55 * np.exp(
            -0.5 * (y - b[..., None]) ** 2
        )
        return -0.5 * (a**2 + b**2) / 9 + np.log(density).sum(-1)

    (a, b), w = on_grid(log_p, axis, axis)
    share = w[a < b].sum()
    found = draws(fit)["mu"]
    assert 0.02 < share < 0.98
    assert (found[:, 0] < found[:, 1]).mean() == pytest.approx(share, abs=0.03)
    assert found.mean(0) == pytest.approx([(w * a).sum(), (w * b).sum()], abs=0.1)
    assert fit.check().verdict == "trusted", fit.check()


@pytest.mark.slow
def test_a_ridge_with_two_branches_has_both_of_them():
    y = 1.5 + np.random.default_rng(2).normal(size=10)
    fit = ppl.fit(Product(), pd.DataFrame({"y": y}))
    axis = np.linspace(-5, 5, 401)

    def log_p(a, b):
        return -0.5 * (a**2 + b**2) - 0.5 * len(y) * (y.mean() - a * b) ** 2

    (a, b), w = on_grid(log_p, axis, axis)
    found = draws(fit)
    assert fit.check().verdict == "trusted", fit.check()
    assert abs(found["a"].mean()) < 0.1
    assert found["a"].std() == pytest.approx(np.sqrt((w * a**2).sum()), rel=0.05)
    product, mean = found["a"] * found["b"], (w * a * b).sum()
    assert product.mean() == pytest.approx(mean, abs=0.05)
    assert product.std() == pytest.approx(np.sqrt((w * (a * b) ** 2).sum() - mean**2), rel=0.05)


def bumps(u):
    """Log density of three normals of unequal weights and widths, and its gradient."""
    u = u.detach().requires_grad_()
    loc = torch.tensor([[-6.0, 0.0], [6.0, 1.0], [0.0, 8.0]], dtype=torch.float64)
    sd = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    share = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    each = share.log() - 2 * sd.log() - 0.5 * ((u[:, None] - loc) ** 2).sum(-1) / sd**2
    value = torch.logsumexp(each, 1)
    return value.detach(), torch.autograd.grad(value.sum(), u)[0]


def three():
    loc = torch.tensor([[-6.0, 0.0], [6.0, 1.0], [0.0, 8.0]], dtype=torch.float64)
    return [(m, torch.eye(2, dtype=torch.float64) / s**2) for m, s in zip(loc, (0.8, 0.7, 1.5), strict=True)]


def test_modes_are_weighed_by_their_evidence():
    torch.manual_seed(0)
    q, _ = weighed(bumps, three(), [0, 1, 2])
    np.testing.assert_allclose(q.log_weight.exp(), [0.2, 0.5, 0.3], atol=0.03)


def test_jumps_leave_the_density_as_it_is():
    """Exact draws stay what they are; chains that all begin in one mode come to have the shares of all."""
    torch.manual_seed(0)
    m, p = zip(*three(), strict=True)
    q = Gaussians(torch.full((3,), 1 / 3, dtype=torch.float64).log(), torch.stack(m), torch.stack(p))
    label = torch.multinomial(torch.tensor([0.2, 0.5, 0.3]), 4_000, replacement=True)
    sd = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    u = torch.stack(m)[label] + sd[label][:, None] * torch.randn(4_000, 2, dtype=torch.float64)
    jump, state = Jump(bumps, q, None), (u, *bumps(u))
    for _ in range(5):
        state = jump(*state)
    label = q.shares(state[0]).argmax(1)
    np.testing.assert_allclose(torch.bincount(label, minlength=3) / len(u), [0.2, 0.5, 0.3], atol=0.025)
    found = torch.stack([state[0][label == k].std(0) for k in range(3)])
    np.testing.assert_allclose(found, np.c_[sd, sd], rtol=0.1)
    assert not torch.equal(state[0], u)
    ended = move(
        bumps, m[0] + torch.randn(500, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64),
        most=48, keep=8, jump=jump,
    )  # fmt: skip
    share = torch.bincount(q.shares(ended.points).argmax(1), minlength=3) / len(ended.points)
    assert ended.forgot
    np.testing.assert_allclose(share, [0.2, 0.5, 0.3], atol=0.06)


def test_symmetries_are_only_those_that_hold():
    sites = [(slice(0, 2), (2,), True), (slice(2, 3), (1,), True)]

    def mirrored(u):
        """(a, b) → (−a, −b) and a ↔ b leave it as it is; c has no symmetry."""
        u = u.detach().requires_grad_()
        value = -((u[:, 0] * u[:, 1] - 1) ** 2) - (u[:, :2] ** 2).sum(1) / 2 - (u[:, 2] - 1) ** 2
        return value.detach(), torch.autograd.grad(value.sum(), u)[0]

    eye = torch.eye(3, dtype=torch.float64)
    loc = torch.tensor([0.9, 0.6, 1.0], dtype=torch.float64)
    swapped = loc[torch.tensor([1, 0, 2])]
    group = symmetries(mirrored, [(loc, 50 * eye), (swapped, 50 * eye)], sites, 16)
    assert sorted(tuple(g.tolist()) for g in group) == [
        (-2.0, -1.0, 3.0), (-1.0, -2.0, 3.0), (1.0, 2.0, 3.0), (2.0, 1.0, 3.0),
    ]  # fmt: skip
    points = torch.randn(5, 3, dtype=torch.float64)
    for g in group:
        torch.testing.assert_close(mirrored(applied(g, points))[0], mirrored(points)[0])
    every, orbit = completed([(loc, 50 * eye)], group)
    assert len(every) == 4
    assert orbit == [0, 0, 0, 0]
