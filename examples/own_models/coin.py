"""A coin whose bias is not known.

p ~ Beta(a, a)
heads_n ~ Bernoulli(p)

ppl fit examples/own_models/coin.py:Coin examples/own_models/coin.csv --concentration 2
ppl summary latest --model examples/own_models/coin.py:Coin
"""

from dataclasses import dataclass
from typing import Annotated

import pyro
import pyro.distributions as dist

import ppl_models as ppl


@dataclass(frozen=True)
class Coin(ppl.PyroModel):
    """A coin whose bias is not known: p ~ Beta(a, a), heads_n ~ Bernoulli(p)."""

    concentration: Annotated[float, "prior heads and tails"] = 1.0

    def __post_init__(self) -> None:
        if not self.concentration > 0:
            raise ppl.UsageError(f"concentration must be positive, got {self.concentration}")

    def model(self, data):
        """The density, line by line."""
        p = pyro.sample("p", dist.Beta(self.concentration, self.concentration))
        with pyro.plate("rows", len(data)):
            pyro.sample("heads", dist.Bernoulli(p), obs=data["heads"])
