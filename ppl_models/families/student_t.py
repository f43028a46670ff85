"""Student-t columns: numbers about a middle, some of them far out.

    x | u ~ N(μ, 1/(τ u)),   u ~ Gamma(ν/2, ν/2),   so that   x ~ t_ν(μ, 1/τ)

A cell that is far out has a small u, and moves the mean and the variance of its state little: robust mixtures
and chains (Peel & McLachlan 2000, Robust mixture modelling using the t distribution, Statistics and Computing
10, https://doi.org/10.1023/A:1008981510081; Svensén & Bishop 2005, Robust Bayesian mixture modelling,
Neurocomputing 64, https://doi.org/10.1016/j.neucom.2004.11.018).
"""

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_models.data import Column, Schema
from ppl_models.families.augmented import AugmentedColumns
from ppl_models.families.base import EPSILON, constants
from ppl_models.families.likelihood import FLOOR, Likelihood
from ppl_models.families.normal_prior import (
    LOG_2PI,
    NormalFactor,
    NormalPrior,
    most_probable,
    normal_prior,
)
from ppl_models.families.priors import Priors
from ppl_models.families.quadrature import LogGrid
from ppl_models.inference.factors import Site, Theta, nonnegative

LOG_DOF, LOG_DOF_SD = math.log(10.0), 1.0
"""Of the log-normal prior of ν, which has 95 % between 1.4 and 71: from hardly a mean to hardly a tail."""

LOG_PRIOR = -0.5 * LOG_2PI - math.log(LOG_DOF_SD)


class LogDof(LogGrid):
    """The degrees of freedom ν given n values of u: their prior, and what the values say.

    log q(log ν) = −½ (log ν − log 10)² + n (h log h − log Γ(h)) + h L

    with h = ν/2 and L = Σ (log u − u).
    """

    def __init__(self, n: Tensor, L: Tensor) -> None:
        self.n, self.L = n, L
        super().__init__(n)

    def _log_density(self, u: Tensor) -> Tensor:
        extra = u.dim() - self.n.dim()
        n, L = (x[(...,) + (None,) * extra] for x in (self.n, self.L))
        h = u.exp() / 2
        return -0.5 * ((u - LOG_DOF) / LOG_DOF_SD) ** 2 + n * (h * h.log() - torch.lgamma(h)) + h * L

    def _derivatives(self, u: Tensor) -> tuple[Tensor, Tensor]:
        h = u.exp() / 2
        first = h * (self.n * (h.log() + 1 - torch.digamma(h)) + self.L)
        second = h**2 * self.n * (1 / h - torch.polygamma(1, h))
        return (LOG_DOF - u) / LOG_DOF_SD**2 + first, first + second - 1 / LOG_DOF_SD**2


class StudentT(NormalFactor, AugmentedColumns):
    """x_d | k ~ t(ν_kd, μ_kd, 1/τ_kd), (μ, τ) as of a diagonal Gaussian, log ν ~ N(log 10, 1) or ν given.

    With h = ν/2:

        t(x, u) = (1, u x, u x², u, log u − u)
        η = (½ log τ − ½ log 2π + h log h − log Γ(h), τ μ, −½ τ, −½ τ μ², h)

    Given S = (n, Σux, Σux², Σu, L), with q(ν) by quadrature (`LogDof`):

        κ = κ₀ + Σu,   m = Σux/κ,   a = (ν₀ + n)/2,   b = (ν₀ s² + Σux² − κ m²)/2

    A cell has δ = E[τ (x − μ)²], u ~ Gamma(h + ½, h + δ/2), and the log density
    η₀ + log Γ(h + ½) − (h + ½) log(h + δ/2).
    """

    name = "student_t"
    terms = 5

    def __init__(
        self,
        columns: tuple[int, ...],
        states: int,
        centre: Tensor,
        scale: Tensor,
        prior: NormalPrior,
        dof: float | None = None,
    ) -> None:
        super().__init__(columns, states, centre, scale)
        self.prior, self.dof = prior, dof

    @property
    def free_parameters(self) -> int:
        """Locations, scales, and degrees of freedom where they are learned."""
        return self.states * len(self.columns) * (2 if self.dof is not None else 3)

    # Cells

    def _latent(self, x: Tensor, natural: Tensor) -> tuple[Tensor, Tensor]:
        """The shape and rate of q(u)."""
        _, one, two, three, h = natural.unbind(-1)
        half = -(one * x + two * x**2 + three)  # δ/2; rounding may take it below 0
        return h + 0.5, h + half.clamp_min(0.0)

    def cells(self, x: Tensor, natural: Tensor) -> Tensor:
        """As in the class docstring."""
        shape, rate = self._latent(x, natural)
        return natural[..., 0] + torch.lgamma(shape) - shape * rate.log()

    def expected(self, x: Tensor, natural: Tensor) -> list[Tensor]:
        """E[u] x, E[u] x², E[u], E[log u] − E[u]."""
        shape, rate = self._latent(x, natural)
        u = shape / rate
        return [u * x, u * x**2, u, torch.digamma(shape) - rate.log() - u]

    def log_base(self, values: Tensor) -> Tensor:
        """The change of units."""
        seen = ~torch.isnan(values[:, list(self.columns)])
        return -(seen * self.scale.to(values).log()).sum(-1)

    # The factor

    def possible(self, statistics: Tensor) -> Tensor:
        """Counts and sums of squares are not negative, and log u − u is at most −1."""
        n, ux, uxx, u, L = statistics.unbind(-1)
        scatter = uxx - ux**2 / (self.prior.mean_precision + u.clamp_min(0.0))
        below = (L + n <= 1e-9 * (1 + n)).flatten(1).all(-1)
        return nonnegative(n) & nonnegative(u) & nonnegative(scatter) & below

    def _degrees(self, S: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """E[h], E[h log h − log Γ(h)], and log Z of ν; (R, K, D) each."""
        if self.dof is None:
            q = LogDof(S[..., 0], S[..., 4])
            h = q.u.exp() / 2
            return q.expect(h), q.expect(h * h.log() - torch.lgamma(h)), q.log_z + LOG_PRIOR
        h = torch.full_like(S[..., 0], self.dof / 2)
        constant = h * h.log() - torch.lgamma(h)
        return h, constant, S[..., 0] * constant + S[..., 4] * h

    def _posterior(self, S: Tensor) -> tuple[Any, ...]:
        p = self.prior
        n, ux, uxx, u, _ = S.unbind(-1)
        kappa = p.mean_precision + u
        mean = ux / kappa
        half = 0.5 * (uxx - kappa * mean**2).clamp_min(0.0)
        a = 0.5 * (p.dof + n)
        variance = half.new_full(half.shape[:1], p.variance)
        if p.widest is not None:
            variance = most_probable(p, 2 * a, 2 * half)
        b = 0.5 * p.dof * variance[:, None, None] + half
        return kappa, mean, a, b, variance, self._degrees(S)

    def variance(self, statistics: Tensor) -> Tensor:
        """s², (R,)."""
        return self._posterior(statistics)[4]

    def _log_z(self, count: Tensor, *posterior: Any) -> Tensor:
        kappa, _, a, b, variance, (_, _, log_z) = posterior
        p = self.prior
        a0, b0 = 0.5 * p.dof, 0.5 * p.dof * variance[:, None, None]
        normal = 0.5 * (math.log(p.mean_precision) - kappa.log()) - 0.5 * LOG_2PI * count
        precision = a0 * b0.log() - math.lgamma(a0) - a * b.log() + torch.lgamma(a)
        return (normal + precision + log_z).sum((-1, -2))

    def _natural(self, *posterior: Any) -> Tensor:
        kappa, mean, a, b, _, (h, constant, _) = posterior
        tau, log_tau = a / b, torch.digamma(a) - b.log()
        parts = (
            0.5 * (log_tau - LOG_2PI) + constant,
            mean * tau,
            -0.5 * tau,
            -0.5 * (1 / kappa + mean**2 * tau),
            h,
        )
        return torch.stack(parts, -1)

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`precision`, `mean` given it, and `dof` unless it is given."""
        kappa, mean, a, b, _, _ = self._posterior(statistics)
        precision = site("precision", dist.Gamma(a, b, validate_args=False))
        mean = site("mean", dist.Normal(mean, (kappa * precision).rsqrt(), validate_args=False))
        if self.dof is not None:
            return {"precision": precision, "mean": mean, "dof": torch.full_like(mean, self.dof)}
        dof = site("dof", LogDof(statistics[..., 0], statistics[..., 4]))
        return {"precision": precision, "mean": mean, "dof": dof}

    def natural(self, theta: Theta) -> Tensor:
        """η as in the class docstring."""
        mean, tau, h = theta["mean"], theta["precision"], theta["dof"] / 2
        zero = 0.5 * (tau.log() - LOG_2PI) + h * h.log() - torch.lgamma(h)
        return torch.stack([zero, mean * tau, -0.5 * tau, -0.5 * tau * mean**2, h], -1)

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """Independent t densities in the user's units."""
        mean, scale = theta["mean"], self.scale.to(theta["mean"])
        width = theta["precision"].rsqrt() * scale
        t = dist.StudentT(theta["dof"], self.centre.to(mean) + scale * mean, width, validate_args=False)
        return t.to_event(1)

    def order_key(self, statistics: Tensor) -> Tensor:
        """The mean of the first column."""
        return statistics[..., 0, 1] / (statistics[..., 0, 3] + EPSILON)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`mean` (the middle), `scale` and `dof`."""
        t: Any = self.local(theta).base_dist
        found = {"mean": t.loc, "scale": t.scale} | ({} if self.dof is not None else {"dof": theta["dof"]})
        return {name: (value, ("column",)) for name, value in found.items()}


class StudentTLikelihood(Likelihood):
    """u_j = (x_j − x̄_j)/s_j ~ t(ν_j, o_j, σ_j), σ_j and ν_j = 1 + exp(ρ_j) learned for each column."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__("student_t", [c.mean for c in columns], [c.sd for c in columns], dense=True)
        self.log_scale = nn.Parameter(torch.full((self.width,), math.log(0.5)))
        self.log_dof = nn.Parameter(torch.full((self.width,), math.log(9.0)))

    @property
    def sigma(self) -> Tensor:
        """σ, (D,), in standard deviations of the column."""
        return (FLOOR**2 + (2 * self.log_scale).exp()).sqrt()

    @property
    def dof(self) -> Tensor:
        """ν, (D,): above 1, so that there is a mean."""
        return 1 + self.log_dof.clamp(-5.0, 7.0).exp()

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """Of each cell."""
        sigma, nu = self.sigma, self.dof
        constant = (
            torch.lgamma((nu + 1) / 2) - torch.lgamma(nu / 2) - 0.5 * (nu * math.pi).log() - sigma.log()
        )
        return constant - 0.5 * (nu + 1) * torch.log1p(((u - out) / sigma) ** 2 / nu)

    def expect(self, out: Tensor) -> Tensor:
        """In the user's units."""
        return self.back(out)

    def sample(self, out: Tensor) -> Tensor:
        """By torch's generator."""
        gamma = torch._standard_gamma((self.dof / 2).expand(out.shape).contiguous())
        return self.back(out + self.sigma * torch.randn_like(out) * (self.dof / 2 / gamma).sqrt())

    def distribution(self, out: Tensor) -> Any:
        """The same by Pyro."""
        return dist.StudentT(self.dof.double(), self.back(out), self.sigma.double() * self.scale)


def emission(columns: tuple[int, ...], states: int, schema: Schema, priors: Priors) -> StudentT:
    """Over some columns of a schema."""
    mean, sd = constants(schema, columns, "mean"), constants(schema, columns, "sd")
    prior = normal_prior(priors, states, len(columns))
    return StudentT(columns, states, mean, sd, prior, priors.tail_dof)


def likelihood(columns: Sequence[Column], image: bool) -> StudentTLikelihood:
    """Of some columns, given outputs of a network."""
    return StudentTLikelihood(columns)
