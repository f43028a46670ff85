"""A hidden Markov model of counts, written by hand.

    A_k ~ Dirichlet(1),   log rate ~ ordered, with a Normal(log centre, 1) prior of each
    z_0 ~ Categorical(1/K, …, 1/K),   z_t | z_{t−1} ~ Categorical(A_{z_{t−1}})       (summed out)
    y_t | z_t ~ Poisson(rate_{z_t})

`pyro.markov` tells Pyro that z_t depends on z_{t−1} only, so that two dimensions do for all of them; the
ordered rates give each state one name. `ppl.HMM(emission="poisson")` is the same kind of model, and much
faster: this file is for what it does not have. Data: major earthquakes a year, 1900–2006 (Zucchini &
MacDonald 2009).

    ppl fit examples/own_models/ordered_hmm.py:OrderedHMM examples/earthquakes.csv --columns earthquakes
    ppl summary latest --model examples/own_models/ordered_hmm.py:OrderedHMM
"""

import math
from dataclasses import dataclass
from typing import Annotated

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.transforms import OrderedTransform

import ppl_models as ppl


@dataclass(frozen=True)
class OrderedHMM(ppl.PyroModel):
    """Poisson counts whose rate depends on a hidden state; the states in the order of their rates."""

    states: Annotated[int, "hidden states"] = 2
    centre: Annotated[float, "what rates are about"] = 20.0

    def model(self, data):
        """The density, line by line."""
        K = self.states
        transition = pyro.sample("transition", dist.Dirichlet(torch.ones(K, K)).to_event(1))
        spacing = dist.Normal(torch.zeros(K), 1.0).to_event(1)
        log_rate = pyro.sample("log_rate", dist.TransformedDistribution(spacing, [OrderedTransform()]))
        rate = pyro.deterministic("rate", self.centre * (log_rate / math.sqrt(K)).exp())
        counts = data["earthquakes"]
        initial = torch.ones(K) / K
        z = None
        for t in pyro.markov(range(len(data))):
            z = pyro.sample(f"state_{t}", dist.Categorical(initial if z is None else transition[z]))
            pyro.sample(f"earthquakes_{t}", dist.Poisson(rate[z]), obs=None if counts is None else counts[t])
