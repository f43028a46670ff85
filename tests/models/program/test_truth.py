"""Posteriors of models of one's own against exact ones, and against NUTS in NumPyro."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from models.program.conftest import OWN, ROOT, Mixture, Normals, own
from models.program.nuts import two_bumps

import ppl_models as ppl
from ppl_models.data import read
from ppl_models.models.program.density import Density
from ppl_models.models.program.execution import numerics


def tables():
    return json.loads((Path(__file__).parent / "nuts.json").read_text(encoding="utf-8"))


CASES = {
    "eight_schools": (lambda: own("eight_schools.py:EightSchools")(), str(OWN / "eight_schools.json"), {}),
    "change_point": (
        lambda: own("change_point.py:ChangePoint")(),
        str(OWN / "nile.csv"),
        {"columns": "volume"},
    ),
    "ordered_hmm": (
        lambda: own("ordered_hmm.py:OrderedHMM")(),
        str(ROOT / "examples" / "earthquakes.csv"),
        {"columns": "earthquakes"},
    ),
    "mixture": (Mixture, pd.DataFrame({"x": two_bumps()}), {}),
}


MINUTES = [name for name in CASES if name != "eight_schools"]
"""Those that take up to one or more."""


def moments(fit):
    variables, _ = fit.bound.variables(fit.posterior_draws.theta)
    return {name: (v.mean(0), v.std(0)) for name, (_, v) in variables.items()}


def worst(fit, table):
    """The worst mean in sds, and the worst ratio of sds."""
    found, off, ratio = moments(fit), 0.0, 1.0
    for name, known in table["posterior"].items():
        mean, sd = found[name]
        off = max(off, float(np.max(np.abs(mean - known["mean"]) / np.array(known["sd"]))))
        ratios = sd / np.array(known["sd"])
        ratio = max(ratio, float(ratios.max()), float(1 / ratios.min()))
    return off, ratio


@pytest.mark.parametrize(
    "name", ["eight_schools", *(pytest.param(n, marks=pytest.mark.slow) for n in MINUTES)]
)
def test_posterior_is_that_of_nuts(name):
    model, data, options = CASES[name]
    fit = ppl.fit(model(), data, restarts=4, **options)
    off, ratio = worst(fit, tables()[name])
    assert fit.check().verdict != "not trusted", fit.check()
    assert off < 0.1
    assert ratio < 1.1


@pytest.mark.slow
def test_chains_are_of_the_posterior():
    """By some 2,000 effective draws, whose means are 0.02 sds off: 0.1 is beyond four of these errors."""
    model, data, _ = CASES["eight_schools"]
    fit = ppl.fit(model(), data, method="nuts")
    off, ratio = worst(fit, tables()["eight_schools"])
    assert fit.summary()["r_hat"].max() < 1.01
    assert fit.summary()["ess"].min() > 1_000
    assert off < 0.1
    assert ratio < 1.1


def test_coin_is_the_exact_beta():
    heads = np.array([1] * 13 + [0] * 37)
    fit = ppl.fit(own("coin.py:Coin")(concentration=2.0), pd.DataFrame({"heads": heads}))
    a, b = 2 + 13, 2 + 37
    sd = np.sqrt(a * b / (a + b) ** 2 / (a + b + 1))
    mean, found = moments(fit)["p"]
    assert mean == pytest.approx(a / (a + b), abs=0.05 * sd)
    assert found == pytest.approx(sd, rel=0.05)
    assert fit.check().verdict == "trusted"


def test_normals_are_exact_with_their_evidence():
    x = np.random.default_rng(0).normal(3.0, 2.0, 30)
    fit = ppl.fit(Normals(), pd.DataFrame({"x": x}))
    precision = 1 / 100 + 30 / 4
    assert float(fit.params["loc"]) == pytest.approx(x.sum() / 4 / precision, rel=1e-6)
    assert float(fit.params["precision"]) == pytest.approx(precision, rel=1e-6)
    cov = 4 * np.eye(30) + 100
    evidence = -0.5 * (x @ np.linalg.solve(cov, x) + np.linalg.slogdet(2 * np.pi * cov)[1])
    assert fit.elbo == pytest.approx(evidence, abs=1e-6)


def test_density_is_that_of_pyro_and_the_loop():
    fit = ppl.fit(Mixture(), pd.DataFrame({"x": two_bumps()[:40]}), restarts=2)
    density = fit.bound.density
    assert density.path == "vmap"
    points = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    loop = Density(fit.model, density.columns, density.sites, record=False)
    loop.path = "loop"
    for a, b in zip(density(points), loop(points), strict=True):
        torch.testing.assert_close(a, b)
    with numerics():
        recorded = density._record(points)
    for a, b in zip(recorded(points), loop(points), strict=True):
        torch.testing.assert_close(a, b)


def test_mixture_by_brute_force():
    x = two_bumps()[:8]
    fit = ppl.fit(Mixture(), pd.DataFrame({"x": x}), restarts=2)
    theta = fit.bound.theta(torch.zeros(1, 4, dtype=torch.float64) + 0.3)
    w, low, gap, sd = (float(fit.bound.values(theta)[n]) for n in ("weight", "low", "gap", "sd"))
    total = -np.inf
    for z in product([0, 1], repeat=8):
        means = np.where(np.array(z) == 1, low + gap, low)
        log_p = np.log(np.where(np.array(z) == 1, 1 - w, w)).sum()
        log_p += (-0.5 * ((x - means) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)).sum()
        total = np.logaddexp(total, log_p)
    assert float(fit.bound.log_evidence(fit.batch, theta)) == pytest.approx(total, rel=1e-10)


def test_chain_by_hand_is_the_hmm_and_brute_force():
    from ppl_models.models.program.simulate import marginals

    counts = np.array([12, 30, 28, 10, 14, 27, 22, 9])
    fit = ppl.fit(own("ordered_hmm.py:OrderedHMM")(), pd.DataFrame({"earthquakes": counts}), restarts=2)
    u = torch.full((1, fit.bound.parameters), 0.2, dtype=torch.float64)
    values = fit.bound.values(fit.bound.theta(u))
    A, rate = values["transition"][0].numpy(), values["rate"][0].numpy()
    from scipy.stats import poisson

    total, state = -np.inf, np.full((8, 2), -np.inf)
    for z in product([0, 1], repeat=8):
        log_p = np.log(0.5) + sum(np.log(A[a, b]) for a, b in zip(z[:-1], z[1:], strict=True))
        log_p += poisson.logpmf(counts, rate[list(z)]).sum()
        total = np.logaddexp(total, log_p)
        for t, k in enumerate(z):
            state[t, k] = np.logaddexp(state[t, k], log_p)
    assert float(fit.bound.log_evidence(fit.batch, fit.bound.theta(u))) == pytest.approx(total, rel=1e-10)
    found = marginals(fit.bound, fit.bound.density.columns, u)
    p = np.stack([found[f"state_{t}"].numpy().reshape(-1) for t in range(8)])
    np.testing.assert_allclose(p, np.exp(state - total), atol=1e-10)


@pytest.mark.slow
def test_funnel_is_right_or_not_trusted():
    """Eight schools, centred: the density has no bound where tau goes to zero."""
    from dataclasses import dataclass

    import pyro
    import pyro.distributions as dist

    @dataclass(frozen=True)
    class Centred(ppl.PyroModel):
        def model(self, data):
            mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
            tau = pyro.sample("tau", dist.HalfCauchy(5.0))
            with pyro.plate("school", data["J"]):
                theta = pyro.sample("theta", dist.Normal(mu, tau))
                pyro.sample("y", dist.Normal(theta, data["sigma"]), obs=data["y"])

    fit = ppl.fit(Centred(), str(OWN / "eight_schools.json"), restarts=4)
    table = {"posterior": {k: tables()["eight_schools"]["posterior"][k] for k in ("mu", "tau", "theta")}}
    off, ratio = worst(fit, table)
    assert (off < 0.1 and ratio < 1.1) or fit.check().verdict == "not trusted", (off, ratio, fit.check())


def test_same_evidence_as_gmm_rows():
    """The density of rows by the enumerated mixture is that of `score` summed."""
    data = read(pd.DataFrame({"x": two_bumps()[:60]}))
    fit = ppl.fit(Mixture(), data, restarts=1)
    theta = fit.bound.draw(fit.params, 200)
    rows = fit.bound.log_likelihood(data, theta)
    torch.testing.assert_close(rows.sum(1), fit.bound.log_evidence(fit.batch, theta))
