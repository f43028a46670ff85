"""The effects of coaching in eight schools, partially pooled.

    mu ~ Normal(0, 5),   tau ~ HalfCauchy(5)
    z_j ~ Normal(0, 1),  theta_j = mu + tau z_j
    y_j ~ Normal(theta_j, sigma_j),   sigma_j known

Not centred: z_j says how many tau a school is away from mu, so that the posterior has no funnel. Data:
Rubin, D. B. (1981), Estimation in parallel randomized experiments, J. Educational Statistics 6(4), table 1.

    ppl fit examples/own_models/eight_schools.py:EightSchools examples/own_models/eight_schools.json
    ppl summary latest --model examples/own_models/eight_schools.py:EightSchools
"""

from dataclasses import dataclass
from typing import Annotated

import pyro
import pyro.distributions as dist

import ppl_models as ppl


@dataclass(frozen=True)
class EightSchools(ppl.PyroModel):
    """Eight schools: theta_j = mu + tau z_j, y_j ~ Normal(theta_j, sigma_j)."""

    scale: Annotated[float, "of the priors of mu and tau"] = 5.0

    def model(self, data):
        """The density, line by line."""
        mu = pyro.sample("mu", dist.Normal(0.0, self.scale))
        tau = pyro.sample("tau", dist.HalfCauchy(self.scale))
        with pyro.plate("school", data["J"]):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            theta = pyro.deterministic("theta", mu + tau * z)
            pyro.sample("y", dist.Normal(theta, data["sigma"]), obs=data["y"])
