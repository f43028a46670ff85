"""Columns over an interval: what becomes 0 and 1 of them."""

import math
from collections.abc import Sequence

from ppl_models.data.schema import Column


def two_valued(column: Column) -> bool:
    """Whether a column has at most two different values, by its moments alone.

    Variance ≤ (max − mean)(mean − min), with equality for two values only (Bhatia & Davis 2000, A better
    bound on the variance, American Mathematical Monthly 107, https://doi.org/10.1080/00029890.2000.12005203).
    """
    low, high = column.minimum, column.maximum
    if low == high:
        return True
    most = (high - column.mean) * (column.mean - low)
    return math.isclose(column.sd**2, most, rel_tol=0.0, abs_tol=1e-9 * (high - low) ** 2)


def unit_intervals(columns: Sequence[Column], image: bool) -> list[tuple[float, float]]:
    """What becomes 0 and 1 of each column, for a family over the unit interval.

    Pixels of an image share one range: [0, 1], [0, 255] of eight bits, or [0, their maximum]. Other columns
    have their own from the smallest to the largest value of the fit, unless they are within [0, 1] anyway.
    """
    if image:
        low = min(0.0, *(c.minimum for c in columns))
        high = max(c.maximum for c in columns)
        bytes_ = all(c.integer for c in columns) and 127 < high <= 255
        return [(low, 255.0 if bytes_ else max(high, 1.0))] * len(columns)
    unit = [c.labelled or (c.minimum >= 0 and c.maximum <= 1) for c in columns]
    return [
        (0.0, 1.0) if inside else (c.minimum, c.maximum if c.maximum > c.minimum else c.minimum + 1)
        for c, inside in zip(columns, unit, strict=True)
    ]
