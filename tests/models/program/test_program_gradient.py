"""Models of one's own under the gradient rule: Pyro's ELBOs, its guides, and mini-batches."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from models.program.conftest import Line, Mixture, Normals
from scipy.special import betaln

import ppl_models as ppl
from ppl_models.errors import UsageError
from ppl_models.models.program.gradient import ProgramTarget
from ppl_models.models.program.guides import local

HEADS = pd.DataFrame({"heads": np.array([1] * 13 + [0] * 37)})


@dataclass(frozen=True)
class Coin(ppl.PyroModel):
    """p ~ Beta(2, 2), with the conjugate family as its guide."""

    def model(self, data):
        p = pyro.sample("p", dist.Beta(2.0, 2.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("heads", dist.Bernoulli(p), obs=data["heads"])

    def guide(self, data, fit=None):
        positive = dist.constraints.positive
        a = pyro.param("a", torch.tensor(5.0), constraint=positive)
        b = pyro.param("b.c", lambda: torch.tensor(5.0), constraint=positive)
        pyro.sample("p", dist.Beta(a, b))


def test_a_guide_of_ones_own_is_used_and_bounds_the_evidence():
    fit = ppl.fit(Coin(), HEADS, steps=10)
    assert fit.trained.rule.endswith("own guide")
    assert fit.trained.elbo < betaln(15, 39) - betaln(2, 2) + 0.05


@pytest.mark.slow
def test_a_guide_of_ones_own_reaches_the_evidence():
    """The family holds the posterior: at the optimum the ELBO is log p(x), without noise."""
    fit = ppl.fit(Coin(), HEADS, steps=800)
    evidence = betaln(15, 39) - betaln(2, 2)
    assert fit.trained.rule.endswith("own guide")
    assert fit.elbo == pytest.approx(evidence, abs=0.05)
    assert float(fit.summary()["mean"]["p"]) == pytest.approx(15 / 54, abs=0.01)
    assert fit.check().verdict != "not trusted"


@pytest.mark.slow
def test_saved_and_gone_on_with(tmp_path):
    data = pd.DataFrame({"x": np.random.default_rng(0).normal(3.0, 2.0, 30)})
    never = ppl.fit(Normals(), data, guide="full-rank", steps=300)
    path = ppl.fit(Normals(), data, guide="full-rank", steps=170).save(tmp_path / "run")
    again = ppl.resume(path, model=Normals, steps=300)
    assert all(torch.equal(again.params[name], value) for name, value in never.params.items())
    loaded = ppl.load(again.save(path, force=True), Normals)
    np.testing.assert_array_equal(loaded.posterior_draws.log_p, again.posterior_draws.log_p)
    assert np.isfinite(again.elbo)


@pytest.mark.parametrize(
    "guide", ["normal", *(pytest.param(n, marks=pytest.mark.slow) for n in ("full-rank", "low-rank", "flow"))]
)
def test_draws_of_every_guide_are_weighed_by_its_own_density(guide):
    """E_q[p(x, θ)/q(θ)] is the evidence, whatever the guide, if both densities are right."""
    x = np.linspace(0.0, 5.0, 12)
    data = pd.DataFrame({"x": x, "y": 1 + 0.4 * x + np.random.default_rng(0).normal(size=12)})

    def evidence(fit):
        torch.manual_seed(0)
        theta = fit.bound.draw(fit.params, 20_000)
        log_w = fit.bound.log_evidence(fit.batch, theta) + fit.bound.log_prior(theta)
        log_w = log_w - fit.bound.log_q(theta, fit.params)
        return float(log_w.logsumexp(0)) - np.log(len(log_w))

    found = evidence(ppl.fit(Line(), data, guide=guide, steps=1_200))
    assert found == pytest.approx(evidence(ppl.fit(Line(), data)), abs=0.1)


@pytest.mark.parametrize("model", [Normals(), Mixture()])
def test_mini_batches_average_to_the_whole_elbo(model):
    """With the same draw of the guide the losses of the batches of a pass average to that of all rows."""
    data = pd.DataFrame({"x": np.random.default_rng(1).normal(0.0, 2.0, 60)})
    fit = ppl.fit(model, data, steps=3, restarts=1)
    target = ProgramTarget(fit.bound, "normal", "auto", 1, True, None)

    def loss(rows):
        torch.manual_seed(3)
        return float(target.loss(rows, 0.0).detach())

    parts = [loss(rows) for rows in torch.randperm(60).split(15)]
    assert np.mean(parts) == pytest.approx(loss(torch.arange(60)), rel=1e-9)
    assert np.std(parts) > 0.01


def test_a_guide_of_a_program_whose_latents_are_summed_out():
    x = np.r_[np.full(20, -3.0), np.full(20, 3.0)] + 0.5 * np.random.default_rng(0).normal(size=40)
    fit = ppl.fit(Mixture(), pd.DataFrame({"x": x}), guide="normal", steps=20)
    assert np.isfinite(fit.elbo)


def test_the_pair_has_the_elbo_that_the_fit_says():
    from pyro.infer import Trace_ELBO

    data = pd.DataFrame({"x": np.random.default_rng(0).normal(3.0, 2.0, 30)})
    fit = ppl.fit(Normals(), data)
    columns = fit.bound.density.columns
    torch.manual_seed(0)
    with local():
        found = -Trace_ELBO(num_particles=20).loss(
            lambda: fit.model.model(columns), lambda: fit.model.guide(columns, fit)
        )
    assert found == pytest.approx(fit.elbo, abs=1e-6)  # the guide is the posterior: no noise


def test_what_cannot_be():
    data = pd.DataFrame({"x": np.random.default_rng(0).normal(size=30)})
    with pytest.raises(UsageError, match=r"has no guide\(\) of its own; leave --guide out"):
        ppl.fit(Normals(), data, guide="own")
    with pytest.raises(UsageError, match="cannot sum out"):
        ppl.fit(Mixture(), data, guide="normal", elbo="renyi")
    with pytest.raises(UsageError, match="guide must be one of"):
        ppl.fit(Normals(), data, guide="wide")


@pytest.mark.parametrize(
    "elbo", ["renyi", *(pytest.param(n, marks=pytest.mark.slow) for n in ("trace", "mean-field"))]
)
def test_every_elbo_is_one(elbo):
    data = pd.DataFrame({"x": np.random.default_rng(0).normal(3.0, 2.0, 30)})
    fit = ppl.fit(Normals(), data, elbo=elbo, particles=5, steps=300)
    assert fit.trained.rule.endswith("full-rank guide")
    assert fit.elbo <= ppl.fit(Normals(), data).elbo + 0.05


@pytest.mark.slow
def test_a_guide_that_is_far_off_says_so():
    """Its draws are not moved: a fit with a guide that was asked for is judged as it is."""
    data = pd.DataFrame({"heads": [1.0] * 30 + [0.0] * 10})

    @dataclass(frozen=True)
    class Beside(ppl.PyroModel):
        def model(self, data):
            p = pyro.sample("p", dist.Beta(2.0, 2.0))
            with pyro.plate("rows", len(data)):
                pyro.sample("heads", dist.Bernoulli(p), obs=data["heads"])

        def guide(self, data, fit=None):
            a = pyro.param("a", torch.ones(()))
            pyro.sample("p", dist.Beta(100.0 + 0 * a, 100.0))

    fit = ppl.fit(Beside(), data, steps=20)
    assert fit.calibrated.method == "guide"
    assert fit.check().verdict == "not trusted"
