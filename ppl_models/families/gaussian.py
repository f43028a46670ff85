"""Gaussian columns, with a full, tied, diagonal or spherical covariance."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppl_models.data import Column, Schema
from ppl_models.errors import UsageError
from ppl_models.families.base import Emission, constants
from ppl_models.families.diagonal_gaussian import DiagonalGaussian
from ppl_models.families.full_gaussian import FullGaussian
from ppl_models.families.likelihood import FLOOR, Likelihood
from ppl_models.families.normal_prior import normal_prior
from ppl_models.families.priors import Priors


class GaussianLikelihood(Likelihood):
    """u_j = (x_j − x̄_j)/s_j ~ N(o_j, σ_j²), σ_j² = σ_min² + exp(2 ρ_j) learned for each column."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__("gaussian", [c.mean for c in columns], [c.sd for c in columns], dense=True)
        self.log_scale = nn.Parameter(torch.full((self.width,), math.log(0.5)))

    @property
    def sigma(self) -> Tensor:
        """σ, (D,), in standard deviations of the column."""
        return (FLOOR**2 + (2 * self.log_scale).exp()).sqrt()

    def noise(self) -> list[float] | None:
        """σ in the user's units."""
        return (self.sigma.detach().double() * self.scale).tolist()

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """Of each cell."""
        sigma = self.sigma
        return -0.5 * ((u - out) / sigma) ** 2 - sigma.log() - 0.5 * math.log(2 * math.pi)

    def expect(self, out: Tensor) -> Tensor:
        """In the user's units."""
        return self.back(out)

    def sample(self, out: Tensor) -> Tensor:
        """By torch's generator."""
        return self.back(out + self.sigma * torch.randn_like(out))

    def distribution(self, out: Tensor) -> Any:
        """The same by Pyro."""
        import pyro.distributions as dist

        return dist.Normal(self.back(out), self.sigma.double() * self.scale)


def emission(columns: tuple[int, ...], states: int, schema: Schema, priors: Priors) -> Emission:
    """Over some columns of a schema.

    Raises:
        UsageError: a full covariance has too few degrees of freedom.
    """
    D, covariance = len(columns), priors.covariance
    prior = normal_prior(priors, states, D)
    if covariance in ("full", "tied") and prior.dof <= D - 1:
        raise UsageError(f"covariance_dof must be more than {D - 1} for {D} columns, got {prior.dof:g}")
    mean, sd = constants(schema, columns, "mean"), constants(schema, columns, "sd")
    if covariance in ("diag", "spherical") or (D == 1 and covariance == "full"):
        return DiagonalGaussian(columns, states, mean, sd, prior, covariance == "spherical")
    correlation = None
    if schema.correlation:
        every = torch.tensor(schema.correlation, dtype=torch.float64)
        correlation = every[list(columns)][:, list(columns)]
    return FullGaussian(columns, states, mean, sd, prior, covariance == "tied", correlation)


def likelihood(columns: Sequence[Column], image: bool) -> GaussianLikelihood:
    """Of some columns, given outputs of a network."""
    return GaussianLikelihood(columns)
