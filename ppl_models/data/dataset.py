"""A table as a model takes it: one matrix of numbers, and what is needed to print it as it was."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.data.came import decode, numbers
from ppl_models.data.schema import Schema
from ppl_models.data.spill import blocks, take

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Lent:
    """Columns that are features of the rows, which another run made.

    Attributes:
        run: the directory of the run.
        sha256: of what it had learned.
        columns: their names.
    """

    run: str
    sha256: str
    columns: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows of observations, or of time steps in one or more sequences.

    Attributes:
        values: (n, C) float64, C-contiguous, in the user's units; NaN is a missing cell, and binary and
            categorical columns hold codes. Data larger than memory is a read-only map of a file.
        schema: What the C columns are.
        lengths: (S,) int64, the number of rows of each sequence, in order; they sum to n.
        sequence_ids: A name for each sequence; "" for a sequence that has none.
        times: The n values of the time column, as numbers or as text, or None.
        source: The name of the file, `stdin`, `array` or `data frame`.
        notes: What was done to the data, or noticed in it, one sentence each.
        weight: (n,) float64, how often each row counts, finite and not negative; None if all count once.
            Weights of importance are scaled so that they sum to their effective sample size: see
            `ppl_models.data.weights`.
        weight_unit: What the user wrote for a weight of 1.
        path: The absolute path of the file it was read from, or None.
        arrays: Numbers of other shapes beside the rows, by name, for user-defined models.
        index: The index of the data frame that it was; None if rows are only counted.
        kept: Columns of the data that are carried through to results, as they were; None if none are.
        shares: Which processes have a part of the rows, where several fit a model to them (see
            `ppl_models.distributed`); None where this one does all.
        lent: Which columns are features of another run; None if none are.
        cluster: The Dask client whose workers computed the rows, and can have a part of them; None of others.
    """

    values: np.ndarray
    schema: Schema
    lengths: np.ndarray
    sequence_ids: tuple[str, ...]
    times: tuple[str, ...] | np.ndarray | None = None
    source: str = "array"
    notes: tuple[str, ...] = field(default=())
    weight: np.ndarray | None = None
    path: str | None = None
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    weight_unit: float = 1.0
    index: "pandas.Index | None" = None
    kept: "pandas.DataFrame | None" = None
    shares: Any = None
    lent: Lent | None = None
    cluster: Any = None

    @cached_property
    def sha256(self) -> str:
        """A fingerprint of the values, lengths, weights and arrays, by which the same data is known again."""
        digest = hashlib.sha256(np.asarray(self.values.shape, np.int64).tobytes())
        digest.update(np.ascontiguousarray(self.values).data)
        digest.update(np.asarray(self.lengths, np.int64).tobytes())
        if self.weight is not None:
            digest.update(np.ascontiguousarray(self.weight, np.float64).data)
        for name, array in sorted(self.arrays.items()):
            digest.update(repr((name, array.shape)).encode())
            digest.update(np.ascontiguousarray(array, np.float64).data)
        return digest.hexdigest()

    @property
    def rows(self) -> int:
        """The number of rows, n."""
        return self.values.shape[0]

    @property
    def steps(self) -> int:
        """The number of rows of the longest sequence."""
        return int(self.lengths.max(initial=0))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the C columns."""
        return self.schema.names

    @cached_property
    def complete(self) -> bool:
        """Whether no cell is missing."""
        return not any(np.isnan(block).any() for block in blocks(self.values))

    @cached_property
    def offsets(self) -> np.ndarray:
        """(S + 1,) int64: sequence i is the rows `offsets[i]` to `offsets[i + 1]`."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths, dtype=np.int64)])

    def sequence(self, index: int) -> np.ndarray:
        """The values of one sequence, (T, C), without copying."""
        index = range(len(self.lengths))[index]
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def sequences(self) -> Iterator[np.ndarray]:
        """The values of every sequence, in order."""
        return (self.sequence(i) for i in range(len(self.lengths)))

    def column(self, name: str) -> np.ndarray:
        """The n values of one column, without copying."""
        return self.values[:, self.names.index(name)]

    def subset(self, rows: np.ndarray) -> "Dataset":
        """Only some rows, given by a mask or by increasing indices; sequences left empty disappear."""
        index = np.arange(self.rows)[rows]
        owner = np.repeat(np.arange(len(self.lengths)), self.lengths)[index]
        lengths = np.bincount(owner, minlength=len(self.lengths))
        kept = np.flatnonzero(lengths)
        times = self.times
        if times is not None:
            times = times[index] if isinstance(times, np.ndarray) else tuple(times[i] for i in index)
        return Dataset(
            values=take(self.values, index, self.source),
            schema=self.schema,
            lengths=lengths[kept].astype(np.int64),
            sequence_ids=tuple(self.sequence_ids[i] for i in kept),
            times=times,
            source=self.source,
            notes=self.notes,
            weight=None if self.weight is None else self.weight[index],
            arrays=self.arrays,
            weight_unit=self.weight_unit,
            index=None if self.index is None else self.index[index],
            kept=None if self.kept is None else self.kept.iloc[index],
        )

    def correlation(self) -> np.ndarray:
        """(C, C) correlation of the columns: missing cells at the mean, labels 0, drawn 1 % to I.

        Positive definite, with ones on its diagonal, whatever the data.
        """
        mean = np.array([column.mean for column in self.schema.columns])
        sd = np.array([np.inf if column.labelled else column.sd or np.inf for column in self.schema.columns])
        total = np.zeros((len(sd), len(sd)))
        for block in blocks(self.values):
            z = block - mean
            if np.isnan(z.sum()):
                np.nan_to_num(z, copy=False)
            total += z.T @ z
        total /= np.outer(sd, sd)
        size = np.sqrt(np.maximum(total.diagonal(), max(self.rows, 1)))  # of a part, the sds are of the whole
        off = 0.99 * total / np.outer(size, size)
        np.fill_diagonal(off, 1.0)
        return off

    def frame(self, values: np.ndarray | None = None) -> "pandas.DataFrame":
        """The table as the user wrote it: labels for codes; sequence, time and weight in front.

        Args:
            values: (n, C) other values for the same rows, such as imputed ones. A code that is not a
                whole number is rounded to the nearest.
        """
        import pandas as pd

        values = self.values if values is None else np.asarray(values, dtype=np.float64)
        columns: dict[str, Any] = {}
        if self.schema.sequence is not None and self.sequence_ids != ("",):
            columns[self.schema.sequence] = np.repeat(np.array(self.sequence_ids, dtype=object), self.lengths)
        if self.schema.time is not None and self.times is not None:
            columns[self.schema.time] = list(self.times)
        if self.schema.weights is not None and self.weight is not None:
            unit = self.weight_unit  # fifteen digits: what was divided by it comes back as it was written
            columns[self.schema.weights] = self.weight if unit == 1 else _fifteen(self.weight * unit)
        for j, column in enumerate(self.schema.columns):
            cells = values[:, j]
            columns[column.name] = (decode if column.labelled else numbers)(cells, column)
        return pd.DataFrame(columns, index=self.index)


def _fifteen(x: np.ndarray) -> np.ndarray:
    """Numbers to fifteen significant digits."""
    return np.array([float(f"{value:.15g}") for value in x.tolist()])
