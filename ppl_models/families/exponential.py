"""Exponential columns, with gamma priors of the rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ppl_models.data.schema import Kind
from ppl_models.families.columns import ColumnEmission
from ppl_models.families.family import Conjugate, Family, Group
from ppl_models.families.poisson import RatePrior
from ppl_models.importing import lazy
from ppl_models.inference.factors import Support

if TYPE_CHECKING:
    import pyro.distributions as dist
    import torch
    from torch import Tensor

    from ppl_models.inference.factors import Site, Theta
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")


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

    @property
    def supports(self) -> Mapping[str, Support]:
        """Rates."""
        return {"rate": Support.NONNEGATIVE}

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


def _emission(group: Group, states: int, fields: RatePrior) -> Exponential:
    return Exponential(group.index, states, group.positive_means(), fields.rate_shape, fields.rate_rate)


EXPONENTIAL = Family(
    "exponential",
    conjugate=Conjugate(
        density="exponential: `mean`",
        prior="gamma on the rate",
        kinds=(Kind.CONTINUOUS, Kind.COUNT),
        build=_emission,
    ),
    fields=RatePrior,
    lacks=lambda column: "values at least 0" if column.minimum < 0 else "",
    instead={"dispersion": "gamma", "underdispersion": "gamma", "tails": "gamma", "skewness": "gamma"},
)
