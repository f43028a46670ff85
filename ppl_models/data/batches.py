"""Mini-batches of sequences, and of blocks of long sequences with a buffer on both sides.

One pass shuffles disjoint pieces that cover all rows: a sequence no longer than the batch is a piece,
a longer one is cut into blocks. A block is read with up to `buffer` rows before and after it that have
weight 0, so that its marginals know what surrounds it (Foti, Xu, Laird & Fox 2014, Stochastic
variational inference for hidden Markov models, NeurIPS 27, https://arxiv.org/abs/1411.1670). The
statistics of a batch times the number of batches, averaged over a pass, are those of all rows, up to
what a buffer cuts off, which falls geometrically in its length.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Piece(NamedTuple):
    """Rows `lo:hi` of the data, of which `first:last` count."""

    lo: int
    hi: int
    first: int
    last: int
    begins: bool


class MiniBatch(NamedTuple):
    """Rows of a mini-batch.

    Attributes:
        rows: (m,) indices of the rows, piece after piece.
        lengths: (P,) rows of each piece.
        entered: (P,) whether a piece begins inside its sequence.
        weight: (m,) 1 for rows that count, 0 in buffers.
        scale: batches in a pass, N/B.
    """

    rows: np.ndarray
    lengths: np.ndarray
    entered: np.ndarray
    weight: np.ndarray
    scale: float


def pieces(lengths: np.ndarray, size: int, buffer: int) -> list[Piece]:
    """Cut sequences into pieces of at most `size` rows that count, as even as can be.

    Args:
        lengths: (S,) the number of rows of each sequence.
        size: The most rows that count of a piece.
        buffer: Rows on both sides of them that do not, fewer at the ends of a sequence.
    """
    found, start = [], 0
    for length in map(int, lengths):
        end = start + length
        cuts = np.linspace(start, end, -(-length // size) + 1).round().astype(int).tolist()
        for first, last in zip(cuts[:-1], cuts[1:], strict=True):
            lo, hi = max(start, first - buffer), min(end, last + buffer)
            found.append(Piece(lo, hi, first, last, lo == start))
        start = end
    return found


def minibatches(lengths: np.ndarray, size: int, buffer: int, rng: np.random.Generator) -> Iterator[MiniBatch]:
    """Endless passes over the data in batches of about `size` rows, newly shuffled each time.

    Args:
        lengths: of the sequences.
        size: rows a batch that count, about.
        buffer: rows on both sides of a block; at least 1, for the transition into its first row.
        rng: of the shuffling.
    """
    parts = pieces(lengths, size, max(1, buffer))
    number = max(1, min(len(parts), -(-int(np.sum(lengths)) // size)))
    while True:
        for group in np.array_split(rng.permutation(len(parts)), number):
            yield gather([parts[index] for index in group], float(number))


def gather(batch: list[Piece], scale: float) -> MiniBatch:
    """The rows and weights of some pieces.

    Args:
        batch: The P pieces.
        scale: The number of batches in a pass, N/B.
    """
    rows = np.concatenate([np.arange(p.lo, p.hi) for p in batch])
    weight = np.concatenate(
        [((np.arange(p.lo, p.hi) >= p.first) & (np.arange(p.lo, p.hi) < p.last)).astype(float) for p in batch]
    )
    lengths = np.array([p.hi - p.lo for p in batch], dtype=np.int64)
    return MiniBatch(rows, lengths, np.array([not p.begins for p in batch]), weight, scale)
