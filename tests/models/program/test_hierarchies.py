"""Hierarchies against long Hamiltonian chains on log densities that are written by hand, without Pyro."""

import math
from dataclasses import dataclass

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.nn.functional import softplus

import ppl_models as ppl

GROUPS, ROWS, PEOPLE, ITEMS = 10, 60, 30, 5


@dataclass(frozen=True)
class Counts(ppl.PyroModel):
    """A Poisson regression with an intercept for every group."""

    def model(self, data):
        a = pyro.sample("a", dist.Normal(0.0, 2.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        s = pyro.sample("s", dist.HalfNormal(1.0))
        with pyro.plate("groups", GROUPS):
            r = pyro.sample("r", dist.Normal(0.0, s))
        with pyro.plate("rows", ROWS):
            rate = (a + b * data["x"] + r[data["group"].long()]).exp()
            pyro.sample("y", dist.Poisson(rate), obs=data["y"])


@dataclass(frozen=True)
class Slopes(ppl.PyroModel):
    """Intercepts and slopes of groups, correlated."""

    def model(self, data):
        m = pyro.sample("m", dist.Normal(0.0, 2.0).expand([2]).to_event(1))
        t = pyro.sample("t", dist.HalfNormal(1.0).expand([2]).to_event(1))
        L = pyro.sample("L", dist.LKJCholesky(2, 2.0))
        s = pyro.sample("s", dist.HalfNormal(1.0))
        with pyro.plate("groups", GROUPS):
            r = pyro.sample("r", dist.MultivariateNormal(m, scale_tril=t[:, None] * L))
        own = r[data["group"].long()]
        with pyro.plate("rows", ROWS):
            pyro.sample("y", dist.Normal(own[:, 0] + own[:, 1] * data["x"], s), obs=data["y"])


@dataclass(frozen=True)
class Responses(ppl.PyroModel):
    """Two-parameter item response theory."""

    def model(self, data):
        with pyro.plate("items", ITEMS, dim=-1):
            a = pyro.sample("a", dist.LogNormal(0.0, 0.5))
            b = pyro.sample("b", dist.Normal(0.0, 1.5))
        with pyro.plate("people", PEOPLE, dim=-2):
            r = pyro.sample("r", dist.Normal(0.0, 1.0))
        with pyro.plate("each", PEOPLE, dim=-2), pyro.plate("item", ITEMS, dim=-1):
            pyro.sample("y", dist.Bernoulli(logits=a * (r - b)), obs=data["y"])


def counts(data):
    x, y, group = (torch.as_tensor(data[name]) for name in ("x", "y", "group"))

    def log_p(u):
        a, b, s, z = u[:, 0], u[:, 1], u[:, 2].exp(), u[:, 3:]
        eta = a[:, None] + b[:, None] * x + (s[:, None] * z)[:, group.long()]
        prior = -0.5 * (a / 2) ** 2 - 0.5 * b**2 - 0.5 * s**2 + u[:, 2] - 0.5 * (z**2).sum(1)
        return prior + (y * eta - eta.exp()).sum(1)

    def sites(u):
        s = u[:, 2:3].exp()
        return {"a": u[:, :1], "b": u[:, 1:2], "s": s, "r": s * u[:, 3:]}

    return log_p, sites, 3 + GROUPS


def slopes(data):
    x, y, group = (torch.as_tensor(data[name]) for name in ("x", "y", "group"))

    def parts(u):
        m, t, c, s = u[:, :2], u[:, 2:4].exp(), u[:, 4].tanh(), u[:, 5].exp()
        z = u[:, 6:].reshape(-1, GROUPS, 2)
        turned = c[:, None] * z[..., 0] + (1 - c[:, None] ** 2).sqrt() * z[..., 1]
        return m, t, c, s, z, m[:, None] + t[:, None] * torch.stack([z[..., 0], turned], -1)

    def log_p(u):
        m, t, c, s, z, r = parts(u)
        prior = -0.5 * ((m / 2) ** 2).sum(1) - 0.5 * (t**2).sum(1) + u[:, 2:4].sum(1) - 0.5 * s**2 + u[:, 5]
        prior = prior + 2 * (1 - c**2).log() - 0.5 * (z**2).sum((1, 2))  # LKJ(2), and dc/du = 1 − c²
        mean = r[:, group.long(), 0] + r[:, group.long(), 1] * x
        return prior - ROWS * u[:, 5] - 0.5 * (((y - mean) / s[:, None]) ** 2).sum(1)

    def sites(u):
        m, t, c, s, _, r = parts(u)
        return {"m": m, "t": t, "L": c[:, None], "s": s[:, None], "r": r.flatten(1)}

    return log_p, sites, 6 + 2 * GROUPS


def responses(data):
    y = torch.as_tensor(data["y"])

    def log_p(u):
        a, b, r = (0.5 * u[:, :ITEMS]).exp(), u[:, ITEMS : 2 * ITEMS], u[:, 2 * ITEMS :]
        eta = a[:, None] * (r[:, :, None] - b[:, None])
        prior = -0.5 * (u[:, :ITEMS] ** 2).sum(1) - 0.5 * ((b / 1.5) ** 2).sum(1) - 0.5 * (r**2).sum(1)
        return prior + (y * eta - softplus(eta)).sum((1, 2))

    def sites(u):
        return {"a": (0.5 * u[:, :ITEMS]).exp(), "b": u[:, ITEMS : 2 * ITEMS], "r": u[:, 2 * ITEMS :]}

    return log_p, sites, 2 * ITEMS + PEOPLE


def chains(log_p, d, number=128, warm=300, rounds=300):
    """Points of Hamiltonian chains after they have settled, (rounds · number, d)."""

    def look(u):
        u = u.detach().requires_grad_()
        value = log_p(u).nan_to_num(-1e10)
        (slope,) = torch.autograd.grad(value.sum(), u)
        return value.detach(), slope.nan_to_num(0.0).clamp(-1e4, 1e4)

    u = 0.3 * torch.randn(number, d, dtype=torch.float64)
    value, slope = look(u)
    step, sd, kept = 0.1, torch.ones(d, dtype=torch.float64), []
    for turn in range(warm + rounds):
        if turn in (100, 200):
            sd = u.std(0)
        p = torch.randn_like(u)
        start, end, end_value, end_slope = 0.5 * (p**2).sum(1) - value, u, value, slope
        size = step * (0.8 + 0.4 * torch.rand(number, 1, dtype=torch.float64)) * sd
        for _ in range(int(torch.randint(10, 30, ()))):
            p = p + 0.5 * size * end_slope
            end = end + size * p
            end_value, end_slope = look(end)
            p = p + 0.5 * size * end_slope
        chance = (start - 0.5 * (p**2).sum(1) + end_value).exp().clamp(max=1).nan_to_num(0.0)
        yes = torch.rand(number, dtype=torch.float64) < chance
        u, slope = torch.where(yes[:, None], end, u), torch.where(yes[:, None], end_slope, slope)
        value = torch.where(yes, end_value, value)
        if turn < warm:
            step *= math.exp((float(chance.mean()) - 0.85) * (0.5 if turn < 50 else 0.1))
        else:
            kept.append(u)
    return torch.cat(kept)


def tables():
    rng = np.random.default_rng(1)
    group, x = rng.integers(0, GROUPS, ROWS), rng.normal(size=ROWS)
    r = rng.normal(size=(GROUPS, 2)) * [1.0, 0.6]
    rows = {"x": x, "group": group.astype(float)}
    number = rng.poisson(np.exp(0.5 + 0.4 * x + 0.7 * r[group, 0])).astype(float)
    line = 1 + r[group, 0] + (r[group, 1] + 0.3 * r[group, 0] - 0.5) * x + 0.7 * rng.normal(size=ROWS)
    eta = rng.normal(size=(PEOPLE, 1)) - rng.normal(size=ITEMS)
    right = (rng.random((PEOPLE, ITEMS)) < 1 / (1 + np.exp(-eta))).astype(float)
    return [rows | {"y": number}, rows | {"y": line}, {"y": right}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "by_hand", "data"),
    list(zip([Counts(), Slopes(), Responses()], [counts, slopes, responses], tables(), strict=True)),
    ids=["counts", "slopes", "responses"],
)
def test_hierarchies_have_the_posterior_of_long_chains(model, by_hand, data):
    torch.manual_seed(0)
    log_p, sites, d = by_hand(data)
    wanted = sites(chains(log_p, d))
    fit = ppl.fit(model, data)
    assert fit.check().verdict == "trusted", fit.check()
    table = fit.summary()
    for name, draws in wanted.items():
        at = [row for row in table.index if row == name or row.startswith(f"{name}[")]
        rows = table.loc[["L[1, 0]"] if name == "L" else at]
        mean, sd = draws.mean(0).numpy(), draws.std(0).numpy()
        np.testing.assert_allclose((rows["mean"].to_numpy() - mean) / sd, 0.0, atol=0.1, err_msg=name)
        np.testing.assert_allclose(rows["sd"].to_numpy() / sd, 1.0, atol=0.1, err_msg=name)
