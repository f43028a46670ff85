"""When did the Nile's flow change?

    early, late ~ Normal(mean, 2 sd),   noise ~ HalfNormal(sd)
    year ~ Categorical(1/n, …, 1/n)                        (summed out)
    y_t ~ Normal(early if t < year else late, noise),      t = 0 … n − 1

The year of the change is discrete and not observed: it is enumerated, one value after another along a
dimension of its own, and summed out exactly. Data: yearly flow at Aswan in 10⁸ m³, 1871–1970 (Cobb 1978,
The problem of the Nile: conditional solution to a change-point problem, Biometrika 65; from statsmodels).

    ppl fit examples/own_models/change_point.py:ChangePoint examples/own_models/nile.csv --columns volume
    ppl summary latest --model examples/own_models/change_point.py:ChangePoint
"""

from dataclasses import dataclass
from typing import Annotated

import pyro
import pyro.distributions as dist
import torch

import ppl_models as ppl


@dataclass(frozen=True)
class ChangePoint(ppl.PyroModel):
    """One change of level: y_t ~ Normal(early if t < year else late, noise)."""

    centre: Annotated[float, "prior mean of both levels"] = 900.0
    spread: Annotated[float, "prior sd of the noise; that of the levels is twice as much"] = 200.0

    def model(self, data):
        """The density, line by line."""
        n = len(data)
        early = pyro.sample("early", dist.Normal(self.centre, 2 * self.spread))
        late = pyro.sample("late", dist.Normal(self.centre, 2 * self.spread))
        noise = pyro.sample("noise", dist.HalfNormal(self.spread))
        pyro.deterministic("drop", early - late)
        year = pyro.sample("year", dist.Categorical(torch.ones(n) / n))
        with pyro.plate("rows", n):
            level = torch.where(torch.arange(n) < year, early, late)
            pyro.sample("volume", dist.Normal(level, noise), obs=data["volume"])
