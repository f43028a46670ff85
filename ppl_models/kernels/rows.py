"""How the rows of a batch make sequences, and how to cut them into chunks that fit a workspace."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

BEGINS, ENTERED, CONTINUES = 0, 1, 2
"""How a segment of a sequence begins: as the sequence does, in the middle of a longer one that is not there,
or where the chunk before has left off. Kernels know them as numbers."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The sequences of a batch, one after another.

    Attributes:
        lengths: (S,) the number of rows of each sequence.
        entered: (S,) whether the piece begins in the middle of a longer sequence, or None for nowhere.
        weight: (n,) what each row and the transition into it count for, or None for 1 everywhere; of
            rows that do not follow one another also (R, n), for each parameter set.
    """

    lengths: np.ndarray
    entered: np.ndarray | None = None
    weight: np.ndarray | None = None

    @cached_property
    def offsets(self) -> np.ndarray:
        """(S + 1,) the first row of each sequence, and the number of rows."""
        return np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)

    @property
    def steps(self) -> int:
        """The number of rows."""
        return int(self.offsets[-1])

    @cached_property
    def chunk(self) -> "Chunk":
        """All rows as one chunk."""
        return next(self.chunks(max(self.steps, 1)))

    def chunks(self, size: int) -> Iterator["Chunk"]:
        """Cut the rows into chunks of `size` rows, across sequences where need be."""
        offsets, n = self.offsets, self.steps
        for lo in range(0, n, size):
            hi = min(lo + size, n)
            inside = offsets[np.searchsorted(offsets, lo, "right") : np.searchsorted(offsets, hi, "left")]
            bounds = np.concatenate([[lo], inside, [hi]])
            index = np.searchsorted(offsets, bounds[:-1], "right") - 1
            begins = offsets[index] == bounds[:-1]
            kind = np.where(begins, BEGINS, CONTINUES)
            if self.entered is not None:
                kind = np.where(begins & self.entered[index], ENTERED, kind)
            ends = offsets[index + 1] == bounds[1:]
            given = None if self.weight is None else self.weight[lo:hi]
            yield Chunk(lo, hi, bounds - lo, kind, ends, given)


@dataclass(frozen=True, eq=False)
class Chunk:
    """Rows `lo:hi` of a batch, as segments of sequences.

    Attributes:
        lo: the first row.
        hi: the last row + 1.
        bounds: (segments + 1,) where each segment begins, counted from `lo`.
        kind: (segments,) BEGINS, ENTERED or CONTINUES.
        ends: (segments,) whether its sequence ends with the segment.
        given: (hi − lo,) the weights of the rows, or None for 1 everywhere.
    """

    lo: int
    hi: int
    bounds: np.ndarray
    kind: np.ndarray
    ends: np.ndarray
    given: np.ndarray | None

    @property
    def continues(self) -> bool:
        """Whether the first row goes on with a sequence of the chunk before."""
        return bool(self.kind[0] == CONTINUES)

    @property
    def unweighted(self) -> bool:
        """Whether every row counts once."""
        return self.given is None

    @cached_property
    def weight(self) -> np.ndarray:
        """(hi − lo,) the weights of the rows."""
        return np.ones(self.hi - self.lo) if self.given is None else self.given

    def tasks(self, batch: int) -> np.ndarray:
        """(batch · segments, 4): the chunk's segments as tasks for the kernels, batch by batch."""
        segments = np.stack([self.bounds[:-1], self.bounds[1:], self.kind], 1)
        repeated = np.tile(segments, (batch, 1))
        return np.column_stack([np.repeat(np.arange(batch), len(segments)), repeated]).astype(np.int64)


def whole(lengths: np.ndarray) -> Rows:
    """All of the given sequences, each row counting once."""
    return Rows(np.asarray(lengths, np.int64))
