"""Rows of a data set as networks take them: one float32 table, a mask where cells are missing, and labels."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.data.messages import quoted
from ppl_models.data.spill import blocks
from ppl_models.errors import DataError
from ppl_models.networks.product import Product

BLOCK = 2**22
"""Cells that are encoded at a time, so that nothing of the size of the data is made but the table."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows.

    Attributes:
        x: (B, C) float32 cells in the units of the network, family after family; 0 where missing.
        seen: (B, C) bool, which cells are observed; None if all are.
        y: (B,) int64 codes of the target, −1 where it is missing; None if the model has no target.
        weight: (B,) float32, how often each row counts; None if all count once.
        cells: (B, C) float64, what was encoded; None where nothing else is done with it.
    """

    x: Tensor
    seen: Tensor | None = None
    y: Tensor | None = None
    weight: Tensor | None = None
    cells: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def at(self, index: Tensor) -> "Rows":
        """The rows at some indices, (B,) int64."""
        return Rows(*(None if t is None else t.index_select(0, index) for t in self._all))  # type: ignore

    def part(self, rows: slice) -> "Rows":
        """A run of rows, without copying."""
        return Rows(*(None if t is None else t[rows] for t in self._all))  # type: ignore

    def to(self, device: torch.device | str) -> "Rows":
        """The rows on a device."""
        return Rows(*(None if t is None else t.to(device) for t in self._all))  # type: ignore

    def unlabelled(self) -> "Rows":
        """The same without their labels, which a prediction must not look at."""
        return replace(self, y=None if self.y is None else torch.full_like(self.y, -1))

    @property
    def _all(self) -> tuple[Tensor | None, ...]:
        return self.x, self.seen, self.y, self.weight, self.cells


def encode(product: Product, data: Dataset, target: int | None) -> Rows:
    """All rows of a data set, on the CPU.

    Args:
        product: the likelihood, which says what a cell is to the networks.
        data: rows in the user's units.
        target: the position of the target, if the model has one.

    Raises:
        DataError: if a cell has a value that its likelihood cannot have.
    """
    families = [f.to("cpu") for f in product.each]
    n = data.rows
    x = torch.empty(n, product.width)
    seen = None if data.complete else torch.empty(n, product.width, dtype=torch.bool)
    y = None if target is None else torch.full((n,), -1, dtype=torch.int64)
    step, start = max(1, BLOCK // max(len(data.names), 1)), 0
    straight = product.order == list(range(len(data.names)))
    for block in blocks(data.values):
        for lo in range(0, len(block), step):
            raw = np.asarray(block[lo : lo + step])
            cells = torch.from_numpy(np.array(raw) if straight else raw[:, product.order])
            at, column = slice(start, start + len(raw)), 0
            for f in families:
                own = slice(column, column + f.width)
                if f.limits is not None:
                    _check_limits(f.limits, cells[:, own], data, product.order[own], start)
                x[at, own] = f.encode(cells[:, own])
                column += f.width
            if seen is not None:
                seen[at] = ~cells.isnan()
            if y is not None:
                codes = torch.from_numpy(np.nan_to_num(raw[:, target], nan=-1.0))
                y[at] = codes.long()
            start += len(raw)
    weight = None if data.weight is None else torch.from_numpy(np.array(data.weight)).float()
    return Rows(x if seen is None else torch.where(seen, x, 0.0), seen, y, weight)


def _check_limits(limits: Tensor, cells: Tensor, data: Dataset, order: list[int], start: int) -> None:
    off = (cells < limits[:, 0]) | (cells > limits[:, 1])  # NaN is neither
    if off.any():
        row, j = (int(i) for i in off.nonzero()[0])
        low, high = limits[j].tolist()
        raise DataError(
            f"{data.source}, row {start + row + 1}, column {quoted(data.names[order[j]])}: "
            f"{float(cells[row, j]):g} is outside {low:g} to {high:g}, which its likelihood describes; "
            "correct it, or fit again with --likelihood gaussian"
        )
