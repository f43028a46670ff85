"""Positive numbers whose density is known up to its constant: distributions by quadrature."""

from abc import abstractmethod

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

NODES = 129
"""Nodes of the trapezoid rule over the logarithm."""


class LogGrid(dist.TorchDistribution):
    """A positive a whose log density in u = log a is given, up to a constant.

    It is normalised by the trapezoid rule over ten standard deviations around the mode, which for a
    density this close to a Gaussian is exact to rounding (Trefethen & Weideman 2014, The exponentially
    convergent trapezoidal rule, SIAM Review 56, https://doi.org/10.1137/130932132).

    Attributes:
        u: (..., NODES) nodes.
        weight: (..., NODES) their probabilities.
        log_z: (...) log ∫ exp(log density) du.
    """

    arg_constraints: dict = {}
    support = constraints.positive  # type: ignore[assignment]

    def __init__(self, like: Tensor) -> None:
        super().__init__(like.shape, validate_args=False)
        u = torch.zeros_like(like)
        for _ in range(100):
            slope, curvature = self._derivatives(u)
            step = (-slope / curvature.clamp_max(-1e-12)).clamp(-1.0, 1.0)
            u = u + step
            if not bool((step.abs() > 1e-10).any()):
                break
        width = 10 * (-self._derivatives(u)[1]).clamp_min(1e-12).rsqrt()
        steps = torch.linspace(-1, 1, NODES, dtype=like.dtype, device=like.device)
        self.u = u.unsqueeze(-1) + width.unsqueeze(-1) * steps
        self.h = width * 2 / (NODES - 1)
        log_weight = self._log_density(self.u) + self.h.log().unsqueeze(-1)
        self.log_z = log_weight.logsumexp(-1)
        self.weight = (log_weight - self.log_z.unsqueeze(-1)).exp()

    @abstractmethod
    def _log_density(self, u: Tensor) -> Tensor:
        """Of u (...) or (..., NODES)."""

    @abstractmethod
    def _derivatives(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """The first and second in u (...)."""

    def expect(self, values: Tensor) -> Tensor:
        """E[f(a)], given f at the nodes."""
        return (self.weight * values).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """The density in a: q(log a)/a."""
        u = value.log()
        return self._log_density(u) - self.log_z - u

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        """By inversion, the density constant around each node."""
        shape = self._extended_shape(sample_shape)
        cumulative = self.weight.cumsum(-1)
        uniform = torch.rand(shape, dtype=self.u.dtype, device=self.u.device).unsqueeze(-1)
        cumulative = (cumulative / cumulative[..., -1:]).expand(*shape, NODES).contiguous()
        at = torch.searchsorted(cumulative, uniform).clamp(0, NODES - 1)
        node = self.u.expand(*shape, NODES).gather(-1, at).squeeze(-1)
        mass = self.weight.expand(*shape, NODES).gather(-1, at).squeeze(-1)
        above = cumulative.gather(-1, at).squeeze(-1)
        inside = 0.5 - (above - uniform.squeeze(-1)) / mass.clamp_min(1e-300)
        return (node + inside.clamp(-0.5, 0.5) * self.h).exp()
