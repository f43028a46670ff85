"""y ~ Poisson(μ), μ = e^f (log) or log(1 + e^f) (softplus)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ppl_models.regression.responses.response import NumberResponse, RowTerms, whole


def positive(link: str, f: Tensor) -> Tensor:
    """μ of a link whose mean is positive."""
    return f.exp() if link == "log" else softplus(f)


def start(link: str, y: Tensor, weight: Tensor) -> Tensor:
    """The f at which μ is the mean of the target."""
    mean = (y @ weight / weight.sum()).clamp_min(1e-3).reshape(1)
    return mean.log() if link == "log" else mean + torch.log(-torch.expm1(-mean))


@dataclass(frozen=True, eq=False)
class Poisson(NumberResponse):
    """A count whose variance is its mean."""

    name: ClassVar[str] = "poisson"
    work: ClassVar[float] = 3.0
    links: ClassVar[tuple[str, ...]] = ("log", "softplus")
    discrete: ClassVar[bool] = True

    @classmethod
    def check(cls, y: Tensor, where: str, trials: Tensor | None = None) -> None:
        """Whole numbers from 0."""
        whole(y, where, cls.name)

    def density(self, f: Tensor, y: Tensor, psi: tuple[Tensor, ...], trials: Tensor | None) -> Tensor:
        """Y log μ − μ − log y!."""
        if self.link == "log":
            return y * f - f.exp() - torch.lgamma(y + 1)
        mean = softplus(f)
        return y * mean.clamp_min(1e-300).log() - mean - torch.lgamma(y + 1)

    def row_terms(
        self, y: Tensor, mean: Tensor, cov: Tensor | None, trials: Tensor | None = None
    ) -> RowTerms:
        """Of the log link in closed form: E[e^f] = e^{m + v/2}."""
        if self.link != "log":
            return super().row_terms(y, mean, cov, trials)
        f = mean[:, 0]
        rate = (f if cov is None else f + 0.5 * cov[:, 0, 0]).exp()
        return RowTerms(y * f - rate - torch.lgamma(y + 1), (y - rate)[:, None], rate[:, None, None])

    def mean(self, f: Tensor, psi: Tensor) -> Tensor:
        """μ."""
        return positive(self.link, f)

    def sample(self, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """Counts."""
        return torch.poisson(positive(self.link, f).clamp_max(1e15))

    def cdf(self, y: Tensor, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """Q(⌊y⌋ + 1, μ)."""
        mean = self.mean(f, psi)
        count = y.floor().expand_as(mean)
        return torch.where(count < 0, 0.0, torch.special.gammaincc(count.clamp_min(0.0) + 1, mean))

    def start(self, y: Tensor, weight: Tensor, trials: Tensor | None = None) -> Tensor:
        """At the mean count."""
        return start(self.link, y, weight)
