"""What an emission family is: a conjugate factor for each state over some columns of a row."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ppl_models.importing import lazy
from ppl_models.inference.factors import Factor

if TYPE_CHECKING:
    import numpy as np
    import pyro.distributions as dist
    import torch
    from torch import Tensor

    from ppl_models.inference.factors import Theta
    from ppl_models.kernels.workspace import Workspace
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")

BLOCK = 4096
"""Rows a block of the products over rows; skinny products are fastest in blocks that fit a cache."""

EPSILON = 0.01
"""Observations that stand in for none, where an empty state needs a mean to be ordered by."""


class Features(NamedTuple):
    """The sufficient statistics t(x) of rows.

    Attributes:
        matrix: (n, F).
        pattern: (n,) which pattern of missing cells each row has, for families that need to know.
        patterns: (P, D) whether a cell is observed, pattern by pattern.
    """

    matrix: Tensor
    pattern: np.ndarray | None = None
    patterns: np.ndarray | None = None

    @property
    def linear(self) -> bool:
        """Whether the log density is linear in the matrix, whatever is missing."""
        return self.pattern is None

    def rows(self, at: slice) -> Features:
        """The features of some of the rows, as views."""
        pattern = None if self.pattern is None else self.pattern[at]
        return Features(self.matrix[at], pattern, self.patterns)


class Emission(Factor):
    """p(x_n | z_n = k, θ) over the columns of one family.

    Attributes:
        name: the family's name, as the user writes it.
        columns: the columns of the data it speaks of.
        states: K.
    """

    name: str
    columns: tuple[int, ...]
    states: int
    squares = False
    """Whether the features of complete rows are some numbers followed by their squares."""

    linear_density = False
    """Whether the log density of complete rows is linear in the features: see `LinearEmission`."""

    masks_cells = True
    """Whether missing cells leave the log density linear in the features."""

    heavy_tails = False
    """Whether cells far out are what the family expects, so that they are no reason to start a state."""

    rotates = False
    """Whether θ is determined up to a rotation only, so that no Gaussian has the shape of its posterior."""

    lagged: tuple[int, ...] = ()
    """Columns whose cells of the row before it looks at, in further columns beside those of the row."""

    is_label = False
    """Whether it only says which class a state belongs to, so that nothing is learned of it."""

    @property
    @abstractmethod
    def free_parameters(self) -> int:
        """How many numbers θ has."""

    def resized(self, states: int) -> Self:
        """The same family with another number of states, and the same prior for each of them."""
        other = copy(self)
        other.states = states
        return other

    def learned(self, statistics: Tensor) -> dict[str, float]:
        """Fields of the prior that were left to the data, as statistics (1, ...) have them."""
        return {}

    def fixed(self, learned: Mapping[str, Any]) -> Self:
        """The same with these fields of the prior given."""
        return self

    @abstractmethod
    def features(self, values: Tensor, take: Workspace, key: str, masked: bool | None = None) -> Features:
        """t(x) for rows in the user's units, NaN where missing.

        Args:
            values: (n, C).
            take: memory.
            key: the name to take it under.
            masked: whether to make room for missing cells; if they have any, when not given.
        """

    def start(self, number: int, device: torch.device | str = "cpu") -> Tensor:
        """η (R, ...) of R starts: what missing cells and latents of cells are expected by in the first step.

        That of the prior, unless the family knows better.
        """
        return self.expected_natural(self.zeros(1, device)).expand(number, *self.shape)

    @abstractmethod
    def log_density(self, features: Features, natural: Tensor, out: Tensor, add: bool) -> None:
        """Write log p(x_n | k)/h(x_n) of rows to `out` (R, n, K), or add it, missing cells integrated out."""

    @abstractmethod
    def statistics(self, features: Features, gamma: Tensor, natural: Tensor) -> Tensor:
        """Σ_n γ_nk E[t(x_n) | z_n = k], (R, K, ...), expected over missing cells given `natural`."""

    @abstractmethod
    def log_base(self, values: Tensor) -> Tensor:
        """Log h(x), (n,): what does not depend on the state, units of the data included."""

    def aligned(self, theta: Theta, like: Theta) -> Theta:
        """Draws θ (S, ...) turned as close as can be to one (1, ...), where the density is the same so."""
        return theta

    def tangents(self, theta: Theta) -> dict[str, Tensor]:
        """Directions (m, ...), by sites, in which θ (1, ...) turns while the density stays the same."""
        return {}

    @abstractmethod
    def local(self, theta: Theta) -> dist.TorchDistribution:
        """p(x | θ) in the user's units for θ with the state's dimension indexed away; event shape (D,)."""

    @abstractmethod
    def order_key(self, statistics: Tensor) -> Tensor:
        """What states are put in order by, smallest first: the mean of the family's first column, (R, K)."""

    @abstractmethod
    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """θ in the user's units: variables with the names of their dimensions after (draw, state)."""

    def observe(self, theta: Theta, rows: Tensor) -> tuple[dist.TorchDistribution, Tensor]:
        """The density of the observed cells of rows (..., C), and their values, for `pyro.sample`.

        All rows lack the same cells.
        """
        x = rows[..., list(self.columns)]
        seen = ~torch.isnan(x)
        filled = torch.where(seen, x, self.fill(x))
        cells = self.local(theta)
        assert isinstance(cells, dist.Independent)
        return cells.base_dist.mask(seen).to_event(1), filled

    def margins(self, theta: Theta, at: Callable[[Tensor], Tensor], rows: Tensor) -> dist.TorchDistribution:
        """The distribution of each cell by itself, in the user's units, (B, n, D).

        Args:
            theta: (B, K, …), or (B, 1, …) where all states share a value.
            at: takes values of the states to those of rows, (B, n, …).
            rows: (n, C), for families that look at the row before.
        """
        return self.local({site: at(value) for site, value in theta.items()})

    def fill(self, x: Tensor) -> Tensor:
        """Any value in the support, to stand in masked cells."""
        return torch.ones_like(x)

    def derived(self, theta: Theta) -> Theta:
        """θ of the states with what is worked out once for each, not for every row that is in it."""
        return theta

    def complete(self, theta: Theta, x: Tensor) -> Tensor:
        """Draw the missing cells of rows `x` (..., D) from p(x_missing | x_observed, θ)."""
        return torch.where(torch.isnan(x), self.local(theta).sample(), x)

    def walk(self, theta: Theta, x: Tensor, before: Tensor | None) -> Tensor:
        """The same of rows (S, T, D) that follow one another, the first on a row (S, D), or on none."""
        return self.complete(theta, x)


class LinearEmission(Emission):
    """An emission whose log density of complete rows is linear in features of the rows alone."""

    linear_density = True

    @abstractmethod
    def linear(self, natural: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """W (R, K, F) and c (R, K) of ⟨t(x_n), η_k⟩ = c_k + Σ_f W_kf T_nf, for features of `width` F."""

    @abstractmethod
    def collect(self, sums: Tensor, count: Tensor) -> Tensor:
        """Statistics (R, K, ...) from Σ_n γ_nk T_n (R, K, F) and Σ_n γ_nk (R, K)."""

    def log_density(self, features: Features, natural: Tensor, out: Tensor, add: bool) -> None:
        """Write ⟨t(x), η_k⟩ of rows to `out` (R, n, K), or add it, missing cells integrated out."""
        weights, constant = self.linear(natural, features.matrix.shape[1])
        product(features.matrix, weights.transpose(1, 2), constant, out, add)

    def statistics(self, features: Features, gamma: Tensor, natural: Tensor) -> Tensor:
        """Σ_n γ_nk E[t(x_n) | z_n = k], (R, K, ...), expected over missing cells given `natural`."""
        return self.collect(weighted_sums(gamma, features.matrix), gamma.sum(1))


def columns_of(values: Tensor, columns: tuple[int, ...]) -> Tensor:
    """The columns of a family, without a copy where it has them all or they stand side by side."""
    first, last = columns[0], columns[-1] + 1
    return values[:, first:last] if last - first == len(columns) else values[:, list(columns)]


def weighted_sums(gamma: Tensor, matrix: Tensor) -> Tensor:
    """Σ_n γ_rnk T_nf, (R, K, F), in blocks of rows."""
    R, n, K = gamma.shape
    head = n // BLOCK * BLOCK
    total = gamma[:, head:].transpose(1, 2) @ matrix[head:]
    if head:
        left = gamma[:, :head].reshape(R, -1, BLOCK, K).transpose(2, 3)
        total = total + (left @ matrix[:head].reshape(-1, BLOCK, matrix.shape[1])).sum(1)
    return total


def product(matrix: Tensor, weights: Tensor, constant: Tensor, out: Tensor, add: bool) -> None:
    """out_rnk = constant_rk + Σ_f T_nf W_rfk, or += the same."""
    matrices = matrix.expand(out.shape[0], *matrix.shape)
    if add:
        out.add_(constant[:, None, :]).baddbmm_(matrices, weights)
    else:
        torch.baddbmm(constant[:, None, :].expand(out.shape), matrices, weights, out=out)
