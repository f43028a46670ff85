"""Gaussian emissions with diagonal or spherical covariance, with the conjugate prior."""

import math

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models.families.columns import ColumnEmission
from ppl_models.families.normal_prior import LOG_2PI, NormalFactor, NormalPrior, most_probable
from ppl_models.inference.factors import Site, Theta, nonnegative


class DiagonalGaussian(NormalFactor, ColumnEmission):
    """x_d | k ~ N(μ_kd, 1/τ_kd), τ_kd ~ Gamma(ν₀/2, ν₀ s²/2), μ_kd | τ_kd ~ N(0, 1/(κ₀ τ_kd)).

    With S = (n, Σx, Σx²): κ = κ₀ + n, m = Σx/κ, a = (ν₀ + n)/2, b = (ν₀ s² + Σx² − κ m²)/2, and
    Z = √(κ₀/κ) · b₀^a₀/b^a · Γ(a)/Γ(a₀) · (2π)^{−n/2}. η = (½ log τ − ½ τ μ² − ½ log 2π, τ μ, −½ τ).
    Spherical: one τ_k for all D columns of a state, a and b summed over them.
    """

    terms = 2
    squares = True

    def __init__(
        self,
        columns: tuple[int, ...],
        states: int,
        centre: Tensor,
        scale: Tensor,
        prior: NormalPrior,
        spherical: bool = False,
    ) -> None:
        super().__init__(columns, states, centre, scale)
        self.prior, self.spherical = prior, spherical
        self.name = "gaussian"

    @property
    def free_parameters(self) -> int:
        """Means, and variances of each cell or of each state."""
        D = len(self.columns)
        return self.states * (D + (1 if self.spherical else D))

    def possible(self, statistics: Tensor) -> Tensor:
        """Counts are not negative, and neither are sums of squares about the mean."""
        n, sx, sxx = statistics.unbind(-1)
        scatter = sxx - sx**2 / (self.prior.mean_precision + n.clamp_min(0.0))
        return nonnegative(n) & nonnegative(scatter)

    def transform(self, x: Tensor, out: list[Tensor]) -> None:
        """x, x²."""
        torch.mul(x, x, out=out[1])

    def cell_base(self, x: Tensor) -> Tensor:
        """The change of units."""
        return x * 0.0 - self.scale.to(x).log()

    def _posterior(self, S: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """κ, m (R, K, D), a, b of the precision's Gamma (R, K, D), or (R, K, 1) if spherical, and s²."""
        p = self.prior
        n, sx, sxx = S.unbind(-1)
        kappa = p.mean_precision + n
        mean = sx / kappa
        half = 0.5 * (sxx - kappa * mean**2).clamp_min(0.0)
        count = 0.5 * n
        if self.spherical:
            half, count = half.sum(-1, keepdim=True), count.sum(-1, keepdim=True)
        a = 0.5 * p.dof + count
        variance = half.new_full(half.shape[:1], p.variance)
        if p.widest is not None:
            variance = most_probable(p, 2 * a, 2 * half)
        return kappa, mean, a, 0.5 * p.dof * variance[:, None, None] + half, variance

    def variance(self, statistics: Tensor) -> Tensor:
        """s², (R,)."""
        return self._posterior(statistics)[-1]

    def _log_z(
        self, count: Tensor, kappa: Tensor, mean: Tensor, a: Tensor, b: Tensor, variance: Tensor
    ) -> Tensor:
        """Log Z as in the class docstring."""
        p = self.prior
        a0, b0 = 0.5 * p.dof, 0.5 * p.dof * variance[:, None, None]
        normal = 0.5 * (math.log(p.mean_precision) - kappa.log()) - 0.5 * LOG_2PI * count
        precision = a0 * b0.log() - math.lgamma(a0) - a * b.log() + torch.lgamma(a)
        return normal.sum((-1, -2)) + precision.sum((-1, -2))

    def _natural(self, kappa: Tensor, mean: Tensor, a: Tensor, b: Tensor, variance: Tensor) -> Tensor:
        """E[½ log τ − ½ τ μ²] = ½ (ψ(a) − log b) − ½ (1/κ + m² a/b), E[τ μ] = m a/b, −½ E[τ] = −½ a/b."""
        tau, log_tau = a / b, torch.digamma(a) - b.log()
        zero = 0.5 * (log_tau - 1 / kappa - mean**2 * tau - LOG_2PI)
        return torch.stack([zero, mean * tau, (-0.5 * tau).expand_as(mean)], -1)

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`precision`, then `mean` given it."""
        kappa, mean, a, b, _ = self._posterior(statistics)
        precision = site("precision", dist.Gamma(a, b, validate_args=False))
        sd = (kappa * precision).rsqrt()
        return {"precision": precision, "mean": site("mean", dist.Normal(mean, sd, validate_args=False))}

    def natural(self, theta: Theta) -> Tensor:
        """η as in the class docstring."""
        mean, tau = theta["mean"], theta["precision"].expand_as(theta["mean"])
        return torch.stack([0.5 * (tau.log() - tau * mean**2 - LOG_2PI), mean * tau, -0.5 * tau], -1)

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """Independent normals in the user's units."""
        mean, scale = theta["mean"], self.scale.to(theta["mean"])
        sd = (theta["precision"].rsqrt() * scale).expand_as(mean)
        return dist.Normal(self.centre.to(mean) + scale * mean, sd, validate_args=False).to_event(1)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`mean` and `sd`."""
        normal = self.local(theta).base_dist
        return {"mean": (normal.loc, ("column",)), "sd": (normal.scale, ("column",))}
