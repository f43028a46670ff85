"""What is known of a column after some of its rows, be they all at once or block after block."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ppl_models.data.cells import EXACT, Dates, Labels

MOST_TEXTS = 1 << 17
"""Different texts that are remembered of a column that stays on disk."""


@dataclass
class NumberSummary:
    """Moments, extremes and oddities of the numbers seen so far.

    Means and variances of blocks are merged after Chan, Golub & LeVeque (1983, Algorithms for computing the
    sample variance, The American Statistician 37, https://doi.org/10.1080/00031305.1983.10483115).

    Attributes:
        rows: How many cells were seen.
        count: How many of them are not missing.
        mean: Their mean.
        variance: Their variance (divisor n).
        low: The smallest.
        high: The largest.
        whole: Whether all are whole numbers.
        infinite: How many are infinite.
        first_infinite: The row of the first infinite one.
        first_inexact: The row of the first beyond 2⁵³.
        largest: The row and value of the one farthest from zero, where that is beyond 2⁵³.
        not_count: The row and value of the first that is negative or not whole.
        numbered: Whether they are 0, 1, 2, … or 1, 2, 3, …
    """

    rows: int = 0
    count: int = 0
    mean: float = 0.0
    variance: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    whole: bool = True
    infinite: int = 0
    first_infinite: int = -1
    first_inexact: int = -1
    largest: tuple[int, float] = (-1, 0.0)
    not_count: tuple[int, float] | None = None
    numbered: bool = True
    _start: float = 0.0

    def add(self, values: np.ndarray) -> None:
        """Take in the next cells, (m,) float64 with NaN where missing."""
        if self.numbered and len(values):
            self._number(values)
        values = np.ascontiguousarray(values)
        with np.errstate(over="ignore", invalid="ignore"):
            complete = not np.isnan(values.sum())
        observed = values if complete else values[~np.isnan(values)]
        if observed.size:
            low, high = float(observed.min()), float(observed.max())
            self._moments(observed)
            self.whole = self.whole and _whole(observed[:FEW]) and _whole(observed)
            if self.not_count is None and (low < 0 or not self.whole):
                row = _first_not_count(values)
                self.not_count = (self.rows + row, float(values[row]))
            if max(-low, high) > EXACT:
                self._extremes(values)
            self.low, self.high = min(self.low, low), max(self.high, high)
            self.count += observed.size
        self.rows += len(values)

    def _moments(self, observed: np.ndarray) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            mean = observed.mean()
            off = observed - mean
            variance = np.dot(off, off) / observed.size
            share = observed.size / (self.count + observed.size)
            apart = mean - self.mean
            if self.count:
                variance = (1 - share) * self.variance + share * (variance + (1 - share) * apart * apart)
                mean = self.mean + share * apart
        self.mean, self.variance = float(mean), float(variance)

    def _extremes(self, values: np.ndarray) -> None:
        size = np.where(np.isnan(values), 0.0, np.abs(values))
        row = int(np.argmax(size))
        if size[row] > abs(self.largest[1]):
            self.largest = (self.rows + row, float(values[row]))
        if self.first_inexact < 0:
            self.first_inexact = self.rows + int(np.argmax(size > EXACT))
        infinite = np.isinf(size)
        if infinite.any() and self.first_infinite < 0:
            self.first_infinite = self.rows + int(np.argmax(infinite))
        self.infinite += int(infinite.sum())

    def _number(self, values: np.ndarray) -> None:
        if not self.rows:
            self._start = float(values[0])
        start = self._start + self.rows
        wrong = self._start not in (0, 1) or values[0] != start or values[-1] != start + len(values) - 1
        self.numbered = not wrong and bool((values == np.arange(start, start + len(values))).all())


FEW = 1_024
"""Cells that are looked at first, where one of them may settle a question about all."""


def _whole(values: np.ndarray) -> bool:
    return bool((values == np.trunc(values)).all())


def _first_not_count(values: np.ndarray) -> int:
    """The row of the first cell that is negative or not whole; 0 if there is none."""
    for lo in range(0, len(values), FEW):
        part = values[lo : lo + FEW]
        wrong = (part < 0) | (part != np.trunc(part)) & ~np.isnan(part)
        if wrong.any():
            return lo + int(np.argmax(wrong))
    return 0


@dataclass
class LabelSummary:
    """How often each label was seen, and where first.

    Attributes:
        typed: Whether the data itself said that these are categories or truth values.
        most: After so many different labels no others are remembered, and `overflow` is set.
        rows: How many cells were seen.
        count: How many of them are not missing.
        counts: How many cells have each label, in order of first appearance; 0 for a truth value not seen.
        first: The row in which each was seen first.
        overflow: Whether there are labels that are not remembered.
        dropped: Texts that were taken as missing, and in how many cells.
    """

    typed: bool
    most: float = math.inf
    rows: int = 0
    count: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    overflow: bool = False
    dropped: dict[str, int] = field(default_factory=dict)

    def add(self, cells: Labels) -> None:
        """Take in the next cells."""
        for word, number in cells.dropped.items():
            self.dropped[word] = self.dropped.get(word, 0) + number
        number = np.bincount(cells.codes + 1, minlength=len(cells.labels) + 1)[1:].tolist()
        first = np.full(len(cells.labels) + 1, -1)
        first[cells.codes[::-1]] = np.arange(self.rows + len(cells.codes) - 1, self.rows - 1, -1)
        for text, k, row in zip(cells.labels, number, first.tolist(), strict=False):
            if text not in self.counts:
                if len(self.counts) >= self.most:
                    self.overflow = True
                    continue
                self.counts[text] = 0
            if k:
                self.first.setdefault(text, row)
                self.counts[text] += k
        self.rows += len(cells.codes)
        self.count += sum(number)

    def drop(self, texts: Iterable[str]) -> None:
        """Take some of the labels for missing cells."""
        for text in texts:
            number = self.counts.pop(text)
            del self.first[text]
            self.count -= number
            self.dropped[text] = self.dropped.get(text, 0) + number

    @property
    def seen(self) -> list[str]:
        """The labels that occur."""
        return list(self.first)

    @property
    def truth(self) -> bool:
        """Whether the cells came as truth values."""
        return self.typed and {*self.counts} == {"false", "true"}


Summary = NumberSummary | LabelSummary | Dates
