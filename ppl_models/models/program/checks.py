"""What is checked of user-defined models: modes that draws are not of, and data against the model."""

from typing import Any

import torch

from ppl_models import misfit
from ppl_models.capabilities import Fitted
from ppl_models.checks import Check
from ppl_models.draws import select_draws
from ppl_models.errors import PplError
from ppl_models.inference.loop import Trained
from ppl_models.models.program.modes import described, gaussians
from ppl_models.models.program.prior import first_points
from ppl_models.models.program.start import WIDE, starts
from ppl_models.threads import threads_for

SEARCHES, SEARCHED, INSIDE, SLIGHT = 8, 1_000_000, 3.0, 4.6
"""Searches for modes that a guide missed, numbers of an execution at most, sds that a draw may be away from a
mode that it is in, and nats below the ELBO from which a mode has a hundredth of the probability."""

REPLICATES, NUMBERS = 100, 400_000
"""Data sets that are drawn to be compared with the one that was seen, and numbers of all of them at most."""


def modes(trained: Trained) -> list[Check]:
    """How many modes the draws are of, and whether there are more than could be combined."""
    params = trained.params
    if "modes.unseen" in params:
        left = int(params["modes.unseen"][0])
        reason = (
            f"the posterior has at least {left + 1} modes, too many to combine, and draws are of one; order "
            "what can be exchanged, or fix what has no sign"
        )
        return [Check("modes", left + 1, "fail", reason)]
    if "modes.loc" not in params:
        return []
    q = gaussians(params)
    alike = (
        ", some of which the density does not tell apart: means of single parameters say little there, so "
        "order what can be exchanged, or fix its sign"
    )
    same = alike if "modes.images" in params else ""
    return [Check("modes", len(q.log_weight), "ok", f"draws are of {described(q)}{same}")]


def beyond(bound: Any, fitted: Fitted) -> list[Check]:
    """Whether searches find a mode of some weight that no draw of a guide is in.

    The Gaussian rule searches itself; another guide knows of the place alone where it was begun. A draw is in
    a mode where it is within `INSIDE` sds a dimension, by the information there.

    Args:
        bound: the model over the columns.
        fitted: with its draws.
    """
    density = bound.density
    if "precision" in fitted.trained.params or bound.parameters > WIDE or density.cells > SEARCHED:
        return []
    with threads_for(density.cells * SEARCHES), torch.no_grad():
        found, _ = starts(density, first_points(bound, SEARCHES, fitted.settings.seed))
    u = bound.point(fitted.posterior_draws.theta)
    missed = 0
    for start in found:
        x = u - start.loc
        near = ((x @ start.precision) * x).mean(1).clamp_min(0).sqrt()
        missed += start.mode and start.elbo > fitted.trained.elbo - SLIGHT and float(near.min()) > INSIDE
    if not missed:
        return []
    reason = (
        f"searches find {missed} further mode{'s' * (missed > 1)} of some weight that no draw of the "
        "guide is in; leave --guide out, so that modes are combined"
    )
    return [Check("modes", missed + 1, "fail", reason)]


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
