"""Going on with a fit that was stopped, as if it never had been."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ppl_models import store
from ppl_models.data.files import file_of
from ppl_models.engine import fitted
from ppl_models.errors import RunError, UsageError
from ppl_models.inference.loop import Course, Progress, Status
from ppl_models.inference.settings import GradientSettings
from ppl_models.inference.stochastic import STEPS
from ppl_models.record import Record
from ppl_models.runs import keeper, load, version_of

MATTER = ("ppl_models", "torch", "pyro-ppl", "numpy")
"""Libraries whose version may change the numbers."""


def resume(
    path: Any,
    *,
    model: Any = None,
    steps: int | None = None,
    force: bool = False,
    checkpoint_every: float = 60.0,
    progress: Progress | None = None,
) -> Record:
    """Go on with a fit from its run directory: on a CPU to the same numbers, bit for bit.

    A fit by stochastic gradients goes on from its checkpoint; one by natural gradients, which takes seconds,
    starts again from the data and seed of the run, unless several processes share it: then it goes on from
    its last pass over the rows.

    Args:
        path: the run directory.
        model: as for `load`: the class of a user-defined model, or `FILE.py:Class`, which is executed.
        steps: at most, in all; as many as the fit was given if not given.
        force: go on although the data or the versions of libraries have changed.
        checkpoint_every: seconds between two checkpoints, which are written to `path`.
        progress: called after every step.

    Raises:
        RunError: if it is damaged, or the data or a version has changed; it names the difference.
        UsageError: if there is nothing to resume.
    """
    fit, name = load(path, model), Path(path).name
    manifest = store.read_run(path).manifest
    settings = fit.settings
    if steps is not None:
        settings = replace(settings, steps=steps)
    if fit.status in (Status.CONVERGED, Status.DIVERGED):
        said = "has converged" if fit.status is Status.CONVERGED else "has diverged"
        raise UsageError(f"{name} {said}: there is nothing to resume")
    if fit.absent is not None:
        raise UsageError(f"{name} was saved without the rows of the fit (--slim), which it would go on from")
    if not force:
        for difference in changed(fit, manifest):
            raise RunError(f"{name}: {difference}; --force goes on all the same")
    checkpoint = fit.trained.checkpoint
    most = settings.most(STEPS)
    ended = fit.status is Status.MAX_STEPS  # else what follows the steps was interrupted, and is to be done
    if ended and checkpoint is not None and most <= checkpoint.numbers["step"]:
        raise UsageError(f"{name} has taken its {most} steps; allow more with --steps to go on")
    if isinstance(settings, GradientSettings):
        settings = replace(settings, checkpoint_every=checkpoint_every)
    write = keeper(path)
    history = fit.trained.history if checkpoint is not None else ()
    found = fitted(
        fit.model, fit.data, settings, Course(progress, checkpoint, history),
        keep=lambda record: write(replace(record, candidates=fit.candidates)),
    )  # fmt: skip
    return replace(found, candidates=fit.candidates)


def changed(fit: Record, manifest: dict[str, Any]) -> list[str]:
    """What is no longer as it was when the run was written, in words."""
    found = []
    for name in MATTER:
        before, now = manifest["versions"].get(name), version_of(name)
        if before is not None and before != now:
            found.append(f"it was written with {name} {before}, and this is {now}")
    source, before = fit.data.path, manifest["data"].get("file")
    if source is not None and before is not None:
        now = file_of(source)
        if now is not None and now != before:
            found.append(f"it was fitted to {source}, which has changed since")
    return found
