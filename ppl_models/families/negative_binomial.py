"""Negative binomial columns: counts that vary more than their mean.

    x | λ ~ Poisson(x̄ λ),   λ ~ Gamma(a, b),   so that   E[x] = x̄ a/b,   Var[x] = E[x] + E[x]²/a

a is the size: the smaller, the more counts vary; at a → ∞ they are Poisson (Hilbe 2011, Negative binomial
regression, ch. 8).
"""

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ppl_models.data import Column, Schema
from ppl_models.families.augmented import AugmentedColumns
from ppl_models.families.base import EPSILON, positive_means
from ppl_models.families.gamma import GammaFactor
from ppl_models.families.likelihood import Likelihood
from ppl_models.families.priors import Priors
from ppl_models.inference.factors import Theta


class NegativeBinomial(GammaFactor, AugmentedColumns):
    """x_d | k ~ NegativeBinomial with size a_kd and mean x̄_d a_kd/b_kd, (a, b) as of a gamma column.

    t(x, λ) = (1, λ, log λ) and η = (a log b − log Γ(a), −b, a): a gamma density of the λ, which are latent.
    Of a cell λ ~ Gamma(x + a, x̄ + b), and its log density is

        η₀ + log Γ(x + a) − (x + a) log(x̄ + b) + x log x̄ − log x!
    """

    name = "negative_binomial"
    terms = 3

    def __init__(
        self,
        columns: tuple[int, ...],
        states: int,
        mean: Tensor,
        shape: float = 1.0,
        rate: float = 1.0,
        log_shape_sd: float = 2.0,
    ) -> None:
        super().__init__(columns, states, torch.zeros_like(mean), torch.ones_like(mean))
        self.mean = mean
        self.prior_shape, self.prior_rate, self.sigma = shape, rate, log_shape_sd

    @property
    def free_parameters(self) -> int:
        """A mean and a size of each cell."""
        return self.states * len(self.columns) * 2

    def cells(self, x: Tensor, natural: Tensor) -> Tensor:
        """As in the class docstring, without the last two terms."""
        zero, one, a = natural.unbind(-1)
        return zero + torch.lgamma(x + a) - (x + a) * (self.mean.to(x) - one).log()

    def expected(self, x: Tensor, natural: Tensor) -> list[Tensor]:
        """E[λ], E[log λ]."""
        _, one, a = natural.unbind(-1)
        shape, rate = x + a, self.mean.to(x) - one
        return [shape / rate, torch.digamma(shape) - rate.log()]

    def log_base(self, values: Tensor) -> Tensor:
        """X log x̄ − log x!."""
        x = values[:, list(self.columns)]
        return (x * self.mean.to(x).log() - torch.lgamma(x + 1)).nan_to_num(0.0).sum(-1)

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """Independent negative binomials."""
        a, b = theta["shape"], theta["rate"]
        logits = self.mean.to(b).log() - b.log()
        return dist.NegativeBinomial(a, logits=logits, validate_args=False).to_event(1)

    def order_key(self, statistics: Tensor) -> Tensor:
        """The mean of the first column."""
        return statistics[..., 0, 1] / (statistics[..., 0, 0] + EPSILON)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`mean`, and the `size` a: the variance is mean + mean²/size."""
        mean = self.mean.to(theta["rate"]) * theta["shape"] / theta["rate"]
        return {"mean": (mean, ("column",)), "size": (theta["shape"], ("column",))}


class NegativeBinomialLikelihood(Likelihood):
    """x_j ~ NegativeBinomial with mean x̄_j exp(o_j) and a learned size exp(ρ_j) for each column."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__("negative_binomial", [0.0] * len(columns), [1.0] * len(columns), dense=False)
        mean = torch.tensor([c.mean for c in columns])
        sd = torch.tensor([c.sd for c in columns])
        self._constant("log_mean", mean.clamp(min=1e-3).log().float())
        self._constant("centre", mean.log1p().float())
        self._constant("spread", (sd / (1 + mean)).clamp(min=1e-3).float())  # of log1p(x), to first order
        self.log_size = nn.Parameter(torch.full((self.width,), math.log(2.0)))

    log_mean: Tensor
    centre: Tensor
    spread: Tensor

    @property
    def size(self) -> Tensor:
        """a, (D,)."""
        return self.log_size.clamp(-10.0, 15.0).exp()

    def features(self, u: Tensor, seen: Tensor | None) -> Tensor:
        """log(1 + x), about standardised."""
        f = (u.log1p() - self.centre) / self.spread
        return f if seen is None else f * seen

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """Of each cell: log Γ(x + a) − log Γ(a) − log x! + a log σ(−l) + x log σ(l), l = log mean − log a."""
        a, logit = self.size, out + self.log_mean - self.size.log()
        combinations = torch.lgamma(u + a) - torch.lgamma(a) - torch.lgamma(u + 1)
        return combinations - a * nn.functional.softplus(logit) - u * nn.functional.softplus(-logit)

    def expect(self, out: Tensor) -> Tensor:
        """In the user's units."""
        return (out.double() + self.log_mean).exp()

    def sample(self, out: Tensor) -> Tensor:
        """By torch's generator: a Poisson whose rate is gamma."""
        mean = (out.double() + self.log_mean).exp()
        a = self.size.double().expand(mean.shape).contiguous()
        return torch.poisson((torch._standard_gamma(a) * mean / a).clamp(max=1e15))

    def distribution(self, out: Tensor) -> Any:
        """The same by Pyro."""
        logits = out.double() + self.log_mean - self.size.double().log()
        return dist.NegativeBinomial(self.size.double(), logits=logits, validate_args=False)


def emission(columns: tuple[int, ...], states: int, schema: Schema, priors: Priors) -> NegativeBinomial:
    """Over some columns of a schema."""
    mean = positive_means(schema, columns)
    return NegativeBinomial(columns, states, mean, priors.rate_shape, priors.rate_rate, priors.log_shape_sd)


def likelihood(columns: Sequence[Column], image: bool) -> NegativeBinomialLikelihood:
    """Of some columns, given outputs of a network."""
    return NegativeBinomialLikelihood(columns)
