"""What is checked of user-defined models: that the posterior has one mode, and data looks like the model."""

from typing import Any

import numpy as np
import torch

from ppl_models import misfit
from ppl_models.capabilities import Fitted
from ppl_models.checks import Check
from ppl_models.draws import select_draws
from ppl_models.errors import PplError
from ppl_models.inference.loop import Trained

SAME, BESIDE = 0.3, 4.0
"""Nats up to which optima count as the same (estimates differ), and below which another one matters."""

REPLICATES, NUMBERS = 100, 400_000
"""Data sets that are drawn to be compared with the one that was seen, and numbers of all of them at most."""


def modes(trained: Trained) -> list[Check]:
    """Whether another optimum has so much of the probability that one Gaussian cannot stand for all."""
    r = trained.restarts
    if r is None:
        return []
    others = [r.elbo[0] - value for value in r.elbo if SAME < r.elbo[0] - value < BESIDE]
    if not others:
        return []
    share = 100 / (1 + float(np.exp(min(others))))
    reason = (
        f"another optimum is only {min(others):.1f} nats below, about {share:.0f} % of the probability: the "
        "posterior has several modes, and draws are of one; order or fix what can be exchanged"
    )
    return [Check("modes", min(others), "fail", reason)]


def against_data(bound: Any, fitted: Fitted) -> list[Check]:
    """Whether the columns that a model observes look like those that it draws: `misfit.replicated`.

    Args:
        bound: the model over the columns.
        fitted: with its data and draws.
    """
    data = fitted.data
    if not data.rows or data.rows * REPLICATES > NUMBERS:
        return []
    theta = select_draws(fitted.posterior_draws.theta, slice(0, REPLICATES))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fitted.settings.seed + 6)
            drawn = bound.observed(data, theta)
    except (PplError, RuntimeError, ValueError, NotImplementedError):  # it can be fitted, but not drawn from
        return []
    numbers = {c.name for c in data.schema.columns if not c.labelled}
    drawn = {name: values for name, values in drawn.items() if name in numbers}
    seen = {name: data.column(name) for name in drawn}
    found = misfit.replicated(seen, drawn)
    return misfit.checks(found, len(seen), data.rows)
