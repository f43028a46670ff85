"""Labels: categorical columns, with Dirichlet priors, or with logits that a decoder puts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ppl_models.data.schema import Column, Kind
from ppl_models.families.base import EPSILON, Features, LinearEmission, columns_of
from ppl_models.families.bernoulli import LevelPrior
from ppl_models.families.family import Conjugate, Family, Group, Network
from ppl_models.families.likelihood import Likelihood
from ppl_models.importing import lazy
from ppl_models.inference.factors import Dirichlet, Support, nonnegative

if TYPE_CHECKING:
    import pyro.distributions as dist
    import torch
    from torch import Tensor

    from ppl_models.inference.factors import Site, Theta
    from ppl_models.kernels.workspace import Workspace
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")


class Categorical(LinearEmission):
    """x_d | k ~ Categorical(p_kd), p_kd ~ Dirichlet(α_d), columns of any numbers of levels.

    t(x) = onehot(x), η = log p: columns stand side by side, ΣL entries in all.
    """

    name = "categorical"

    def __init__(
        self,
        columns: tuple[int, ...],
        states: int,
        levels: tuple[int, ...],
        concentration: float | Sequence[Sequence[float]] = 1.0,
    ) -> None:
        self.columns, self.states, self.levels = columns, states, levels
        one = isinstance(concentration, int | float)
        each = [[concentration] * L for L in levels] if one else concentration
        self.rows = [
            Dirichlet(f"probability_{d}", torch.tensor(alpha, dtype=torch.float64))
            for d, alpha in enumerate(each)
        ]

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, ΣL)."""
        return (self.states, sum(self.levels))

    @property
    def free_parameters(self) -> int:
        """Levels less one, for each column and state."""
        return self.states * sum(L - 1 for L in self.levels)

    @property
    def supports(self) -> Mapping[str, Support]:
        """Probabilities of each column."""
        return {row.name: Support.SIMPLEX for row in self.rows}

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


def _emission(group: Group, states: int, fields: LevelPrior) -> Categorical:
    levels = tuple(max(len(column.levels), 1) for column in group.columns)
    each = [fields.concentrations(column) for column in group.columns]
    return Categorical(group.index, states, levels, each)


class CategoricalLikelihood(Likelihood):
    """Softmax over the levels of each column, padded to the most levels, so that one op does all."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__("categorical", [0.0] * len(columns), [1.0] * len(columns), dense=False)
        levels = [max(len(c.levels), 1) for c in columns]
        self.slots = tuple(levels)
        self.outputs = self.inputs = sum(levels)
        start = [sum(levels[:j]) for j in range(len(levels))]
        none = self.outputs  # the position of −∞
        index = [
            [a + k if k < n else none for k in range(max(levels))] for a, n in zip(start, levels, strict=True)
        ]
        self._constant("index", torch.tensor(index))
        self._constant("real", self.index.flatten() != none)

    index: Tensor
    real: Tensor

    def log_p(self, out: Tensor) -> Tensor:
        """Log probabilities (..., D, L), −∞ for levels that a column does not have."""
        padded = torch.nn.functional.pad(out, (0, 1), value=-torch.inf)
        return padded[..., self.index].log_softmax(-1)

    def features(self, u: Tensor, seen: Tensor | None) -> Tensor:
        """One-hot codes."""
        hot = torch.nn.functional.one_hot(u.long(), self.index.shape[1]).to(u.dtype)
        hot = hot if seen is None else hot * seen.unsqueeze(-1)
        return hot.flatten(-2)[..., self.real]

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """Log probabilities of the codes."""
        log_p, code = self.log_p(out), u.long()
        if code.shape != log_p.shape[:-1]:
            shape = torch.broadcast_shapes(code.shape, log_p.shape[:-1])
            log_p, code = log_p.expand(*shape, -1), code.expand(shape)
        return log_p.gather(-1, code.unsqueeze(-1)).squeeze(-1)

    def expect(self, out: Tensor) -> Tensor:
        """Probabilities of the levels, column after column."""
        return self.log_p(out.double()).exp().flatten(-2)[..., self.real]

    def sample(self, out: Tensor) -> Tensor:
        """The largest of log p plus Gumbel noise."""
        log_p = self.log_p(out.double())
        return (log_p - torch.log(-torch.log(torch.rand_like(log_p)))).argmax(-1).double()

    def distribution(self, out: Tensor) -> Any:
        """A categorical over codes."""
        return dist.Categorical(logits=self.log_p(out).clamp(min=-1e30))


CATEGORICAL = Family(
    "categorical",
    conjugate=Conjugate(
        density="categorical: a probability for each level",
        prior="Dirichlet",
        kinds=(Kind.CATEGORICAL, Kind.BINARY),
        build=_emission,
        read_as=Kind.CATEGORICAL,
    ),
    network=Network(
        density="softmax",
        kinds=(Kind.CATEGORICAL, Kind.BINARY),
        build=lambda columns, image: CategoricalLikelihood(columns),
        read_as=Kind.CATEGORICAL,
    ),
    fields=LevelPrior,
    auto=Kind.CATEGORICAL,
)
