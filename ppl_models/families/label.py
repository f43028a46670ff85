"""Components that belong to classes: what turns a mixture into a generative classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ppl_models.families.base import Features, LinearEmission, columns_of
from ppl_models.importing import lazy
from ppl_models.inference.factors import Site, Support, Theta
from ppl_models.kernels.workspace import Workspace

if TYPE_CHECKING:
    import pyro.distributions as dist
else:
    dist = lazy("pyro.distributions")

IMPOSSIBLE = -1e30
"""Log probability of a label that a component cannot have."""


class Label(LinearEmission):
    """p(y_n | z_n = k) = 1 if component k belongs to the class y_n, else 0: nothing is learned of it.

    A row with a label is in one of the components of its class; one without may be in any, so that rows
    without labels take part (semi-supervised learning). Quadratic discriminant analysis is a component a
    class with covariances of their own, linear discriminant analysis with a tied one.

    Args:
        column: the column of labels.
        owner: (K,) the class of each component, −1 for one of none, which no row with a label is in.
        classes: how many there are.
    """

    name = "class"
    is_label = True

    def __init__(self, column: int, owner: Sequence[int], classes: int) -> None:
        self.columns, self.states, self.classes = (column,), len(owner), classes
        own = torch.tensor(owner)
        self.member = (own[:, None] == torch.arange(classes)).to(torch.float64)

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, L)."""
        return (self.states, self.classes)

    @property
    def free_parameters(self) -> int:
        """None."""
        return 0

    def possible(self, statistics: Tensor) -> Tensor:
        """Always."""
        return torch.ones(statistics.shape[0], dtype=torch.bool, device=statistics.device)

    def features(self, values: Tensor, take: Workspace, key: str, masked: bool | None = None) -> Features:
        """One-hot, all zero for a missing label."""
        x = columns_of(values, self.columns)
        matrix = take.take(key, (x.shape[0], self.classes), values)
        torch.eq(x, torch.arange(self.classes, dtype=x.dtype, device=x.device), out=matrix)
        return Features(matrix)

    def linear(self, natural: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """A missing label adds nothing."""
        return natural, torch.zeros_like(natural[..., 0])

    def collect(self, sums: Tensor, count: Tensor) -> Tensor:
        """Counts of each class."""
        return sums

    def log_base(self, values: Tensor) -> Tensor:
        """h(y) = 1."""
        return values.new_zeros(values.shape[0])

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """No parameters, so 0."""
        return statistics.new_zeros(statistics.shape[0])

    def evaluate(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """No parameters, so no divergence."""
        return self._log(statistics), statistics.new_zeros(statistics.shape[0])

    def _log(self, like: Tensor) -> Tensor:
        return ((1.0 - self.member.to(like)) * IMPOSSIBLE).expand(like.shape[0], *self.shape)

    def expected_natural(self, statistics: Tensor) -> Tensor:
        """0 where a component may have a label, and next to −∞ elsewhere."""
        return self._log(statistics)

    @property
    def supports(self) -> Mapping[str, Support]:
        """Given."""
        return {"member": Support.PROBABILITY}

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """No site: `member` is given."""
        return {"member": self.member.to(statistics).expand(statistics.shape[0], *self.shape)}

    def natural(self, theta: Theta) -> Tensor:
        """As expected."""
        return self._log(theta["member"])

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """The class of the component."""
        return dist.Categorical(theta["member"].unsqueeze(-2), validate_args=False).to_event(1)

    def fill(self, x: Tensor) -> Tensor:
        """The first class."""
        return torch.zeros_like(x)

    def complete(self, theta: Theta, x: Tensor) -> Tensor:
        """The class of the component, where it is missing; it stays so of a component of none."""
        member = theta["member"]
        own = torch.where(member.any(-1, keepdim=True), member.argmax(-1, keepdim=True).to(x), torch.nan)
        return torch.where(torch.isnan(x), own, x)

    def order_key(self, statistics: Tensor) -> Tensor:
        """The class, those of none last."""
        own = torch.where(self.member.any(-1), self.member.argmax(-1), self.classes)
        return own.to(statistics).expand(statistics.shape[0], -1)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """Nothing was learned."""
        return {}
