"""Rows and sequences that are copies of others, where numbers are so fine that chance makes no two alike."""

from collections import Counter

import numpy as np

from ppl_models.data.dataset import Dataset
from ppl_models.data.schema import Kind

ROWS = 20_000
"""Rows that are looked at, the first ones."""

SHARE, TIMES = 0.1, 10.0
"""The share of rows that are to be copies, and how many times more pairs of them there are than by chance."""

DIGITS = 6
"""Decimals that a column may be rounded to; beyond that it counts as not rounded."""

SPIKE = 0.2
"""Share of the rows from which a value says nothing: 0 in an income."""


def copies(data: Dataset) -> int:
    """How many of the rows are exact copies of an earlier one; 0 where that may be chance.

    A column that is rounded to steps of h has about (max − min)/h values, so that two rows are alike in it
    with a probability of some 2h/(max − min). Of several columns the finest one alone is taken for that.

    Args:
        data: the rows; only numbers that are continuous are looked at for chance, all cells for copies.

    Example:
        >>> from ppl_models.data import read
        >>> x = np.random.default_rng(0).normal(size=50)
        >>> copies(read({"x": x})), copies(read({"x": np.repeat(x, 3)})), copies(read({"x": x.round(1)}))
        (0, 100, 0)
    """
    x = np.asarray(data.values[:ROWS])
    n = len(x)
    chance = [_alike(x[:, j]) for j, c in enumerate(data.schema.columns) if c.kind is Kind.CONTINUOUS]
    if n < 20 or not chance:
        return 0
    _, count = np.unique(np.nan_to_num(x, nan=np.inf), axis=0, return_counts=True)
    found = n - len(count)
    pairs, expected = float((count * (count - 1) / 2).sum()), n * (n - 1) / 2 * min(chance)
    return found if found > SHARE * n and pairs > TIMES * (1 + expected) else 0


def copied_sequences(data: Dataset) -> int:
    """How many sequences are exact copies of an earlier one; 0 where that may be chance.

    Two sequences of T rows are alike by chance with the probability that rows are (see `copies`) to the power
    of T.

    Args:
        data: sequences; those of labels and counts alone are not looked at, as words come again.

    Example:
        >>> from ppl_models.data import read
        >>> x = np.random.default_rng(0).normal(size=(10, 4))
        >>> of = lambda x: read({"x": x.ravel(), "s": np.repeat(np.arange(len(x)), 4)}, sequence="s")
        >>> copied_sequences(of(x)), copied_sequences(of(np.repeat(x, 3, 0)))
        (0, 20)
    """
    S, T = len(data.lengths), int(min(data.lengths, default=0))
    x = np.asarray(data.values[:ROWS])
    chance = [_alike(x[:, j]) for j, c in enumerate(data.schema.columns) if c.kind is Kind.CONTINUOUS]
    ends, x = (
        np.cumsum(data.lengths),
        np.nan_to_num(x, nan=np.inf),
    )  # one pattern of bytes for what is missing
    parts = [x[end - n : end].tobytes() for n, end in zip(data.lengths, ends, strict=True) if end <= len(x)]
    if min(S, len(parts)) < 10 or not chance or T < 1:
        return 0
    count = np.array([*Counter(parts).values()])
    found, n = len(parts) - len(count), len(parts)
    pairs, expected = float((count * (count - 1) / 2).sum()), n * (n - 1) / 2 * min(chance) ** T
    return found if found > SHARE * n and pairs > TIMES * (1 + expected) else 0


def _alike(cells: np.ndarray) -> float:
    """The chance that two rows are alike in a column, about; 1 where one value is most of it."""
    cells = cells[~np.isnan(cells)]
    if not len(cells):
        return 1.0
    values, count = np.unique(cells, return_counts=True)
    if count.max() > SPIKE * len(cells):
        return 1.0
    for digits in range(DIGITS + 1):
        steps = values * 10.0**digits
        if np.allclose(
            steps, np.rint(steps), rtol=0, atol=1e-6 * max(1.0, float(np.abs(steps).max()) * 1e-6)
        ):
            return min(1.0, 2 / (float(np.ptp(steps)) + 1))
    return 0.0
