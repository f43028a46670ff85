"""What a user-defined model sees of the data: columns as tensors, by name.

    data["x"], data.x    (n,) float64; a categorical column its codes (long), a binary one 0 and 1 (float64)
    data["matrix"]       an array of the shape that it has in a .json file or a dictionary, float64
    data["J"]            a whole number beside them, to be used as a size or as a number
    len(data)            n
    "x" in data          whether there is such a column or array
    data.levels("kind")  the labels of the codes
    data.lengths         the numbers of rows of the sequences

A column that later data lacks, because it is what is to be predicted, is None: Pyro draws what is observed
as None. A missing cell is NaN, and a categorical column that has one is float64.
"""

from collections.abc import Iterator, Mapping
from copy import copy

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset, Kind, Schema
from ppl_models.data.messages import listed, quoted
from ppl_models.errors import DataError, UsageError
from ppl_models.models.program.whole import Whole


class Columns:
    """The columns of a data set, and its arrays.

    Args:
        data: the rows.
        schema: the columns; those of the fit.

    Attributes:
        lengths: the number of rows of each sequence.
        used: the names that were asked for.
    """

    def __init__(self, data: Dataset, schema: Schema) -> None:
        self._source, self._rows = data.source, data.rows
        self._values = dict(_tensors(data, schema))
        self._levels = {column.name: column.levels for column in schema.columns}
        self.lengths = tuple(int(length) for length in data.lengths)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> Tensor | None:
        if name not in self._values:
            raise DataError(f"{self._source} has no column {quoted(name)}; it has {listed(self._values)}")
        self.used.add(name)
        return self._values[name]

    def __getattr__(self, name: str) -> Tensor | None:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        if not self._rows:
            raise DataError(
                f"{self._source} holds arrays of different lengths, which are no rows; "
                'take the length of one of them, len(data["NAME"])'
            )
        return self._rows

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{self._rows} rows of {listed(self._values)}>"

    def take(self, rows: Tensor) -> "Columns":
        """Only some rows; arrays of other shapes as they are."""
        part = copy(self)
        part._values = {
            name: value[rows] if value is not None and name in self._levels else value
            for name, value in self._values.items()
        }
        part._rows = len(rows)
        return part

    def levels(self, name: str) -> tuple[str, ...]:
        """The labels of the codes of a binary or categorical column; none for others."""
        if name not in self._levels:
            raise UsageError(f"{self._source} has no column {quoted(name)}; it has {listed(self._levels)}")
        return self._levels[name]

    def name_of(self, value: Tensor) -> str | None:
        """The column that a tensor is, the very same or equal to it in every cell."""
        for name, own in self._values.items():
            if own is value:
                return name
        for name, own in self._values.items():
            if own is None or own.shape != value.shape or tuple(own.shape) != (self._rows,):
                continue
            if torch.equal(own.double().nan_to_num(-1.0), value.double().nan_to_num(-1.0)):
                return name
        return None

    def missing(self, name: str) -> int:
        """How many cells of a column are missing."""
        value = self._values[name]
        if value is None or isinstance(value, int) or not value.is_floating_point():
            return 0
        return int(torch.isnan(value).sum())


def _tensors(data: Dataset, schema: Schema) -> Iterator[tuple[str, Tensor | None]]:
    for column, cells in zip(schema.columns, data.values.T, strict=True):
        holes = np.isnan(cells)
        if len(cells) and holes.all():
            yield column.name, None
        elif column.kind is Kind.CATEGORICAL and not holes.any():
            yield column.name, torch.from_numpy(cells.astype(np.int64))
        else:
            yield column.name, torch.from_numpy(np.array(cells, np.float64))
    arrays: Mapping[str, np.ndarray] = data.arrays
    for name, array in arrays.items():
        if array.ndim == 0 and float(array).is_integer():
            yield name, Whole(int(array))  # type: ignore[misc]
        else:
            yield name, torch.from_numpy(np.array(array, np.float64))
