"""Pareto-smoothed importance sampling: how far the guide is from the posterior, and weights that mend it.

With draws θ_s ~ q and weights w_s = p(x, θ_s)/q(θ_s), the largest weights are fitted by a generalised
Pareto distribution, whose shape k̂ tells how many moments the weights have: below 0.7 importance sampling
with these draws is reliable, and q close to the posterior; above 1 the weights have no mean that a
sample could find. (Vehtari, Simpson, Gelman, Yao & Gabry 2024, JMLR 25, https://jmlr.org/papers/v25/19-556.html;
Yao, Vehtari, Simpson & Gelman 2018, Yes, but did it work?, ICML.)
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

CONSTANT = 0.01
"""Range of log weights up to which they are constant."""


class Smoothed(NamedTuple):
    """Log weights that sum to one, the tail smoothed, and the shape k̂ of the tail."""

    log_weight: Float[np.ndarray, " s"]
    k_hat: float


def fit_pareto(excess: Float[np.ndarray, " m"]) -> tuple[float, float]:
    """Shape k and scale σ of a generalised Pareto distribution from sorted positive excesses.

    The posterior mean under a weak prior of Zhang & Stephens (2009, Technometrics 51), with k drawn
    towards 0.5 by ten observations.
    """
    m = len(excess)
    grid = 30 + int(np.sqrt(m))
    quartile = excess[int(m / 4 + 0.5) - 1]
    j = np.arange(1, grid + 1)
    with np.errstate(over="ignore"):
        b = 1 / excess[-1] + (1 - np.sqrt(grid / (j - 0.5))) / (3 * quartile)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # excesses next to nothing
        k = np.log1p(-b[:, None] * excess).mean(1)
        profile = np.nan_to_num(m * (np.log(-b / k) - k - 1), nan=-np.inf, posinf=-np.inf)
    if not np.isfinite(profile).any():
        return float("inf"), float("nan")
    weight = np.exp(profile - profile.max())
    weight /= weight.sum()
    b_mean = (b[weight > 0] * weight[weight > 0]).sum()
    k_mean = np.log1p(-b_mean * excess).mean()
    sigma = -k_mean / b_mean
    return float((m * k_mean + 10 * 0.5) / (m + 10)), float(sigma)


def smooth(log_ratio: Float[np.ndarray, " s"]) -> Smoothed:
    """Smooth the largest log weights and normalise all.

    Draws whose ratio is not finite have weight zero. With a ratio that is all but constant q is the
    posterior: k̂, which knows no scale and would be of the noise, is reported as 0.
    """
    ratio = np.where(np.isfinite(log_ratio), log_ratio, -np.inf)
    if not np.isfinite(ratio).any():
        return Smoothed(np.full(len(ratio), -np.log(len(ratio))), float("inf"))
    x = ratio - ratio.max()
    S = len(x)
    tail = int(np.ceil(min(0.2 * S, 3 * np.sqrt(S))))
    k = float("inf")
    order = np.argsort(x, kind="stable")
    largest, cutoff = order[-tail:], x[order[-tail - 1]] if S > tail else -np.inf
    cutoff = max(cutoff, np.log(np.finfo(float).tiny))
    above = largest[x[largest] > cutoff]
    if np.isfinite(x).all() and np.ptp(x) < CONSTANT:
        k = 0.0
    elif len(above) >= 5:
        excess = np.exp(x[above]) - np.exp(cutoff)
        k, sigma = fit_pareto(excess)
        if np.isfinite(k):
            p = (np.arange(len(above)) + 0.5) / len(above)
            quantile = sigma * (np.expm1(-k * np.log1p(-p)) / k if abs(k) > 1e-12 else -np.log1p(-p))
            x[above] = np.minimum(np.log(quantile + np.exp(cutoff)), 0.0)
    total = np.log(np.exp(x - x.max()).sum()) + x.max()
    return Smoothed(x - total, k)
