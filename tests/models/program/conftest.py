"""Models that several tests use."""

from dataclasses import dataclass
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch

import ppl_models as ppl
from ppl_models import registry

ROOT = Path(__file__).parents[3]
OWN = ROOT / "examples" / "own_models"


def own(name: str) -> type[ppl.Model]:
    """A class of the examples."""
    return registry.find(f"{OWN}/{name}", files=True)


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True)
class Normals(ppl.PyroModel):
    """mean ~ Normal(0, 10), x_n ~ Normal(mean, 2): the posterior is a normal."""

    def model(self, data):
        mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(mean, 2.0), obs=data["x"])


@dataclass(frozen=True)
class Mixture(ppl.PyroModel):
    """Two normals in order, the component of each row summed out."""

    def model(self, data):
        w = pyro.sample("weight", dist.Beta(2.0, 2.0))
        low = pyro.sample("low", dist.Normal(0.0, 3.0))
        gap = pyro.sample("gap", dist.HalfNormal(3.0))
        sd = pyro.sample("sd", dist.LogNormal(0.0, 0.5))
        means = torch.stack([low, low + gap])
        with pyro.plate("rows", len(data)):
            z = pyro.sample("z", dist.Categorical(torch.stack([w, 1 - w])))
            pyro.sample("x", dist.Normal(means[z], sd), obs=data["x"])


@dataclass(frozen=True)
class Line(ppl.PyroModel):
    """y ~ Normal(a + b x, s)."""

    def model(self, data):
        a = pyro.sample("a", dist.Normal(0.0, 10.0))
        b = pyro.sample("b", dist.Normal(0.0, 10.0))
        s = pyro.sample("s", dist.HalfNormal(5.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("y", dist.Normal(a + b * data.x, s), obs=data["y"])
