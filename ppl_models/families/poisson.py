"""Poisson counts, with gamma priors of the rates, or with log rates that a decoder puts out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from ppl_models.annotations import Positive
from ppl_models.data.schema import Column, Kind
from ppl_models.families.columns import ColumnEmission
from ppl_models.families.family import Conjugate, Family, Group, Network, Prior
from ppl_models.families.likelihood import CountLikelihood
from ppl_models.importing import lazy
from ppl_models.inference.factors import Support

if TYPE_CHECKING:
    import pyro.distributions as dist
    import torch
    from torch import Tensor

    from ppl_models.inference.factors import Site, Theta
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")


@dataclass(frozen=True)
class RatePrior(Prior):
    """The fields of the gamma prior of rates, which several families share."""

    rate_shape: Annotated[
        float,
        "shape of the gamma prior of rates (Poisson, exponential, gamma, negative binomial)",
        Positive(),
    ] = 1.0
    rate_rate: Annotated[float, "rate of the gamma prior of rates", Positive()] = 1.0


class Poisson(ColumnEmission):
    """x_d | k ~ Poisson(x̄_d r_kd), r_kd ~ Gamma(a₀, b₀): rates relative to the mean x̄ of the column.

    With S = (n, Σx): a = a₀ + Σx, b = b₀ + n x̄; η = (−x̄ r, log(x̄ r)), h(x) = 1/x!.
    """

    name = "poisson"
    terms = 1

    def __init__(
        self, columns: tuple[int, ...], states: int, mean: Tensor, shape: float = 1.0, rate: float = 1.0
    ) -> None:
        super().__init__(columns, states, torch.zeros_like(mean), torch.ones_like(mean))
        self.mean, self.prior_shape, self.prior_rate = mean, shape, rate

    def transform(self, x: Tensor, out: list[Tensor]) -> None:
        """X itself."""

    def cell_base(self, x: Tensor) -> Tensor:
        """−log x!."""
        return -torch.lgamma(x + 1)

    def _posterior(self, S: Tensor) -> tuple[Tensor, Tensor]:
        return self.prior_shape + S[..., 1], self.prior_rate + self.mean.to(S) * S[..., 0]

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Log Z = log b₀^a₀/Γ(a₀) · Γ(a)/b^a · x̄^Σx."""
        a, b = self._posterior(statistics)
        a0, b0 = self.prior_shape, self.prior_rate
        z = torch.lgamma(a) - a * b.log() + statistics[..., 1] * self.mean.to(a).log()
        return (z + a0 * math.log(b0) - math.lgamma(a0)).sum((-1, -2))

    def expected_natural(self, statistics: Tensor) -> Tensor:
        """−x̄ a/b, ψ(a) − log b + log x̄."""
        a, b = self._posterior(statistics)
        mean = self.mean.to(a)
        return torch.stack([-mean * a / b, torch.digamma(a) - b.log() + mean.log()], -1)

    @property
    def supports(self) -> Mapping[str, Support]:
        """Rates."""
        return {"rate": Support.NONNEGATIVE}

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`rate`, relative to the column's mean."""
        return {"rate": site("rate", dist.Gamma(*self._posterior(statistics), validate_args=False))}

    def natural(self, theta: Theta) -> Tensor:
        """−x̄ r, log(x̄ r)."""
        rate = theta["rate"] * self.mean.to(theta["rate"])
        return torch.stack([-rate, rate.clamp_min(1e-300).log()], -1)

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """Independent Poissons."""
        rate = theta["rate"] * self.mean.to(theta["rate"])
        return dist.Poisson(rate, validate_args=False).to_event(1)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`rate`: the expected count."""
        return {"rate": (theta["rate"] * self.mean.to(theta["rate"]), ("column",))}


def _emission(group: Group, states: int, fields: RatePrior) -> Poisson:
    return Poisson(group.index, states, group.positive_means(), fields.rate_shape, fields.rate_rate)


class PoissonLikelihood(CountLikelihood):
    """x_j ~ Poisson(x̄_j exp(o_j)): outputs are log rates relative to the mean of the column."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__("poisson", columns)

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """X η − e^η − log x!, with η = o + log x̄."""
        eta = out + self.log_mean
        return u * eta - eta.exp() - (u + 1).lgamma()

    def sample(self, out: Tensor) -> Tensor:
        """Counts."""
        return torch.poisson(self.expect(out).clamp(max=1e15))

    def distribution(self, out: Tensor) -> Any:
        """A Poisson."""
        return dist.Poisson((out + self.log_mean).exp())


def poisson_counts(x: np.ndarray, often: np.ndarray) -> tuple[float, int]:
    """Σ n (x log λ − λ − log x!) at λ their mean."""
    from scipy.special import gammaln, xlogy

    rate = float(often @ x / often.sum())
    return float(often @ (xlogy(x, rate) - rate - gammaln(x + 1))), 1


POISSON = Family(
    "poisson",
    conjugate=Conjugate(
        density="Poisson: `rate`",
        prior="gamma",
        kinds=(Kind.COUNT,),
        build=_emission,
        read_as=Kind.COUNT,
    ),
    network=Network(
        density="Poisson with mean x̄ e^o",
        kinds=(Kind.COUNT,),
        build=lambda columns, image: PoissonLikelihood(columns),
        read_as=Kind.COUNT,
    ),
    fields=RatePrior,
    auto=Kind.COUNT,
    instead={
        "dispersion": "negative_binomial",
        "tails": "negative_binomial",
        "zeros": "negative_binomial",
        "underdispersion": "gaussian",
    },
    of_counts=poisson_counts,
)
