"""The values of a field of numbers: bins, within which there is a density.

    p(x) = (1 − ε) Σ_b p_b u_b(x) + ε c(x)

p_b is what the network says of bin b. u_b is the density in the bin: its pieces, each uniform, in the shares
that the rows of the fit have. ε c(x) is for what no bin has: c is Cauchy about the median with the
interquartile range as its scale, and ε is by Good & Turing (1953, Biometrika 40) the share of the rows whose
value no other row has where each value has a bin to itself, else 1/(n + 1). It is scored and never drawn.

Where all numbers are multiples of a step (whole ones, decimals), bins end half way between two of these, and
the density of x is the mass of its cell [x − s/2, x + s/2] over s: of a whole number its probability. Of
other numbers a value that many rows share is a bin without width, whose density is its mass.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

EACH, PIECE = 20, 20
"""Rows for each bin, and for each piece of one, at least."""

FEW = 5
"""Rows a value has on average where each is a bin to itself."""

PIECES = 8
"""Pieces of a bin at most."""

DECIMALS = 6
"""Decimals of what is rounded, at most."""


@dataclass(frozen=True, eq=False)
class Bins:
    """A column of numbers as m bins in increasing order, of Q pieces in all.

    Attributes:
        low, high: (Q,) ends of the pieces; the same of a value without width.
        share: (Q,) of each piece in its bin.
        owner: (Q,) int64, the bin of each piece, increasing.
        step: of which all values are multiples; 0 of other numbers.
        outside: ε, median, and interquartile range.
    """

    low: np.ndarray
    high: np.ndarray
    share: np.ndarray
    owner: np.ndarray
    step: float
    outside: tuple[float, float, float]

    @property
    def size(self) -> int:
        """M."""
        return int(self.owner[-1]) + 1

    @cached_property
    def _width(self) -> np.ndarray:
        wide = self.high - self.low
        return np.where(wide > 0, wide, 1.0)

    @cached_property
    def middle(self) -> np.ndarray:
        """(m,) the mean of x in each bin."""
        return np.bincount(self.owner, self.share * (self.low + self.high) / 2)

    @cached_property
    def _points(self) -> np.ndarray:
        """Positions of the pieces without width."""
        return np.flatnonzero(self.low == self.high)

    def piece(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The piece that each of the cells (n,) is in, or is nearest to, and whether it is in it."""
        at = np.clip(np.searchsorted(self.low, x, side="right") - 1, 0, None)
        inside = (x >= self.low[at]) & (x < self.high[at])
        after = np.clip(at + 1, None, len(self.low) - 1)
        nearer = ~inside & (self.low[after] - x < x - self.high[at])
        at = np.where(nearer & (self.low[after] > x), after, at)
        if len(self._points):
            points = self.low[self._points]
            near = np.clip(np.searchsorted(points, x), 0, len(points) - 1)
            exact = points[near] == x
            at, inside = np.where(exact, self._points[near], at), inside | exact
        return at, inside

    def codes(self, x: np.ndarray) -> np.ndarray:
        """The bin of each of the cells (n,), int64; that of a value in no bin is the nearest."""
        return self.owner[self.piece(x)[0]]

    def log_density(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log (1 − ε) u_b(x) of the bin of each of the cells (n,), −∞ of one in none, and log ε c(x)."""
        at, inside = self.piece(x)
        e, middle, scale = self.outside
        with np.errstate(divide="ignore"):
            own = np.where(inside, np.log((1 - e) * self.share[at] / self._width[at]), -np.inf)
        if self.step:
            z = (x[:, None] + self.step * np.array([-0.5, 0.5]) - middle) / scale
            c = np.diff(np.arctan(z), axis=1)[:, 0] / np.pi / self.step
        else:
            c = 1 / (np.pi * scale * (1 + ((x - middle) / scale) ** 2))
        return own, np.log(e * np.maximum(c, 1e-300))

    def draw(self, codes: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """One number in each of the bins (n,), by uniform numbers (n,) in [0, 1)."""
        total = np.concatenate([[0.0], np.cumsum(self.share)])
        first = np.searchsorted(self.owner, codes)
        last = np.searchsorted(self.owner, codes, side="right")
        mass = total[first] + uniform * (total[last] - total[first])
        at = np.clip(np.searchsorted(total, mass, side="right") - 1, first, last - 1)
        place = np.clip((mass - total[at]) / np.maximum(self.share[at], 1e-300), 0.0, 1 - 1e-9)
        return self.written(self.low[at] + place * (self.high[at] - self.low[at]))

    def written(self, x: np.ndarray) -> np.ndarray:
        """Numbers as the column writes them: multiples of its step."""
        if not self.step:
            return x
        return np.round(np.rint(x / self.step) * self.step, DECIMALS) + 0.0

    def below(self, y: np.ndarray) -> np.ndarray:
        """P(x ≤ y | bin) of each bin, (..., m) of (...,)."""
        y = np.asarray(y, np.float64)[..., None]
        y = y if not self.step else (np.floor(y / self.step + 1e-9) + 0.5) * self.step
        part = np.where(self.high > self.low, np.clip((y - self.low) / self._width, 0, 1), y >= self.low)
        return np.add.reduceat(part * self.share, np.searchsorted(self.owner, np.arange(self.size)), axis=-1)

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it."""
        rest = np.array([self.step, *self.outside])
        return {"low": self.low, "high": self.high, "share": self.share, "owner": self.owner, "rest": rest}

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray]) -> "Bins":
        """The inverse of `arrays`."""
        step, *outside = (float(each) for each in arrays["rest"])
        low, high, share = (np.asarray(arrays[name], np.float64) for name in ("low", "high", "share"))
        owner = np.asarray(arrays["owner"], np.int64)
        return cls(low, high, share, owner, step, (outside[0], outside[1], outside[2]))


def step_of(values: np.ndarray) -> float:
    """10^−d, where all values, increasing, have d ≤ 6 decimals at most; 0 where they have more."""
    largest = max(abs(values[0]), abs(values[-1]))
    for decimals in range(DECIMALS + 1):
        if largest * 10.0**decimals > 2**50:
            return 0.0
        if np.abs(values - np.round(values, decimals)).max() <= 1e-12 * max(largest, 1e-300):
            return 10.0**-decimals
    return 0.0


def bins_of(x: np.ndarray, most: int) -> Bins:
    """Bins of a column: one for each value where there are few, else by quantiles, frequent values apart.

    Args:
        x: cells, NaN where missing; at least one is not.
        most: bins at most.
    """
    x = x[~np.isnan(x)]
    values, counts = np.unique(x, return_counts=True)
    n, step = len(x), step_of(values)
    quarter = np.subtract(*np.quantile(x, [0.75, 0.25]))
    scale = max(quarter, 0.1 * (values[-1] - values[0]), step, 1e-9 * max(abs(values[-1]), 1e-300))
    if len(values) <= min(most, max(n // FEW, 2)):
        e = ((counts == 1).sum() + 1) / (n + 2)
        half, owner = step / 2, np.arange(len(values))
        outside = (float(min(e, 0.1)), float(np.median(x)), float(scale))
        return Bins(values - half, values + half, np.ones(len(values)), owner, step, outside)
    number = int(np.clip(n // EACH, 2, most))
    often = counts * number >= n if step else counts * number >= 2 * n
    spikes, rest = values[often], x[~np.isin(x, values[often])]
    half = step / 2
    apart = np.concatenate([spikes - half, spikes + half])
    ends = np.array([values[0] - half, values[-1] + half if step else np.nextafter(values[-1], np.inf)])

    def cut(parts: int) -> np.ndarray:
        inner = np.quantile(rest, np.linspace(0, 1, parts + 1)[1:-1], method="higher") if len(rest) else []
        found = np.unique(np.concatenate([ends, apart, np.asarray(inner) - half]))
        return found[(found >= ends[0]) & (found <= ends[1])]

    edges = cut(max(number - len(spikes), 1))
    fine = np.unique(np.concatenate([edges, cut(min(max(len(rest) // PIECE, 1), PIECES * len(edges)))]))
    low, high = fine[:-1], fine[1:]
    own = x if step else rest
    seen = np.bincount(np.searchsorted(low, own, side="right") - 1, minlength=len(low))
    owner = np.searchsorted(edges, low, side="right") - 1
    if not step:  # bins without width, at the ends of those around them
        low, high = np.concatenate([low, spikes]), np.concatenate([high, spikes])
        seen = np.concatenate([seen, counts[often]])
        owner = np.concatenate([owner, len(edges) + np.arange(len(spikes))])
    keep = np.bincount(owner, seen)[owner] > 0  # a bin that no row is in is none
    order = np.lexsort((high[keep], low[keep]))
    low, high, seen, owner = (each[keep][order] for each in (low, high, seen, owner))
    owner = np.concatenate([[0], np.cumsum(owner[1:] != owner[:-1])])
    several = np.bincount(owner)[owner] > 1
    weight = np.where(several, seen + 0.5, 1.0)  # Jeffreys, so that a piece without rows can be
    share = weight / np.bincount(owner, weight)[owner]
    return Bins(low, high, share, owner, step, (1 / (n + 1), float(np.median(x)), float(scale)))
