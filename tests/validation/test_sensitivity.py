"""Power scaling against posteriors whose scaled versions are normal as well."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
from scipy.stats import norm

import ppl_models as ppl
from ppl_models.errors import Unsupported
from ppl_models.sensitivity import POWERS, distance, sensitivity


@dataclass(frozen=True)
class Centre(ppl.PyroModel):
    """mu ~ Normal(0, scale), rows about it with sd 1."""

    scale: float = 1.0

    def model(self, data):
        mu = pyro.sample("mu", dist.Normal(0.0, self.scale))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=data["x"])


def exact(x: np.ndarray, scale: float, prior: float = 1.0, likelihood: float = 1.0):
    """The posterior with powers of both."""
    precision = prior / scale**2 + likelihood * len(x)
    return norm(likelihood * x.sum() / precision, precision**-0.5)


def expected(x: np.ndarray, scale: float, part: str) -> float:
    """The sensitivity, by distribution functions on a grid."""
    middle = exact(x, scale)
    grid = np.linspace(*middle.ppf([1e-4, 1 - 1e-4]), 4_001)
    each = []
    for alpha in POWERS:
        p, q = middle.pdf(grid), exact(x, scale, **{part: alpha}).pdf(grid)
        each.append(distance(grid, p / p.sum(), q / q.sum()) / abs(np.log2(alpha)))
    return float(np.mean(each))


@pytest.mark.parametrize(("scale", "says"), [(100.0, ""), (0.3, "prior and data pull apart, or both matter")])
def test_a_sensitivity_is_that_of_the_scaled_posterior(scale, says):
    x = np.random.default_rng(0).normal(2.0, 1.0, 10)
    fit = ppl.fit(Centre(scale=scale), pd.DataFrame({"x": x}))
    table = sensitivity(fit)
    for part in ("prior", "likelihood"):
        assert table.loc["mu", part] == pytest.approx(expected(x, scale, part), rel=0.2, abs=0.005)
    assert table.loc["mu", "says"] == says


def test_a_prior_without_data_decides():
    @dataclass(frozen=True)
    class Loose(Centre):
        """And a number that the data says nothing of."""

        def model(self, data):
            pyro.sample("free", dist.Normal(0.0, 1.0))
            super().model(data)

    x = np.random.default_rng(1).normal(0.0, 1.0, 40)
    table = ppl.fit(Loose(scale=10.0), pd.DataFrame({"x": x})).sensitivity()
    assert table.loc["free", "says"] == "the prior decides"
    assert table.loc["mu", "says"] == ""


@pytest.mark.slow
def test_priors_of_groups_are_part_of_the_model():
    @dataclass(frozen=True)
    class Groups(ppl.PyroModel):
        """Means of groups about one mean."""

        def model(self, data):
            mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
            with pyro.plate("groups", 4):
                each = pyro.sample("each", dist.Normal(mu, 1.0))
            with pyro.plate("rows", len(data)):
                pyro.sample("x", dist.Normal(each[data["g"].long()], 1.0), obs=data["x"])

    g = np.repeat(np.arange(4.0), 10)
    fit = ppl.fit(Groups(), {"x": np.random.default_rng(2).normal(size=40), "g": g})
    theta = fit.posterior_draws.theta
    mu = fit.bound.values(theta)["mu"].numpy()
    assert fit.bound.log_scaled_prior(theta).numpy() == pytest.approx(norm(0, 5).logpdf(mu))


def test_the_distance_is_zero_of_equal_weights_and_grows_with_the_shift():
    x, even = np.linspace(-3, 3, 400), np.full(400, 1 / 400)
    tilted = [np.exp(a * x) / np.exp(a * x).sum() for a in (0.1, 0.5)]
    assert distance(x, even, even) == 0
    assert 0 < distance(x, even, tilted[0]) < distance(x, even, tilted[1]) < 1


def test_a_point_estimate_has_no_prior_to_scale():
    with pytest.raises(Unsupported, match="has no posterior of parameters"):
        sensitivity(_Point())


class _Point:
    name = "vae"
    bound = object()
