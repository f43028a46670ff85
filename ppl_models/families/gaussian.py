"""Gaussian columns: N(μ, 1/τ) with the conjugate prior, or N(o, σ²) around what a decoder puts out.

Covariances: full or tied (`ppl_models.families.full_gaussian`), of low rank beside a diagonal
(`ppl_models.families.low_rank`), and here diagonal or spherical.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from ppl_models.annotations import AtLeast, Positive
from ppl_models.data.schema import Column, Kind
from ppl_models.errors import UsageError
from ppl_models.families.columns import ColumnEmission
from ppl_models.families.family import Conjugate, Family, Group, Network, Prior
from ppl_models.families.likelihood import FLOOR, Likelihood
from ppl_models.families.normal_prior import (
    LOG_2PI,
    Field,
    NormalFactor,
    NormalGamma,
    NormalPrior,
    NormalSizes,
    Size,
    centres,
)
from ppl_models.importing import lazy
from ppl_models.inference.factors import Support, nonnegative

if TYPE_CHECKING:
    import pyro.distributions as dist
    import torch
    from torch import Tensor

    from ppl_models.families.base import Emission
    from ppl_models.inference.factors import Site, Theta
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")


@dataclass(frozen=True)
class CovarianceField(Prior):
    """How the columns of a state depend on one another."""

    covariance: Annotated[
        Literal["full", "diag", "tied", "spherical", "low-rank"], "covariance of Gaussian columns"
    ] = "full"
    rank: Annotated[int, "factors of a low-rank covariance, in each state", AtLeast(0)] = 4
    loading_precision: Annotated[
        float | None,
        "prior weight of 0 on a loading of a low-rank covariance, in rows; learned if none",
        Positive(),
    ] = None


@dataclass(frozen=True)
class GaussianPrior(NormalSizes, CovarianceField):
    """The fields of the prior of Gaussian columns."""

    state_variance: Annotated[
        Size | None,
        "prior scale of a Gaussian's variance, 1/E[precision], of all columns or each; learned if not given",
        Positive(),
    ] = None


class DiagonalGaussian(NormalFactor, ColumnEmission):
    """x_d | k ~ N(μ_kd, 1/τ_kd), τ_kd ~ Gamma(ν₀/2, ν₀ s²/2), μ_kd | τ_kd ~ N(0, 1/(κ₀ τ_kd)).

    With S = (n, Σx, Σx²) the posterior and Z are those of `NormalGamma`, every cell weighing 1.
    η = (½ log τ − ½ τ μ² − ½ log 2π, τ μ, −½ τ).
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
        scatter = sxx - sx * centres(n, sx)
        return nonnegative(n) & nonnegative(scatter)

    def transform(self, x: Tensor, out: list[Tensor]) -> None:
        """x, x²."""
        torch.mul(x, x, out=out[1])

    def cell_base(self, x: Tensor) -> Tensor:
        """The change of units."""
        return x * 0.0 - self.scale.to(x).log()

    def _posterior(self, S: Tensor) -> NormalGamma:
        n, sx, sxx = S.unbind(-1)
        return NormalGamma.of(self.prior, n, n, sx, sxx, self.spherical)

    def sizes(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """s² and κ₀, (R, 1 or D) each."""
        found = self._posterior(statistics)
        return found.variance[:, 0], found.weight[:, 0]

    def _log_z(self, S: Tensor, *posterior: Tensor) -> Tensor:
        return NormalGamma(*posterior).log_z(self.prior, S[..., 0])

    def _natural(self, *posterior: Tensor) -> Tensor:
        """E[½ log τ − ½ τ μ²] − ½ log 2π, E[τ μ], −½ E[τ]."""
        log_tau, square, linear, tau = NormalGamma(*posterior).moments()
        zero = 0.5 * (log_tau - square - LOG_2PI)
        return torch.stack([zero, linear, (-0.5 * tau).expand_as(linear)], -1)

    @property
    def supports(self) -> Mapping[str, Support]:
        """Precisions are positive."""
        return {"mean": Support.REAL, "precision": Support.POSITIVE}

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`precision`, then `mean` given it."""
        return self._posterior(statistics).sites(site)

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


def _emission(group: Group, states: int, fields: GaussianPrior) -> Emission:
    D = len(group.index)
    full = D > 1 and fields.covariance in ("full", "tied")
    rank = min(fields.rank, D - 1) if fields.covariance == "low-rank" else 0
    prior = fields.normal_prior(
        group,
        states,
        Field("state_variance", fields.state_variance, 1 if fields.covariance == "spherical" else D),
        Field("mean_precision", fields.mean_precision, 1 if full or rank else D),
        D if full else 1,
    )
    if fields.covariance in ("full", "tied") and prior.dof <= D - 1:
        raise UsageError(f"covariance_dof must be more than {D - 1} for {D} columns, got {prior.dof:g}")
    mean, sd = group.constants("mean"), group.constants("sd")
    if rank:
        from ppl_models.families.low_rank import FLATTEST, LowRankGaussian

        if prior.flattest is not None:
            prior = replace(prior, flattest=FLATTEST)
        return LowRankGaussian(group.index, states, mean, sd, prior, rank, fields.loading_precision)
    if fields.covariance in ("diag", "spherical", "low-rank") or (D == 1 and fields.covariance == "full"):
        return DiagonalGaussian(group.index, states, mean, sd, prior, fields.covariance == "spherical")
    from ppl_models.families.full_gaussian import FullGaussian

    C = torch.tensor(group.correlation, dtype=torch.float64) if group.correlation else None
    return FullGaussian(group.index, states, mean, sd, prior, fields.covariance == "tied", C)


def _autoregressive(group: Group, states: int, fields: GaussianPrior, before: int) -> Emission:
    """Given the row before, whose cells are in columns from `before` on.

    Raises:
        UsageError: the covariance is tied or spherical, or sizes are not those of the columns.
    """
    if fields.covariance not in ("full", "diag"):
        raise UsageError(
            "autoregressive goes with covariance full (a row depends on all columns of the row before) or "
            f"diag (each column on itself), got {fields.covariance!r}"
        )
    D = len(group.index)
    full = fields.covariance == "full" and D > 1
    sizes = 1 if full else D
    prior = fields.normal_prior(
        group,
        states,
        Field("state_variance", fields.state_variance, sizes),
        Field("mean_precision", fields.mean_precision, sizes),
        D if full else 1,
    )
    if full and prior.dof <= D - 1:
        raise UsageError(f"covariance_dof must be more than {D - 1} for {D} columns, got {prior.dof:g}")
    from ppl_models.families.autoregressive import FLATTEST, AutoregressiveGaussian

    if prior.flattest is not None:
        prior = replace(prior, flattest=FLATTEST)
    mean, sd = group.constants("mean"), group.constants("sd")
    return AutoregressiveGaussian(group.index, states, mean, sd, prior, full, before)


class GaussianLikelihood(Likelihood):
    """u_j = (x_j − x̄_j)/s_j ~ N(o_j, σ_j²), σ_j² = σ_min² + exp(2 ρ_j) learned for each column."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__("gaussian", [c.mean for c in columns], [c.sd for c in columns], dense=True)
        self.log_scale = self._learned(math.log(0.5))

    @property
    def sigma(self) -> Tensor:
        """σ, (D,), in standard deviations of the column."""
        return (FLOOR**2 + (2 * self.log_scale).exp()).sqrt()

    def noise(self) -> list[float] | None:
        """σ in the user's units."""
        return (self.sigma.detach().double() * self.scale).tolist()

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """The normal density."""
        sigma = self.sigma
        return -0.5 * ((u - out) / sigma) ** 2 - sigma.log() - 0.5 * LOG_2PI

    def expect(self, out: Tensor) -> Tensor:
        """The mean o."""
        return self.back(out)

    def sample(self, out: Tensor) -> Tensor:
        """The mean and noise."""
        return self.back(out + self.sigma * torch.randn_like(out))

    def distribution(self, out: Tensor) -> Any:
        """A normal in the user's units."""
        return dist.Normal(self.back(out), self.sigma.double() * self.scale)


def whole_numbers(x: np.ndarray, often: np.ndarray) -> tuple[float, int]:
    """Of rounded normals: Σ n log (Φ((x + ½ − μ)/σ) − Φ((x − ½ − μ)/σ)), at their mean and variance."""
    from scipy.special import log_ndtr

    n = often.sum()
    mean = float(often @ x / n)
    sd = math.sqrt(max(float(often @ (x - mean) ** 2 / n), 0.05))
    z = np.abs(x - mean)  # both ends in the lower tail, where differences are exact
    high, low = log_ndtr(-(z - 0.5) / sd), log_ndtr(-(z + 0.5) / sd)
    return float(often @ (high + np.log(-np.expm1(np.minimum(low - high, -1e-15))))), 2


GAUSSIAN = Family(
    "gaussian",
    conjugate=Conjugate(
        density="normal: `mean`, `sd`, with a full covariance `correlation`",
        prior="normal–Wishart, or normal–gamma",
        kinds=(Kind.CONTINUOUS, Kind.COUNT),
        build=_emission,
        correlated=lambda fields: fields.covariance in ("full", "tied"),
        lagged=_autoregressive,
    ),
    network=Network(
        density="N(o, σ²) with a σ for each column, learned, at least 0.01 sd of the column",
        kinds=(Kind.CONTINUOUS, Kind.COUNT),
        build=lambda columns, image: GaussianLikelihood(columns),
    ),
    fields=GaussianPrior,
    auto=Kind.CONTINUOUS,
    instead={"dispersion": "student_t", "tails": "student_t"},
    of_counts=whole_numbers,
)
