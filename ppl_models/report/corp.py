"""Reliability of probabilities: CORP diagrams (Dimitriadis, Gneiting & Jordan 2021, PNAS 118,
https://doi.org/10.1073/pnas.2016191118).

    recalibrated    p̂ = argmin over nondecreasing functions g of Σ_n w_n (y_n − g(p_n))²  (isotonic,
                    by pooling adjacent violators: no bins to be chosen)
    mean score      S̄ = MCB − DSC + UNC,  with the Brier score of p, of p̂ and of the share r:
                    MCB = S̄(p) − S̄(p̂), DSC = S̄(r) − S̄(p̂), UNC = S̄(r)
    band            p̂ at each forecast, had y_n ~ Bernoulli(p_n): quantiles over resampled outcomes

Of forecasts that are reliable the curve is in the band with the probability of the band, pointwise.
"""  # noqa: D205

from typing import NamedTuple

import numpy as np

RESAMPLES = 400
"""Resampled outcomes of which the band is."""


class Reliability(NamedTuple):
    """What a reliability diagram shows.

    Attributes:
        forecast: (m,) different forecasts, increasing.
        rows: (m,) their weights.
        recalibrated: (m,) shares by isotonic regression.
        lower: (m,) of the band under reliability.
        upper: (m,) the same.
        miscalibration: MCB, 0 at best.
        discrimination: DSC.
        uncertainty: UNC.
        outside: share of the rows whose recalibrated forecast is outside of the band.
    """

    forecast: np.ndarray
    rows: np.ndarray
    recalibrated: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    miscalibration: float
    discrimination: float
    uncertainty: float
    outside: float


def isotonic(y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The nondecreasing values closest to y (m,) in weighted squares: adjacent violators are pooled.

    Example:
        >>> isotonic(np.array([0.0, 1.0, 0.0, 1.0]), np.ones(4)).tolist()
        [0.0, 0.5, 0.5, 1.0]
    """
    from scipy.optimize import isotonic_regression

    return np.asarray(isotonic_regression(y, weights=w).x)


def reliability(
    p: np.ndarray, y: np.ndarray, w: np.ndarray, level: float = 0.9, seed: int = 0
) -> Reliability:
    """The curve, its band under reliability, and the decomposition of the Brier score.

    Args:
        p: (n,) probabilities of an event.
        y: (n,) whether it happened.
        w: (n,) positive weights.
        level: probability of the band, pointwise.
        seed: of resampling.
    """
    forecast, which = np.unique(p, return_inverse=True)
    rows = np.bincount(which, w)
    total = rows.sum()
    share = np.bincount(which, w * y) / rows
    fitted = isotonic(share, rows)

    rng = np.random.default_rng(seed)
    count = np.maximum(np.bincount(which), 1)  # rows, not their weights, are random
    drawn = rng.binomial(count, forecast, (RESAMPLES, len(forecast))) / count
    curves = np.array([isotonic(each, rows) for each in drawn])
    tails = (1 - level) / 2, (1 + level) / 2
    lower, upper = np.quantile(curves, tails, axis=0)

    mean = float(rows @ share / total)
    at = fitted[which]

    def brier(q: np.ndarray | float) -> float:
        return float(w @ (q - y) ** 2 / total)

    unc, recal = brier(mean), brier(at)
    out = (fitted < lower - 1e-12) | (fitted > upper + 1e-12)
    return Reliability(
        forecast, rows, fitted, lower, upper,
        brier(p) - recal, unc - recal, unc, float(rows @ out / total),
    )  # fmt: skip


def curves(score: np.ndarray, positive: np.ndarray, w: np.ndarray) -> dict[str, np.ndarray]:
    """Rates at every threshold, from the highest score down; ties move together.

    Args:
        score: (n,).
        positive: (n,) bool.
        w: (n,) weights.

    Returns:
        `threshold` (m,), `hit` = true positive rate = recall, `alarm` = false positive rate, `precision`.
    """
    values, which = np.unique(-score, return_inverse=True)
    tp = np.cumsum(np.bincount(which, w * positive))
    fp = np.cumsum(np.bincount(which, w * ~positive))
    return {
        "threshold": -values,
        "hit": tp / max(tp[-1], 1e-300),
        "alarm": fp / max(fp[-1], 1e-300),
        "precision": tp / (tp + fp),
    }
