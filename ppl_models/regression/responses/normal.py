"""y ~ N(μ, σ²), μ = f (identity) or e^f (log).

In units of the target's sd s: σ/s ~ Exponential(1), as rstanarm has it (Gelman, Hill & Vehtari 2020,
Regression and Other Stories, ch. 9). ψ = log(σ/s).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ppl_models.regression.responses.response import NumberResponse, RowTerms

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Normal(NumberResponse):
    """A continuous number."""

    name: ClassVar[str] = "normal"
    links: ClassVar[tuple[str, ...]] = ("identity", "log")
    hyper: ClassVar[tuple[str, ...]] = ("sigma",)

    @classmethod
    def of(cls, link: str, y: Tensor, levels: int = 0) -> Self:
        """σ at the target's sd."""
        sd = float(y.std(correction=0)) or 1.0
        zero = torch.zeros(1, dtype=torch.float64)
        if link == "identity":
            return cls(link, zero, float(y.mean()), sd)
        return cls(link, zero, 0.0, sd)

    @property
    def linear_normal(self) -> bool:
        """With the identity link."""
        return self.link == "identity"

    @property
    def spread(self) -> float:
        """Only used of the log link, whose mean is e^f."""
        return 0.5

    def log_prior(self, psi: Tensor) -> Tensor:
        """σ/s ~ Exponential(1)."""
        return psi[:, 0] - psi[:, 0].exp()

    def widened(self, psi: Tensor, factor: float) -> Tensor:
        """σ times the factor."""
        return psi + math.log(factor)

    def user(self, psi: Tensor) -> Mapping[str, Tensor]:
        """σ in the target's units."""
        return {"sigma": psi[:, 0].exp() * self.unit}

    def _mean(self, f: Tensor) -> Tensor:
        return f if self.link == "identity" else f.exp() / self.unit

    def density(self, f: Tensor, y: Tensor, psi: tuple[Tensor, ...], trials: Tensor | None) -> Tensor:
        """−log σ − (y − μ)²/2σ² − ½ log 2π."""
        return -psi[0] - HALF_LOG_2PI - 0.5 * ((y - self._mean(f)) * (-psi[0]).exp()) ** 2

    def expected(
        self, y: Tensor, mean: Tensor, variance: Tensor, psi: tuple[Tensor, ...], trials: Tensor | None
    ) -> Tensor:
        """E(y − μ)² in closed form: of the log link by the moments of a log-normal."""
        precision = (-2 * psi[0]).exp()
        if self.link == "identity":
            square = (y - mean) ** 2 + variance
        else:
            first = (mean + 0.5 * variance).exp() / self.unit
            square = y**2 - 2 * y * first + first**2 * variance.exp()
        return -psi[0] - HALF_LOG_2PI - 0.5 * precision * square

    def row_terms(
        self, y: Tensor, mean: Tensor, cov: Tensor | None, trials: Tensor | None = None
    ) -> RowTerms:
        """In closed form for the identity."""
        if self.link != "identity":
            return super().row_terms(y, mean, cov, trials)
        variance = torch.zeros_like(mean[:, 0]) if cov is None else cov[:, 0, 0]
        precision = (-2 * self.psi[0]).exp()
        value = self.expected(y, mean[:, 0], variance, tuple(self.psi), None)
        curvature = precision.expand(len(y), 1, 1)
        return RowTerms(value, precision * (y[:, None] - mean), curvature)

    def mean(self, f: Tensor, psi: Tensor) -> Tensor:
        """μ."""
        return self.shift + self.unit * self._mean(f)

    def sample(self, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """μ + σ ε."""
        return self.mean(f, psi) + self.unit * psi.exp() * torch.randn_like(f)

    def cdf(self, y: Tensor, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """Φ((y − μ)/σ)."""
        return torch.special.ndtr((y - self.mean(f, psi)) / (self.unit * psi.exp()))

    def start(self, y: Tensor, weight: Tensor, trials: Tensor | None = None) -> Tensor:
        """The mean."""
        mean = (y @ weight / weight.sum()).reshape(1)
        return mean if self.link == "identity" else (mean.clamp_min(1e-3) * self.unit).log()
