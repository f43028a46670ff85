"""Families that treat the cells of a row as independent given the state: p(x | k) = Π_d p(x_d | θ_kd).

Where the sufficient statistics are of the cell alone, t(x) = (1, t_1(x), …, t_J(x)) for an observed cell and
0 for a missing one, the same product of a matrix of features with a matrix of natural parameters gives the
log density with any cells missing. Where they are of the cell and a latent u of its own, as in a scale
mixture, u is integrated out of the density and expected in the statistics, cell by cell.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ppl_models.families.base import EPSILON, Emission, Features, LinearEmission, columns_of
from ppl_models.importing import lazy
from ppl_models.inference.factors import nonnegative

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ppl_models.kernels.workspace import Workspace
else:
    torch = lazy("torch")


class CellEmission(Emission):
    """Independent columns with J sums each in the statistics, beside the count of observed cells.

    Args:
        columns: the columns of the data.
        states: K.
        centre: (D,) taken off each column before anything else.
        scale: (D,) each column is then divided by it.
    """

    terms: int

    @property
    def kept(self) -> int:
        """Numbers that are kept of an observed cell as its features."""
        return self.terms

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
        matrix = take.take(key, (n, (self.kept + masked) * D), values)
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
        return width == (self.kept + 1) * len(self.columns)

    def log_base(self, values: Tensor) -> Tensor:
        """Sum over the observed cells of a row."""
        x = (columns_of(values, self.columns) - self.centre.to(values)) / self.scale.to(values)
        return self.cell_base(x).nan_to_num(0.0).sum(-1)

    def order_key(self, statistics: Tensor) -> Tensor:
        """The mean of the first column."""
        return statistics[..., 0, 1] / (statistics[..., 0, 0] + EPSILON)


class ColumnEmission(CellEmission, LinearEmission):
    """Independent columns with J features each."""

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


class AugmentedEmission(CellEmission):
    """Independent columns, whose cells have latents u of their own, integrated out.

        log p(x | η) = log ∫ exp ⟨t(x, u), η⟩ h(u) du,    ∂ log p(x | η)/∂η = E[t(x, u) | x, η]

    In training the local step has q(u_nk) ∝ h(u) exp ⟨t(x_n, u), E_q[η_k]⟩, the best there is; at a point θ
    the same formulas are the exact density and its expected statistics. So a family needs these two for a
    cell, and the posterior of θ given sums of t(x, u).
    """

    @property
    def kept(self) -> int:
        """The cell itself."""
        return 1

    def transform(self, x: Tensor, out: list[Tensor]) -> None:
        """The cell itself."""

    @abstractmethod
    def cell_density(self, d: int, x: Tensor, eta: Tensor) -> Tensor:
        """Log p(x | η) of cells of column d, without h(x): x (n, 1), η (R, 1, K, 1 + J) -> (R, n, K)."""

    @abstractmethod
    def cell_statistics(self, d: int, x: Tensor, eta: Tensor, gamma: Tensor) -> Tensor:
        """Σ_n γ_nk E[t(x_n, u) | x_n, η_k], (R, K, 1 + J), for γ (R, n, K)."""

    def log_density(self, features: Features, natural: Tensor, out: Tensor, add: bool) -> None:
        """Column by column."""
        if not add:
            out.zero_()
        for d, (x, seen) in enumerate(self._cells(features)):
            value = self.cell_density(d, x, natural[:, None, :, d])
            out.add_(value if seen is None else value * seen)

    def statistics(self, features: Features, gamma: Tensor, natural: Tensor) -> Tensor:
        """Column by column."""
        found = [
            self.cell_statistics(d, x, natural[:, None, :, d], gamma if seen is None else gamma * seen)
            for d, (x, seen) in enumerate(self._cells(features))
        ]
        return torch.stack(found, 2)

    def _cells(self, features: Features) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The cells of each column (n, 1), and which were seen if some were not."""
        D = len(self.columns)
        cells = features.matrix[:, -D:].split(1, 1)
        masked = self._masked(features.matrix.shape[1])
        yield from zip(cells, features.matrix[:, :D].split(1, 1) if masked else (None,) * D, strict=True)
