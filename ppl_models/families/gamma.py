"""Gamma columns with unknown shape."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

from ppl_models.annotations import Positive
from ppl_models.data.schema import Kind
from ppl_models.families.columns import ColumnEmission
from ppl_models.families.family import Conjugate, Family, Group
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
class GammaPrior(RatePrior):
    """The fields of the prior of gamma columns."""

    log_shape_sd: Annotated[float, "prior sd of the log of a gamma's shape", Positive()] = 2.0


class ShapeTerms(NamedTuple):
    """The posterior of the shape a of gamma cells, its rate b integrated out.

        log q(u) = −u²/(2σ²) − n log Γ(a) + a L + log Γ(c + n a) − (c + n a) log d + const,  u = log a

    Attributes:
        n, L: Σ 1 and Σ log x of the cells.
        c, d: c₀, and d₀ + Σx.
        sigma: σ.
    """

    n: Tensor
    L: Tensor
    c: Tensor
    d: Tensor
    sigma: float

    def log_density(self, u: Tensor) -> Tensor:
        """Log q(u) without the constant."""
        from ppl_models.families.log_scale import matched

        n, L, c, d = matched(u, self.n, self.L, self.c, self.d)
        a = u.exp()
        rate = c + n * a
        data = -n * torch.lgamma(a) + a * L + torch.lgamma(rate) - rate * d.log()
        return data - 0.5 * (u / self.sigma) ** 2

    def derivatives(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """In u."""
        a, n = u.exp(), self.n
        rate = self.c + n * a
        first = a * (self.L - n * torch.digamma(a) + n * torch.digamma(rate) - n * self.d.log())
        second = a**2 * (n**2 * torch.polygamma(1, rate) - n * torch.polygamma(1, a))
        prior = 1 / self.sigma**2
        return first - prior * u, first + second - prior


class Gamma(ColumnEmission):
    """x_d | k ~ Gamma(a_kd, b_kd), log a ~ N(0, σ²), b | a ~ Gamma(c₀, d₀), x in units of the column's mean.

    With S = (n, Σx, Σ log x): b | a ~ Gamma(c₀ + n a, d₀ + Σx), and q(a) is one-dimensional and known up
    to its constant (`ShapeTerms`), so that the family is conjugate with one quadrature for each cell of
    the statistics. η = (a log b − log Γ(a), −b, a), h(x) = 1/x.
    """

    name = "gamma"
    terms = 2

    def __init__(
        self,
        columns: tuple[int, ...],
        states: int,
        mean: Tensor,
        shape: float = 1.0,
        rate: float = 1.0,
        log_shape_sd: float = 2.0,
    ) -> None:
        super().__init__(columns, states, torch.zeros_like(mean), mean)
        self.prior_shape, self.prior_rate, self.sigma = shape, rate, log_shape_sd

    def transform(self, x: Tensor, out: list[Tensor]) -> None:
        """x, log x."""
        torch.log(x, out=out[1])

    def cell_base(self, x: Tensor) -> Tensor:
        """−log x and the change of units."""
        return -x.log() - self.scale.to(x).log()

    def possible(self, statistics: Tensor) -> Tensor:
        """Counts are not negative, nor is Σx; and log x̄ is at least the mean of log x (Jensen)."""
        n, sx, log = statistics.unbind(-1)
        gap = n * (sx / n.clamp_min(1e-300)).clamp_min(1e-300).log() - log
        return nonnegative(statistics[..., :2]) & (gap > -1e-9 * (1 + n)).flatten(1).all(-1)

    def _shape(self, S: Tensor) -> LogScale:
        from ppl_models.families.log_scale import LogScale

        n, sx, log = S.unbind(-1)
        terms = ShapeTerms(n, log, torch.full_like(n, self.prior_shape), self.prior_rate + sx, self.sigma)
        return LogScale(terms, n)

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Log Z = log ∫ p(a) … da, less the prior's own constants."""
        c, d = self.prior_shape, self.prior_rate
        prior = c * math.log(d) - math.lgamma(c) - 0.5 * math.log(2 * math.pi * self.sigma**2)
        return (self._shape(statistics).log_z + prior).sum((-1, -2))

    def expected_natural(self, statistics: Tensor) -> Tensor:
        """By quadrature over the shape a.

        E[b | a] = (c₀ + n a)/(d₀ + Σx), E[log b | a] = ψ(c₀ + n a) − log(d₀ + Σx).
        """
        q = self._shape(statistics)
        a, d = q.u.exp(), q.terms.d.unsqueeze(-1)
        rate = q.terms.c.unsqueeze(-1) + q.terms.n.unsqueeze(-1) * a
        log_b = torch.digamma(rate) - d.log()
        parts = (a * log_b - torch.lgamma(a), -rate / d, a)
        return torch.stack([q.expect(part) for part in parts], -1)

    @property
    def supports(self) -> Mapping[str, Support]:
        """Shapes and rates."""
        return {"shape": Support.POSITIVE, "rate": Support.NONNEGATIVE}

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`shape`, then `rate` (times the column's mean) given it."""
        q = self._shape(statistics)
        a, (n, _, c, d, _) = site("shape", q), q.terms
        return {"shape": a, "rate": site("rate", dist.Gamma(c + n * a, d, validate_args=False))}

    def natural(self, theta: Theta) -> Tensor:
        """η as in the class docstring."""
        a, b = theta["shape"], theta["rate"]
        return torch.stack([a * b.clamp_min(1e-300).log() - torch.lgamma(a), -b, a], -1)

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """Independent gammas."""
        rate = theta["rate"] / self.scale.to(theta["rate"])
        return dist.Gamma(theta["shape"], rate, validate_args=False).to_event(1)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`shape` and `mean`."""
        mean = self.scale.to(theta["rate"]) * theta["shape"] / theta["rate"]
        return {"shape": (theta["shape"], ("column",)), "mean": (mean, ("column",))}


def _emission(group: Group, states: int, fields: GammaPrior) -> Gamma:
    rates = fields.rate_shape, fields.rate_rate
    return Gamma(group.index, states, group.positive_means(), *rates, fields.log_shape_sd)


GAMMA = Family(
    "gamma",
    conjugate=Conjugate(
        density="gamma: `mean`, `shape`",
        prior="gamma on the rate, log-normal on the shape",
        kinds=(Kind.CONTINUOUS, Kind.COUNT),
        build=_emission,
    ),
    fields=GammaPrior,
    lacks=lambda column: "values positive" if column.minimum <= 0 else "",
)
