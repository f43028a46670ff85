"""How finely the values of a column were recorded, and how often each level was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppl_models.importing import lazy

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy("numpy")

LOOKED = 50_000
"""Rows that are looked at, evenly spread."""

FEW = 0.005
"""Share of the gaps that may be smaller than the step: narrow states, rounding in the last place."""

ROUNDING = 1e-14
"""What sums of squares lose to rounding, as a share of them."""


def resolution(values: np.ndarray, sd: float, rows: int) -> float:
    """The step of a column's values: what they do not tell apart, in its units.

    That is nearly the least difference between two of them: the last decimal of what was rounded, and very
    little of what was not. Sums of squares over many rows tell no more apart than their rounding lets them.

    Args:
        values: (n,), NaN where missing.
        sd: their standard deviation.
        rows: how many are summed over.

    Example:
        >>> import numpy as np
        >>> resolution(np.array([0.1, 0.2, 0.2, 0.4, 0.1]), 0.1, 5)
        0.1
    """
    seen = np.asarray(values[:: -(-len(values) // LOOKED) or 1], dtype=np.float64)
    distinct = np.unique(seen[~np.isnan(seen)])
    gaps = np.diff(distinct)
    gaps = gaps[gaps > 1e-14 * np.abs(distinct[1:])]  # 0.3 and 0.1 + 0.2 are one value
    step = float(np.quantile(gaps, FEW, method="lower")) if gaps.size else 0.0
    return max(step, sd * float(np.sqrt(12 * ROUNDING * rows)))


def shares(codes: np.ndarray, levels: int) -> tuple[float, ...]:
    """The share of each level in the cells that are not missing, (L,).

    Args:
        codes: (n,), NaN where missing.
        levels: L.
    """
    number = np.bincount(codes[~np.isnan(codes)].astype(np.int64), minlength=levels)
    return tuple((number / max(number.sum(), 1)).tolist())
