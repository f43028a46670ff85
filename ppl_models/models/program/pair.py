"""The guide of the Gaussian rule as a Pyro program: u ~ N(m, P⁻¹), and each site a point mass at T(u).

With the model it is the pair that `Trace_ELBO` and `TraceEnum_ELBO` take: the density of a site is that of u
divided by |∂θ/∂u|, which the point masses carry.
"""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from ppl_models.errors import UsageError
from ppl_models.models.program.columns import Columns
from ppl_models.models.program.execution import Substitute, numerics, traced
from ppl_models.models.program.modes import gaussians


def guide(model: Any, data: Any, fit: Any) -> None:
    """Sample u and give the sites of the model their values.

    Raises:
        UsageError: without a fit that has learned the Gaussian.
    """
    if fit is None:
        raise UsageError(f"the guide of {model.name} is learned: give it the fit, guide(data, fit)")
    bound = fit.bound
    columns = data if isinstance(data, Columns) else bound.later(data)
    q = gaussians(fit.params)
    each = dist.MultivariateNormal(q.loc, precision_matrix=q.precision)
    which = dist.Categorical(logits=q.log_weight)
    only = dist.MultivariateNormal(q.loc[0], precision_matrix=q.precision[0])
    learned = only if len(q.log_weight) == 1 else dist.MixtureSameFamily(which, each)
    u = pyro.sample("u", learned, infer={"is_auxiliary": True})
    with poutine.block(), numerics(), torch.enable_grad():
        handler = Substitute(bound.sites, u)
        trace = traced(model, columns, handler, bound.sites)
    for name in bound.sites.latent:
        value = trace.nodes[name]["value"]
        delta = dist.Delta(value, log_density=0.0, event_dim=value.dim())
        delta.log_density = -handler.log_dets[name]
        pyro.sample(name, delta)
