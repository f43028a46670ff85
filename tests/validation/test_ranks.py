"""Simulation-based calibration: of fits that are right, of fits that are broken, stopped and gone on with."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import expon, halfnorm, kstest

import ppl_models as ppl
from ppl_models import record
from ppl_models.errors import Unsupported
from ppl_models.validation.result import Calibration
from ppl_models.validation.running import FILE
from ppl_models.validation.simulation import bench, rank

WEAK = {"prior_scale": 0.5, "intercept_scale": 1.0}
SMALL = {"rows": 40, "columns": 1, "rank_draws": 39}


def simulations(number: int = 40, **options):
    return ppl.sbc(ppl.Logistic(**WEAK), simulations=number, seed=1, **SMALL | options)


@pytest.fixture(scope="module")
def right():
    return simulations()


def test_fits_that_are_right_are_uniform(right):
    assert right.calibrated
    assert [q.conclusion for q in right.quantities] == ["uniform"] * 3
    assert {q.name for q in right.quantities} == {"intercept", "coefficient[x1]", "log_likelihood"}
    assert "all 3 quantities are uniform as far as 40 simulations tell" in right.text()


@pytest.mark.parametrize(
    ("scale", "shift", "said"),
    [
        (0.3, 0.0, "intervals are too narrow"),
        pytest.param(4.0, 0.0, "intervals are too wide", marks=pytest.mark.slow),
        pytest.param(1.0, 1.0, "too high", marks=pytest.mark.slow),
    ],
)
def test_a_broken_guide_is_found(monkeypatch, scale, shift, said):
    """Draws of the posterior that are too close together, too far apart, or beside it."""
    whole = record.draw_posterior

    def broken(fit):
        found = whole(fit)
        theta = dict(found.theta["regression"])
        value = theta["coefficient"]
        theta["coefficient"] = value.mean(0) + scale * (value - value.mean(0)) + shift * value.std(0)
        return replace(found, theta={"regression": theta})

    monkeypatch.setattr(record, "draw_posterior", broken)
    found = simulations()
    conclusions = {q.name: q.conclusion for q in found.quantities}
    assert not found.calibrated
    assert said in conclusions["coefficient[x1]"]
    assert "not uniform" in found.conclusion


@pytest.mark.slow
def test_a_fit_that_takes_no_notice_of_the_data_is_found_by_the_likelihood_alone(monkeypatch):
    """Draws of the prior are calibrated parameter by parameter (Modrák et al. 2023)."""
    whole = record.draw_posterior

    def prior(fit):
        return replace(whole(fit), theta=fit.bound.prior_draws(200, fit.settings.seed + 1))

    monkeypatch.setattr(record, "draw_posterior", prior)
    found = {q.name: q for q in simulations().quantities}
    assert found["coefficient[x1]"].uniform
    assert not found["log_likelihood"].uniform


@pytest.mark.slow
def test_a_simulation_follows_from_its_number_on_however_many_workers(right):
    apart = simulations(6, workers=2)
    by_number = {each["simulation"]: each["ranks"] for each in apart.simulations}
    assert by_number == {each["simulation"]: each["ranks"] for each in right.simulations[:6]}


def test_simulations_that_are_done_are_not_done_again(tmp_path, right, monkeypatch):
    out = tmp_path / "sbc"
    simulations(4, out=out)
    file = out / FILE
    file.write_text(file.read_text()[:-20])  # killed while a line was written
    again = simulations(4, out=out)
    assert [each["ranks"] for each in again.simulations] == [e["ranks"] for e in right.simulations[:4]]
    lines = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
    assert [each["simulation"] for each in lines[1:]] == [0, 1, 2, 3]
    monkeypatch.setattr("ppl_models.validation.simulation.Bench.of", None)
    assert len(simulations(4, out=out).simulations) == 4
    with pytest.raises(ppl.UsageError, match="simulations with another prior_scale: give another --out"):
        ppl.sbc(ppl.Logistic(prior_scale=0.6, intercept_scale=1.0), simulations=4, seed=1, out=out, **SMALL)
    with pytest.raises(ppl.UsageError, match="another .*seed"):
        ppl.sbc(ppl.Logistic(**WEAK), simulations=4, seed=2, out=out, **SMALL)


def test_what_failed_is_counted_and_named():
    found = Calibration({}, ({"simulation": 0, "error": "DataError: no rows", "seconds": 0.1},), 9)
    assert not found.calibrated
    assert "1 of 1 simulations had no fit" in found.conclusion
    assert "failed: 1 × DataError: no rows" in found.text()


def test_the_picture_and_the_numbers(tmp_path, right):
    right.plot(tmp_path / "sbc.png")
    assert (tmp_path / "sbc.png").stat().st_size > 10_000
    told = right.to_dict()
    assert told["calibrated"]
    assert told["simulations"] == 40
    assert {row["conclusion"] for row in told["quantities"]} == {"uniform"}


def test_ties_are_broken_at_random():
    rng = np.random.default_rng(0)
    found = [rank(1.0, np.ones(3), rng) for _ in range(400)]
    assert np.bincount(found, minlength=4).min() > 60
    assert rank(float("nan"), np.zeros(3), rng) == 0


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (ppl.VAE(), "vae has no such parameters"),
        (ppl.SVM(), "svm has no such parameters"),
        (ppl.Logistic(prior="horseshoe"), "cannot be drawn from"),
    ],
)
def test_what_cannot_be_drawn_is_refused(model, said):
    with pytest.raises(Unsupported, match=said):
        ppl.sbc(model, simulations=1)


# What is drawn


def test_numbers_of_a_regression_besides_coefficients_follow_their_priors():
    normal = bench(ppl.GLM(), None, {}, {}, rows=30, columns=1, draws=9).bound
    theta = normal.prior_draws(4_000, 1)
    sigma = theta["regression"]["shared"][:, 0].exp().numpy()
    assert kstest(sigma, expon.cdf).pvalue > 1e-3
    rng = np.random.default_rng(0)
    groups = {"y": rng.normal(size=60), "g": np.repeat(list("abcdef"), 10)}
    options = {"formula": "y ~ 1 + (1 | g)", "group_scale": 0.7}
    grouped = bench(ppl.GLM(**options), groups, {}, {}, rows=0, columns=0, draws=9).bound
    theta = grouped.prior_draws(4_000, 2)
    tau = theta["regression"]["shared"][:, -1].exp()
    assert kstest(tau.numpy(), halfnorm(scale=0.7).cdf).pvalue > 1e-3
    each = (theta["regression"]["coefficient"][:, 0, 0] / tau).numpy()
    assert kstest(each, "norm").pvalue > 1e-3
    assert torch.isfinite(grouped.log_prior(theta)).all()


@dataclass(frozen=True)
class Measured(ppl.PyroModel):
    """Numbers of two arrays about one mean, and a column that is not observed."""

    def model(self, data):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("first", len(data["y"])):
            pyro.sample("y_site", dist.Normal(mu, 0.5), obs=data["y"])
        with pyro.plate("second", 2, dim=-1), pyro.plate("third", 3, dim=-2):
            pyro.sample("z_site", dist.Normal(mu, data["scale"]), obs=data["z"])


@dataclass(frozen=True)
class Shifted(ppl.PyroModel):
    """Observes no column as it is."""

    def model(self, data):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("y_site", dist.Normal(mu, 0.5), obs=data["y"] - 1.0)


def test_a_template_keeps_what_is_not_random():
    template = {"y": [1.0, 2.0, 3.0, 4.0], "z": [[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], "scale": 0.25}
    shared = bench(Measured(), template, {}, {}, rows=0, columns=0, draws=19)
    torch.manual_seed(0)
    theta = shared.bound.prior_draws(1, 3)
    drawn = [shared.bound.simulated(shared.template, theta) for _ in range(400)]
    z = np.array([each.arrays["z"] for each in drawn])
    mu = float(shared.bound.values(theta)["mu"][0])
    assert drawn[0].arrays["scale"] == 0.25
    assert kstest(((z - mu) / 0.25).ravel(), "norm").pvalue > 1e-3
    assert "ranks" in shared.of(0)


def test_a_site_that_observes_no_data_as_it_is_is_refused():
    shared = bench(Shifted(), {"y": [1.0, 2.0, 3.0]}, {}, {}, rows=0, columns=0, draws=9)
    assert "observes neither a column nor an array" in shared.of(0)["error"]


def test_states_are_ranked_in_order_of_size():
    for model in (ppl.GMM(components=3), ppl.HMM(states=3)):
        bound = bench(model, None, {}, {}, rows=30, columns=2, draws=9).bound
        theta = bound.prior_draws(5, 0)
        renamed = bound.permute(theta, torch.tensor([[2, 0, 1]]).expand(5, 3))
        first, second = bound.functions(theta)[0], bound.functions(renamed)[0]
        assert first.keys() == second.keys()
        for name in first:
            assert np.allclose(first[name][1], second[name][1])
        assert not np.allclose(bound.variables(theta)[0]["mean"][1], bound.variables(renamed)[0]["mean"][1])


def test_a_recording_for_other_data_gives_what_the_program_gives(monkeypatch):
    """Also of a program that does something else where its data is different."""
    from ppl_models.models.program import density

    monkeypatch.setattr(density, "OFTEN", 1)

    @dataclass(frozen=True)
    class Turning(ppl.PyroModel):
        """The scale is another where the first number is negative, which a recording cannot know."""

        turns: bool = True

        def model(self, data):
            mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
            first = float(data["y"][0]) if self.turns else 1.0
            with pyro.plate("rows", len(data)):
                pyro.sample("y_site", dist.Normal(mu, 1.0 if first > 0 else 3.0), obs=data["y"])

    points = torch.randn(7, 1, dtype=torch.float64)
    for turns in (True, False):
        first = bench(Turning(turns=turns), {"y": [1.0, 2.0, 3.5]}, {}, {}, rows=0, columns=0, draws=9)
        for y in ([1.0, 2.0, 3.5], [4.0, 1.0, 0.5], [-1.0, 0.5, 2.0]):
            data = replace(first.template, values=np.array(y)[:, None])
            bound = first.bound.afresh(data)
            alone = type(bound)(bound.model, bound.schema).prepare(data).density
            for _ in range(3):
                for a, b in zip(bound.density(points), alone(points), strict=True):
                    assert torch.allclose(a, b)
        made = list(bound.shared._made.values())
        assert turns or made[0] is not None
