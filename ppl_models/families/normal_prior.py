"""The prior of Gaussian emissions: its sizes, and those of them that are learned.

It is in standardised units (each column with mean 0 and standard deviation 1). Its form and ν₀ = D + 2 are
those of Fraley & Raftery (2007, Bayesian regularization for normal mixture estimation, J. Classification 24,
https://doi.org/10.1007/s00357-007-0004-5); D is of the columns that share a precision, so 1 where each has
its own. The scale s² of the variances within a state and the weight κ₀ of the overall mean are learned
unless they are given: those under which the statistics are most probable, type-II maximum likelihood (MacKay
1992, Bayesian interpolation, Neural Computation 4, https://doi.org/10.1162/neco.1992.4.3.415). No fixed
value will do: states may be as wide as all rows together, or a millionth of it.

At the maximum of log Z(S) in them

    s² = I / Σ_i E[τ_i],    κ₀ = I / Σ_i E[τ_i μ_i²],

over the I states, column by column. As both are functions of S, so is q(θ | S), and everything that is said
of Z(S) holds with them at their maximum: E_q[η] is still ∇_S log Z, and a step that raises the ELBO raises it
with s² and κ₀ learned.

They are kept in intervals. s² is at most K^(−2/D), which is Fraley & Raftery's variance, and at least what
the column tells apart (`narrowest`): without a floor a state on rows that are equal would draw s² to 0, and
the density of these rows to infinity. κ₀ is at most 0.01, their value.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

from ppl_models.annotations import Positive
from ppl_models.errors import UsageError
from ppl_models.families.family import Group, Prior
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

Size = float | tuple[float, ...] | tuple[tuple[float, ...], ...]
"""One number, one for each column of the family, or a matrix over its columns."""

LEAST = 1e-13
"""s² at least, in variances of the column: narrower states drown in the rounding of sums of squares."""

FLATTEST, WEIGHTIEST = 1e-16, 0.01
"""The interval of κ₀."""

STEPS, CLOSE = 60, 1e-10
"""Steps at most to the most probable sizes, and the change of their logarithms that ends them."""

LEAP = 3.0
"""The longest step in the logarithm of s²."""

NOTHING = 1e-300
"""Rows that stand for none in a denominator."""

EMPTY = 1e-9
"""Expected rows up to which a state has none: what is left of its sums are errors of rounding."""


def centres(n: Tensor, total: Tensor) -> Tensor:
    """Means total / n of states, and 0 of those that are empty; n is of the shape of the total."""
    return torch.where(n > EMPTY, total / n.clamp_min(EMPTY), 0.0)


class Field(NamedTuple):
    """A size of the prior as a field of the model.

    Attributes:
        name: of the field.
        given: its value, or None where it is learned.
        sizes: how many different ones there may be.
    """

    name: str
    given: Size | None
    sizes: int


@dataclass(frozen=True)
class NormalSizes(Prior):
    """What the priors of a mean and a precision share."""

    mean_precision: Annotated[
        Size | None,
        "prior weight of the overall mean on a Gaussian's, in rows; learned if not given",
        Positive(),
    ] = None
    covariance_dof: Annotated[
        float | None,
        "prior weight on a Gaussian's covariance, in rows; columns that share it + 2 if not given",
        Positive(),
    ] = None

    def normal_prior(
        self,
        group: Group,
        states: int,
        variance: Field,
        precision: Field,
        sharing: int = 1,
    ) -> NormalPrior:
        """The prior of the columns of a group in each of `states` states.

        Args:
            group: the columns.
            states: K.
            variance: the field of s².
            precision: that of κ₀.
            sharing: how many columns have one precision matrix together.

        Raises:
            UsageError: sizes are given for another number of columns.
        """
        D = len(group.index)
        whole = isinstance(variance.given, tuple) and isinstance(variance.given[0], tuple)
        if whole and sharing < max(D, 2):
            raise UsageError(f"{variance.name} may be a matrix only where columns share a covariance")
        for field in (variance, precision):
            if isinstance(field.given, tuple) and len(field.given) != field.sizes:
                each = f" or one for each of {field.sizes} columns" if field.sizes > 1 else ""
                raise UsageError(f"{field.name} must be one number{each}, got {len(field.given)}")
        dof = sharing + 2.0 if self.covariance_dof is None else self.covariance_dof
        prior = NormalPrior(WEIGHTIEST, dof, LEAST)
        if precision.given is None:
            prior = replace(prior, flattest=FLATTEST)
        else:
            prior = replace(prior, mean_precision=precision.given)
        if variance.given is not None:
            return replace(prior, variance=variance.given)
        widest = states ** (-2 / D)
        least = narrowest(group, widest, dof)
        return replace(prior, variance=least if variance.sizes == D else max(least), widest=widest)


def narrowest(group: Group, widest: float, dof: float) -> tuple[float, ...]:
    """The least s² of each column, (D,): the variance of rounding to the steps that its values have.

    A column whose values are multiples of h says nothing of a standard deviation below h/√12. One that is
    constant says nothing at all: its floor is that by which the prior's sum of squares is Fraley & Raftery's.
    """
    found = []
    for column in group.columns:
        least = (column.resolution / column.sd) ** 2 / 12
        constant = column.minimum == column.maximum
        found.append(min(widest / max(dof, 1.0) if constant else max(least, LEAST), widest))
    return tuple(found)


@dataclass(frozen=True)
class NormalPrior:
    """The prior of a Gaussian's mean and precision, in standardised units.

    Attributes:
        mean_precision: κ₀, the weight of the prior mean 0 in observations; where it is learned the most.
        dof: ν₀, degrees of freedom; the prior's weight on the covariance in observations.
        variance: s², the prior's scale for the variance within a state; where it is learned the least.
        widest: where s² is learned, the most it may be; else None.
        flattest: where κ₀ is learned, the least it may be; else None.
    """

    mean_precision: Size
    dof: float
    variance: Size
    widest: float | None = None
    flattest: float | None = None

    def variances(self, like: Tensor) -> Tensor:
        """s² of each column, or the least it may be, (D,) or (1,)."""
        P = self.matrix(like)
        if P is not None:
            return P.diagonal()
        return torch.as_tensor(self.variance, dtype=like.dtype, device=like.device).reshape(-1)

    def matrix(self, like: Tensor) -> Tensor | None:
        """P (D, D), where all of it was given."""
        if not isinstance(self.variance, tuple) or not isinstance(self.variance[0], tuple):
            return None
        return torch.tensor(self.variance, dtype=like.dtype, device=like.device)

    def weights(self, like: Tensor) -> Tensor:
        """κ₀ of each column, or the most it may be, (D,) or (1,)."""
        return torch.as_tensor(self.mean_precision, dtype=like.dtype, device=like.device).reshape(-1)

    def lightest(self, like: Tensor) -> Tensor:
        """κ₀, or the least it may be: from there the first of several maxima is that of narrow states."""
        return self.weights(like) if self.flattest is None else like.new_full((1,), self.flattest)

    def scale(self, dof: Tensor, scatter: Tensor) -> Tensor:
        """The most probable s², (R, 1, D).

        The derivative of log Z in log s² is ½ Σ_k [ν₀ − ν_k ν₀ s²/(ν₀ s² + λ_k)], which falls as s² grows:
        there is one maximum.

        Args:
            dof: ν, to be broadcast against `scatter`.
            scatter: λ (R, K, D), the sums of squares beside those of the prior.
        """
        low = self.variances(scatter).expand(scatter.shape[0], 1, scatter.shape[2])
        if self.widest is None:
            return low
        v0, n = self.dof, dof - self.dof

        def slope(log_scale: Tensor) -> Tensor:
            share = v0 * log_scale.exp()
            return (v0 - dof * share / (share + scatter)).sum(1, keepdim=True)

        narrow = (n / scatter.clamp_min(NOTHING)).sum(1, keepdim=True)
        start = (scatter.shape[1] / narrow.clamp_min(NOTHING)).log()
        return root(slope, low.log(), torch.full_like(low, math.log(self.widest)), start).exp()

    def weight(self, gain: Tensor, square: Tensor) -> Tensor:
        """κ₀ = Σ_k n_k/(κ₀ + n_k) / Σ_k E[τ_k] m_k² within its interval, from both sums."""
        assert self.flattest is not None
        most = self.weights(gain)
        found = (gain / square.clamp_min(NOTHING)).clamp_min(self.flattest).minimum(most)
        return torch.where(square > 0, found, most)


def root(slope: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, start: Tensor) -> Tensor:
    """Where a falling function is 0 between two ends, or the end that is closer: Newton's method.

    Where it is 0 all over, as where there are no data, the upper end.
    """
    narrow = slope(low) < 0
    wide = (slope(high) >= 0) & ~narrow
    low, high = torch.where(wide, high, low), torch.where(narrow, low, high)
    found, delta = start.clamp(low, high), 1e-6
    for _ in range(STEPS):
        value = slope(found)
        low, high = torch.where(value > 0, found, low), torch.where(value > 0, high, found)
        step = found - value * delta / (slope(found + delta) - value).clamp_max(-NOTHING)
        inside = (step >= low) & (step <= high)
        step = torch.where(inside, step, 0.5 * (low + high))
        change, found = (step - found).abs().max(), step
        if bool(change < CLOSE):
            break
    return found


def sized(values: Tensor) -> Size:
    """Sizes (D,) as fields of a model have them."""
    one, *others = values.flatten().tolist()
    return (one, *others) if others else one


class NormalFactor(Factor):
    """A family with this prior. E[η] and log Z both follow from the parameters of its posterior.

    Attributes:
        prior: its sizes.
        variance_field: the field of the model that gives s².
        precision_field: the field of the model that gives κ₀.
    """

    prior: NormalPrior
    variance_field = "state_variance"
    precision_field = "mean_precision"

    @abstractmethod
    def _posterior(self, S: Tensor) -> tuple[Any, ...]:
        """The parameters of q(θ | S)."""

    def _trained(self, S: Tensor) -> tuple[Any, ...]:
        """The same for training, which asks thousands of times."""
        return self._posterior(S)

    @abstractmethod
    def _natural(self, *posterior: Any) -> Tensor:
        """E_q[η(θ)]."""

    @abstractmethod
    def _log_z(self, S: Tensor, *posterior: Any) -> Tensor:
        """Log Z."""

    @abstractmethod
    def sizes(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """s² and κ₀, (R, 1 or D) each."""

    def learned(self, statistics: Tensor) -> dict[str, Size]:
        """s² and κ₀, unless they were given."""
        variance, precision = self.sizes(statistics[:1])
        found = {} if self.prior.widest is None else {self.variance_field: sized(variance)}
        return found if self.prior.flattest is None else found | {self.precision_field: sized(precision)}

    def fixed(self, learned: Mapping[str, Any]) -> Self:
        """The same with the scale s² and the weight κ₀ given."""
        other = copy(self)
        if self.variance_field in learned:
            other.prior = replace(other.prior, variance=learned[self.variance_field], widest=None)
        if self.precision_field in learned:
            other.prior = replace(other.prior, mean_precision=learned[self.precision_field], flattest=None)
        return other

    def evaluate(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """E_q[η(θ)] and the divergence, of one posterior."""
        posterior = self._trained(statistics)
        natural = self._natural(*posterior)
        inner = (statistics * natural).flatten(1).sum(-1)
        return natural, inner - self._log_z(statistics, *posterior)

    def expected_natural(self, statistics: Tensor) -> Tensor:
        """E_q[η(θ)]."""
        return self._natural(*self._posterior(statistics))

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Log Z(S)."""
        return self._log_z(statistics, *self._trained(statistics))


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
        variance: s², (R, 1, D), or (R, 1, 1) if one precision is shared.
        weight: κ₀, (R, 1, D).
    """

    kappa: Tensor
    mean: Tensor
    a: Tensor
    b: Tensor
    variance: Tensor
    weight: Tensor

    @classmethod
    def of(
        cls, p: NormalPrior, n: Tensor, w: Tensor, wx: Tensor, wxx: Tensor, shared: bool = False
    ) -> NormalGamma:
        """From sums over the cells of a column, (R, K, D) each."""
        centre = centres(w, wx)
        within, count = (wxx - centre * wx).clamp_min(0.0), n
        if shared:
            within, count = within.sum(-1, keepdim=True), count.sum(-1, keepdim=True)
        dof = p.dof + count
        weight = p.weights(wx).expand(wx.shape[0], 1, wx.shape[2])
        for _ in range(STEPS):
            gain = w / (weight + w)
            between = weight * gain * centre**2
            scatter = within + (between.sum(-1, keepdim=True) if shared else between)
            variance = p.scale(dof, scatter)
            a, b = 0.5 * dof, 0.5 * (p.dof * variance + scatter)
            if p.flattest is None:
                break
            square = (gain * centre) ** 2 * a / b
            better = p.weight(gain.sum(1, keepdim=True), square.sum(1, keepdim=True))
            if bool(((better / weight).log().abs() < CLOSE).all()):
                break
            weight = better
        return cls(weight + w, gain * centre, a, b, variance, weight)

    def log_z(self, p: NormalPrior, n: Tensor) -> Tensor:
        """Log Z, (R,)."""
        a0, b0 = 0.5 * p.dof, 0.5 * p.dof * self.variance
        normal = 0.5 * (self.weight.log() - self.kappa.log()) - 0.5 * LOG_2PI * n
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
