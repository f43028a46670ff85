"""Posteriors of a positive number that are known up to their constant, by quadrature over its logarithm."""

from typing import Any, Protocol

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

NODES = 129
"""Nodes of the trapezoid rule over the log of the number."""


class LogTerms(Protocol):
    """The log density of u = log a up to a constant, for a batch of densities that are each of one mode."""

    def log_density(self, u: Tensor) -> Tensor:
        """At u (*batch, ...), of the shape of u."""
        ...

    def derivatives(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The first and the second at u (*batch,)."""
        ...


class LogScale(dist.TorchDistribution):
    """The distribution of a positive a whose log density in u = log a is given.

    It is normalised by the trapezoid rule over ten standard deviations around the mode, which for a
    density this close to a Gaussian is exact to rounding (Trefethen & Weideman 2014, The exponentially
    convergent trapezoidal rule, SIAM Review 56, https://doi.org/10.1137/130932132).

    Args:
        terms: the log density; anything with tensors that the family wants to find again.
        like: a tensor of the batch's shape.

    Attributes:
        u: (*batch, NODES) the nodes.
        log_z: (*batch) log ∫ exp(log density) du.
        weight: (*batch, NODES) the probability of each node.
    """

    arg_constraints: dict = {}
    support = constraints.positive  # type: ignore[assignment]

    def __init__(self, terms: Any, like: Tensor) -> None:
        self.terms, self._like = terms, like
        super().__init__(like.shape, validate_args=False)
        u = torch.zeros_like(like)
        for _ in range(100):
            slope, curvature = terms.derivatives(u)
            step = (-slope / curvature.clamp_max(-1e-12)).clamp(-1.0, 1.0)
            u = u + step
            if not bool((step.abs() > 1e-10).any()):
                break
        width = 10 * (-terms.derivatives(u)[1]).clamp_min(1e-12).rsqrt()
        steps = torch.linspace(-1, 1, NODES, dtype=like.dtype, device=like.device)
        self.u = u.unsqueeze(-1) + width.unsqueeze(-1) * steps
        self.h = width * 2 / (NODES - 1)
        log_weight = terms.log_density(self.u) + self.h.log().unsqueeze(-1)
        self.log_z = log_weight.logsumexp(-1)
        self.weight = (log_weight - self.log_z.unsqueeze(-1)).exp()

    def expect(self, values: Tensor) -> Tensor:
        """E[f(a)], given f at the nodes."""
        return (self.weight * values).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The density in a: q(log a)/a."""
        u = value.log()
        return self.terms.log_density(u) - self.log_z - u

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """By inversion, the density constant around each node."""
        shape = self._extended_shape(sample_shape)
        cumulative = self.weight.cumsum(-1)
        uniform = torch.rand(shape, dtype=self._like.dtype, device=self._like.device).unsqueeze(-1)
        cumulative = (cumulative / cumulative[..., -1:]).expand(*shape, NODES).contiguous()
        at = torch.searchsorted(cumulative, uniform).clamp(0, NODES - 1)
        node = self.u.expand(*shape, NODES).gather(-1, at).squeeze(-1)
        mass = self.weight.expand(*shape, NODES).gather(-1, at).squeeze(-1)
        above = cumulative.gather(-1, at).squeeze(-1)
        inside = 0.5 - (above - uniform.squeeze(-1)) / mass.clamp_min(1e-300)
        return (node + inside.clamp(-0.5, 0.5) * self.h).exp()


def matched(u: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
    """Tensors of the batch's shape, with as many dimensions as u has after those of the batch."""
    extra = u.dim() - parts[0].dim()
    return tuple(part[(...,) + (None,) * extra] for part in parts)
