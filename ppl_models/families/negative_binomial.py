"""Negative binomial columns: counts that vary more than a Poisson's, with a mean and a dispersion.

    x | y ~ Poisson(x̄ y),  y ~ Gamma(a, b)    or    p(x) = Γ(x + a)/(Γ(a) x!) · (μ/(μ + a))^x (a/(μ + a))^a

with mean μ = x̄ a/b and variance μ + μ²/a: 1/a is the dispersion. The Poisson is scaled by a latent y of each
cell (Greenwood & Yule 1920, J. R. Statist. Soc. 83), given which everything is as for gamma columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np

from ppl_models.annotations import Positive
from ppl_models.data.schema import Column, Kind
from ppl_models.families.columns import AugmentedEmission
from ppl_models.families.family import Conjugate, Family, Group, Network
from ppl_models.families.likelihood import CountLikelihood
from ppl_models.families.normal_prior import LOG_2PI
from ppl_models.families.poisson import RatePrior
from ppl_models.importing import lazy
from ppl_models.inference.factors import Support, nonnegative

if TYPE_CHECKING:
    import pyro.distributions as dist
    import torch
    from torch import Tensor

    from ppl_models.families.log_scale import LogScale
    from ppl_models.inference.factors import Site, Theta
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")


@dataclass(frozen=True)
class NegativeBinomialPrior(RatePrior):
    """The fields of the prior of negative binomial columns."""

    log_dispersion_sd: Annotated[
        float, "prior sd of the log of a negative binomial's dispersion", Positive()
    ] = 2.0


class SizeTerms(NamedTuple):
    """The posterior of a = 1/dispersion given sums over the rates y of n cells, b integrated out.

        log q(u) = −u²/(2σ²) − n log Γ(a) + a L + log Γ(c + n a) − (c + n a) log(d/a + s) − c u + const

    with u = log a and the prior b | a ~ Gamma(c, d/a).

    Attributes:
        n, s, L: Σ 1, Σ y and Σ log y of the cells.
        c, d: of the prior.
        sigma: σ.
    """

    n: Tensor
    s: Tensor
    L: Tensor
    c: float
    d: float
    sigma: float

    def log_density(self, u: Tensor) -> Tensor:
        """Log q(u) without the constant."""
        from ppl_models.families.log_scale import matched

        n, s, L = matched(u, self.n, self.s, self.L)
        a = u.exp()
        shape = self.c + n * a
        data = -n * torch.lgamma(a) + a * L + torch.lgamma(shape) - shape * (self.d / a + s).log()
        return data - self.c * u - 0.5 * (u / self.sigma) ** 2

    def derivatives(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """In u."""
        a, n = u.exp(), self.n
        shape, e = self.c + n * a, self.d / a
        rate, prior = e + self.s, 1 / self.sigma**2
        first = a * (self.L - n * torch.digamma(a) + n * torch.digamma(shape) - n * rate.log())
        second = a**2 * (n**2 * torch.polygamma(1, shape) - n * torch.polygamma(1, a))
        slope = first + shape * e / rate - self.c - prior * u
        return slope, first + second + 2 * n * a * e / rate - shape * e * self.s / rate**2 - prior


class NegativeBinomial(AugmentedEmission):
    """x_d | k ~ NegativeBinomial, x̄_d a_kd/b_kd expected, log a ~ N(0, σ²), b | a ~ Gamma(c₀, d₀/a).

    So the mean relative to that of the column is 1/r with r = b/a ~ Gamma(c₀, d₀), whatever the dispersion.
    Of cells with their rates y,

        t = (1, y, log y),    η = (a log b − log Γ(a), −b, a),    h(x, y) = y^{x−1} e^{−x̄ y} x̄^x/x!

    With S = (n, Σy, Σ log y): b | a ~ Gamma(c₀ + n a, d₀/a + Σy), and q(a) is known up to its constant
    (`SizeTerms`). A cell has

        log p(x | η) = η₁ + log Γ(x + η₃) − (x + η₃) log(x̄ − η₂) + log h,    q(y) = Gamma(x + η₃, x̄ − η₂)
    """

    name = "negative_binomial"
    terms = 2

    def __init__(
        self,
        columns: tuple[int, ...],
        states: int,
        mean: Tensor,
        shape: float = 1.0,
        rate: float = 1.0,
        log_dispersion_sd: float = 2.0,
    ) -> None:
        super().__init__(columns, states, torch.zeros_like(mean), torch.ones_like(mean))
        self.mean, self.prior_shape, self.prior_rate, self.sigma = mean, shape, rate, log_dispersion_sd

    def possible(self, statistics: Tensor) -> Tensor:
        """Counts are not negative, nor is Σy; and log ȳ is at least the mean of log y (Jensen)."""
        n, s, log = statistics.unbind(-1)
        gap = n * (s / n.clamp_min(1e-300)).clamp_min(1e-300).log() - log
        return nonnegative(statistics[..., :2]) & (gap > -1e-9 * (1 + n)).flatten(1).all(-1)

    def cell_base(self, x: Tensor) -> Tensor:
        """Of a count: x log x̄ − log x!."""
        return x * self.mean.to(x).log() - torch.lgamma(x + 1)

    def start(self, number: int, device: torch.device | str = "cpu") -> Tensor:
        """Rates next to the counts themselves, which the prior would move to the mean of the column."""
        none = self.zeros(number, device)
        return none + none.new_tensor([0.0, -0.5, 0.5])

    def _rates(self, d: int, x: Tensor, eta: Tensor) -> tuple[Tensor, Tensor]:
        """Shape (R, n, K) and rate (R, 1, K) of q(y)."""
        return x + eta[..., 2], float(self.mean[d]) - eta[..., 1]

    def cell_density(self, d: int, x: Tensor, eta: Tensor) -> Tensor:
        """As in the class docstring."""
        shape, rate = self._rates(d, x, eta)
        return eta[..., 0] + torch.lgamma(shape) - shape * rate.log()

    def cell_statistics(self, d: int, x: Tensor, eta: Tensor, gamma: Tensor) -> Tensor:
        """E[y] and E[log y]."""
        shape, rate = self._rates(d, x, eta)
        count = gamma.sum(1)
        y = (gamma * shape).sum(1) / rate[:, 0]
        log_y = (gamma * torch.digamma(shape)).sum(1) - count * rate[:, 0].log()
        return torch.stack([count, y, log_y], -1)

    def _size(self, S: Tensor) -> LogScale:
        from ppl_models.families.log_scale import LogScale

        n, s, log = S.unbind(-1)
        return LogScale(SizeTerms(n, s, log, self.prior_shape, self.prior_rate, self.sigma), n)

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Log Z = log ∫ p(a) … da, less the prior's own constants."""
        c, d = self.prior_shape, self.prior_rate
        prior = c * math.log(d) - math.lgamma(c) - 0.5 * LOG_2PI - math.log(self.sigma)
        return (self._size(statistics).log_z + prior).sum((-1, -2))

    def expected_natural(self, statistics: Tensor) -> Tensor:
        """By quadrature over a, with E[b | a] and E[log b | a] of b's gamma."""
        q = self._size(statistics)
        a = q.u.exp()
        shape, rate = self._rate(a, statistics.unsqueeze(-2))
        log_b = torch.digamma(shape) - rate.log()
        parts = (a * log_b - torch.lgamma(a), -shape / rate, a)
        return torch.stack([q.expect(part) for part in parts], -1)

    def _rate(self, a: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
        """Shape and rate of q(b | a)."""
        return self.prior_shape + S[..., 0] * a, self.prior_rate / a + S[..., 1]

    @property
    def supports(self) -> Mapping[str, Support]:
        """Sizes and rates."""
        return {"size": Support.POSITIVE, "rate": Support.NONNEGATIVE}

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`size`, a, then `rate`, b given it."""
        a = site("size", self._size(statistics))
        rate = dist.Gamma(*self._rate(a, statistics), validate_args=False)
        return {"size": a, "rate": site("rate", rate)}

    def natural(self, theta: Theta) -> Tensor:
        """η as in the class docstring."""
        a, b = theta["size"], theta["rate"]
        return torch.stack([a * b.clamp_min(1e-300).log() - torch.lgamma(a), -b, a], -1)

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """Independent negative binomials."""
        rate = theta["rate"] / self.mean.to(theta["rate"])
        return dist.GammaPoisson(theta["size"], rate, validate_args=False).to_event(1)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`mean`, and `dispersion` α: the variance is mean + α mean²."""
        mean = self.mean.to(theta["rate"]) * theta["size"] / theta["rate"]
        return {"mean": (mean, ("column",)), "dispersion": (1 / theta["size"], ("column",))}


def _emission(group: Group, states: int, fields: NegativeBinomialPrior) -> NegativeBinomial:
    rates = fields.rate_shape, fields.rate_rate
    return NegativeBinomial(group.index, states, group.positive_means(), *rates, fields.log_dispersion_sd)


class NegativeBinomialLikelihood(CountLikelihood):
    """Counts with mean μ = x̄ e^o and variance μ + α_j μ², α_j learned for each column, from 0.001 to 1000."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__("negative_binomial", columns)
        self.log_dispersion = self._learned(math.log(0.5))

    @property
    def size(self) -> Tensor:
        """1/α, (D,)."""
        return (-self.log_dispersion).clamp(-math.log(1000), math.log(1000)).exp()

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """The density of the module's docstring."""
        size, eta = self.size, out + self.log_mean
        ratio = (eta.exp() / size).log1p()
        choose = torch.lgamma(u + size) - torch.lgamma(size) - torch.lgamma(u + 1)
        return choose - size * ratio + u * (eta - size.log() - ratio)

    def sample(self, out: Tensor) -> Tensor:
        """Counts of a rate that is drawn."""
        size = self.size.double().expand(out.shape)
        rate = dist.Gamma(size, size / self.expect(out), validate_args=False).sample()
        return torch.poisson(rate.clamp(max=1e15))

    def distribution(self, out: Tensor) -> Any:
        """A gamma mixture of Poissons."""
        size = self.size.double()
        return dist.GammaPoisson(size, size / self.expect(out))


def overdispersed_counts(x: np.ndarray, often: np.ndarray) -> tuple[float, int]:
    """Their log likelihood at their mean μ and the best of a grid of sizes r: the variance is μ + μ²/r."""
    from scipy.special import gammaln, xlogy

    mean = float(often @ x / often.sum())
    r = np.logspace(-2, 4, 61)[:, None]
    each = gammaln(x + r) - gammaln(r) - gammaln(x + 1) + r * np.log(r / (r + mean))
    return float(((each + xlogy(x, mean / (r + mean))) @ often).max()), 2


NEGATIVE_BINOMIAL = Family(
    "negative_binomial",
    conjugate=Conjugate(
        density="negative binomial: `mean`, `dispersion`",
        prior="gamma on the inverse of the mean, log-normal on the dispersion",
        kinds=(Kind.COUNT,),
        build=_emission,
        read_as=Kind.COUNT,
    ),
    network=Network(
        density="negative binomial with mean x̄ e^o and a dispersion for each column, learned",
        kinds=(Kind.COUNT,),
        build=lambda columns, image: NegativeBinomialLikelihood(columns),
        read_as=Kind.COUNT,
    ),
    fields=NegativeBinomialPrior,
    of_counts=overdispersed_counts,
)
