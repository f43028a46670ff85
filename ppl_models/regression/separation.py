"""Separation: classes that a linear rule tells apart, whose coefficients only the prior keeps finite.

Complete separation: some coefficients give every row's own class a higher logit than all others; quasi-
complete: at least as high for all rows, and higher for some (Albert & Anderson 1984, On the existence of
maximum likelihood estimates in logistic regression models, Biometrika 71, https://doi.org/10.2307/2336390).
"""

import numpy as np
import torch
from torch import Tensor

from ppl_models.data.messages import listed
from ppl_models.regression.glm import GLM
from ppl_models.regression.responses import Categorical
from ppl_models.regression.rows import Batch

_LARGEST = 400_000
"""Numbers in the linear programme that is still solved: about a second."""

_NOTHING = 1e-6
"""Sum of margins, over the root of their number, up to which coefficients separate nothing."""


def note(glm: GLM, batch: Batch, B: Tensor) -> str:
    """What separates the classes, as a sentence; empty if nothing does, or nothing was found.

    Single columns are found in any data; combinations of columns where the fitted coefficients already
    make no error, and for certain where the data is small.

    Args:
        glm: the model.
        batch: all rows.
        B: coefficients Φ (p + 1, K), such as the posterior mean.
    """
    if not isinstance(glm.response, Categorical):
        return ""
    columns = single_columns(batch, glm.response.classes)
    if columns:
        names = listed((batch.design.names[j] for j in columns), 3)
        return (
            f"the classes are separated by {names}: the data sets no limit to the coefficient, "
            "only the prior does"
        )
    if _without_error(glm, batch, B) or _combined(glm, batch, B):
        return (
            "the classes are separated by a combination of columns: the data sets no limit to their "
            "coefficients, only the prior does"
        )
    return ""


def single_columns(batch: Batch, classes: int) -> list[int]:
    """Columns of X of which one value separates a class from all others, if only weakly."""
    p = batch.width - 1
    if not p:
        return []
    low, high = np.full((classes, p), np.inf), np.full((classes, p), -np.inf)
    separates = _separates(low, high)
    for block in batch.blocks():
        Z, y = batch.design.unmixed(block.Z.numpy()), block.y.numpy()
        for c in np.unique(y):
            some = Z[y == c]
            low[c], high[c] = np.minimum(low[c], some.min(0)), np.maximum(high[c], some.max(0))
        separates = _separates(low, high)
        if not separates.any() and np.isfinite(low).all():
            break  # more rows only widen the ranges
    return np.flatnonzero(separates).tolist()


def _separates(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(p,) whether a class's range (C, p) lies to one side of the ranges of all others."""
    p = low.shape[1]
    found = np.zeros(p, bool)
    seen = np.flatnonzero(np.isfinite(low[:, 0]))
    if len(seen) < 2:
        return found
    for c in seen:
        others = [k for k in seen if k != c]
        lowest, highest = low[others].min(0), high[others].max(0)
        found |= (high[c] <= lowest) | (highest <= low[c])
    varies = low.min(0) < high.max(0)
    return found & varies


def _margins(glm: GLM, logits: Tensor, y: Tensor) -> Tensor:
    """The own class's logit less the largest other, (m,)."""
    own = logits.gather(-1, y[:, None]).squeeze(-1)
    return own - logits.scatter(-1, y[:, None], -torch.inf).amax(-1)


def _without_error(glm: GLM, batch: Batch, B: Tensor) -> bool:
    assert isinstance(glm.response, Categorical)
    A = glm.response.A.to(B)
    return all(bool((_margins(glm, (block.Z @ B) @ A.mT, block.y) > 0).all()) for block in batch.blocks())


def _combined(glm: GLM, batch: Batch, B: Tensor) -> bool:
    """Whether some coefficients separate the classes; False where the data is too large to tell."""
    if len(batch) * glm.outputs * glm.dimension > _LARGEST:
        return False
    assert isinstance(glm.response, Categorical)
    block = batch.whole()
    A, Z, y = glm.response.A.numpy(), block.Z.numpy(), block.y.numpy()
    probability = ((block.Z @ B) @ glm.response.A.to(B).mT).softmax(-1).numpy()
    rows, weights = [], []
    for c in range(glm.response.classes):
        other = y != c
        gap = A[y[other]] - A[c]  # (m, K)
        rows.append((Z[other][:, :, None] * gap[:, None, :]).reshape(other.sum(), -1))
        weights.append(probability[other, c])
    M = np.concatenate(rows)  # margins over each other class are M φ
    return not excluded(M, np.concatenate(weights)) and by_programme(M)


def excluded(M: np.ndarray, weight: np.ndarray) -> bool:
    """Whether there is proof that no φ with M φ ≥ 0 has M φ ≠ 0: a λ > 0 with Mᵀλ = 0 (Stiemke 1915).

    Probabilities of the other classes are such a λ at the maximum of the likelihood, and near it after a
    Newton step. False where that finds none, which proves nothing.

    Args:
        M: (m, d).
        weight: λ to start from, (m,), such as those probabilities.
    """
    for _ in range(3):
        gram = M.T @ (weight[:, None] * M)
        weight = weight * (1 - M @ np.linalg.lstsq(gram, M.T @ weight)[0])
        if not (weight > 0).all():
            return False
    left = np.abs(M.T @ weight).sum()  # at least λᵀ M φ for φ in [−1, 1]
    return bool(left < weight.min() * _NOTHING * len(M) ** 0.5)


def by_programme(M: np.ndarray) -> bool:
    """Maximise the sum of margins, none negative, with φ in [−1, 1] (Konis 2007, DPhil thesis)."""
    from scipy.optimize import linprog

    solved = linprog(-M.sum(0), A_ub=-M, b_ub=np.zeros(len(M)), bounds=(-1, 1), method="highs")
    return bool(solved.status == 0 and -solved.fun > _NOTHING * len(M) ** 0.5)
