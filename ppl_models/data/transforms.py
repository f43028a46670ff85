"""Monotone transforms of a column with their Jacobians, so that densities stay those of the user's units.

    z = g(x),    log p(x) = log p(z) + log g'(x)

A transform is a frozen dataclass of plain numbers: it is compared, and stored as JSON, by its fields.

    standardise    z = (x − m)/s
    log            z = (log(x − origin) − m)/s
    scores         z = Φ⁻¹(F(x)), F the distribution of the column, by a monotone spline through quantiles
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ppl_models.importing import lazy

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

SPACING, LEAST, KNOTS = 0.1, 10, 128
"""Standard deviations between two knots of a spline, rows between them, both at least, and knots at most."""


class Transform(ABC):
    """A monotone, differentiable map of the real line, or of a half of it, onto the real line."""

    name: ClassVar[str]
    """What a stored one is known by, and what notes call it."""

    @property
    def least(self) -> float:
        """Where its domain begins."""
        return -math.inf

    @classmethod
    @abstractmethod
    def fitted(cls, x: np.ndarray, step: float = 0.0) -> Self | None:
        """The transform that makes a column about standard normal; None where it has not got what it takes.

        Args:
            x: observed cells, (m,), finite.
            step: width of the bin that each of them stands for; 0 where they are not rounded.
        """

    @abstractmethod
    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The scores z and log |dz/dx| of cells of any shape; NaN stays NaN, as does what is out of the domain."""

    @abstractmethod
    def inverse(self, z: np.ndarray) -> np.ndarray:
        """The cells x of which `forward` gives z."""

    @abstractmethod
    def log_slope(self, z: np.ndarray) -> np.ndarray:
        """Log |dz/dx| where z is: what `forward` gives beside it, from the other side."""

    def to_dict(self) -> dict[str, Any]:
        """The transform as plain JSON values."""
        return {"name": self.name} | asdict(self)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Standardise(Transform):
    """z = (x − shift)/scale.

    Attributes:
        shift: the mean of the column.
        scale: its standard deviation, positive.
    """

    name: ClassVar[str] = "standardise"
    shift: float = 0.0
    scale: float = 1.0

    @classmethod
    def fitted(cls, x: np.ndarray, step: float = 0.0) -> Standardise:
        """Mean and standard deviation (divisor n); 1 of a constant column."""
        return cls(float(x.mean()), float(x.std()) or 1.0)

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The slope is the same everywhere."""
        return (x - self.shift) / self.scale, np.where(np.isnan(x), np.nan, -np.log(self.scale))

    def inverse(self, z: np.ndarray) -> np.ndarray:
        """Shift + scale z."""
        return self.shift + self.scale * z

    def log_slope(self, z: np.ndarray) -> np.ndarray:
        """−log scale."""
        return np.where(np.isnan(z), np.nan, -np.log(self.scale))


@dataclass(frozen=True)
class Log(Transform):
    """z = (log(x − origin) − shift)/scale, for x > origin; NaN elsewhere.

    Attributes:
        origin: where the support begins: 0, or half a step below it where the cells are rounded.
        shift: the mean of the logarithms.
        scale: their standard deviation, positive.
    """

    name: ClassVar[str] = "log"
    origin: float = 0.0
    shift: float = 0.0
    scale: float = 1.0

    @property
    def least(self) -> float:
        """The origin."""
        return self.origin

    @classmethod
    def fitted(cls, x: np.ndarray, step: float = 0.0) -> Log | None:
        """Of cells that are all positive; rounded ones may be 0, as they stand for a bin around it."""
        origin = 0.0 - step / 2
        if not x.size or x.min() <= origin:
            return None
        y = np.log(x - origin)
        return cls(origin, float(y.mean()), float(y.std()) or 1.0)

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log |dz/dx| = −log(scale (x − origin))."""
        above = np.asarray(x, dtype=np.float64) - self.origin
        y = np.log(above, out=np.full(above.shape, np.nan), where=above > 0)
        return (y - self.shift) / self.scale, -y - np.log(self.scale)

    def inverse(self, z: np.ndarray) -> np.ndarray:
        """Origin + exp(shift + scale z)."""
        return self.origin + np.exp(self.shift + self.scale * z)

    def log_slope(self, z: np.ndarray) -> np.ndarray:
        """−log scale − shift − scale z."""
        return -np.log(self.scale) - self.shift - self.scale * z


@dataclass(frozen=True)
class Scores(Transform):
    """Normal scores: a monotone rational quadratic spline through (quantile, Φ⁻¹(probability)).

    With w = x_{i+1} − x_i, s = (z_{i+1} − z_i)/w and ξ = (x − x_i)/w, between two knots

        z = z_i + (z_{i+1} − z_i) (s ξ² + d_i ξ(1 − ξ)) / (s + (d_i + d_{i+1} − 2s) ξ(1 − ξ)),

    which increases, has slope d_i at knot i, and is inverted by a quadratic equation (Gregory & Delbourgo
    1982, Piecewise rational quadratic interpolation to monotonic data, IMA J. Numerical Analysis 2,
    https://doi.org/10.1093/imanum/2.2.123; as a transform of densities Durkan et al. 2019, Neural spline
    flows, https://arxiv.org/abs/1906.04032). Beyond the knots it goes on in a straight line: where z is
    normal, the tails of x are.

    Attributes:
        x: quantiles of the column, increasing.
        z: normal scores of their probabilities, increasing.
        d: slopes dz/dx at the knots, positive.
    """

    name: ClassVar[str] = "scores"
    x: tuple[float, ...] = (0.0, 1.0)
    z: tuple[float, ...] = (0.0, 1.0)
    d: tuple[float, ...] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for field in ("x", "z", "d"):  # JSON has lists
            object.__setattr__(self, field, tuple(getattr(self, field)))

    @classmethod
    def fitted(cls, x: np.ndarray, step: float = 0.0) -> Scores | None:
        """Knots about evenly spaced in z, with `LEAST` rows between them.

        Of rounded cells the knots are edges of bins, so that each bin has the mass that the rows give it.
        """
        values, counts = np.unique(x, return_counts=True)
        if len(values) < 2:
            return None
        n, total = len(x), np.cumsum(counts)
        at, below = values, total - counts / 2
        if step:  # edges; between two values that are far apart, halfway
            upper = np.minimum(values + step / 2, np.append((values[1:] + values[:-1]) / 2, np.inf))
            at, below = np.append(values[0] - step / 2, upper), np.append(0, total)
        below = np.clip(below, 0.5, n - 0.5)
        normal = NormalDist()
        knots = [0]
        scores = [normal.inv_cdf(below[0] / n)]
        spacing = max(SPACING, -2 * scores[0] / KNOTS)
        last = len(at) - 1
        end = normal.inv_cdf(below[last] / n)
        candidate = 1
        while candidate < last:
            # the next place that is far enough, in rows and in z, by bisection
            rows = below[knots[-1]] + LEAST
            share = n * normal.cdf(scores[-1] + spacing)
            candidate = int(np.searchsorted(below, max(rows, share) - 1e-9))
            if candidate >= last or below[last] - below[candidate] < min(LEAST, n / 4):
                break
            knots.append(candidate)
            scores.append(normal.inv_cdf(below[candidate] / n))
        knots.append(last)
        scores.append(end)
        return cls.through(at[knots], np.array(scores))

    @classmethod
    def through(cls, x: np.ndarray, z: np.ndarray) -> Scores:
        """Slopes are the geometric means of those on both sides, weighed by the other side's width.

        The order is that of Delbourgo & Gregory (1985, The determination of derivative parameters for a
        monotonic rational quadratic interpolant, IMA J. Numerical Analysis 5,
        https://doi.org/10.1093/imanum/5.4.397), and what they give is positive whatever the data.
        """
        w = np.diff(x)
        log_s = np.log(np.diff(z) / w)
        d = np.concatenate([log_s[:1], log_s[-1:]])
        if len(w) > 1:
            share = w[1:] / (w[1:] + w[:-1])
            d = np.concatenate([log_s[:1], share * log_s[:-1] + (1 - share) * log_s[1:], log_s[-1:]])
        return cls(tuple(x.tolist()), tuple(z.tolist()), tuple(np.exp(d).tolist()))

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By the formula; a straight line beyond the knots."""
        x = np.asarray(x, dtype=np.float64)
        X, Z, D, w, s = self._knots
        i, tail = self._interval(x, X)
        xi = (np.clip(x, X[0], X[-1]) - X[i]) / w[i]
        both, bend = xi * (1 - xi), D[i] + D[i + 1] - 2 * s[i]
        below = s[i] + bend * both
        z = Z[i] + s[i] * w[i] * (s[i] * xi**2 + D[i] * both) / below + tail(x, X, D)
        return z, self._log_derivative(i, xi, below)

    def inverse(self, z: np.ndarray) -> np.ndarray:
        """The root in (0, 1) of a quadratic equation in ξ; a straight line beyond the knots."""
        z = np.asarray(z, dtype=np.float64)
        X, Z, D, w, _ = self._knots
        i, xi = self._place(z)
        _, tail = self._interval(z, Z)
        return X[i] + w[i] * xi + tail(z, Z, 1 / D)

    def log_slope(self, z: np.ndarray) -> np.ndarray:
        """At the place that `inverse` finds."""
        i, xi = self._place(np.asarray(z, dtype=np.float64))
        _, _, D, _, s = self._knots
        return self._log_derivative(i, xi, s[i] + (D[i] + D[i + 1] - 2 * s[i]) * xi * (1 - xi))

    @cached_property
    def _knots(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        X, Z, D = np.array(self.x), np.array(self.z), np.array(self.d)
        w = np.diff(X)
        return X, Z, D, w, np.diff(Z) / w

    @staticmethod
    def _interval(at: np.ndarray, knots: np.ndarray) -> tuple[np.ndarray, Any]:
        """The interval that each cell is in, and how far it is beyond the knots times the slope there."""

        def tail(a: np.ndarray, edges: np.ndarray, slope: np.ndarray) -> np.ndarray:
            return np.minimum(a - edges[0], 0) * slope[0] + np.maximum(a - edges[-1], 0) * slope[-1]

        return np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2), tail

    def _place(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Interval and ξ of scores z."""
        _, Z, D, w, s = self._knots
        i, _ = self._interval(z, Z)
        rise, bend = s[i] * w[i], D[i] + D[i + 1] - 2 * s[i]
        up = np.clip(z, Z[0], Z[-1]) - Z[i]
        a, b, c = rise * (s[i] - D[i]) + up * bend, rise * D[i] - up * bend, -s[i] * up
        return i, 2 * c / (-b - np.sqrt(np.maximum(b * b - 4 * a * c, 0)))

    def _log_derivative(self, i: np.ndarray, xi: np.ndarray, below: np.ndarray) -> np.ndarray:
        """Log of s² (d_{i+1} ξ² + 2 s ξ(1 − ξ) + d_i (1 − ξ)²) / below²."""
        _, _, D, _, s = self._knots
        above = D[i + 1] * xi**2 + 2 * s[i] * xi * (1 - xi) + D[i] * (1 - xi) ** 2
        return 2 * np.log(s[i]) + np.log(above) - 2 * np.log(below)


TRANSFORMS: tuple[type[Transform], ...] = (Standardise, Log, Scores)
"""All that there are, the simplest first."""


def from_dict(fields: dict[str, Any]) -> Transform:
    """The inverse of `Transform.to_dict`.

    Example:
        >>> from_dict(Log(0.0, 1.0, 2.0).to_dict())
        Log(origin=0.0, shift=1.0, scale=2.0)
    """
    kinds = {kind.name: kind for kind in TRANSFORMS}
    return kinds[fields["name"]](**{name: value for name, value in fields.items() if name != "name"})
