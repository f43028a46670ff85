"""Bernoulli columns, with beta priors, or with logits that a decoder puts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from ppl_models.annotations import Positive
from ppl_models.data.schema import Column, Kind
from ppl_models.families.columns import ColumnEmission
from ppl_models.families.family import Conjugate, Family, Group, Network, Prior
from ppl_models.families.likelihood import Likelihood
from ppl_models.families.unit import two_valued, unit_intervals
from ppl_models.importing import lazy
from ppl_models.inference.factors import Support, nonnegative

if TYPE_CHECKING:
    import pyro.distributions as dist
    import torch
    from torch import Tensor

    from ppl_models.inference.factors import Site, Theta
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")


RARE, UNSEEN = 0.1, 0.01
"""The least concentration of a level that was seen, as a share of the mean one, and that of another.

A level that is rare in all rows may be frequent in a state; the prior must not rule it out of the others.
"""


@dataclass(frozen=True)
class LevelPrior(Prior):
    """The field of the Dirichlet prior of levels."""

    level_concentration: Annotated[
        float, "Dirichlet prior of levels (categorical, Bernoulli), the mean over the levels", Positive()
    ] = 1.0

    def concentrations(self, column: Column) -> list[float]:
        """α of each level of a column: in proportion to how often it is, as far as that is known.

        A round prior says of a note that sounds in a hundredth of the rows that in a state with few rows it
        sounds in half of them; with hundreds of such columns that outweighs what the rows say.
        """
        L = max(len(column.levels), 1)
        shares = column.shares or (1 / L,) * L
        each = [max(L * share, RARE) if share > 0 else UNSEEN for share in shares]
        return [self.level_concentration * value for value in each]


class Bernoulli(ColumnEmission):
    """x_d | k ~ Bernoulli(p_kd), p_kd ~ Beta(a_d, b_d).

    With S = (n, Σx): p ~ Beta(a + Σx, b + n − Σx); η = (log(1 − p), log p − log(1 − p)).

    Args:
        columns: of the data.
        states: K.
        concentration: b and a, (D, 2), or one number for all.
    """

    name = "bernoulli"
    terms = 1

    def __init__(self, columns: tuple[int, ...], states: int, concentration: float | Tensor = 1.0) -> None:
        none = torch.zeros(len(columns), dtype=torch.float64)
        super().__init__(columns, states, none, none + 1)
        self.concentration = torch.as_tensor(concentration, dtype=torch.float64).expand(len(columns), 2)

    def transform(self, x: Tensor, out: list[Tensor]) -> None:
        """X itself."""

    def cell_base(self, x: Tensor) -> Tensor:
        """h(x) = 1."""
        return torch.zeros_like(x)

    def _posterior(self, S: Tensor) -> tuple[Tensor, Tensor]:
        no, yes = self.concentration.to(S).unbind(-1)
        return yes + S[..., 1], no + S[..., 0] - S[..., 1]

    @property
    def supports(self) -> Mapping[str, Support]:
        """Probabilities."""
        return {"probability": Support.PROBABILITY}

    def possible(self, statistics: Tensor) -> Tensor:
        """0 ≤ Σx ≤ n."""
        failures = statistics[..., :1] - statistics[..., 1:]
        return nonnegative(statistics) & nonnegative(failures)

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Log ratio of beta functions."""
        a, b = self._posterior(statistics)
        each = self.concentration.to(a)
        prior = torch.lgamma(each).sum(-1) - torch.lgamma(each.sum(-1))
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


def _emission(group: Group, states: int, fields: LevelPrior) -> Bernoulli:
    each = [fields.concentrations(column) for column in group.columns]
    return Bernoulli(group.index, states, torch.tensor(each, dtype=torch.float64))


class BernoulliLikelihood(Likelihood):
    """x_j ~ Bernoulli(sigmoid(o_j)); cells between 0 and 1 are probabilities, whose cross-entropy it is."""

    def __init__(self, columns: Sequence[Column], image: bool) -> None:
        ends = unit_intervals(columns, image)
        super().__init__("bernoulli", [lo for lo, _ in ends], [hi - lo for lo, hi in ends], dense=False)
        self._constant("limits", torch.tensor(ends, dtype=torch.float64))

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """U log p + (1 − u) log(1 − p)."""
        out, u = torch.broadcast_tensors(out, u)
        return -torch.nn.functional.binary_cross_entropy_with_logits(out, u, reduction="none")

    def total(self, out: Tensor, u: Tensor) -> Tensor:
        """By torch's kernel."""
        return -torch.nn.functional.binary_cross_entropy_with_logits(out, u, reduction="sum")

    def expect(self, out: Tensor) -> Tensor:
        """The probability of the upper value."""
        return self.back(out.sigmoid())

    def sample(self, out: Tensor) -> Tensor:
        """One of the two values."""
        return self.back(torch.bernoulli(out.sigmoid()))

    def distribution(self, out: Tensor) -> Any:
        """Of cells in the units of the network, as Pyro's Bernoulli has no other support."""
        return dist.Bernoulli(logits=out, validate_args=False)

    def observed(self, u: Tensor) -> Tensor:
        """As they are."""
        return u


BERNOULLI = Family(
    "bernoulli",
    conjugate=Conjugate(
        density="Bernoulli: `probability` of the second level",
        prior="beta",
        kinds=(Kind.BINARY,),
        build=_emission,
        read_as=Kind.BINARY,
    ),
    network=Network(
        density="Bernoulli; grey levels are taken as probabilities, whose cross-entropy it is, not a density",
        kinds=(Kind.BINARY, Kind.CONTINUOUS, Kind.COUNT),
        build=BernoulliLikelihood,
        pixels=lambda columns: all(map(two_valued, columns)),
    ),
    fields=LevelPrior,
    auto=Kind.BINARY,
)
