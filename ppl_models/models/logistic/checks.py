"""What is checked of regressions: that data limits the coefficients, and that effects are straight lines.

Given a draw of the coefficients, Σ_n (y_n − p_n) h_n / √Σ_n p_n (1 − p_n) h_n² is standard normal if the
model is right, for any h of the predictors: with h bounded it is so for few rows too. With
h = P₂(2 rank − 1) of a predictor it sees an effect that bends, of the probability itself one that has the
wrong shape.
"""

from typing import Any

import numpy as np

from ppl_models import misfit
from ppl_models.capabilities import Fitted
from ppl_models.checks import Check
from ppl_models.data.excerpt import excerpt
from ppl_models.draws import select_draws
from ppl_models.inference.loop import Trained

PREDICTORS = 200
"""Predictors that are looked at, at most."""


def separation(trained: Trained) -> Check:
    """Whether classes can be told apart without error: only the prior then keeps coefficients finite."""
    if not trained.separated:
        reason = "no combination of predictors tells the classes apart without error"
        return Check("separation", False, "ok", reason)
    said = next((note for note in trained.notes if "separat" in note), "the classes are separated")
    return Check("separation", True, "warn", said)


def against_data(bound: Any, fitted: Fitted) -> list[Check]:
    """Whether probabilities are right where predictors are in the middle, and where they are far out.

    Of weighted rows and classes nothing is said: they are no sample of the model.

    Args:
        bound: the regression.
        fitted: with its data and draws.
    """
    data, target = fitted.data, bound.design.target
    if data.weight is not None or bound.balanced:
        return []
    part = excerpt(data, misfit.ROWS, ordered=False, seed=fitted.settings.seed)
    theta = select_draws(fitted.posterior_draws.theta, slice(0, misfit.DRAWS))
    index, values = [], []
    for at, p in bound.by_draw(part, theta):
        index.append(at)
        values.append(p.numpy())
    if not index:
        return []
    rows, p = np.concatenate(index), np.concatenate(values, 1)
    codes = part.values[rows, target]
    rows, p, codes = rows[~np.isnan(codes)], p[:, ~np.isnan(codes)], codes[~np.isnan(codes)].astype(int)
    if len(rows) < misfit.LEAST:
        return []
    classes = range(1, p.shape[2]) if p.shape[2] == 2 else range(p.shape[2])
    numbers = [
        j
        for j, c in enumerate(data.schema.columns)
        if j != target and not c.labelled and c.minimum < c.maximum
    ]
    found, labels = [], bound.labels()
    for j in [None, *numbers[:PREDICTORS]]:
        x = p.mean(0)[:, classes[-1]] if j is None else part.values[rows, j]
        if np.isnan(x).any() or len(np.unique(x)) < 5:
            continue
        t = 2 * (_ranks(x) + 0.5) / len(x) - 1
        h, middle = 1.5 * t**2 - 0.5, np.abs(t) < 0.5
        for c in classes:
            error, variance = (codes == c) - p[..., c], p[..., c] * (1 - p[..., c])
            z = (error * h).sum(1) / np.sqrt(np.maximum((variance * h**2).sum(1), 0.25))
            seen, expected = 100 * (codes == c)[middle].mean(), 100 * p[:, middle, c].mean()
            name = "its probability" if j is None else data.names[j]
            said = f"in the middle half of it {seen:.0f} % are {labels[c]!r}, {expected:.0f} % are expected"
            advice = "a --formula can let an effect bend, or depend on another column"
            found.append(misfit.Found(name, "curvature", misfit.combined(misfit.two_sided(z)), said, advice))
    return misfit.checks(misfit.holm(found), len(numbers), len(rows))


def _ranks(x: np.ndarray) -> np.ndarray:
    """0 … n − 1, equal values at their mean."""
    _, at, count = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - 0.5 * (count + 1))[at]
