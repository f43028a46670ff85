"""Training of user-defined models: several searches, then the Gaussian rule from the best of them.

Where there are too many parameters for that, mini-batches, or a user-defined guide, stochastic gradients of
Pyro's ELBO instead.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.errors import DataError, UsageError
from ppl_models.inference.convergence import Plateau
from ppl_models.inference.gaussian import GaussianRule, Sampled
from ppl_models.inference.loop import (
    FROM_START,
    Course,
    Log,
    Restarts,
    Trained,
    loop,
    repeat,
    why,
)
from ppl_models.inference.loop import STEPS as LIMIT
from ppl_models.inference.settings import ProgramSettings
from ppl_models.inference.stochastic import train_gradient
from ppl_models.models.program.gradient import ProgramTarget
from ppl_models.models.program.prior import first_points
from ppl_models.models.program.program import Program
from ppl_models.models.program.start import Start, starts
from ppl_models.threads import threads_for

DIMENSIONS = 1_000
"""Parameters up to which a full covariance is learned."""

POINTS = 2_048
"""Of the expectations, at most; 4 for every parameter, and 64 at least."""

RATE = 0.05
"""Step size of stochastic gradients, in unconstrained space, if none is given."""

TRIED = 3
"""Starts that the rule is followed from."""

STEPS = 60
"""Of the rule from one start."""

ALIKE = 0.05
"""Nats by which ELBOs of optima that only permute the parameters may differ: they are estimates."""


def train(bound: Program, data: Dataset, settings: ProgramSettings, course: Course = FROM_START) -> Trained:
    """The Gaussian rule, unless the model, its size or the settings ask for another guide.

    Args:
        bound: the model.
        data: the rows.
        settings: guide, ELBO, restarts, steps, tolerance, batch size and seed.
        course: a checkpoint to go on from, and whom to tell.

    Returns:
        `loc` (1, d) and `precision` (1, d, d) of the Gaussian, or the tensors of the guide under
        `{guide}.{name}`; the ELBO in nats, and how it came about.

    Raises:
        UsageError: if the model has no guide of its own, and is to be fitted with it.
        DataError: if the log density is nowhere a finite number, or has no ELBO.
    """
    kind = _guide(bound, data, settings)
    if kind is None:
        return _gaussian(bound, data, settings, course)
    return _gradient(bound, kind, settings, course)


def _guide(bound: Program, data: Dataset, settings: ProgramSettings) -> str | None:
    """The guide of the gradient rule, or None for the Gaussian rule.

    Raises:
        UsageError: if the model has no guide of its own, and is to be fitted with it.
    """
    kind, own = settings.guide, bound.model.own_guide
    if kind == "own" and not own:
        raise UsageError(f"{bound.model.name} has no guide() of its own; leave --guide out")
    if kind != "auto":
        return kind
    if own:
        return "own"
    if bound.parameters > DIMENSIONS:
        return "normal"
    batched = settings.batch_size is not None and settings.batch_size < data.rows
    asked = settings.elbo != "auto" or settings.particles > 1 or settings.learning_rate is not None
    return "full-rank" if batched or asked else None


def _gradient(bound: Program, kind: str, settings: ProgramSettings, course: Course) -> Trained:
    """Stochastic gradients of Pyro's ELBO, from the best of some points."""
    points = first_points(bound, settings.restarts, settings.seed)
    with torch.no_grad():
        value, _ = bound.density(points)
    rows = max(bound.density.columns._rows, 1)
    size = min(settings.batch_size or rows, rows)
    start = points[int(value.argmax())]
    target = ProgramTarget(bound, kind, settings.elbo, settings.particles, size < rows, start)

    def named(trained: Trained) -> Trained:
        return replace(trained, params={f"{kind}.{name}": value for name, value in trained.params.items()})

    keep = course.keep
    if keep is not None:
        course = replace(course, keep=lambda trained: keep(named(trained)))
    options = {"learning_rate": RATE, "batch_size": size}
    with threads_for(bound.density.cells * 8):
        found = train_gradient(target, settings, course, **options)
    return replace(named(found), rule=f"{found.rule}, {kind} guide")


def _gaussian(bound: Program, data: Dataset, settings: ProgramSettings, course: Course) -> Trained:
    """Search, refine, and keep the Gaussian of the highest ELBO.

    Raises:
        DataError: if the log density is nowhere a finite number.
    """
    density, d = bound.density, bound.parameters
    log = Log(d, course.progress)
    with threads_for(density.cells * 8 * settings.restarts), torch.no_grad():
        points = first_points(bound, settings.restarts, settings.seed)
        value, _ = density(points)
        points = points[torch.isfinite(value)]
        if not len(points):
            raise DataError(
                f"{data.source}: the log density of {bound.model.name} is not a finite number at "
                f"{settings.restarts} draws of its prior; look at supports, scales and divisions by zero"
            )
        found, end = starts(density, points)
        if not found:
            raise DataError(
                f"{bound.model.name}: no search found a place where its density has an ELBO; "
                "give its parameters proper priors"
            )
        log.phase("searches")(len(end.path), found[0].elbo, 1.0, 0.0)
        ended, done = [], []
        for start in _apart(found)[:TRIED]:
            result = _follow(bound, start, settings, log)
            ended.append(result)
            done.append(start)
    best = max(ended, key=lambda looped: float(looped.elbo[0]))
    status, elbo = best.status, float(best.elbo[0])
    params = {name: tensor.clone() for name, tensor in best.params.items()}
    restarts = _restarts(params, elbo, found, done, ended, len(points), data.rows)
    notes = () if density.path == "vmap" else (f"points were gone through one by one: {density.reason}",)
    return Trained(
        params, elbo, status, best.steps, log.seconds, tuple(log.history), restarts,
        why(status, settings.most(LIMIT)), GaussianRule.name, notes,
    )  # fmt: skip


def _follow(bound: Program, start: Start, settings: ProgramSettings, log: Log):
    """The rule from one start."""
    d = bound.parameters
    number = int(min(max(64, 4 * d), max(POINTS, 2 * d + 2)))
    target = Sampled(bound.density, d, number, settings.seed)
    params = {"loc": start.loc[None], "precision": start.precision[None]}
    monitor = Plateau(max(settings.tolerance, 1e-6) * d)
    steps = min(settings.most(LIMIT), STEPS)
    return loop(GaussianRule(), target, params, repeat(None), monitor, steps, log.phase("all rows"))


def _apart(found: list[Start]) -> list[Start]:
    """Starts that are not next to a better one, or alike to it in their ELBO."""
    kept: list[Start] = []
    for start in found:
        if not any(_distance(start.loc, s.loc, s.precision) < 1.0 for s in kept):
            kept.append(start)
    return kept


def _distance(u: Tensor, loc: Tensor, precision: Tensor) -> float:
    """Mahalanobis' distance a dimension."""
    x = u - loc
    return float(((x @ precision @ x) / len(x)).clamp_min(0).sqrt())


def _restarts(params, elbo, found, done, ended, number: int, rows: int) -> Restarts:
    """The ELBO that each search led to."""
    best: dict[int, float] = {}
    for start in found:
        reached = start.elbo
        for other, looped in zip(done, ended, strict=True):
            near = _distance(start.loc, other.loc, other.precision) < 1.0
            loc, precision = looped.params["loc"][0], looped.params["precision"][0]
            if near or _distance(start.loc, loc, precision) < 2.0:
                reached = max(reached, float(looped.elbo[0]))
        best[start.search] = max(best.get(start.search, -torch.inf), reached)
    listed = sorted((min(value, elbo) for value in best.values()), reverse=True)
    return Restarts(tuple([elbo, *listed[1:]]), rows, STEPS)
