"""The continuous ranked probability score of draws."""

import numpy as np


def crps(drawn: np.ndarray, x: np.ndarray | float, axis: int = 0) -> np.ndarray:
    """E|X − x| − ½ E|X − X'| of draws along an axis, X and X' each any of them, in the units of x.

    (Gneiting & Raftery 2007, Strictly proper scoring rules, JASA 102, https://doi.org/10.1198/016214506000001437.)

    Args:
        drawn: (..., S, ...).
        x: what came, of the shape without that axis; NaN where nothing did.
        axis: of the draws.

    Example:
        >>> float(crps(np.array([0.0, 2.0]), 1.0))
        0.5
    """
    ordered = np.sort(np.moveaxis(drawn, axis, 0), 0)
    S = len(ordered)
    spread = np.tensordot(2 * np.arange(1, S + 1) - S - 1, ordered, 1) / S**2
    return np.abs(ordered - x).mean(0) - spread
