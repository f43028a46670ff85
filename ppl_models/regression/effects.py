"""Average marginal effects: what a predictor does to what is expected, on average over the rows.

    number x:    (1/n) Σ_n ∂ E[y | x_n] / ∂x        by a central difference of 1e-4 sd
    label x:     (1/n) Σ_n E[y | x_n, x = level] − E[y | x_n, x = first level]

with p(c | x_n) of each class in the place of E[y | x_n] where the target is a label.

The columns of the table are changed, and the design matrix made anew, so that interactions, logarithms and
splines of a formula are followed (Williams 2012, Using the margins command, Stata Journal 12; Arel-Bundock,
Greifer & Heiss 2024, Journal of Statistical Software 111, https://doi.org/10.18637/jss.v111.i09).
"""

import numpy as np
import torch

from ppl_models.data import Dataset
from ppl_models.draws import Draws, select_draws
from ppl_models.regression.bound import Regression

ROWS, DRAWS = 2_000, 400
"""At most so many rows, at random, are averaged over, for so many draws."""

_STEP = 1e-4

Effects = dict[tuple[str, int], dict[str, float]]
"""(`age` or `kind[long]`, class) -> `effect`, `effect_lower`, `effect_upper`, a unit; class 0 of numbers."""


def average_effects(
    bound: Regression, data: Dataset, theta: Draws, seed: int, tails: tuple[float, float]
) -> Effects:
    """The effect of every predictor on every class or on the mean, with equal-tailed intervals.

    Args:
        bound: the regression.
        data: the rows of the fit.
        theta: draws of θ.
        seed: of the rows that are taken.
        tails: the probabilities of the interval's ends.

    Returns:
        For a number, what changes a unit of it; for a label, the difference to the first level. None of a
        run without its rows.
    """
    if not data.rows:
        return {}
    design = bound.design
    rows = np.flatnonzero(design.rows)
    if len(rows) > ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, ROWS, replace=False))
    values = np.array(data.values[rows])
    weight = getattr(data, "weight", None)
    w = np.full(len(rows), 1 / len(rows)) if weight is None else weight[rows] / weight[rows].sum()
    theta = select_draws(theta, slice(0, DRAWS))
    sites = theta["regression"]
    B = torch.cat([sites["intercept"].unsqueeze(1), sites["coefficient"]], 1)  # (S, p + 1, K)
    Z = design.standardised(values)
    base = bound.logits(theta, Z, values)
    share = torch.from_numpy(np.ascontiguousarray(w))

    def average(column: int, cells: np.ndarray | float, weights: torch.Tensor) -> torch.Tensor:
        """Σ_n weight_n E[y | x_n] with one column of the table changed, (S, C)."""
        changed = values.copy()
        changed[:, column] = cells
        own = [j + 1 for j, origin in enumerate(design.coding.origins) if column in origin]
        step = torch.from_numpy((design.standardised(changed) - Z)[:, own])
        f = base + torch.stack([B[:, own, k] @ step.mT for k in range(B.shape[-1])], -1)
        return torch.einsum("smc,m->sc", bound.outcomes(f, theta), weights)

    found: Effects = {}
    for i in design.predictors:
        column = data.schema.columns[i]
        levels = design.coding.categories.get(i)
        if levels is not None:
            first = average(i, levels[0][1], share)
            for label, code in levels[1:]:
                change = average(i, code, share) - first
                _add(found, f"{column.name}[{label}]", change.numpy(), tails)
            continue
        h, x = _STEP * column.sd, values[:, i]
        low, high = np.nanmin(x), np.nanmax(x)  # splines end where the data does
        up = _inside(bound, values, i, np.minimum(x + h, high))
        down = _inside(bound, values, i, np.maximum(x - h, low))
        there = ~np.isnan(x)
        gap = np.where(there & (up > down), up - down, np.inf)
        slope = share / float(share[torch.from_numpy(there)].sum()) / torch.from_numpy(gap)
        _add(found, column.name, (average(i, up, slope) - average(i, down, slope)).numpy(), tails)
    return found


def _inside(bound: Regression, values: np.ndarray, column: int, cells: np.ndarray) -> np.ndarray:
    """Changed cells, but as they were where the formula cannot be evaluated there, as log(0 − h)."""
    changed = values.copy()
    changed[:, column] = cells
    bad = ~np.isfinite(bound.design.standardised(changed).sum(1))
    return np.where(bad, values[:, column], cells)


def _add(found: Effects, name: str, draws: np.ndarray, tails: tuple[float, float]) -> None:
    for c in range(draws.shape[1]):
        lower, upper = np.quantile(draws[:, c], tails)
        mean = draws[:, c].mean()  # in a tail, of very skewed draws, the interval reaches to it
        found[name, c] = {
            "effect": mean, "effect_lower": min(lower, mean), "effect_upper": max(upper, mean),
        }  # fmt: skip
