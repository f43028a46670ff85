"""A classifier two-sample test: can generated rows be told from held-out ones?

    score = 1 − (2 max(AUC, ½) − 1)

A gradient-boosted classifier learns to tell rows of the data from generated ones, and is judged by others of
both: 1 where it can only guess, 0 where it is always right (Lopez-Paz & Oquab 2017, Revisiting classifier
two-sample tests, ICLR, https://arxiv.org/abs/1610.06545; boosted trees as in synthcity's and TabSyn's
evaluations).
"""

import warnings
from typing import NamedTuple

import numpy as np

CATEGORIES = 250
"""Levels that the classifier takes a label with; of more it takes codes for numbers."""

COMPONENTS = 20
"""Principal components of images, by which these are told apart."""


class Test(NamedTuple):
    """What a classifier can tell.

    Attributes:
        auc: of telling rows of the data from generated ones.
        error: its standard error where they cannot be told apart.
    """

    auc: float
    error: float

    @property
    def score(self) -> float:
        """1 − (2 max(AUC, ½) − 1)."""
        return 2.0 - 2.0 * max(self.auc, 0.5)


def told_apart(
    real: np.ndarray,
    fake: np.ndarray,
    real_later: np.ndarray | None,
    fake_later: np.ndarray | None,
    labels: np.ndarray,
    seed: int = 0,
    rounds: int = 60,
) -> Test:
    """Learn to tell rows from generated ones, and see how well it does on others.

    Args:
        real: (n, C) rows of the data, codes of labels, NaN where missing.
        fake: (m, C) generated ones.
        real_later: rows by which it is judged; None for the two halves of `real`, in turn.
        fake_later: generated ones, likewise.
        labels: (C,) which columns are labels.
        seed: of the classifier.
        rounds: of boosting.
    """
    if real_later is not None and fake_later is not None:
        return _judged(real, fake, real_later, fake_later, labels, seed, rounds)
    a, b = real[::2], real[1::2]
    c, d = fake[::2], fake[1::2]
    first, second = _judged(a, c, b, d, labels, seed, rounds), _judged(b, d, a, c, labels, seed, rounds)
    return Test((first.auc + second.auc) / 2, first.error / 2**0.5)


def _judged(
    real: np.ndarray, fake: np.ndarray, real_later: np.ndarray, fake_later: np.ndarray,
    labels: np.ndarray, seed: int, rounds: int,
) -> Test:  # fmt: skip
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    n, m = len(real_later), len(fake_later)
    error = float(((n + m + 1) / (12 * max(n * m, 1))) ** 0.5)  # of a rank sum, where both are alike
    if min(len(real), len(fake), n, m) < 2:
        return Test(0.5, float("inf"))
    x, later = np.concatenate([real, fake]), np.concatenate([real_later, fake_later])
    tell = ~np.isnan(x).all(0)  # a column without cells tells nothing, and cannot be binned
    if not tell.any():
        return Test(0.5, error)
    few = labels & (np.nan_to_num(np.concatenate([x, later])).max(0) < CATEGORIES)
    x, later = x[:, tell], later[:, tell]
    classifier = HistGradientBoostingClassifier(
        max_iter=rounds,
        min_samples_leaf=max(2, min(20, len(real) // 10)),
        early_stopping=False,  # type: ignore[arg-type]
        categorical_features=few[tell],
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of columns that are missing in all of one part
        classifier.fit(x, np.repeat([1, 0], [len(real), len(fake)]))
        found = classifier.predict_proba(later)[:, 1]
    return Test(float(roc_auc_score(np.repeat([1, 0], [n, m]), found)), error)


class Components:
    """The leading principal components of rows of pixels.

    Args:
        pixels: (n, D) rows that they are of, without missing cells.
        most: how many.
    """

    def __init__(self, pixels: np.ndarray, most: int = COMPONENTS) -> None:
        self.mean = pixels.mean(0)
        _, s, v = np.linalg.svd(pixels - self.mean, full_matrices=False)
        number = min(most, int((s > 1e-9 * max(s.max(initial=0.0), 1e-300)).sum()) or 1)
        self.axes = v[:number].T

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """(n, K) of other rows."""
        return (pixels - self.mean) @ self.axes
