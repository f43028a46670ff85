"""Poisson columns: counts whose variance is their mean."""

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models.data import Column, Schema
from ppl_models.families.base import positive_means
from ppl_models.families.columns import ColumnEmission
from ppl_models.families.likelihood import Likelihood
from ppl_models.families.priors import Priors
from ppl_models.inference.factors import Site, Theta


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


class PoissonLikelihood(Likelihood):
    """x_j ~ Poisson(x̄_j exp(o_j)): outputs are log rates relative to the mean of the column."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__("poisson", [0.0] * len(columns), [1.0] * len(columns), dense=False)
        mean = torch.tensor([c.mean for c in columns])
        self._constant("log_mean", mean.clamp(min=1e-3).log().float())
        sd = torch.tensor([c.sd for c in columns]).float()
        self._constant("centre", mean.log1p().float())
        self._constant("spread", (sd / (1 + mean)).clamp(min=1e-3).float())  # of log1p(x), to first order

    log_mean: Tensor
    centre: Tensor
    spread: Tensor

    def features(self, u: Tensor, seen: Tensor | None) -> Tensor:
        """log(1 + x), about standardised."""
        f = (u.log1p() - self.centre) / self.spread
        return f if seen is None else f * seen

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """Of each cell."""
        eta = out + self.log_mean
        return u * eta - eta.exp() - (u + 1).lgamma()

    def expect(self, out: Tensor) -> Tensor:
        """In the user's units."""
        return (out.double() + self.log_mean).exp()

    def sample(self, out: Tensor) -> Tensor:
        """By torch's generator."""
        return torch.poisson((out.double() + self.log_mean).exp().clamp(max=1e15))

    def distribution(self, out: Tensor) -> Any:
        """The same by Pyro."""
        import pyro.distributions as dist

        return dist.Poisson((out + self.log_mean).exp())


def emission(columns: tuple[int, ...], states: int, schema: Schema, priors: Priors) -> Poisson:
    """Over some columns of a schema."""
    return Poisson(columns, states, positive_means(schema, columns), priors.rate_shape, priors.rate_rate)


def likelihood(columns: Sequence[Column], image: bool) -> PoissonLikelihood:
    """Of some columns, given outputs of a network."""
    return PoissonLikelihood(columns)
