"""Emissions over whole numbers and labels: Poisson, Bernoulli and categorical."""

import math

import pyro.distributions as dist
import torch
from torch import Tensor

from ppl_models.families.base import EPSILON, Emission, Features, columns_of
from ppl_models.families.columns import ColumnEmission
from ppl_models.inference.factors import Dirichlet, Site, Theta, nonnegative
from ppl_models.kernels.workspace import Workspace


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


class Categorical(Emission):
    """x_d | k ~ Categorical(p_kd), p_kd ~ Dirichlet(a₀, …, a₀), columns of any numbers of levels.

    t(x) = onehot(x), η = log p: columns stand side by side, ΣL entries in all.
    """

    name = "categorical"

    def __init__(
        self, columns: tuple[int, ...], states: int, levels: tuple[int, ...], concentration: float = 1.0
    ) -> None:
        self.columns, self.states, self.levels = columns, states, levels
        self.rows = [
            Dirichlet(f"probability_{d}", torch.full((L,), concentration, dtype=torch.float64))
            for d, L in enumerate(levels)
        ]

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, ΣL)."""
        return (self.states, sum(self.levels))

    @property
    def free_parameters(self) -> int:
        """Levels less one, for each column and state."""
        return self.states * sum(L - 1 for L in self.levels)

    def possible(self, statistics: Tensor) -> Tensor:
        """Counts are not negative."""
        return nonnegative(statistics)

    def features(self, values: Tensor, take: Workspace, key: str, masked: bool | None = None) -> Features:
        """One-hot columns, all zero for a missing cell."""
        x = columns_of(values, self.columns)
        matrix = take.take(key, (x.shape[0], sum(self.levels)), values)
        for column, part in zip(x.unbind(1), matrix.split(self.levels, 1), strict=True):
            torch.eq(
                column.unsqueeze(1), torch.arange(part.shape[1], dtype=x.dtype, device=x.device), out=part
            )
        return Features(matrix)

    def linear(self, natural: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """A missing cell adds nothing."""
        return natural, torch.zeros_like(natural[..., 0])

    def collect(self, sums: Tensor, count: Tensor) -> Tensor:
        """Counts of each level."""
        return sums

    def log_base(self, values: Tensor) -> Tensor:
        """h(x) = 1."""
        return values.new_zeros(values.shape[0])

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Sum over the columns."""
        parts = zip(self.rows, statistics.split(self.levels, -1), strict=True)
        return torch.stack([row.log_normalizer(part) for row, part in parts]).sum(0)

    def expected_natural(self, statistics: Tensor) -> Tensor:
        """E[log p] of each column."""
        parts = zip(self.rows, statistics.split(self.levels, -1), strict=True)
        return torch.cat([row.expected_natural(part) for row, part in parts], -1)

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """A Dirichlet for each column."""
        theta: dict[str, Tensor] = {}
        for row, part in zip(self.rows, statistics.split(self.levels, -1), strict=True):
            theta.update(row.sites(part, site))
        return theta

    def natural(self, theta: Theta) -> Tensor:
        """Log p."""
        return torch.cat([row.natural(theta) for row in self.rows], -1)

    def _padded(self, theta: Theta) -> Tensor:
        parts = [theta[row.name] for row in self.rows]
        most = max(self.levels)
        return torch.stack([torch.nn.functional.pad(p, (0, most - p.shape[-1])) for p in parts], -2)

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """Independent categoricals over codes."""
        return dist.Categorical(self._padded(theta), validate_args=False).to_event(1)

    def fill(self, x: Tensor) -> Tensor:
        """The first level."""
        return torch.zeros_like(x)

    def complete(self, theta: Theta, x: Tensor) -> Tensor:
        """Draw the missing codes."""
        return torch.where(torch.isnan(x), self.local(theta).sample().to(x), x)

    def order_key(self, statistics: Tensor) -> Tensor:
        """The mean code of the first column."""
        counts = statistics[..., : self.levels[0]]
        codes = torch.arange(self.levels[0], dtype=counts.dtype, device=counts.device)
        return counts @ codes / (counts.sum(-1) + EPSILON)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`probability_COLUMN` over its levels; the caller knows the columns' names."""
        return {row.name: (theta[row.name], (f"level_{d}",)) for d, row in enumerate(self.rows)}
