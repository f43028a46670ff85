"""Emissions over positive numbers: exponential, and gamma with unknown shape."""

import math

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from ppl_models.families.columns import ColumnEmission
from ppl_models.inference.factors import Site, Theta, nonnegative

NODES = 129
"""Nodes of the trapezoid rule over the log of a gamma's shape."""


class Exponential(ColumnEmission):
    """x_d | k ~ Exponential(r_kd / x̄_d), r_kd ~ Gamma(a₀, b₀): rates relative to the mean x̄ of the column.

    With S = (n, Σx/x̄): r ~ Gamma(a₀ + n, b₀ + Σx/x̄); η = (log r, −r), h(x) = 1/x̄.
    """

    name = "exponential"
    terms = 1

    def __init__(
        self, columns: tuple[int, ...], states: int, mean: Tensor, shape: float = 1.0, rate: float = 1.0
    ) -> None:
        super().__init__(columns, states, torch.zeros_like(mean), mean)
        self.prior_shape, self.prior_rate = shape, rate

    def transform(self, x: Tensor, out: list[Tensor]) -> None:
        """X itself."""

    def cell_base(self, x: Tensor) -> Tensor:
        """The change of units."""
        return x * 0.0 - self.scale.to(x).log()

    def _posterior(self, S: Tensor) -> tuple[Tensor, Tensor]:
        return self.prior_shape + S[..., 0], self.prior_rate + S[..., 1]

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Log Z = log b₀^a₀/Γ(a₀) · Γ(a)/b^a."""
        a, b = self._posterior(statistics)
        a0, b0 = self.prior_shape, self.prior_rate
        return (torch.lgamma(a) - a * b.log() + a0 * math.log(b0) - math.lgamma(a0)).sum((-1, -2))

    def expected_natural(self, statistics: Tensor) -> Tensor:
        """ψ(a) − log b, −a/b."""
        a, b = self._posterior(statistics)
        return torch.stack([torch.digamma(a) - b.log(), -a / b], -1)

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`rate`, times the column's mean."""
        return {"rate": site("rate", dist.Gamma(*self._posterior(statistics), validate_args=False))}

    def natural(self, theta: Theta) -> Tensor:
        """Log r, −r."""
        return torch.stack([theta["rate"].clamp_min(1e-300).log(), -theta["rate"]], -1)

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """Independent exponentials."""
        rate = theta["rate"] / self.scale.to(theta["rate"])
        return dist.Exponential(rate, validate_args=False).to_event(1)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`mean`: the expected value 1/rate."""
        return {"mean": (self.scale.to(theta["rate"]) / theta["rate"], ("column",))}


class LogShape(dist.TorchDistribution):
    """The distribution of a positive a whose log density in u = log a is given: prior plus gamma terms.

        log q(u) = −u²/(2σ²) − n log Γ(a) + a L + log Γ(c + n a) − (c + n a) log d + const

    It is normalised by the trapezoid rule over ten standard deviations around the mode, which for a
    density this close to a Gaussian is exact to rounding (Trefethen & Weideman 2014, SIAM Review 56).
    """

    arg_constraints: dict = {}
    support = constraints.positive  # type: ignore[assignment]

    def __init__(self, n: Tensor, L: Tensor, c: Tensor, d: Tensor, sigma: float) -> None:
        self.n, self.L, self.c, self.d, self.sigma = n, L, c, d, sigma
        super().__init__(n.shape, validate_args=False)
        u = torch.zeros_like(n)
        for _ in range(100):
            slope, curvature = self._derivatives(u)
            step = (-slope / curvature.clamp_max(-1e-12)).clamp(-1.0, 1.0)
            u = u + step
            if not bool((step.abs() > 1e-10).any()):
                break
        width = 10 * (-self._derivatives(u)[1]).clamp_min(1e-12).rsqrt()
        steps = torch.linspace(-1, 1, NODES, dtype=n.dtype, device=n.device)
        self.u = u.unsqueeze(-1) + width.unsqueeze(-1) * steps
        self.h = width * 2 / (NODES - 1)
        log_weight = self._log_density(self.u) + self.h.log().unsqueeze(-1)
        self.log_z = log_weight.logsumexp(-1)
        self.weight = (log_weight - self.log_z.unsqueeze(-1)).exp()

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
        uniform = torch.rand(shape, dtype=self.n.dtype, device=self.n.device).unsqueeze(-1)
        cumulative = (cumulative / cumulative[..., -1:]).expand(*shape, NODES).contiguous()
        at = torch.searchsorted(cumulative, uniform).clamp(0, NODES - 1)
        node = self.u.expand(*shape, NODES).gather(-1, at).squeeze(-1)
        mass = self.weight.expand(*shape, NODES).gather(-1, at).squeeze(-1)
        above = cumulative.gather(-1, at).squeeze(-1)
        inside = 0.5 - (above - uniform.squeeze(-1)) / mass.clamp_min(1e-300)
        return (node + inside.clamp(-0.5, 0.5) * self.h).exp()


class Gamma(ColumnEmission):
    """x_d | k ~ Gamma(a_kd, b_kd), log a ~ N(0, σ²), b | a ~ Gamma(c₀, d₀), x in units of the column's mean.

    With S = (n, Σx, Σ log x): b | a ~ Gamma(c₀ + n a, d₀ + Σx), and q(a) is one-dimensional and known up
    to its constant (`LogShape`), so that the family is conjugate with one quadrature for each cell of
    the statistics. η = (a log b − log Γ(a), −b, a), h(x) = 1/x.
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

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """Independent gammas."""
        rate = theta["rate"] / self.scale.to(theta["rate"])
        return dist.Gamma(theta["shape"], rate, validate_args=False).to_event(1)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`shape` and `mean`."""
        mean = self.scale.to(theta["rate"]) * theta["shape"] / theta["rate"]
        return {"shape": (theta["shape"], ("column",)), "mean": (mean, ("column",))}
