"""The fields of a schema: which values each column has, and what stands for a cell.

A label has its level as its value, a number the bin that it is in. Where sequences may end, their end is one
more value of the first column: what is asked first of a row is whether there is one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset, Schema
from ppl_models.models.transformer.bins import Bins, bins_of

BYTES = 256


@dataclass(frozen=True, eq=False)
class Values:
    """The values of all fields, numbered through.

    Attributes:
        schema: the columns, C fields.
        bins: of each column of numbers; None of labels and of bytes.
        ends: whether the first field has the end of a sequence as its last value.
    """

    schema: Schema
    bins: tuple[Bins | None, ...]
    ends: bool = False

    @classmethod
    def of(cls, data: Dataset, most: int, ends: bool) -> "Values":
        """Those of the rows of a fit.

        Args:
            data: the rows.
            most: bins at most of a column.
            ends: whether sequences end.
        """
        columns = data.schema.columns
        own = None if data.schema.text is None else (None,)
        bins = (
            None if c.labelled else bins_of(np.array(data.values[:, j]), most) for j, c in enumerate(columns)
        )
        return cls(data.schema, own or tuple(bins), ends)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """(C,) numbers of values of the fields."""
        found = []
        for column, bins in zip(self.schema.columns, self.bins, strict=True):
            found.append(bins.size if bins is not None else len(column.levels) if column.labelled else BYTES)
        return (found[0] + self.ends, *found[1:])

    @cached_property
    def starts(self) -> np.ndarray:
        """(C + 1,) int64, the first value of each field, and how many values there are."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    @property
    def end(self) -> int:
        """The value that ends a sequence, where there is one."""
        return int(self.starts[1]) - 1

    def smooth(self) -> Tensor | None:
        """(V,) places from 0 to 1 of bins in their column, NaN of labels; None without numbers."""
        if not any(self.bins):
            return None
        parts = [
            np.full(size, np.nan) if bins is None else (np.arange(size) + 0.5) / size
            for size, bins in zip(self.sizes, self.bins, strict=True)
        ]
        found = np.concatenate(parts)
        if self.ends:
            found[self.end] = np.nan
        return torch.from_numpy(found).float()

    def codes(self, cells: np.ndarray) -> np.ndarray:
        """What stands for cells (n, C), int64; −1 where missing."""
        found = np.full(cells.shape, -1, np.int64)
        for j, bins in enumerate(self.bins):
            seen = ~np.isnan(cells[:, j])
            own = np.asarray(cells[seen, j], np.float64)
            found[seen, j] = self.starts[j] + (own.astype(np.int64) if bins is None else bins.codes(own))
        return found

    def densities(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log (1 − ε) u_b(x) and log ε c(x) of cells (n, C): see `Bins`; 0 and −∞ of others."""
        own, outside = np.zeros(cells.shape), np.full(cells.shape, -np.inf)
        for j, bins in enumerate(self.bins):
            seen = ~np.isnan(cells[:, j])
            if bins is not None:
                own[seen, j], outside[seen, j] = bins.log_density(np.asarray(cells[seen, j], np.float64))
        return own, outside

    def cells(self, codes: Tensor) -> np.ndarray:
        """Cells in the user's units that values (..., C) may stand for, by torch's global generator."""
        local = codes.cpu().numpy() - self.starts[:-1]
        found = local.astype(np.float64)
        for j, bins in enumerate(self.bins):
            if bins is not None:
                flat = local[..., j].ravel()
                uniform = torch.rand(len(flat), dtype=torch.float64).numpy()
                found[..., j] = bins.draw(flat, uniform).reshape(local.shape[:-1])
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """All that is not in the schema."""
        found = {"ends": np.array([self.ends], np.float64)}
        for j, bins in enumerate(self.bins):
            found |= {} if bins is None else {f"{j}.{name}": value for name, value in bins.arrays().items()}
        return found

    @classmethod
    def recalled(cls, schema: Schema, arrays: Mapping[str, np.ndarray]) -> "Values":
        """The inverse of `arrays`."""
        found: list[Bins | None] = []
        for j in range(len(schema.columns)):
            own = {n.partition(".")[2]: v for n, v in arrays.items() if n.partition(".")[0] == str(j)}
            found.append(Bins.of(own) if own else None)
        return cls(schema, tuple(found), bool(arrays["ends"][0]))
