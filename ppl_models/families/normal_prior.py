"""The prior of Gaussian emissions: its sizes, and the scale that is learned.

It is in standardised units (each column with mean 0 and standard deviation 1), which is what makes it weak
on any data. Its form and the default sizes κ₀ = 0.01 and ν₀ = D + 2 are those of Fraley & Raftery (2007,
Bayesian regularization for normal mixture estimation, J. Classification 24,
https://doi.org/10.1007/s00357-007-0004-5). The scale s² is learned unless it is given: see `most_probable`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

from ppl_models.annotations import Positive
from ppl_models.families.family import Prior
from ppl_models.importing import lazy
from ppl_models.inference.factors import Factor

if TYPE_CHECKING:
    import pyro.distributions as dist
    import torch
    from torch import Tensor

    from ppl_models.inference.factors import Site
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")

LOG_2PI = math.log(2 * math.pi)

NEWTON = 8
"""Steps to the most probable scale: a quadratic rate from within the few e-folds of the interval."""


@dataclass(frozen=True)
class NormalSizes(Prior):
    """What the priors of a mean and a precision share."""

    mean_precision: Annotated[
        float, "prior weight of the overall mean on a Gaussian's, in rows", Positive()
    ] = 0.01
    covariance_dof: Annotated[
        float | None,
        "prior weight on a Gaussian's covariance, in rows; columns + 2 if not given",
        Positive(),
    ] = None

    def normal_prior(self, columns: int, states: int, variance: float | None) -> NormalPrior:
        """The prior of `columns` columns in each of `states` states; `variance` is s² if it is given."""
        dof = columns + 2.0 if self.covariance_dof is None else self.covariance_dof
        if variance is not None:
            return NormalPrior(self.mean_precision, dof, variance)
        widest = states ** (-2 / columns)
        return NormalPrior(self.mean_precision, dof, widest / max(dof, 1.0), widest)


@dataclass(frozen=True)
class NormalPrior:
    """The prior of a Gaussian's mean and precision, in standardised units.

    Attributes:
        mean_precision: κ₀, the weight of the prior mean 0 in observations.
        dof: ν₀, degrees of freedom; the prior's weight on the covariance in observations.
        variance: s², the prior's scale for the variance within a state.
        widest: where s² is learned, the most it may be, `variance` being the least; else None.
    """

    mean_precision: float
    dof: float
    variance: float
    widest: float | None = None


def most_probable(prior: NormalPrior, dof: Tensor, scatter: Tensor) -> Tensor:
    """The scale s² under which statistics are most probable: type-II maximum likelihood, (R,).

    log Z(S) depends on s² through ½ Σ_i [ν₀ log s² − ν_i log(ν₀ s² + λ_i)], i over the variances of all
    states. Its derivative in log s² is ½ Σ_i [ν₀ − ν_i ν₀ s²/(ν₀ s² + λ_i)], which falls as s² grows: there
    is one maximum, at s² = I / Σ_i E[τ_i], the number of precisions over their posterior means; K D /
    Σ_k tr(C E[Λ_k]) of a full covariance (MacKay 1992, Bayesian interpolation, Neural Computation 4,
    https://doi.org/10.1162/neco.1992.4.3.415). Found by Newton's method within a bracket.

    As s² is a function of S, so is q(θ | S), and everything that is said of Z(S) holds with s² at its
    maximum: E_q[η] is still ∇_S log Z, and a step that raises the ELBO raises it with s² learned.

    It is kept in [K^(−2/D)/ν₀, K^(−2/D)]: at the lower end the prior adds to the sum of squares of a state
    what Fraley & Raftery's does, at the upper one its variance itself is theirs. Without a floor a state
    on rows that are equal would draw s² to 0, and the density of these rows to infinity.

    Args:
        prior: with the ends of the interval.
        dof: ν, to be broadcast against `scatter`.
        scatter: (R, ..., I) λ, the sum of squares about the mean along each principal axis.
    """
    assert prior.widest is not None
    v0, ends = prior.dof, (math.log(prior.variance), math.log(prior.widest))
    dof, scatter = dof.expand_as(scatter).flatten(1), scatter.flatten(1)

    def derivatives(log_scale: Tensor) -> tuple[Tensor, Tensor]:
        share = v0 * log_scale.exp().unsqueeze(-1)
        share = share / (share + scatter)
        return (v0 - dof * share).sum(-1), (dof * share * (1 - share)).sum(-1)

    low, high = (scatter.new_full(scatter.shape[:1], end) for end in ends)
    narrow = derivatives(low)[0] <= 0  # also where there are no data, and any scale will do
    wide = (derivatives(high)[0] >= 0) & ~narrow
    low, high = torch.where(wide, high, low), torch.where(narrow, low, high)
    found = 0.5 * (low + high)
    for _ in range(0 if bool((narrow | wide).all()) else NEWTON):
        slope, curvature = derivatives(found)
        low, high = torch.where(slope > 0, found, low), torch.where(slope > 0, high, found)
        step = found + slope / curvature
        found = torch.where((step >= low) & (step <= high), step, 0.5 * (low + high))
    return found.clamp(*ends).exp()


class NormalFactor(Factor):
    """A family with this prior. E[η] and log Z both follow from the parameters of its posterior.

    Attributes:
        prior: its sizes.
        variance_field: the field of the model that gives s².
    """

    prior: NormalPrior
    variance_field = "state_variance"

    @abstractmethod
    def _posterior(self, S: Tensor) -> tuple[Any, ...]:
        """The parameters of q(θ | S)."""

    @abstractmethod
    def _natural(self, *posterior: Any) -> Tensor:
        """E_q[η(θ)]."""

    @abstractmethod
    def _log_z(self, S: Tensor, *posterior: Any) -> Tensor:
        """Log Z."""

    @abstractmethod
    def variance(self, statistics: Tensor) -> Tensor:
        """s², (R,)."""

    def learned(self, statistics: Tensor) -> dict[str, float]:
        """S², unless it was given."""
        if self.prior.widest is None:
            return {}
        return {self.variance_field: float(self.variance(statistics)[0])}

    def fixed(self, learned: Mapping[str, Any]) -> Self:
        """The same with the scale s² given."""
        if self.variance_field not in learned:
            return self
        other = copy(self)
        other.prior = replace(self.prior, variance=learned[self.variance_field], widest=None)
        return other

    def evaluate(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """E_q[η(θ)] and the divergence, of one posterior."""
        posterior = self._posterior(statistics)
        natural = self._natural(*posterior)
        inner = (statistics * natural).flatten(1).sum(-1)
        return natural, inner - self._log_z(statistics, *posterior)

    def expected_natural(self, statistics: Tensor) -> Tensor:
        """E_q[η(θ)]."""
        return self._natural(*self._posterior(statistics))

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Log Z(S)."""
        return self._log_z(statistics, *self._posterior(statistics))


class NormalGamma(NamedTuple):
    """q(μ, τ): τ ~ Gamma(a, b), μ | τ ~ N(m, 1/(κ τ)), in standardised units.

        κ = κ₀ + w, m = Σwx/κ, a = (ν₀ + n)/2, b = (ν₀ s² + Σwx² − κ m²)/2
        Z = √(κ₀/κ) · b₀^a₀/b^a · Γ(a)/Γ(a₀) · (2π)^{−n/2}

    of n cells with precisions w τ: w = n for a Gaussian, whose cells all weigh 1.

    Attributes:
        kappa: κ, (R, K, D).
        mean: m, the same.
        a: the shape, the same, or (R, K, 1) if one precision is shared by the columns.
        b: the rate, as `a`.
        variance: s², (R,).
    """

    kappa: Tensor
    mean: Tensor
    a: Tensor
    b: Tensor
    variance: Tensor

    @classmethod
    def of(
        cls, p: NormalPrior, n: Tensor, w: Tensor, wx: Tensor, wxx: Tensor, shared: bool = False
    ) -> NormalGamma:
        """From sums over the cells of a column, (R, K, D) each."""
        kappa = p.mean_precision + w
        mean = wx / kappa
        half = 0.5 * (wxx - kappa * mean**2).clamp_min(0.0)
        count = 0.5 * n
        if shared:
            half, count = half.sum(-1, keepdim=True), count.sum(-1, keepdim=True)
        a = 0.5 * p.dof + count
        variance = half.new_full(half.shape[:1], p.variance)
        if p.widest is not None:
            variance = most_probable(p, 2 * a, 2 * half)
        return cls(kappa, mean, a, 0.5 * p.dof * variance[:, None, None] + half, variance)

    def log_z(self, p: NormalPrior, n: Tensor) -> Tensor:
        """Log Z, (R,)."""
        a0, b0 = 0.5 * p.dof, 0.5 * p.dof * self.variance[:, None, None]
        normal = 0.5 * (math.log(p.mean_precision) - self.kappa.log()) - 0.5 * LOG_2PI * n
        precision = a0 * b0.log() - math.lgamma(a0) - self.a * self.b.log() + torch.lgamma(self.a)
        return normal.sum((-1, -2)) + precision.sum((-1, -2))

    def moments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """E[log τ], E[τ μ²] = 1/κ + m² a/b, E[τ μ] = m a/b and E[τ] = a/b; (R, K, D) where μ enters."""
        tau = self.a / self.b
        return torch.digamma(self.a) - self.b.log(), 1 / self.kappa + self.mean**2 * tau, self.mean * tau, tau

    def sites(self, site: Site) -> dict[str, Tensor]:
        """`precision`, then `mean` given it."""
        precision = site("precision", dist.Gamma(self.a, self.b, validate_args=False))
        sd = (self.kappa * precision).rsqrt()
        normal = dist.Normal(self.mean, sd, validate_args=False)
        return {"precision": precision, "mean": site("mean", normal)}
