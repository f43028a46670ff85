"""Gamma columns: positive numbers, skewed to the right."""

import math

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models.data import Schema
from ppl_models.families.base import positive_means
from ppl_models.families.columns import ColumnEmission
from ppl_models.families.priors import Priors
from ppl_models.families.quadrature import LogGrid
from ppl_models.inference.factors import Factor, Site, Theta, nonnegative


class LogShape(LogGrid):
    """The shape a of a gamma distribution given n values: its prior and what the values say.

    log q(u) = −u²/(2σ²) − n log Γ(a) + a L + log Γ(c + n a) − (c + n a) log d + const
    """

    def __init__(self, n: Tensor, L: Tensor, c: Tensor, d: Tensor, sigma: float) -> None:
        self.n, self.L, self.c, self.d, self.sigma = n, L, c, d, sigma
        super().__init__(n)

    def _log_density(self, u: Tensor) -> Tensor:
        extra = u.dim() - self.n.dim()
        n, L, c, d = (x[(...,) + (None,) * extra] for x in (self.n, self.L, self.c, self.d))
        a = u.exp()
        rate = c + n * a
        data = -n * torch.lgamma(a) + a * L + torch.lgamma(rate) - rate * d.log()
        return data - 0.5 * (u / self.sigma) ** 2

    def _derivatives(self, u: Tensor) -> tuple[Tensor, Tensor]:
        a, n = u.exp(), self.n
        rate = self.c + n * a
        first = a * (self.L - n * torch.digamma(a) + n * torch.digamma(rate) - n * self.d.log())
        second = a**2 * (n**2 * torch.polygamma(1, rate) - n * torch.polygamma(1, a))
        prior = 1 / self.sigma**2
        return first - prior * u, first + second - prior


class GammaFactor(Factor):
    """p(a, b) of a gamma density, log a ~ N(0, σ²), b | a ~ Gamma(c₀, d₀), and its posterior.

    With S = (n, Σx, Σ log x): b | a ~ Gamma(c₀ + n a, d₀ + Σx), and q(a) is one-dimensional and known up
    to its constant (`LogShape`), so that the family is conjugate with one quadrature for each cell of
    the statistics. η = (a log b − log Γ(a), −b, a).

    Attributes:
        prior_shape: c₀.
        prior_rate: d₀.
        sigma: σ.
    """

    prior_shape: float
    prior_rate: float
    sigma: float

    def possible(self, statistics: Tensor) -> Tensor:
        """Counts are not negative, nor is Σx; and log x̄ is at least the mean of log x (Jensen)."""
        n, sx, log = statistics.unbind(-1)
        gap = n * (sx / n.clamp_min(1e-300)).clamp_min(1e-300).log() - log
        return nonnegative(statistics[..., :2]) & (gap > -1e-9 * (1 + n)).flatten(1).all(-1)

    def _shape(self, S: Tensor) -> LogShape:
        c = torch.full_like(S[..., 0], self.prior_shape)
        return LogShape(S[..., 0], S[..., 2], c, self.prior_rate + S[..., 1], self.sigma)

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Log Z = log ∫ p(a) … da, less the prior's own constants."""
        c, d = self.prior_shape, self.prior_rate
        prior = c * math.log(d) - math.lgamma(c) - 0.5 * math.log(2 * math.pi * self.sigma**2)
        return (self._shape(statistics).log_z + prior).sum((-1, -2))

    def expected_natural(self, statistics: Tensor) -> Tensor:
        """By quadrature over the shape a.

        E[b | a] = (c₀ + n a)/(d₀ + Σx), E[log b | a] = ψ(c₀ + n a) − log(d₀ + Σx).
        """
        q = self._shape(statistics)
        a, d = q.u.exp(), q.d.unsqueeze(-1)
        rate = q.c.unsqueeze(-1) + q.n.unsqueeze(-1) * a
        log_b = torch.digamma(rate) - d.log()
        parts = (a * log_b - torch.lgamma(a), -rate / d, a)
        return torch.stack([q.expect(part) for part in parts], -1)

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`shape`, then `rate` (times the column's mean) given it."""
        q = self._shape(statistics)
        a = site("shape", q)
        return {"shape": a, "rate": site("rate", dist.Gamma(q.c + q.n * a, q.d, validate_args=False))}

    def natural(self, theta: Theta) -> Tensor:
        """η as in the class docstring."""
        a, b = theta["shape"], theta["rate"]
        return torch.stack([a * b.clamp_min(1e-300).log() - torch.lgamma(a), -b, a], -1)


class Gamma(GammaFactor, ColumnEmission):
    """x_d | k ~ Gamma(a_kd, b_kd), log a ~ N(0, σ²), b | a ~ Gamma(c₀, d₀), x in units of the column's mean.

    t(x) = (1, x, log x), h(x) = 1/x; posterior and η as `GammaFactor` has them.
    """

    name = "gamma"
    terms = 2

    def __init__(
        self,
        columns: tuple[int, ...],
        states: int,
        mean: Tensor,
        shape: float = 1.0,
        rate: float = 1.0,
        log_shape_sd: float = 2.0,
    ) -> None:
        super().__init__(columns, states, torch.zeros_like(mean), mean)
        self.prior_shape, self.prior_rate, self.sigma = shape, rate, log_shape_sd

    def transform(self, x: Tensor, out: list[Tensor]) -> None:
        """x, log x."""
        torch.log(x, out=out[1])

    def cell_base(self, x: Tensor) -> Tensor:
        """−log x and the change of units."""
        return -x.log() - self.scale.to(x).log()

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """Independent gammas."""
        rate = theta["rate"] / self.scale.to(theta["rate"])
        return dist.Gamma(theta["shape"], rate, validate_args=False).to_event(1)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`shape` and `mean`."""
        mean = self.scale.to(theta["rate"]) * theta["shape"] / theta["rate"]
        return {"shape": (theta["shape"], ("column",)), "mean": (mean, ("column",))}


def emission(columns: tuple[int, ...], states: int, schema: Schema, priors: Priors) -> Gamma:
    """Over some columns of a schema."""
    mean = positive_means(schema, columns)
    return Gamma(columns, states, mean, priors.rate_shape, priors.rate_rate, priors.log_shape_sd)
