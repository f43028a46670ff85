"""How good predictions are, row by row and by fold."""

from typing import Any, NamedTuple

import numpy as np

from ppl_models.verbs.evaluate import auc

EPSILON = float(np.finfo(float).eps)
"""What a probability is taken for at least, and 1 minus it at most, as scikit-learn's log loss has it."""


class Corp(NamedTuple):
    """The Brier score taken apart: score = miscalibration − discrimination + uncertainty."""

    miscalibration: float
    discrimination: float
    uncertainty: float


def corp(p: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Corp:
    """The Brier score by CORP: consistent, optimally binned, reproducible, by isotonic regression.

        S  = mean (p_n − y_n)²,  S_C of the isotonic regression of y on p,  S_R of the mean of y
        miscalibration = S − S_C,    discrimination = S_R − S_C,    uncertainty = S_R

    All three are nonnegative. Of several classes the sum over classes, each against the rest, which adds up
    to Σ_c (p_nc − [y_n = c])² (Dimitriadis, Gneiting & Jordan 2021, Stable reliability diagrams for
    probabilistic classifiers, PNAS 118, e2016191118, https://doi.org/10.1073/pnas.2016191118).

    Args:
        p: (n, C) probabilities.
        y: (n,) classes.
        weight: (n,).

    Example:
        >>> p = np.array([[0.9, 0.1], [0.2, 0.8]])
        >>> [round(each, 3) for each in corp(p, np.array([0, 1]), np.ones(2))]
        [0.025, 0.25, 0.25]
    """
    from sklearn.isotonic import isotonic_regression

    total = np.zeros(3)
    C = p.shape[1]
    for c in [1] if C == 2 else range(C):
        own = (y == c).astype(float)
        values, which = np.unique(p[:, c], return_inverse=True)  # ties get one value
        w = np.bincount(which, weight)
        better = isotonic_regression(np.bincount(which, weight * own) / w, sample_weight=w)[which]
        base = np.average(own, weights=weight)
        score, calibrated, constant = (
            np.average((q - own) ** 2, weights=weight) for q in (p[:, c], better, np.full(len(own), base))
        )
        total += [score - calibrated, constant - calibrated, constant]
    return Corp(*map(float, total))


def of_classes(p: np.ndarray, y: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Figures of a fold: log loss, Brier score, AUC and accuracy.

    The AUC of several classes is the mean over classes, each against the rest; NaN where a class of the
    fold's rows, or its complement, is not there.

    Args:
        p: (n, C) probabilities.
        y: (n,) classes.
        weight: (n,).
    """
    C = p.shape[1]
    square = ((p - np.eye(C)[y]) ** 2).sum(1)
    each = []
    for c in [1] if C == 2 else range(C):
        own = y == c
        each.append(auc(p[:, c], own, weight) if own.any() and not own.all() else np.nan)
    return {
        "log_loss": float(np.average(row_loss(p, y), weights=weight)),
        "brier": float(np.average(square / 2 if C == 2 else square, weights=weight)),
        "auc": float(np.mean(each)),
        "accuracy": float(np.average(p.argmax(1) == y, weights=weight)),
    }


def row_loss(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """−log p(y_n | x_n) of each row, (n,), in nats."""
    return -np.log(np.clip(p[np.arange(len(y)), y], EPSILON, 1 - EPSILON))


def of_numbers(answer: Any, y: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Figures of a fold with a target that is a number: log loss, CRPS, RMSE.

    Args:
        answer: with `mean`, `crps` and `log_p` of the rows.
        y: (n,) values.
        weight: (n,).
    """
    return {
        "log_loss": float(-np.average(answer.log_p, weights=weight)),
        "crps": float(np.average(answer.crps, weights=weight)),
        "rmse": float(np.sqrt(np.average((answer.mean - y) ** 2, weights=weight))),
    }
