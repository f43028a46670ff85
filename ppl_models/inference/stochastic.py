"""Training by stochastic gradients: from a target to what it learned, with checkpoints on the way."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ppl_models.inference.checkpoint import capture, restore
from ppl_models.inference.conjugate import Info
from ppl_models.inference.convergence import Told
from ppl_models.inference.gradient import (
    LEAST,
    GradientRule,
    GradientState,
    GradientTarget,
    Rows,
    StochasticTarget,
    remembered,
    weights,
)
from ppl_models.inference.loop import FROM_START, Course, Log, Status, Trained, loop
from ppl_models.inference.natural import Natural
from ppl_models.inference.policies import Passes, Patience, Stationary
from ppl_models.inference.settings import GradientSettings, NetworkSettings
from ppl_models.inference.signals import Whole

BATCH = 128
"""Rows of a mini-batch of a network, if not given."""

WARM_UP = 100
"""Steps over which the step size rises; of a network a pass over the data at most."""

STEPS = 1_000_000
"""Steps at most; the rule stops long before."""

LOGGED = 1_000
"""Lines of history of a phase, about, at most."""


class MiniBatches(Protocol):
    """A rule on mini-batches, of which `start` gives the state that a checkpoint is put into."""

    name: str

    def start(self, target: Any) -> GradientState:
        """Nothing learned yet."""
        ...

    def batches(self, state: GradientState, target: Any) -> Iterator[Rows]:
        """What to step on, from where the state is."""
        ...

    def step(self, problem: Any, state: GradientState, batch: Rows) -> tuple[GradientState, Info]:
        """One step."""
        ...

    def found(self, state: GradientState, target: Any) -> tuple[dict[str, Tensor], float]:
        """The best weights so far, and what they are worth."""
        ...


@dataclass
class _Started:
    """The rule with a state that is there already: what the loop's `init` gives."""

    rule: MiniBatches
    state: GradientState
    name: str

    def init(self, params: Any, /) -> GradientState:
        return self.state

    def step(self, problem: Any, state: Any, batch: Any) -> Any:
        return self.rule.step(problem, state, batch)


def train_gradient(
    target: GradientTarget,
    settings: GradientSettings,
    course: Course = FROM_START,
    *,
    learning_rate: float = 1e-3,
    batch_size: int = BATCH,
    weight_decay: float = 0.0,
    natural: Natural | None = None,
    passes: int | None = None,
    matrices: frozenset[str] = frozenset(),
) -> Trained:
    """Ascend the ELBO until it no longer rises.

    Args:
        target: what is learned and how good it is.
        settings: those of a network stop by held-out rows; others by the iterates of the guide.
        course: a checkpoint to go on from, and whom to tell.
        learning_rate: if the settings do not say it.
        batch_size: likewise.
        weight_decay: of a network.
        natural: where a Gaussian over all weights is wanted, whose sds are then beside the weights as `sd.*`.
        passes: over the data, in which the step size of a network falls on a line to zero; None where it is
            cut when held-out rows say so.
        matrices: names of weights of a network that are stepped by Muon.
    """
    size = min(settings.batch_size or batch_size, target.rows)
    rate = settings.learning_rate or learning_rate
    if isinstance(settings, NetworkSettings):
        decay = 0 if passes is None else max(passes * -(-target.rows // size), LEAST)
        rule = GradientRule(
            Patience(settings.patience, gain=settings.tolerance)
            if passes is None
            else Passes(passes, settings.patience, gain=settings.tolerance),
            rate,
            warm_up=min(WARM_UP, target.rows // size),
            batch_size=size,
            seed=settings.seed,
            autocast=torch.bfloat16 if settings.precision == "bfloat16" else None,
            weight_decay=weight_decay,
            natural=natural,
            decay=decay,
            matrices=matrices,
            team=course.team,
        )
        if course.team is not None and course.team.rank:
            torch.manual_seed(settings.seed + course.team.rank)  # each has noise of its own
            course.team.serve(rule.share(target, rule.start(target)))
    else:
        rule = GradientRule(Stationary(), rate, warm_up=WARM_UP, batch_size=size, seed=settings.seed)
    return train_by(rule, target, settings, course, "gradient", settings.most(STEPS))


def train_by(
    rule: MiniBatches,
    target: StochasticTarget,
    settings: GradientSettings,
    course: Course,
    phase: str,
    most: int,
    goes_on: bool = False,
) -> Trained:
    """Step by a rule on mini-batches until it says that nothing is left to gain.

    Args:
        rule: the rule.
        target: what is learned and how good it is.
        settings: how often to keep what there is, and what is raised.
        course: a checkpoint to go on from, and whom to tell.
        phase: what the history calls it.
        most: steps at most.
        goes_on: whether something follows when it has converged, so that a checkpoint is still of use.
    """
    own = weights(target.module)
    parameters = sum(value.numel() for value in own.values())
    state = rule.start(target)
    log = Log(parameters, course.progress)
    log.history += course.history
    log.began -= max((line["seconds"] for line in course.history), default=0.0)
    if course.resume is not None:
        restore(course.resume, state, target)
    first = {name: value[None].clone() for name, value in (remembered(state) or own).items()}
    write = log.phase(phase)
    told = course.history[-1]["elbo"] if course.history else -float("inf")
    kept = time.monotonic()

    def report(step: int, best: float, size: float, left: float) -> None:
        nonlocal told
        if best > told or step % LOGGED == 0:
            told = best
            write(step, best, size, left)
        elif course.progress is not None:
            course.progress(phase, step, best, left)

    with Whole() as whole:

        def after(state: GradientState) -> None:
            nonlocal kept
            if course.keep is not None and time.monotonic() - kept > settings.checkpoint_every:
                course.keep(trained(state, Status.INTERRUPTED, state.step))
                kept = time.monotonic()
            whole.between()

        def trained(state: GradientState, status: Status, steps: int) -> Trained:
            found, elbo = rule.found(state, target)
            params = {name: value[None].cpu() for name, value in found.items()}
            done = status is Status.DIVERGED or (status is Status.CONVERGED and not goes_on)
            return Trained(
                params, elbo, status, steps, log.seconds, tuple(log.history), None,
                _why(status, steps, target, settings.objective), rule.name,
                checkpoint=None if done else capture(state, target),
            )  # fmt: skip

        ended = loop(
            _Started(rule, state, rule.name), target, first, rule.batches(state, target), Told(),
            most, report, after,
        )  # fmt: skip
    return trained(ended.state, ended.status, ended.steps)


def _why(status: Status, steps: int, target: StochasticTarget, objective: str) -> str:
    if status is Status.CONVERGED:
        return ""
    if status is Status.DIVERGED:
        return f"{target.where()} was not finite, whatever the step size; the last good state is kept"
    if status is Status.MAX_STEPS:
        said = f"the {objective} was still rising after {steps} steps"
        return f"{said}; `ppl resume` goes on, with more --steps"
    return "stopped before it was done; `ppl resume` goes on"
