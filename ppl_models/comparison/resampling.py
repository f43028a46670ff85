"""Differences between models over folds, whose training parts overlap."""

from typing import NamedTuple

import numpy as np

SURE = 2.0
"""Standard errors from which a difference is called one."""


class Difference(NamedTuple):
    """A difference of two models in a loss, the first minus the second.

    Attributes:
        mean: over the folds; positive where the second is better.
        standard_error: corrected; NaN of a single fold.
    """

    mean: float
    standard_error: float

    @property
    def clear(self) -> bool:
        """Whether it is `SURE` standard errors away from none; two models that never differ are not."""
        return bool(abs(self.mean) >= SURE * self.standard_error and self.mean != 0)


def difference(first: np.ndarray, second: np.ndarray, ratio: float) -> Difference:
    """The mean difference of two models over J folds, and its corrected resampled standard error.

        d_j = L_j(first) − L_j(second),    se² = (1/J + n_test / n_train) Σ_j (d_j − d̄)² / (J − 1)

    The second term of the factor stands for the covariance of folds that share training rows, without which
    tests on folds find differences that are not there (Nadeau & Bengio 2003, Inference for the generalization
    error, Machine Learning 52, 239–281, https://doi.org/10.1023/A:1024068626366).

    Args:
        first: (J,) losses.
        second: (J,) losses on the same folds.
        ratio: n_test / n_train.

    Example:
        >>> difference(np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0, 2.0]), 0.5)
        Difference(mean=0.6666666666666666, standard_error=0.5270462766947299)
    """
    d = np.asarray(first, float) - np.asarray(second, float)
    d = d[~np.isnan(d)]
    if not len(d):
        return Difference(np.nan, np.nan)
    return Difference(float(d.mean()), spread(d, ratio))


def spread(x: np.ndarray, ratio: float) -> float:
    """The corrected standard error of the mean of J folds; NaN of one."""
    J = len(x)
    return float(np.sqrt((1 / J + ratio) * np.var(x, ddof=1))) if J > 1 else np.nan


class Crossing(NamedTuple):
    """Where two learning curves cross.

    Attributes:
        size: training rows from which the second model is better; NaN if the curves do not cross.
        lower: of the 95 % interval; 0 if the second may be better from the start.
        upper: of the interval; infinite if it may never be within the sizes that were tried.
        probability: share of the resampled pairs of curves that cross from first to second.
        first_early: whether the first model is clearly better at some size before the crossing.
        second_late: whether the second is clearly better at the largest size.
    """

    size: float
    lower: float
    upper: float
    probability: float
    first_early: bool
    second_late: bool


def crossing(
    sizes: np.ndarray, first: np.ndarray, second: np.ndarray, ratio: np.ndarray, seed: int = 0
) -> Crossing:
    """The size of the training part at which the second model overtakes the first, with its interval.

        D(n) = L(first, n) − L(second, n) < 0 before, > 0 after,    linear in log n between the sizes

    The interval is of 4,000 draws of the whole curve D̄ + √(1/J + n_test / n_train) Σ_j z_j (d_j − d̄) /
    √(J − 1), z ~ N(0, I): normal, with the covariance between sizes that the folds have and the correction of
    `difference` at each size. The last change of sign counts, after which the second model stays ahead.

    Args:
        sizes: (K,) training rows, increasing.
        first: (J, K) losses of the model that may win early.
        second: (J, K) losses of the model that may win late.
        ratio: (K,) n_test / n_train.
        seed: of the draws.
    """
    d = first - second  # (J, K)
    J = len(d)
    mean = d.mean(0)
    point = _last(sizes, mean[None])[0]
    if J < 2:
        return Crossing(float(point) if 0 < point < np.inf else np.nan, np.nan, np.nan, np.nan, False, False)
    # one test part serves all sizes, so that the overlap is that of the whole training part
    scale = np.sqrt(1 / J + ratio)
    z = np.random.default_rng(seed).normal(size=(4_000, J))
    drawn = mean + scale * (z @ (d - mean)) / np.sqrt(J - 1)
    found = _last(sizes, drawn)
    error = scale * d.std(0, ddof=1)
    inside = (found > 0) & (found < np.inf)
    lower, upper = np.quantile(found, [0.025, 0.975], method="nearest")
    before = sizes < point
    return Crossing(
        float(point) if 0 < point < np.inf else np.nan,
        float(lower),
        float(upper),
        float(inside.mean()),
        bool((mean < -SURE * error)[before].any()),
        bool(mean[-1] > SURE * error[-1]),
    )


def _last(sizes: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Of each curve (M, K) the size of its last change from negative to positive.

    0 if it is always positive, infinite if it ends negative.
    """
    log_n, found = np.log(sizes), np.zeros(len(d))
    for k in range(len(sizes) - 1):
        a, b = d[:, k], d[:, k + 1]
        turns = (a < 0) & (b >= 0)
        share = np.where(turns, -a / np.where(turns, b - a, 1.0), 0.0)
        found = np.where(turns, np.exp(log_n[k] + share * (log_n[k + 1] - log_n[k])), found)
    return np.where(d[:, -1] < 0, np.inf, found)
