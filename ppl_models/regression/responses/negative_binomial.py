"""y ~ negative binomial with mean μ and variance μ + αμ², μ = e^f (log) or log(1 + e^f) (softplus).

α ~ Exponential(1), the dispersion; ψ = log α. With r = 1/α, log p = log Γ(y + r) − log Γ(r) − log y! +
r log(r/(r + μ)) + y log(μ/(r + μ)).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ppl_models.regression.responses.poisson import positive, start
from ppl_models.regression.responses.response import NumberResponse, whole


@dataclass(frozen=True, eq=False)
class NegativeBinomial(NumberResponse):
    """A count whose variance is larger than its mean."""

    name: ClassVar[str] = "negative_binomial"
    work: ClassVar[float] = 8.0
    links: ClassVar[tuple[str, ...]] = ("log", "softplus")
    discrete: ClassVar[bool] = True
    hyper: ClassVar[tuple[str, ...]] = ("dispersion",)

    @classmethod
    def of(cls, link: str, y: Tensor, levels: int = 0) -> Self:
        """α by moments."""
        mean, variance = float(y.mean()), float(y.var(correction=0))
        alpha = min(max((variance - mean) / max(mean, 1e-3) ** 2, 1e-2), 10.0)
        return cls(link, torch.tensor([alpha], dtype=torch.float64).log())

    @classmethod
    def check(cls, y: Tensor, where: str, trials: Tensor | None = None) -> None:
        """Whole numbers from 0."""
        whole(y, where, cls.name)

    def log_prior(self, psi: Tensor) -> Tensor:
        """α ~ Exponential(1)."""
        return psi[:, 0] - psi[:, 0].exp()

    def widened(self, psi: Tensor, factor: float) -> Tensor:
        """α times the square of the factor: of large means the sd times the factor."""
        return psi + 2 * math.log(factor)

    def user(self, psi: Tensor) -> Mapping[str, Tensor]:
        """α."""
        return {"dispersion": psi[:, 0].exp()}

    def density(self, f: Tensor, y: Tensor, psi: tuple[Tensor, ...], trials: Tensor | None) -> Tensor:
        """As above, with log(r + μ) by the difference of f and log r."""
        log_r = -psi[0]
        r = log_r.exp()
        log_mean = f if self.link == "log" else positive(self.link, f).clamp_min(1e-300).log()
        both = torch.logaddexp(log_r.expand_as(log_mean), log_mean)
        count = torch.lgamma(y + r) - torch.lgamma(r) - torch.lgamma(y + 1)
        return count + r * (log_r - both) + y * (log_mean - both)

    def mean(self, f: Tensor, psi: Tensor) -> Tensor:
        """μ."""
        return positive(self.link, f)

    def sample(self, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """A Poisson whose rate is a gamma with shape r."""
        r = (-psi[:, :1]).exp().expand_as(f)
        rate = torch._standard_gamma(r) / r * positive(self.link, f)  # pyright: ignore[reportPrivateImportUsage]
        return torch.poisson(rate.clamp_max(1e15))

    def cdf(self, y: Tensor, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """The regularised incomplete beta function I_{r/(r + μ)}(r, ⌊y⌋ + 1), by SciPy."""
        from scipy.special import betainc

        r, mean = (-psi[:, :1]).exp(), self.mean(f, psi)
        count = y.floor().expand_as(mean)
        found = betainc(r.numpy(), count.clamp_min(0.0).numpy() + 1, (r / (r + mean)).numpy())
        return torch.where(count < 0, 0.0, torch.from_numpy(found))

    def start(self, y: Tensor, weight: Tensor, trials: Tensor | None = None) -> Tensor:
        """At the mean count."""
        return start(self.link, y, weight)
