"""Are ranks uniform? A simultaneous band of their empirical distribution function, in closed form.

Of N ranks r_i, uniform on 0 … L, the counts C_k = #{r_i < k} are Binomial(N, z_k) with z_k = k/(L + 1). The
most surprising of them over all k,

    γ = 2 min_k min{P(Bin(N, z_k) ≤ C_k), P(Bin(N, z_k) ≥ C_k)},

is the statistic of Säilynoja, Bürkner & Vehtari (2022, Graphical test for discrete uniformity and its
applications, Statistics and Computing 32, https://arxiv.org/abs/2103.10522). That all counts are between
given bounds has an exact probability: the ranks' multinomial counts are independent Poisson numbers given
their sum, so that it is L + 1 convolutions, cut off at the bounds. From it follow the band and the p-value,
without simulation.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln
from scipy.stats import binom

STEPS = 40
"""Halvings by which the band is found: to 1e-12 of its pointwise level."""


class Band(NamedTuple):
    """Bounds of counts that hold together.

    Attributes:
        lower: (L,) of C_1 … C_L.
        upper: (L,).
    """

    lower: np.ndarray
    upper: np.ndarray


def counts(ranks: np.ndarray, draws: int) -> np.ndarray:
    """C_k = #{r_i < k} for k = 1 … L, (L,).

    Args:
        ranks: (N,) of 0 … L.
        draws: L.

    Example:
        >>> counts(np.array([0, 1, 1, 3]), 3)
        array([1, 3, 3])
    """
    return np.cumsum(np.bincount(ranks, minlength=draws + 1))[:-1]


def coverage(band: Band, number: int) -> float:
    """P(lower_k ≤ C_k ≤ upper_k for all k) of N uniform ranks, exactly but for rounding.

    Args:
        band: the bounds.
        number: N.
    """
    cells = len(band.lower) + 1
    rate = number / cells
    step = np.arange(number + 1)
    log_poisson = step * np.log(rate) - rate - gammaln(step + 1)
    poisson = np.exp(log_poisson)
    low, p = 0, np.ones(1)  # P(C_k = low, low + 1, …), and all bounds before it kept
    for lower, upper in zip(band.lower, band.upper, strict=True):
        p = np.convolve(p, poisson[: int(upper) - low + 1])[: int(upper) - low + 1]
        cut = max(int(lower) - low, 0)
        low, p = low + cut, p[cut:]
        if not len(p):
            return 0.0
    left = number - low - np.arange(len(p))  # what the last cell has to have
    last = np.where(left >= 0, poisson[np.maximum(left, 0)], 0.0)
    log_total = number * np.log(number) - number - gammaln(number + 1)  # that the Poisson numbers sum to N
    return float(min(p @ last / np.exp(log_total), 1.0))


def _pointwise(number: int, draws: int, level: float) -> Band:
    """The widest bounds within which each count has a two-sided tail over `level`: γ_k > level."""
    z = np.arange(1, draws + 1) / (draws + 1)
    # C is kept where both tails are over level/2
    lower = binom.ppf(level / 2, number, z)
    lower = np.where(binom.cdf(lower, number, z) > level / 2, lower, lower + 1)
    upper = number - binom.ppf(level / 2, number, 1 - z)
    upper = np.where(binom.cdf(number - upper, number, 1 - z) > level / 2, upper, upper - 1)
    return Band(np.maximum(lower, 0).astype(int), np.minimum(upper, number).astype(int))


def band(number: int, draws: int, level: float = 0.95) -> Band:
    """The band that all counts of uniform ranks are within with a probability of at least `level`.

    Args:
        number: N ranks.
        draws: L.
        level: of all k together.
    """
    low, high = 0.0, 1.0  # pointwise levels: that of all k together falls as they rise
    for _ in range(STEPS):
        middle = (low + high) / 2
        if coverage(_pointwise(number, draws, middle), number) >= level:
            low = middle
        else:
            high = middle
    return _pointwise(number, draws, low)


def p_value(ranks: np.ndarray, draws: int) -> float:
    """P(γ of uniform ranks ≤ that of these ranks): small where they are not uniform.

    Args:
        ranks: (N,) of 0 … L.
        draws: L.
    """
    number, C = len(ranks), counts(ranks, draws)
    z = np.arange(1, draws + 1) / (draws + 1)
    tails = np.minimum(binom.cdf(C, number, z), binom.sf(C - 1, number, z))
    gamma = min(2 * float(tails.min()), 1.0)
    return max(1.0 - coverage(_pointwise(number, draws, gamma * (1 + 1e-9)), number), 0.0)
