"""What a column is inside a model: spikes as flags, rounded cells spread over bins, the rest transformed.

A column x of numbers becomes a flag f and a cell z:

    f = j, z missing     where x is the spike s_j, a value that a large share of the rows has
    f = 0, z = g(x + u)  elsewhere; u is uniform in a bin of the width `step` if x is rounded, else 0

A model p(f, z) with an exact contract for missing cells so has the mass p(f = j) at s_j, and elsewhere the
density p(f = 0, z) g'(x), averaged over the bin of a rounded cell. A bin of width one has the mass of the
whole number in it, so scores of rounded and of unrounded columns, of counts and of measurements are
comparable: nats of the user's units.

Noise in training is not uniform but Beta(2, 2) over the bin, q(u) = 6u(1 − u), under which a state that has
one bin to itself keeps within it. Σ log p(x + u) − log q(u) is in expectation a lower bound on the log mass
(Ho et al. 2019, Flow++: variational dequantization, https://arxiv.org/abs/1902.00275).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ppl_models.data.messages import listed
from ppl_models.data.transforms import Log, Scores, Standardise, Transform, from_dict
from ppl_models.importing import lazy

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

How = Literal["auto", "plain", "scores"]
"""The field `marginals` of models: which columns are transformed."""

SPIKE, OFTEN, AROUND, SPIKES = 0.005, 5.0, 10, 32
"""Share of a spike at least, how many times as often as the values around it, of how many, and how many."""

LARGE = 0.1
"""Share of its largest spike from which on `auto` takes a column apart."""

GAIN = 0.1
"""Nats a row by which `auto` has a transform better than the one that is simpler."""

FEW = 20
"""Different values up to which each of them may be a spike."""

ENOUGH = 50
"""Rows without spikes, or for each of a few values, that a transform is made from at least."""

FINE = 0.01
"""Width of a bin, in standard deviations, up to which the middle stands for all of it."""

DECIMALS = 6
"""Decimals of what is rounded, at most."""

ENTROPY = 5 / 3 - math.log(6)
"""Of the noise in training, in nats of a bin: that of Beta(2, 2)."""


class Cells(NamedTuple):
    """Cells of one column inside a model.

    Attributes:
        z: transformed values; NaN at spikes and where missing.
        flag: 0 for no spike, 1 … of the spikes; NaN where missing. None of a column that has none.
        log_slope: log |dz/dx|; 0 where `z` is missing.
    """

    z: np.ndarray
    flag: np.ndarray | None
    log_slope: np.ndarray


@dataclass(frozen=True)
class Marginal:
    """One column inside a model.

    Attributes:
        transform: z = g(x).
        spikes: s_1, s_2, …, increasing.
        shares: of the rows without a spike and with each of them; empty if there are none.
        decimals: that cells are rounded to, on their way out too; None where they are not rounded.
        coarse: whether they are spread over their bins on the way in.
        resolution: what z does not tell apart.
        support: the least value that there can be: 0 of counts.
    """

    transform: Transform
    spikes: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    decimals: int | None = None
    coarse: bool = False
    resolution: float = 0.0
    support: float = -math.inf

    @property
    def step(self) -> float:
        """The width of a bin that is coarse; 0 if none is."""
        return 10.0 ** -(self.decimals or 0) if self.coarse else 0.0

    def forward(self, x: np.ndarray, noise: np.ndarray | float = 0.0) -> Cells:
        """Cells as the model has them.

        Args:
            x: cells in the user's units, of any shape; NaN where missing.
            noise: where in its bin a coarse cell is, −½ to ½.

        Raises:
            Nothing: what the transform cannot have (zero, of a logarithm) is NaN, as a missing cell is.
        """
        x = np.asarray(x, dtype=np.float64)
        flag = None
        if self.spikes:
            at = np.minimum(np.searchsorted(self.spikes, x), len(self.spikes) - 1)
            flag = np.where(x == np.array(self.spikes)[at], at + 1.0, 0.0)
            flag = np.where(np.isnan(x), np.nan, flag)
            x = np.where(flag > 0, np.nan, x)
        z, log_slope = self.transform.forward(x + self.step * noise if self.coarse else x)
        return Cells(z, flag, np.nan_to_num(log_slope, nan=0.0))

    def inverse(self, z: np.ndarray, flag: np.ndarray | None = None) -> np.ndarray:
        """Cells in the user's units, rounded as those of the fit were; NaN where `z`, or its flag, is.

        Args:
            z: transformed values, of any shape.
            flag: of spikes, of the same shape; None where there are none, or none is meant.
        """
        x = self.transform.inverse(np.asarray(z, dtype=np.float64))
        if self.decimals is not None:
            x = np.round(x, self.decimals)
        x = np.maximum(x, self.support) + 0.0  # no −0
        if flag is None or not self.spikes:
            return x
        known = np.nan_to_num(flag).astype(np.int64).clip(0, len(self.spikes))
        x = np.where(known > 0, np.array((0.0, *self.spikes))[known], x)
        return np.where(np.isnan(flag), np.nan, x)

    def spread(self, z: np.ndarray, place: float) -> np.ndarray:
        """The same coarse cells at another place of their bins, −½ to ½."""
        step = self.step
        x = np.round(self.transform.inverse(z) / step) * step
        return self.transform.forward(x + step * place)[0]

    def said(self, column: str) -> str:
        """What was done to the column, as a sentence."""
        done = [_SAID[self.transform.name]]
        if self.coarse:
            done.append("spread over the bins that its values are rounded to")
        if self.spikes:
            names = listed([f"{s:g}" for s in self.spikes])
            share = 100 * (1 - self.shares[0])
            done.insert(0, f"{names} set apart ({share:.0f} % of the rows)")
        return f"column {column!r} is modelled with {', '.join(done)}"

    def to_dict(self) -> dict[str, Any]:
        """The marginal as plain JSON values."""
        return {
            "transform": self.transform.to_dict(),
            "spikes": list(self.spikes),
            "shares": list(self.shares),
            "decimals": self.decimals,
            "coarse": self.coarse,
            "resolution": self.resolution,
            "support": None if math.isinf(self.support) else self.support,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Marginal:
        """The inverse of `to_dict`."""
        own = {name: tuple(map(float, fields[name])) for name in ("spikes", "shares")}
        support = -math.inf if fields["support"] is None else float(fields["support"])
        rest = {name: fields[name] for name in ("decimals", "coarse", "resolution")}
        return cls(from_dict(fields["transform"]), **own, **rest, support=support)


_SAID = {
    Standardise.name: "the rest standardised",
    Log.name: "its logarithm",
    Scores.name: "its normal scores",
}


def marginal(x: np.ndarray, how: How, *, count: bool = False) -> Marginal | None:
    """What a column is to be inside a model; None where it stays as it is.

    `scores` sets spikes apart and takes normal scores of the rest. `auto` does the first where a value has a
    tenth of the rows, and of the rest takes logarithms, or normal scores, where a normal density of these
    gives a row 0.1 nats more, by BIC; counts it leaves to families of counts unless they have such a spike.

    Args:
        x: cells in the user's units, (n,), NaN where missing.
        how: which columns are transformed.
        count: whether they are counts.
    """
    x = x[~np.isnan(x)]
    values, counts = np.unique(x, return_counts=True)
    if how == "plain" or len(values) < 3:
        return None
    decimals = _decimals(values)
    step = 0.0 if decimals is None else 10.0**-decimals
    at = _spikes(values, counts, step)
    if how == "auto" and not (at.any() and counts[at].max() >= LARGE * len(x)):
        if count:
            return None
        at[:] = False
    spikes, rest = values[at], np.repeat(values[~at], counts[~at])
    few = len(rest) < ENOUGH or rest[0] == rest[-1]
    if few and not len(spikes):
        return None
    kept = x if few else rest  # what is left says too little by itself
    coarse = bool(decimals is not None and step > FINE * kept.std())
    bins = step if coarse else 0.0
    transform: Transform | None = Standardise.fitted(kept)
    if not few:
        transform = Scores.fitted(rest, bins) if how == "scores" else _best(rest, bins)
    if transform is None or (not len(spikes) and isinstance(transform, Standardise)):
        return None
    apart = (len(x) - counts[at].sum(), *counts[at]) if len(spikes) else ()
    middle = float(np.median(kept))
    slope = float(np.exp(transform.forward(np.array([middle]))[1][0]))
    return Marginal(
        transform,
        tuple(spikes.tolist()),
        tuple(float(number / len(x)) for number in apart),
        decimals,
        coarse,
        bins * slope,
        0.0 if count else -math.inf,
    )


def _decimals(values: np.ndarray) -> int | None:
    """To how many decimals all values are rounded; None if to more than `DECIMALS`."""
    largest = max(abs(values[0]), abs(values[-1]))
    for decimals in range(DECIMALS + 1):
        if largest * 10.0**decimals > 2**50:
            return None
        if np.abs(values - np.round(values, decimals)).max() <= 1e-12 * max(largest, 1e-300):
            return decimals
    return None


def _spikes(values: np.ndarray, counts: np.ndarray, step: float) -> np.ndarray:
    """Which values are spikes, (u,) bool.

    A spike has a share of the rows of `SPIKE`, and `OFTEN` times as many as a place of the grid of rounded
    numbers around it has; other spikes there do not count. Of a few values all may be.
    """
    n = counts.sum()
    often = counts >= max(SPIKE * n, 10)
    if len(values) <= FEW and n >= ENOUGH * len(values):
        return often
    found = np.zeros_like(often)
    if not step:  # no value of a continuous column comes twice by chance
        found[np.argsort(-counts)[:SPIKES]] = True
        return found & often
    reach = AROUND * step * (1 + 1e-9)
    for i in np.argsort(-counts)[:SPIKES]:  # the largest first: they would hide the others
        if not often[i]:
            break
        near = np.abs(values - values[i]) <= reach
        ends = min(values[i] + reach, values[-1]) - max(values[i] - reach, values[0])
        places = int(ends / step) - (near & found).sum()  # of the grid, seen or not
        near &= ~found
        near[i] = False
        found[i] = counts[i] >= OFTEN * max(counts[near].sum() / max(places, 1), 1.0)
    return found


def _best(x: np.ndarray, step: float) -> Transform:
    """The simplest transform that no other has `GAIN` nats a row over, by BIC of a standard normal z."""
    n = len(x)
    best, score = None, -math.inf
    for kind, numbers in ((Standardise, 2), (Log, 2), (Scores, None)):
        found = kind.fitted(x, step)
        if found is None:
            continue
        z, log_slope = found.forward(x)
        size = len(found.x) if isinstance(found, Scores) else numbers
        own = float((log_slope - 0.5 * z * z).mean()) - 0.5 * (size or 0) * math.log(n) / n
        if best is None or own > score + GAIN:
            best, score = found, own
    assert best is not None
    return best
