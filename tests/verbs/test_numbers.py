"""Targets that are numbers: intervals, quantiles and densities of a predictive distribution."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import scipy.stats as ss
import torch
from fits import by_hand
from own_normals import NormalsBound

import ppl_models as ppl
from ppl_models.capabilities import NETWORKS, Predicted
from ppl_models.verbs.predict import quantile


@dataclass(frozen=True)
class LineBound(NormalsBound):
    """y ~ Normal(2 x, s) with three draws of s; rows without x are left out."""

    numeric_target: bool = True

    def predicted(self, rows, draws):
        at = torch.nonzero(~rows[:, 0].isnan()).squeeze(-1)
        sd = draws[NETWORKS]["sd"].double()
        yield Predicted(at.numpy(), torch.distributions.Normal(2 * rows[at, 0] + 0 * sd, sd))

    log_density = None


class Poissons:
    """Counts under several rates."""

    def __init__(self, rate):
        self.mean = rate

    def log_prob(self, value):
        return torch.from_numpy(ss.poisson.logpmf(value.numpy(), self.mean.numpy()))

    def cdf(self, value):
        return torch.from_numpy(ss.poisson.cdf(value.numpy(), self.mean.numpy()))

    def sample(self):
        return torch.poisson(self.mean)


@dataclass(frozen=True)
class Line(ppl.Model):
    """A line through 0."""

    @classmethod
    def bounds(cls):
        return (LineBound,)

    def bind(self, schema):
        return LineBound(schema, 0.1)


SD = np.array([0.5, 1.0, 3.0])


@pytest.fixture
def line():
    table = pd.DataFrame({"x": [0.0, 1.5, np.nan, -2.0], "y": [0.25, np.nan, 1.0, -3.5]})
    params = {"sd": torch.from_numpy(SD)[:, None]}
    fit = by_hand(Line(), ppl.read(table, target="y"), params, 0.0)
    return fit


def mixture_cdf(y, mean):
    return ss.norm.cdf(y, mean, SD).mean()


def test_intervals_are_those_of_the_mixture_over_draws(line):
    found = line.predict(level=0.8, quantiles=(0.25, 0.5))
    assert list(found) == [
        "mean", "mean_lower", "mean_upper", "lower", "upper", "quantile_0.25", "quantile_0.5",
    ]  # fmt: skip
    assert found.iloc[2].isna().all()
    for i, mean in ((0, 0.0), (1, 3.0), (3, -4.0)):
        row = found.iloc[i]
        assert row["mean"] == row["mean_lower"] == row["mean_upper"] == mean
        for name, p in (("lower", 0.1), ("upper", 0.9), ("quantile_0.25", 0.25), ("quantile_0.5", 0.5)):
            assert mixture_cdf(row[name], mean) == pytest.approx(p, abs=1e-7)


def test_the_score_is_the_density_with_the_parameters_integrated_out(line):
    found = line.score()["log_probability"]
    for i, (mean, y) in ((0, (0.0, 0.25)), (3, (-4.0, -3.5))):
        assert found[i] == pytest.approx(np.log(ss.norm.pdf(y, mean, SD).mean()))
    assert found[[1, 2]].isna().all()


@pytest.mark.parametrize("q", [(0.0,), (1.5,), (0.5, -1.0)])
def test_quantiles_that_are_no_probabilities_are_refused(line, q):
    with pytest.raises(ppl.UsageError, match="quantiles must be probabilities between 0 and 1, got"):
        line.predict(quantiles=q)


@pytest.mark.parametrize("p", [0.01, 0.05, 0.5, 0.95, 0.999])
def test_quantiles_of_counts_are_the_smallest_that_are_probable_enough(p):
    torch.manual_seed(0)
    rate = torch.tensor([[0.1, 3.0, 40.0, 900.0], [0.3, 9.0, 41.0, 1_500.0]], dtype=torch.float64)
    found = quantile(Poissons(rate), p, discrete=True).numpy()
    at = ss.poisson.cdf(found, rate.numpy()).mean(0)
    below = ss.poisson.cdf(found - 1, rate.numpy()).mean(0)
    assert (at >= p).all()
    assert (below < p).all()


def test_quantiles_of_heavy_tails():
    torch.manual_seed(0)
    new = torch.distributions.Cauchy(torch.zeros(2, 3).double(), torch.tensor([[1.0], [5.0]]).double())
    for p in (1e-3, 0.3, 0.5, 0.999):
        y = quantile(new, p).numpy()
        np.testing.assert_allclose((ss.cauchy.cdf(y) + ss.cauchy.cdf(y, 0, 5)) / 2, p, atol=1e-7)
