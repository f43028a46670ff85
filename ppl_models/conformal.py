"""Conformal p-values, which hold for any score of exchangeable rows, whatever the model is worth.

    p = (1 + #{i: s_i ≥ s}) / (m + 1)

with s_1 … s_m the scores of m calibration rows that the fit has not seen, larger ones being more surprising.
If the row is exchangeable with these, P(p ≤ α) ≤ α for every α (Vovk, Gammerman & Shafer 2005, Algorithmic
Learning in a Random World; Laxhammar & Falkman 2010); the p-values of several new rows share the calibration
rows, and Benjamini and Hochberg's procedure holds the false discovery rate on them all the same (Bates,
Candès, Lei, Romano & Sesia 2023, Testing for outliers with conformal p-values, Annals of Statistics 51,
https://doi.org/10.1214/22-AOS2244).

Without such rows the fit can be made again on all folds but one, each of which calibrates in turn. The
counts of the folds add up (cross-conformal, Vovk 2015, Annals of Mathematics and Artificial Intelligence 74,
https://doi.org/10.1007/s10472-013-9368-4); P(p ≤ α) is then at most 2α, and near α in practice.
"""

from collections.abc import Iterable

import numpy as np


def above(score: np.ndarray, calibration: np.ndarray) -> np.ndarray:
    """#{i: s_i ≥ s} of each score, (n,); NaN where it is NaN. Calibration scores that are NaN are left out.

    Args:
        score: (n,) of the rows.
        calibration: (m,) of rows that the fit has not seen.
    """
    known = np.sort(calibration[~np.isnan(calibration)])
    found = (len(known) - np.searchsorted(known, score, side="left")).astype(float)
    return np.where(np.isnan(score), np.nan, found)


def p_values(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Conformal p-values of n rows, (n,).

    Args:
        parts: pairs of the rows' scores (n,) and the calibration scores (m,), one for each fit; a single
            pair for split conformal, one a fold for cross-conformal.

    Example:
        >>> p_values([(np.array([2.5, 0.0]), np.array([1.0, 2.0, 3.0]))])
        array([0.5, 1. ])
    """
    count, number = np.zeros(1), 0
    for score, calibration in parts:
        count = count + above(score, calibration)
        number += int((~np.isnan(calibration)).sum())
    return (1 + count) / (number + 1)


def ranks(score: np.ndarray) -> np.ndarray:
    """The share of the scores that are at least each, (n,): of rows that calibrate one another."""
    return above(score, score) / max(int((~np.isnan(score)).sum()), 1)
