"""Hierarchies: location and scale taken out of sites, against quadrature."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models.models.program.centring import transform_of


@dataclass(frozen=True)
class Groups(ppl.PyroModel):
    """theta_j ~ Normal(mu, tau), y ~ Normal(theta_j, 0.8), as it is written."""

    def model(self, data):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfNormal(2.0))
        with pyro.plate("group", data["J"]):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
        with pyro.plate("rows", data["N"]):
            pyro.sample("y", dist.Normal(theta[data["group"].long()], 0.8), obs=data["y"])


@pytest.mark.parametrize(
    "fn",
    [
        dist.Normal(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])),
        dist.LogNormal(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])).to_event(1),
        dist.HalfCauchy(torch.tensor([0.5, 3.0])),
        dist.StudentT(4.0, torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])).mask(torch.tensor(True)),
        dist.MultivariateNormal(torch.tensor([1.0, 2.0]), scale_tril=torch.tensor([[0.5, 0.0], [1.0, 2.0]])),
    ],
)
def test_a_scale_that_is_taken_out_is_gone_from_the_density(fn):
    """Log p(T(u)) + log |∂T/∂u| differs from point to point as a density without location and scale does."""
    u = torch.tensor([0.3, -0.7])
    transform = transform_of(fn, False)
    value = transform(u)
    torch.testing.assert_close(transform.inv(value), u)
    J = torch.autograd.functional.jacobian(lambda x: transform(x), u)
    assert isinstance(J, torch.Tensor)
    torch.testing.assert_close(transform.log_abs_det_jacobian(u, value).sum(), torch.linalg.slogdet(J)[1])
    if isinstance(fn, dist.MultivariateNormal):
        total = fn.log_prob(value).sum() + transform.log_abs_det_jacobian(u, value).sum()
        torch.testing.assert_close(total, dist.Normal(0.0, 1.0).log_prob(u).sum())


def test_where_there_is_no_hierarchy_nothing_is_taken_out():
    from models.program.conftest import Line

    frame = pd.DataFrame({"x": [0.0, 1.0, 2.0], "y": [1.0, 2.0, 2.5]})
    assert ppl.fit(Line(), frame, restarts=1, steps=1).bound.sites.scaled == ()


@pytest.mark.slow
@pytest.mark.parametrize("J", [40, 180])
def test_groups_are_those_of_quadrature(J):
    rng = np.random.default_rng(J)
    n = rng.integers(1, 9, J)
    group = np.repeat(np.arange(J), n)
    y = rng.normal(1.3, 0.3, J)[group] + 0.8 * rng.normal(size=len(group))
    mean, v = np.bincount(group, y) / n, 0.64 / n
    tau = np.exp(np.linspace(np.log(1e-4), np.log(3), 4_000))[:, None]
    s = v + tau**2
    P = (1 / s).sum(1) + 1 / 25
    m = (mean / s).sum(1) / P
    log_p = -0.5 * (np.log(s) + mean**2 / s).sum(1) + 0.5 * m**2 * P - 0.5 * np.log(P)
    log_p += -0.5 * (tau[:, 0] / 2) ** 2 + np.log(tau[:, 0])
    w = np.exp(log_p - log_p.max())
    w /= w.sum()
    k = tau**2 / s
    at, var = k * mean + (1 - k) * m[:, None], k * v + (1 - k) ** 2 / P[:, None]
    wanted = w @ at
    sd = np.sqrt(w @ (var + at**2) - wanted**2)
    fit = ppl.fit(Groups(), {"J": J, "N": len(group), "group": group, "y": y}, restarts=4)
    found = {name: x.numpy() for name, x in fit.bound.values(fit.posterior_draws.theta).items()}
    assert fit.check().verdict == "trusted", fit.check()
    assert "non-centred" in fit.trained.notes[0]
    assert np.abs((found["theta"].mean(0) - wanted) / sd).max() < 0.1
    np.testing.assert_allclose(found["theta"].std(0) / sd, 1.0, atol=0.08)
    tau_mean = w @ tau[:, 0]
    assert found["tau"].mean() == pytest.approx(tau_mean, abs=0.1 * np.sqrt(w @ tau[:, 0] ** 2 - tau_mean**2))
