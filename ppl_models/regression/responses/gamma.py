"""y ~ Gamma with mean μ = e^f and shape α: a positive number whose sd is proportional to its mean.

log p = α log α − log Γ(α) + (α − 1) log y − α f − α y e^{−f}. 1/α, the squared coefficient of variation, is
Exponential(1); ψ = log α.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ppl_models.errors import DataError
from ppl_models.regression.responses.poisson import start
from ppl_models.regression.responses.response import NumberResponse, RowTerms


@dataclass(frozen=True, eq=False)
class Gamma(NumberResponse):
    """A positive number."""

    name: ClassVar[str] = "gamma"
    work: ClassVar[float] = 3.0
    links: ClassVar[tuple[str, ...]] = ("log",)
    hyper: ClassVar[tuple[str, ...]] = ("shape",)

    @classmethod
    def of(cls, link: str, y: Tensor, levels: int = 0) -> Self:
        """α by moments."""
        alpha = float(y.mean()) ** 2 / max(float(y.var(correction=0)), 1e-300)
        return cls(link, torch.tensor([min(max(alpha, 0.1), 1e6)], dtype=torch.float64).log())

    @classmethod
    def check(cls, y: Tensor, where: str, trials: Tensor | None = None) -> None:
        """Positive."""
        if bool((y <= 0).any()):
            raise DataError(
                f"{where} has {float(y[y <= 0][0]):g}, and gamma is of positive numbers; use --family normal"
            )

    def log_prior(self, psi: Tensor) -> Tensor:
        """1/α ~ Exponential(1)."""
        return -psi[:, 0] - (-psi[:, 0]).exp()

    def widened(self, psi: Tensor, factor: float) -> Tensor:
        """The coefficient of variation times the factor."""
        return psi - 2 * math.log(factor)

    def user(self, psi: Tensor) -> Mapping[str, Tensor]:
        """α."""
        return {"shape": psi[:, 0].exp()}

    def density(self, f: Tensor, y: Tensor, psi: tuple[Tensor, ...], trials: Tensor | None) -> Tensor:
        """As above."""
        return self.expected(y, f, torch.zeros_like(f), psi, trials)

    def expected(
        self, y: Tensor, mean: Tensor, variance: Tensor, psi: tuple[Tensor, ...], trials: Tensor | None
    ) -> Tensor:
        """In closed form: E[e^{−f}] = e^{−m + v/2}."""
        alpha = psi[0].exp()
        constant = alpha * psi[0] - torch.lgamma(alpha)
        return constant + (alpha - 1) * y.log() - alpha * (mean + y * (0.5 * variance - mean).exp())

    def row_terms(
        self, y: Tensor, mean: Tensor, cov: Tensor | None, trials: Tensor | None = None
    ) -> RowTerms:
        """In closed form."""
        f = mean[:, 0]
        variance = torch.zeros_like(f) if cov is None else cov[:, 0, 0]
        alpha = self.psi[0].exp()
        ratio = alpha * y * (0.5 * variance - f).exp()
        value = self.expected(y, f, variance, tuple(self.psi), None)
        return RowTerms(value, (ratio - alpha)[:, None], ratio[:, None, None])

    def mean(self, f: Tensor, psi: Tensor) -> Tensor:
        """e^f."""
        return f.exp()

    def sample(self, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """e^f times a gamma of mean 1."""
        alpha = psi[:, :1].exp().expand_as(f)
        return f.exp() * (torch._standard_gamma(alpha) / alpha).clamp_min(1e-300)  # pyright: ignore[reportPrivateImportUsage]

    def cdf(self, y: Tensor, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """P(α, α y e^{−f})."""
        alpha = psi[:, :1].exp().expand_as(f)
        return torch.special.gammainc(alpha, (alpha * y * (-f).exp()).clamp_min(0.0))

    def start(self, y: Tensor, weight: Tensor, trials: Tensor | None = None) -> Tensor:
        """At the mean."""
        return start("log", y, weight)
