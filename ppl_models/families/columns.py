"""Families that treat the cells of a row as independent given the state: p(x | k) = Π_d p(x_d | θ_kd).

With t(x) = (1, t_1(x), …, t_J(x)) for an observed cell and 0 for a missing one, the same product of a
matrix of features with a matrix of natural parameters gives the log density with any cells missing.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from ppl_models.families.base import EPSILON, Emission, Features, columns_of
from ppl_models.importing import lazy
from ppl_models.inference.factors import nonnegative

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ppl_models.kernels.workspace import Workspace
else:
    torch = lazy("torch")


class ColumnEmission(Emission):
    """Independent columns with J features each.

    Args:
        columns: the columns of the data.
        states: K.
        centre: (D,) taken off each column before anything else.
        scale: (D,) each column is then divided by it.
    """

    terms: int

    def __init__(self, columns: tuple[int, ...], states: int, centre: Tensor, scale: Tensor) -> None:
        self.columns, self.states = columns, states
        self.centre, self.scale = centre, scale

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, D, 1 + J): the count of observed cells, then the sums of each feature."""
        return (self.states, len(self.columns), 1 + self.terms)

    @property
    def free_parameters(self) -> int:
        """One for each feature of each cell of the statistics."""
        return self.states * len(self.columns) * self.terms

    def possible(self, statistics: Tensor) -> Tensor:
        """Counts and sums are not negative."""
        return nonnegative(statistics)

    @abstractmethod
    def transform(self, x: Tensor, out: list[Tensor]) -> None:
        """Write t_1(x), …, t_J(x) of standardised cells `x` (n, D) into `out`; `out[0]` may be `x` itself."""

    @abstractmethod
    def cell_base(self, x: Tensor) -> Tensor:
        """Log h(x) of standardised cells, NaN where missing."""

    def features(self, values: Tensor, take: Workspace, key: str, masked: bool | None = None) -> Features:
        """[t_1 … t_J], columns side by side, preceded by what is observed where a cell is missing."""
        x = columns_of(values, self.columns)
        n, D = x.shape
        missing = torch.isnan(x)
        masked = bool(missing.any()) if masked is None else masked
        matrix = take.take(key, (n, (self.terms + masked) * D), values)
        parts = list(matrix.split(D, 1))
        if masked:
            parts[0].copy_(~missing)
            parts = parts[1:]
        torch.sub(x, self.centre.to(x), out=parts[0]).div_(self.scale.to(x))
        self.transform(parts[0], parts)
        if masked:
            for part in parts:
                part.masked_fill_(missing, 0.0)
        return Features(matrix)

    def _masked(self, width: int) -> bool:
        return width == (self.terms + 1) * len(self.columns)

    def linear(self, natural: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """The count's part is a constant where no cell is missing, and weighs the mask where one is."""
        weights = natural.transpose(2, 3)  # (R, K, 1 + J, D)
        constant = weights[:, :, 0].sum(-1)
        if self._masked(width):
            return weights.flatten(2), torch.zeros_like(constant)
        return weights[:, :, 1:].flatten(2), constant

    def collect(self, sums: Tensor, count: Tensor) -> Tensor:
        """Sums by column; the count of cells is that of rows where none is missing."""
        masked = self._masked(sums.shape[-1])
        cells = sums.unflatten(-1, (-1, len(self.columns))).transpose(-1, -2)  # (R, K, D, ·)
        if masked:
            return cells
        return torch.cat([count[:, :, None, None].expand(*cells.shape[:3], 1), cells], -1)

    def log_base(self, values: Tensor) -> Tensor:
        """Sum over the observed cells of a row."""
        x = (columns_of(values, self.columns) - self.centre.to(values)) / self.scale.to(values)
        return self.cell_base(x).nan_to_num(0.0).sum(-1)

    def order_key(self, statistics: Tensor) -> Tensor:
        """The mean of the first column."""
        return statistics[..., 0, 1] / (statistics[..., 0, 0] + EPSILON)
