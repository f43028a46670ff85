"""Bernoulli columns: one of two labels."""

import math
from collections.abc import Sequence
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn import functional as F

from ppl_models.data import Column, Schema
from ppl_models.families.columns import ColumnEmission
from ppl_models.families.likelihood import Likelihood
from ppl_models.families.priors import Priors
from ppl_models.families.unit_interval import unit_intervals
from ppl_models.inference.factors import Site, Theta, nonnegative


class Bernoulli(ColumnEmission):
    """x_d | k ~ Bernoulli(p_kd), p_kd ~ Beta(a₀, a₀).

    With S = (n, Σx): p ~ Beta(a₀ + Σx, a₀ + n − Σx); η = (log(1 − p), log p − log(1 − p)).
    """

    name = "bernoulli"
    terms = 1

    def __init__(self, columns: tuple[int, ...], states: int, concentration: float = 1.0) -> None:
        none = torch.zeros(len(columns), dtype=torch.float64)
        super().__init__(columns, states, none, none + 1)
        self.concentration = concentration

    def transform(self, x: Tensor, out: list[Tensor]) -> None:
        """X itself."""

    def cell_base(self, x: Tensor) -> Tensor:
        """h(x) = 1."""
        return torch.zeros_like(x)

    def _posterior(self, S: Tensor) -> tuple[Tensor, Tensor]:
        return self.concentration + S[..., 1], self.concentration + S[..., 0] - S[..., 1]

    def possible(self, statistics: Tensor) -> Tensor:
        """0 ≤ Σx ≤ n."""
        failures = statistics[..., :1] - statistics[..., 1:]
        return nonnegative(statistics) & nonnegative(failures)

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Log ratio of beta functions."""
        a, b = self._posterior(statistics)
        prior = 2 * math.lgamma(self.concentration) - math.lgamma(2 * self.concentration)
        return (torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b) - prior).sum((-1, -2))

    def expected_natural(self, statistics: Tensor) -> Tensor:
        """ψ(b) − ψ(a + b), ψ(a) − ψ(b)."""
        a, b = self._posterior(statistics)
        no = torch.digamma(b)
        return torch.stack([no - torch.digamma(a + b), torch.digamma(a) - no], -1)

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`probability` of the second level."""
        a, b = self._posterior(statistics)
        return {"probability": site("probability", dist.Beta(a, b, validate_args=False))}

    def natural(self, theta: Theta) -> Tensor:
        """Log(1 − p), logit p."""
        p = theta["probability"].clamp(1e-300, 1 - 1e-16)
        no = torch.log1p(-p)
        return torch.stack([no, p.log() - no], -1)

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """Independent Bernoullis."""
        return dist.Bernoulli(theta["probability"].clamp(0, 1), validate_args=False).to_event(1)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`probability` of the second level."""
        return {"probability": (theta["probability"], ("column",))}


class BernoulliLikelihood(Likelihood):
    """Bernoulli with logits o; cells between 0 and 1 are probabilities, whose cross-entropy it is."""

    def __init__(self, columns: Sequence[Column], image: bool) -> None:
        ends = unit_intervals(columns, image)
        super().__init__("bernoulli", [lo for lo, _ in ends], [hi - lo for lo, hi in ends], dense=False)
        self._constant("limits", torch.tensor(ends, dtype=torch.float64))

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """Of each cell."""
        out, u = torch.broadcast_tensors(out, u)
        return -F.binary_cross_entropy_with_logits(out, u, reduction="none")

    def total(self, out: Tensor, u: Tensor) -> Tensor:
        """In one kernel."""
        return -F.binary_cross_entropy_with_logits(out, u, reduction="sum")

    def expect(self, out: Tensor) -> Tensor:
        """In the user's units."""
        return self.back(out.sigmoid())

    def sample(self, out: Tensor) -> Tensor:
        """By torch's generator."""
        return self.back(torch.bernoulli(out.sigmoid()))

    def distribution(self, out: Tensor) -> Any:
        """Of cells in the units of the network, as Pyro's has no other support."""
        import pyro.distributions as dist

        return dist.Bernoulli(logits=out, validate_args=False)

    def observed(self, u: Tensor) -> Tensor:
        """As they are."""
        return u


def emission(columns: tuple[int, ...], states: int, schema: Schema, priors: Priors) -> Bernoulli:
    """Over some columns of a schema."""
    return Bernoulli(columns, states, priors.level_concentration)


def likelihood(columns: Sequence[Column], image: bool) -> BernoulliLikelihood:
    """Of some columns, given outputs of a network."""
    return BernoulliLikelihood(columns, image)
