"""Parameters with constraints as points of ℝᵈ, one after another, and back.

A change of variables θ = T(u) needs log |det ∂T/∂u|: for a site with support
- ℝ: the identity,
- (0, ∞): exp,
- (0, 1): the logistic function,
- the simplex: sticks broken by logistic functions, centred so that u = 0 is the uniform point
  (Stan reference manual, §10.7),
- positive definite matrices: L Lᵀ with L lower triangular with a positive diagonal e^u_ii, where
  log |det| = Σ_i (D − i + 2) u_ii + D log 2, i = 1 … D (Stan reference manual, §10.9).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints

from ppl_models.importing import lazy
from ppl_models.inference.factors import Factor, Theta

if TYPE_CHECKING:
    import pyro.distributions as dist
else:
    dist = lazy("pyro.distributions")


@dataclass(frozen=True)
class _Part:
    """One site: where its numbers lie in u, and the shape that it has."""

    factor: str
    site: str
    at: slice
    shape: tuple[int, ...]
    support: constraints.Constraint

    def value(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """θ (S, ...) from u (S, m), and log |det| (S,)."""
        if self.support is constraints.positive_definite:
            return _matrix(u, self.shape)
        transform = biject_to(self.support)
        x = u.reshape(len(u), *self._free())
        theta = transform(x)
        log_det = transform.log_abs_det_jacobian(x, theta)
        return theta, log_det.reshape(len(u), -1).sum(-1)

    def point(self, theta: Tensor) -> Tensor:
        """The inverse: u (S, m)."""
        if self.support is constraints.positive_definite:
            i, j = torch.tril_indices(self.shape[-1], self.shape[-1])
            L = torch.linalg.cholesky(theta)
            L = torch.where(torch.eye(self.shape[-1], dtype=torch.bool), L.clamp_min(1e-300).log(), L)
            return L[..., i, j].reshape(len(theta), -1)
        tiny = torch.finfo(torch.float64).tiny
        if self.support is constraints.simplex or self.support is constraints.unit_interval:
            theta = theta.clamp(1e-15, 1 - 1e-15)
        elif isinstance(self.support, type(constraints.positive)):
            theta = theta.clamp_min(tiny)
        return biject_to(self.support).inv(theta).reshape(len(theta), -1)

    def _free(self) -> tuple[int, ...]:
        return tuple(biject_to(self.support).inverse_shape(torch.Size(self.shape)))


def _matrix(u: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """L Lᵀ of each matrix."""
    D = shape[-1]
    entries = u.reshape(len(u), -1, D * (D + 1) // 2)
    i, j = torch.tril_indices(D, D)
    free = entries.new_zeros(*entries.shape[:-1], D, D)
    free[..., i, j] = entries
    diagonal = free.diagonal(dim1=-1, dim2=-2)
    L = free.tril(-1) + torch.diag_embed(diagonal.exp())
    weight = torch.arange(D + 1, 1, -1, dtype=u.dtype)
    log_det = (diagonal * weight).sum((-1, -2)) + entries.shape[1] * D * 0.6931471805599453
    return (L @ L.mT).reshape(len(u), *shape), log_det


class Unconstrained:
    """The sites of some factors as one vector u (d,).

    Attributes:
        dimension: d.
        names: (d,) `FACTOR.SITE` of every entry.
    """

    def __init__(self, factors: Mapping[str, Factor]) -> None:
        self.factors = factors
        self.parts: list[_Part] = []
        self.names: list[str] = []
        self._derives: set[str] = set()
        size = 0
        for name, factor in factors.items():
            found: list[tuple[str, dist.TorchDistribution]] = []

            def site(at: str, d: dist.TorchDistribution, found: list = found) -> Tensor:
                found.append((at, d))
                return d.sample()

            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Singular sample detected")  # torch then draws it again
                theta = factor.sites(factor.zeros(1), site)
            if {*theta} != {label for label, _ in found}:
                self._derives.add(name)  # something follows from the sites
            for label, d in found:
                shape = tuple((d.batch_shape + d.event_shape)[1:])
                part = _Part(name, label, slice(0, 0), shape, _support(d))
                if part.support is constraints.positive_definite:
                    width = shape[-1] * (shape[-1] + 1) // 2 * int(torch.Size(shape[:-2]).numel())
                else:
                    width = torch.Size(part._free()).numel()
                self.parts.append(_Part(name, label, slice(size, size + width), shape, part.support))
                self.names += [f"{name}.{label}"] * width
                size += width
        self.dimension = size

    def theta(self, u: Tensor) -> tuple[dict[str, Theta], Tensor]:
        """θ of every factor from points (S, d), derived values included, and log |det ∂θ/∂u| (S,)."""
        values: dict[str, dict[str, Tensor]] = {name: {} for name in self.factors}
        log_det = u.new_zeros(len(u))
        for part in self.parts:
            values[part.factor][part.site], own = part.value(u[:, part.at])
            log_det = log_det + own
        theta: dict[str, Theta] = {**values}
        for name in self._derives:  # what follows from no site is the same for all points
            factor = self.factors[name]
            found = factor.sites(factor.zeros(1), lambda s, _, n=name: values[n][s])
            theta[name] = {s: value.expand(len(u), *value.shape[1:]) for s, value in found.items()}
        return theta, log_det

    def point(self, theta: Mapping[str, Theta]) -> Tensor:
        """U (S, d) of draws of θ."""
        return torch.cat([part.point(theta[part.factor][part.site]) for part in self.parts], 1)


def _support(d: dist.TorchDistribution) -> constraints.Constraint:
    """The support of one value, whatever the batch."""
    support = d.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support  # type: ignore[return-value]
