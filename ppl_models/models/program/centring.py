"""From ℝⁿ to the values of a latent site: its support, or its location and scale, which may depend on others.

    centred        θ = T(u), T from ℝⁿ to the support
    non-centred    θ = μ + σ u                             of a prior with location μ and scale σ

Where σ is a parameter itself, the posterior of centred values is a funnel, narrow where σ is small; that of
non-centred ones is not, unless the data says much about each value (Papaspiliopoulos, Roberts & Sköld 2007, A
general framework for the parametrization of hierarchical models, Statistical Science 22). Either is tried, as
Pyro's `LocScaleReparam` has it, but as a transform: sites keep their names and draws their meaning.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    Transform,
)

LOCATED = ("Normal", "StudentT", "Cauchy", "Laplace", "Logistic", "Gumbel")
"""Distributions of a location and a scale."""

SCALED = ("HalfNormal", "HalfCauchy", "LogNormal", "MultivariateNormal")
"""Further ones that a scale can be taken out of."""


class Triangular(Transform):
    """θ = μ + L u, the last dimension of either a vector."""

    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        super().__init__()
        self.loc, self.scale_tril = loc, scale_tril

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + (self.scale_tril @ x[..., None])[..., 0]

    def _inverse(self, y: Tensor) -> Tensor:
        x = (y - self.loc)[..., None]
        return torch.linalg.solve_triangular(self.scale_tril, x, upper=False)[..., 0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Log |L|, of every vector."""
        log_det = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return log_det.expand(x.shape[:-1])


def inner(fn: Any) -> Any:
    """The distribution inside masks, expansions and independence."""
    while hasattr(fn, "base_dist") and not hasattr(fn, "transforms"):
        fn = fn.base_dist
    return fn


def scale_of(fn: Any) -> Tensor | None:
    """The scale of a prior that can be taken out of it, or None."""
    base = inner(fn)
    name = type(base).__name__
    if name == "MultivariateNormal":
        return base.scale_tril
    return base.scale if name in (*LOCATED, *SCALED) else None


def transform_of(fn: Any, centred: bool) -> Any:
    """From ℝⁿ to the values of a site with the distribution `fn`."""
    if centred:
        return biject_to(fn.support)
    base = inner(fn)
    name = type(base).__name__
    if name == "MultivariateNormal":
        return Triangular(base.loc, base.scale_tril)
    if name == "LogNormal":
        return ComposeTransform([AffineTransform(base.loc, base.scale), ExpTransform()])
    if name in LOCATED:
        return AffineTransform(base.loc, base.scale)
    return ComposeTransform([ExpTransform(), AffineTransform(torch.zeros_like(base.scale), base.scale)])
