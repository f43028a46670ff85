"""Points to start from: draws of the prior, zero, and points about it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from ppl_models.errors import UsageError
from ppl_models.models.program.centring import transform_of
from ppl_models.models.program.execution import numerics
from ppl_models.models.program.failures import telling
from ppl_models.models.program.program import Program
from ppl_models.models.program.sites import Proper

FAR = 10.0
"""Beyond which a coordinate of a prior draw is drawn in."""


def prior_point(bound: Program, given: Mapping[str, Tensor] | None = None) -> Tensor:
    """U (d,) of a draw from the prior, by torch's generator, and of values of sites that are given."""
    columns, sites = bound.density.columns, bound.sites
    model: Any = bound.model.model
    if given:
        model = poutine.condition(model, data=dict(given))
    with numerics(), telling(bound.model), torch.no_grad():
        with Proper():
            trace: Any = poutine.trace(model).get_trace(columns)
        parts = []
        for name in sites.latent:
            node = trace.nodes[name]
            transform = transform_of(node["fn"], name not in sites.apart)
            parts.append(transform.inv(node["value"]).reshape(-1))
    return torch.cat(parts).double()


def given_point(bound: Program, init: Any, seed: int) -> Tensor:
    """U (d,) of values of sites that a fit was given to set out from.

    Args:
        bound: the model.
        init: values by site, or the path of a .json file of one object.
        seed: of what is not given, which is drawn from the prior.

    Raises:
        UsageError: there is no such site, or no such value of it.
    """
    if not isinstance(init, Mapping):
        try:
            init = json.loads(Path(init).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"init: {error}") from None
    if not isinstance(init, Mapping):
        raise UsageError("init must be values by the name of a site")
    given = {}
    for name, value in init.items():
        site = bound.sites.latent.get(name)
        if site is None:
            raise UsageError(f"init: there is no site {name!r}; there are {', '.join(bound.sites.latent)}")
        try:
            given[name] = torch.as_tensor(value, dtype=torch.float64).expand(site.shape)
        except (RuntimeError, ValueError, TypeError) as error:
            raise UsageError(f"init: {name} must be numbers of the shape {site.shape}: {error}") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        u = prior_point(bound, given)
    if not bool(torch.isfinite(u).all()):
        raise UsageError("init: a value is not inside of the support of its site")
    return u


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
