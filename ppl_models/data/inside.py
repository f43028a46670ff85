"""The table inside a model: its columns transformed, with flags of spikes beside them.

The first C columns are the user's, in their order and with their names; the flags of the spikes of column
`x` are in a further one, `x_spike`, and its cells of the row before, where a model looks at them, in
`x_before`. Of a schema without marginals or such columns all is as it was.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np

from ppl_models.data.dataset import Dataset
from ppl_models.data.marginals import ENTROPY, How, Marginal, marginal
from ppl_models.data.messages import quoted
from ppl_models.data.schema import Column, Kind, Schema
from ppl_models.errors import DataError

PLACES = 8
"""Places in a bin that its density is averaged over."""


def with_marginals(data: Dataset, how: How, leave: frozenset[str] = frozenset()) -> Schema:
    """The schema of a data set with what each column is to be inside a model.

    Args:
        data: the rows of the fit.
        how: which columns are transformed.
        leave: names of columns that stay as they are; the target and labels do anyway.
    """
    columns = list(data.schema.columns)
    for j, column in enumerate(columns):
        if column.labelled or column.name in leave or column.name == data.schema.target:
            continue
        found = marginal(data.column(column.name), how, count=column.kind is Kind.COUNT)
        columns[j] = replace(column, marginal=found)
    return replace(data.schema, columns=tuple(columns))


class Inside:
    """Between the user's table and the one inside a model.

    Args:
        outer: the user's columns, with their marginals.
        lagged: positions of columns whose cells of the row before are in further columns, the last ones, NaN
            where there is none.

    Attributes:
        outer: the same.
        schema: the columns inside.
    """

    def __init__(self, outer: Schema, lagged: tuple[int, ...] = ()) -> None:
        self.outer, self.lagged = outer, lagged
        self._changed: dict[int, Marginal] = {
            j: column.marginal for j, column in enumerate(outer.columns) if column.marginal is not None
        }
        self._flags = {j: 0 for j, m in self._changed.items() if m.spikes}
        self._flags = {j: len(outer.columns) + i for i, j in enumerate(self._flags)}
        taken, columns = {*outer.names}, [*outer.columns]
        for j, own in self._changed.items():
            columns[j] = _scored(outer.columns[j], own)
        for j in self._flags:
            columns.append(_flag(outer.columns[j], self._changed[j], taken))
        for j in lagged:
            name = _free(f"{outer.columns[j].name}_before", taken)
            columns.append(replace(columns[j], name=name))
        self.schema = replace(outer, columns=tuple(columns)) if self else outer

    @property
    def width(self) -> int:
        """C, the number of the user's columns."""
        return len(self.outer.columns)

    def __bool__(self) -> bool:
        return bool(self._changed or self.lagged)

    @cached_property
    def coarse(self) -> tuple[int, ...]:
        """Positions of the columns whose cells stand for bins."""
        return tuple(j for j, own in self._changed.items() if own.coarse)

    @property
    def changed(self) -> frozenset[int]:
        """Positions of the columns that are others inside."""
        return frozenset(self._changed)

    def flag(self, column: int) -> int | None:
        """The position of the flags of a column, if it has spikes."""
        return self._flags.get(column)

    def dataset(self, data: Dataset, *, noise: bool = False, seed: int = 0) -> Dataset:
        """The rows inside; a data set that is inside already stays as it is.

        Args:
            data: the rows.
            noise: whether cells are spread over their bins, for training, rather than put in the middle.
            seed: of the noise.
        """
        if not self or data.schema.columns == self.schema.columns:
            return data
        rng = np.random.default_rng([7, seed]) if noise else None
        values = self.encode(data.values, rng, data.source)
        if self.lagged:
            width = values.shape[1] - len(self.lagged)
            values[1:, width:] = values[:-1, list(self.lagged)]
            values[data.offsets[:-1], width:] = np.nan
        return replace(data, values=values, schema=self.schema)

    def encode(
        self, values: np.ndarray, rng: np.random.Generator | None = None, source: str = "data"
    ) -> np.ndarray:
        """Rows (n, C) of the user as they are inside, (n, C + F).

        Args:
            values: in the user's units.
            rng: of the noise that spreads cells over their bins; None puts them in the middle.
            source: what messages call them.

        Raises:
            DataError: a cell is out of the domain of its column's transform.
        """
        if not self:
            return values
        found = np.full((len(values), len(self.schema.columns)), np.nan)
        found[:, : values.shape[1]] = values
        for j, own in self._changed.items():
            place = rng.beta(2, 2, len(values)) - 0.5 if rng is not None and own.coarse else 0.0
            x = np.asarray(values[:, j])
            cells = own.forward(x, place)
            apart = np.zeros(len(x), bool) if cells.flag is None else cells.flag > 0
            lost = np.isnan(cells.z) & ~np.isnan(x) & ~apart
            if lost.any():
                row, name = int(lost.argmax()), self.outer.columns[j].name
                raise DataError(
                    f"{source}, row {row + 1}, column {quoted(name)}: {x[row]:g} is not above "
                    f"{own.transform.least:g}, and the model has its logarithm; correct it, or fit again "
                    "with --marginals plain"
                )
            found[:, j] = cells.z
            if cells.flag is not None:
                found[:, self._flags[j]] = cells.flag
        return found

    def decode(self, inner: np.ndarray) -> np.ndarray:
        """Rows (..., C + F) in the user's units, (..., C)."""
        if not self:
            return inner
        found = np.array(inner[..., : len(self.outer.columns)], dtype=np.float64)
        for j, own in self._changed.items():
            flag = inner[..., self._flags[j]] if j in self._flags else None
            found[..., j] = own.inverse(inner[..., j], flag)
        return found

    def log_slope(self, inner: np.ndarray) -> np.ndarray:
        """Σ_j log |dz_j/dx_j| over the cells of each row (n, C + F) that are not missing, (n,)."""
        total = np.zeros(len(inner))
        for j, own in self._changed.items():
            total += np.nan_to_num(own.transform.log_slope(inner[:, j]), nan=0.0)
        return total

    def entropy(self, inner: np.ndarray) -> np.ndarray:
        """Nats of each row (n,) that the noise in its cells adds to the log density, in expectation."""
        return ENTROPY * (~np.isnan(inner[:, list(self.coarse)])).sum(1)

    def spread(self, inner: np.ndarray, places: int = PLACES) -> Iterator[np.ndarray]:
        """The rows at `places` points of the bins of their coarse cells, evenly spread: a rank-one lattice.

        The density averaged over them is that of the bins (Sloan & Joe 1994, Lattice methods for multiple
        integration, Oxford University Press). Rows without coarse cells come once.
        """
        if not self.coarse:
            yield inner
            return
        for i in range(places):
            moved = np.array(inner)
            for k, j in enumerate(self.coarse):
                place = (((i + 0.5) / places + _SHIFT * i * k) % 1.0) - 0.5 if k else (i + 0.5) / places - 0.5
                moved[:, j] = self._changed[j].spread(inner[:, j], place)
            yield moved

    def notes(self) -> tuple[str, ...]:
        """What was done to which column, a sentence each."""
        return tuple(own.said(self.outer.columns[j].name) for j, own in self._changed.items())


_SHIFT = (5**0.5 - 1) / 2
"""Irrational, so that no two columns move together."""


def _scored(column: Column, own: Marginal) -> Column:
    """A transformed column: continuous, about standard normal."""
    z = own.transform.forward(np.array([column.minimum, column.maximum]))[0]
    low, high = np.nan_to_num(z, nan=-4.0).tolist()
    return Column(
        column.name, Kind.CONTINUOUS, minimum=low, maximum=high, missing=column.missing,
        resolution=own.resolution,
    )  # fmt: skip


def _free(name: str, taken: set[str]) -> str:
    """A name that no column has yet."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _flag(column: Column, own: Marginal, taken: set[str]) -> Column:
    """The flags of a column's spikes, under a name that is free."""
    name = _free(f"{column.name}_spike", taken)
    levels = ("none", *(f"{spike:g}" for spike in own.spikes))
    kind = Kind.BINARY if len(levels) == 2 else Kind.CATEGORICAL
    return Column(name, kind, levels, maximum=len(levels) - 1.0, missing=column.missing, shares=own.shares)
