"""A line through points, whose noise has heavy tails.

intercept, slope ~ Normal(0, scale),   noise ~ HalfNormal(scale)
y_n ~ Student_4(intercept + slope x_n, noise)

pip install ./examples/plugin
ppl fit slope points.csv
"""

from dataclasses import dataclass
from typing import Annotated

import pyro
import pyro.distributions as dist

import ppl_models as ppl


@dataclass(frozen=True)
class Slope(ppl.PyroModel):
    """A line through points with heavy tails: y ~ Student_4(intercept + slope x, noise)."""

    scale: Annotated[float, "sd of the priors"] = 10.0

    def model(self, data):
        """The density, line by line."""
        intercept = pyro.sample("intercept", dist.Normal(0.0, self.scale))
        slope = pyro.sample("slope", dist.Normal(0.0, self.scale))
        noise = pyro.sample("noise", dist.HalfNormal(self.scale))
        with pyro.plate("rows", len(data)):
            pyro.sample("y", dist.StudentT(4.0, intercept + slope * data["x"], noise), obs=data["y"])
