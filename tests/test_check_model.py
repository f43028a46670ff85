"""The contract holds for models of every kind, and does not for broken ones."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models import registry
from ppl_models.models.program.bound import ProgramBound
from ppl_models.testing import ContractError, check_model

OWN = Path(__file__).parents[1] / "examples" / "own_models"


def own(name: str) -> type[ppl.Model]:
    return registry.find(f"{OWN}/{name}", files=True)


@pytest.mark.parametrize(
    "model", [ppl.GMM(components=2, covariance="diag"), ppl.HMM(states=2, covariance="diag"), ppl.Logistic()]
)
def test_built_in_models_keep_the_contract(model):
    found = check_model(model, rows=100, restarts=2)
    assert "recovery" in str(found)
    assert "log joint" in str(found)


@pytest.mark.slow
def test_a_network_keeps_the_contract():
    found = check_model(ppl.VAE(latent=2, hidden="16"), rows=100, steps=500)
    assert "ELBO: that of Pyro's own evaluation" in str(found)
    assert "reconstruct: 100 rows" in str(found)


def test_a_model_without_a_density_keeps_the_contract():
    found = check_model(ppl.GAN(latent=2, hidden="8"), rows=60, steps=20)
    assert "program: its rows and those of sample() are" in str(found)
    assert "reconstruct: 60 rows" in str(found)


def test_a_network_with_a_head_keeps_the_contract():
    found = check_model(ppl.MLP(hidden="8", members=2), rows=60, steps=30)
    assert "predict: 60 rows" in str(found)
    assert "y taken" in str(found)


def test_a_model_without_data_is_simulated_from_its_prior():
    found = check_model(own("coin.py:Coin")(concentration=2.0), rows=60, restarts=2)
    assert "heads taken" in str(found)
    assert "predict: 60 rows" in str(found)


@pytest.mark.slow
def test_an_example_with_a_discrete_latent_keeps_the_contract():
    check_model(own("change_point.py:ChangePoint")(), str(OWN / "nile.csv"), restarts=2, columns="volume")


@pytest.mark.slow
def test_an_example_with_a_chain_keeps_the_contract():
    data = str(OWN.parent / "earthquakes.csv")
    check_model(own("ordered_hmm.py:OrderedHMM")(), data, restarts=2, columns="earthquakes")


@pytest.mark.slow
def test_an_example_with_arrays_keeps_the_contract():
    data = str(OWN / "eight_schools.json")
    assert "predict: 8 rows" in str(check_model(own("eight_schools.py:EightSchools")(), data, restarts=2))


@dataclass(frozen=True)
class Plain(ppl.PyroModel):
    def model(self, data):
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=data["x"])


def test_a_plain_model_keeps_it():
    assert "recovery" in str(check_model(Plain(), rows=40, restarts=2))


@dataclass(frozen=True)
class Twice(ppl.PyroModel):
    """Counts its rows once more than they are, and in the wrong place."""

    def model(self, data):
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
        pyro.factor("again", 50.0 * mean)
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=data["x"])


class _WrongLikelihood(ProgramBound):
    def log_evidence(self, batch, theta):
        return super().log_evidence(batch, theta) + self.point(theta)[:, 0]


class _WrongSave(ProgramBound):
    def draw(self, params, draws):
        return super().draw(
            {k: v * (1.5 if k == "loc" else 1.0) + 4.0 * (k == "loc") for k, v in params.items()}, draws
        )


@dataclass(frozen=True)
class WrongLikelihood(Plain):
    def bind(self, schema):
        return _WrongLikelihood(self, schema)


@dataclass(frozen=True)
class WrongGuide(Plain):
    def bind(self, schema):
        return _WrongSave(self, schema)


@dataclass(frozen=True)
class SameName(ppl.PyroModel):
    def model(self, data):
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("mean", dist.Normal(mean, 1.0), obs=data["x"])


FRAME = pd.DataFrame({"x": torch.linspace(-1, 2, 40).numpy()})


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (Twice(), None, "recovery: mean that simulated the data"),
        (WrongLikelihood(), FRAME, "log joint: Pyro's own evaluation|recovery"),
        (WrongGuide(), FRAME, "recovery|log joint"),
    ],
)
def test_broken_models_do_not(model, data, message):
    with pytest.raises(ContractError, match=message):
        check_model(model, data, rows=40, restarts=2)


def test_two_sites_of_one_name_are_told_with_the_line():
    with pytest.raises(ppl.UsageError, match=r"test_check_model.py, line \d+: .*mean"):
        check_model(SameName(), FRAME, restarts=2)
