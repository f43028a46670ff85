"""Whether rows look like those that a generalised linear model draws: spread, skewness, extremes, zeros."""

from typing import Any

import numpy as np
import torch

from ppl_models import misfit
from ppl_models.capabilities import Fitted
from ppl_models.checks import Check
from ppl_models.data.excerpt import excerpt
from ppl_models.draws import select_draws

REPLICATES, ROWS = 100, 4_000
"""Data sets that are drawn to be compared with the one that was seen, and rows of each at most."""

WIDER = {"normal": "student_t", "poisson": "negative_binomial"}
"""Families with more spread, by family."""


def against_data(bound: Any, fitted: Fitted) -> list[Check]:
    """What `misfit.replicated` says of the target; of weighted rows nothing: they are no sample of the model.

    Args:
        bound: the regression.
        fitted: with its data and draws.
    """
    data, target = fitted.data, bound.design.target
    if not data.rows or data.weight is not None or data.schema.columns[target].labelled:
        return []
    part = excerpt(data, ROWS, ordered=False, seed=fitted.settings.seed)
    theta = select_draws(fitted.posterior_draws.theta, slice(0, REPLICATES))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fitted.settings.seed + 6)
        drawn = bound.replicate(part, theta)[:, :, target]
    seen = part.values[:, target].copy()
    seen[torch.from_numpy(drawn).isnan().any(0).numpy()] = float("nan")  # rows without a predictor
    name, family = data.schema.names[target], bound.model.family
    centre = drawn.mean(0)
    wide = float(((seen - centre) ** 2)[~np.isnan(seen)].sum()) > float(
        ((drawn - centre) ** 2)[:, ~np.isnan(seen)].mean(0).sum()
    )
    wider = WIDER.get(family) if wide else None
    advice = (
        f"--family={wider} has more spread" if wider else "other predictors, or a --formula, may say more"
    )
    beside = {
        column.name: part.values[:, j]
        for j, column in enumerate(data.schema.columns)
        if j != target and not np.isnan(part.values[:, j]).any()
    }
    found = misfit.replicated({name: seen}, {name: drawn}, beside)
    return misfit.checks([each._replace(advice=advice) for each in found], 1, part.rows)
