"""Points to start from: draws of the prior, zero, and points about it."""

from typing import Any

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import biject_to

from ppl_models.models.program.execution import numerics
from ppl_models.models.program.failures import telling
from ppl_models.models.program.program import Program

FAR = 10.0
"""Beyond which a coordinate of a prior draw is drawn in."""


def prior_point(bound: Program) -> Tensor:
    """U (d,) of a draw from the prior, by torch's generator."""
    columns, sites = bound.density.columns, bound.sites
    with numerics(), telling(bound.model), torch.no_grad():
        trace: Any = poutine.trace(bound.model.model).get_trace(columns)
        parts = []
        for name in sites.latent:
            node = trace.nodes[name]
            parts.append(biject_to(node["fn"].support).inv(node["value"]).reshape(-1))
    return torch.cat(parts).double()


def first_points(bound: Program, number: int, seed: int) -> Tensor:
    """U (R, d): zero first, then by turns draws of the prior and uniform ones within 2 of zero.

    Args:
        bound: the model.
        number: R.
        seed: of both; torch's global generator is left as it was.
    """
    d, points = bound.parameters, []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for r in range(number):
            if r == 0:
                points.append(torch.zeros(d, dtype=torch.float64))
            elif r % 2:
                points.append(prior_point(bound).nan_to_num(0.0).clamp(-FAR, FAR))
            else:
                points.append(4 * torch.rand(d, dtype=torch.float64) - 2)
    return torch.stack(points)
