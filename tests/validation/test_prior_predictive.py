"""What a prior expects of the data, against predictive distributions that are known."""

import warnings
from dataclasses import dataclass

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
from scipy.stats import beta, norm

import ppl_models as ppl
from ppl_models.errors import Unsupported
from ppl_models.prior_predictive import TAILS, prior_predictive

ROWS = 25


@dataclass(frozen=True)
class Centre(ppl.PyroModel):
    """mu ~ Normal(0, scale), rows about it with sd 1."""

    scale: float = 1.0

    def model(self, data):
        mu = pyro.sample("mu", dist.Normal(0.0, self.scale))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(mu, 1.0), obs=data["x"])


def about(centre: float, model: Centre) -> "ppl.Fit":
    return ppl.fit(model, {"x": np.random.default_rng(0).normal(centre, 1.0, ROWS)}, restarts=1)


def test_an_interval_is_that_of_the_prior_and_data_outside_is_said():
    table = prior_predictive(about(30.0, Centre())).set_index("statistic")
    sd = (1 + 1 / ROWS) ** 0.5
    own = table.loc["mean"]
    # of 2,000 draws the ends of the interval are order statistics of a Beta(1.5, 1999.5) or so: within
    # these at a rate of 10⁻⁶ each
    lowest, highest = norm.ppf(beta.ppf([1e-6, 1 - 1e-6], 2, 1_999)) * sd
    assert lowest < own["lower"] < highest
    assert lowest < -own["upper"] < highest
    assert own["median"] == pytest.approx(0.0, abs=5 * 1.2533 * sd / 2_000**0.5)
    assert own["says"] == "outside of what the prior expects"
    assert table.loc["sd", "says"] == ""
    assert pytest.approx(0.0005) == TAILS[0]


def test_a_prior_that_is_absurdly_wide_is_said():
    says = prior_predictive(about(30.0, Centre(scale=10_000.0)))["says"]
    # 3.29 · 10⁴ over the range of 25 standard normal cells
    assert says[0] == "the prior is 1e+04 times as wide as the data"
    assert not says[1:].any()


def test_a_mixture_and_a_regression_have_their_columns():
    rng = np.random.default_rng(2)
    data = {"a": rng.normal(size=40), "n": rng.poisson(3.0, 40), "kind": rng.choice(["u", "v"], 40)}
    data["a"][3] = np.nan
    mixed = prior_predictive(ppl.fit(ppl.GMM(components=2), data, types={"n": "count"}, restarts=1))
    assert [*mixed["column"].unique()] == ["a", "n", "kind"]
    assert [*mixed["statistic"][mixed["column"] == "kind"]] == ["share of u", "share of v"]
    assert "share of zeros" in [*mixed["statistic"][mixed["column"] == "n"]]
    assert not mixed["says"].any()
    line = ppl.fit(ppl.GLM(), {"x": data["n"], "y": 3.0 * data["n"]}, target="y").prior_predictive()
    assert [*line["column"].unique()] == ["y"]  # predictors are given


@pytest.mark.filterwarnings("ignore")
def test_arviz_finds_prior_data_beside_the_data():
    rng = np.random.default_rng(3)
    fit = ppl.fit(ppl.GLM(), {"x": np.arange(30.0), "y": rng.normal(size=30)}, target="y")
    together = fit.to_arviz()
    for name in ("posterior", "posterior_predictive", "prior", "prior_predictive", "observed_data"):
        assert name in together.groups() if callable(together.groups) else f"/{name}" in together.groups
    drawn = together["prior_predictive"]["y"].to_numpy()
    assert drawn.shape == (1, 1_000, 30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz as az
        import matplotlib

        matplotlib.use("Agg")
    if int(az.__version__.split(".")[0]) < 1:
        for found in (together, fit.prior):
            assert az.plot_ppc(found, group="prior", num_pp_samples=5) is not None
        import matplotlib.pyplot as plt

        plt.close("all")
    else:
        assert az.plot_ppc_dist(fit.prior, group="prior_predictive", num_samples=5) is not None


@pytest.mark.slow
def test_what_has_no_prior_to_draw_from_is_refused():
    rng = np.random.default_rng(4)
    data = {"x": rng.normal(size=30), "y": rng.choice(["u", "v"], 30)}
    with pytest.raises(Unsupported, match="prior of 2 classes, 1 predictor cannot be drawn from"):
        ppl.fit(ppl.Logistic(prior="horseshoe"), data, target="y").prior_predictive()
    network = ppl.fit(ppl.VAE(latent=1, hidden=(4,)), {"x": data["x"]}, steps=2)
    with pytest.raises(Unsupported, match="weights are point estimates"):
        network.prior_predictive()
