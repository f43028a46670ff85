"""y ~ f + σ t_ν: a number with outliers.

In units of the target's sd s: σ/s ~ Exponential(1), and ν ~ Gamma(2, 0.1) on ν > 1 (Juárez & Steel 2010,
Model-based clustering of non-Gaussian panel data, JBES 28, https://doi.org/10.1198/jbes.2009.07145).
ψ = (log(σ/s), log(ν − 1)). Robust curvature may be negative; the Gaussian rule shortens its steps there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ppl_models.regression.responses.response import NumberResponse


@dataclass(frozen=True, eq=False)
class StudentT(NumberResponse):
    """A continuous number with heavy tails."""

    name: ClassVar[str] = "student_t"
    work: ClassVar[float] = 4.0
    links: ClassVar[tuple[str, ...]] = ("identity",)
    hyper: ClassVar[tuple[str, ...]] = ("sigma", "nu")

    @classmethod
    def of(cls, link: str, y: Tensor, levels: int = 0) -> Self:
        """σ at the normal quantile range's, which outliers do not move."""
        middle = float(y.median())
        quartiles = torch.quantile(y[:: max(1, len(y) // 100_000)], torch.tensor([0.25, 0.75]).to(y))
        sd = float(quartiles[1] - quartiles[0]) / 1.349 or float(y.std(correction=0)) or 1.0
        return cls(link, torch.tensor([-0.2, math.log(9.0)], dtype=torch.float64), middle, sd)

    @property
    def spread(self) -> float:
        """σ."""
        return float(self.psi[0].detach().exp())

    def log_prior(self, psi: Tensor) -> Tensor:
        """Of σ/s and ν, with the Jacobians of both logarithms."""
        nu = 1 + psi[:, 1].exp()
        of_nu = nu.log() - 0.1 * nu + psi[:, 1]
        return psi[:, 0] - psi[:, 0].exp() + of_nu + _GAMMA

    def widened(self, psi: Tensor, factor: float) -> Tensor:
        """σ times the factor."""
        return psi + torch.tensor([math.log(factor), 0.0]).to(psi)

    def user(self, psi: Tensor) -> Mapping[str, Tensor]:
        """σ in the target's units, and ν."""
        return {"sigma": psi[:, 0].exp() * self.unit, "nu": 1 + psi[:, 1].exp()}

    def density(self, f: Tensor, y: Tensor, psi: tuple[Tensor, ...], trials: Tensor | None) -> Tensor:
        """Of a t with ν degrees of freedom."""
        nu = 1 + psi[1].exp()
        z = (y - f) * (-psi[0]).exp()
        constant = torch.lgamma((nu + 1) / 2) - torch.lgamma(nu / 2) - 0.5 * (nu * math.pi).log()
        return constant - psi[0] - (nu + 1) / 2 * torch.log1p(z**2 / nu)

    def mean(self, f: Tensor, psi: Tensor) -> Tensor:
        """f: the mean, as ν > 1."""
        return self.shift + self.unit * f

    def sample(self, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """F + σ ε √(ν/χ²_ν)."""
        nu = (1 + psi[:, 1:].exp()).expand_as(f)
        t = torch.randn_like(f) * (nu / (2 * torch._standard_gamma(nu / 2))).sqrt()  # pyright: ignore[reportPrivateImportUsage]
        return self.shift + self.unit * (f + psi[:, :1].exp() * t)

    def cdf(self, y: Tensor, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """Of a t, by SciPy."""
        from scipy.special import stdtr

        z = (y - self.mean(f, psi)) / (self.unit * psi[:, :1].exp())
        return torch.from_numpy(stdtr((1 + psi[:, 1:].exp()).numpy(), z.numpy()))

    def start(self, y: Tensor, weight: Tensor, trials: Tensor | None = None) -> Tensor:
        """Zero: the median."""
        return torch.zeros(1, dtype=torch.float64)


_GAMMA = 2 * math.log(0.1) + 0.1 - math.log(1.1)
"""Log normaliser of Gamma(2, 0.1) on (1, ∞): ∫₁^∞ ν e^{−ν/10} dν = 110 e^{−1/10}."""
