"""The one training loop, and what goes into it and comes out of it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from ppl_models.draws import Params
from ppl_models.errors import UsageError
from ppl_models.inference.conjugate import Info
from ppl_models.inference.convergence import Plateau, Told, Windows
from ppl_models.inference.ranks import Ranks

if TYPE_CHECKING:
    from ppl_models.inference.checkpoint import Checkpoint

Progress = Callable[[str, int, float, float], None]
"""Called as (phase, step, ELBO, nats a parameter left to gain)."""

Report = Callable[[int, float, float, float], None]
"""Called as (step, ELBO, step size, nats left to gain)."""


class Rule(Protocol):
    """An update rule: `state, info = step(problem, state, batch)`."""

    name: str

    def init(self, params: Params, /) -> Any:
        """The state to start from."""
        ...

    def step(self, problem: Any, state: Any, batch: Any) -> tuple[Any, Info]:
        """One evaluation of the ELBO and one move.

        Args:
            problem: what the rule asks of a model.
            state: of the step before, or of `init`.
            batch: the rows of this step.

        Returns:
            The state to go on from; and of each restart the ELBO in nats, whether the step was taken, how
            long it was, and the parameters that the ELBO is of.
        """
        ...


class Looped(NamedTuple):
    """What the loop leaves: parameters and ELBOs of every restart, the steps taken, the status, the state."""

    params: dict[str, torch.Tensor]
    elbo: torch.Tensor
    steps: int
    status: "Status"
    state: Any


class Status(StrEnum):
    """How the training ended."""

    CONVERGED = "converged"
    MAX_STEPS = "max_steps"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Restarts:
    """How the restarts ended.

    Attributes:
        elbo: their ELBOs on the rows they raced on, best first.
        rows: those rows.
        steps: of the longest.
        within: nats from the best in which others are taken to be the same optimum.
        gain: nats on those rows that exchanging components gained on the best.
    """

    elbo: tuple[float, ...]
    rows: int
    steps: int
    within: float = 1.0
    gain: float = 0.0

    @property
    def agreeing(self) -> int:
        """Restarts that ended within `within` nats of the best: as far as they were trained, the same."""
        return sum(self.elbo[0] + self.gain - value < self.within for value in self.elbo)

    @property
    def disagree(self) -> bool:
        """Whether there are several, and fewer than three of them ended with the best."""
        return len(self.elbo) > 1 and self.agreeing < min(3, len(self.elbo))


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves: the guide's parameters, the rule, and how it went."""

    params: dict[str, torch.Tensor]
    elbo: float
    status: Status
    steps: int
    seconds: float
    history: tuple[dict[str, Any], ...]
    restarts: Restarts | None
    reason: str = ""
    rule: str = ""
    notes: tuple[str, ...] = ()
    separated: bool = False
    checkpoint: "Checkpoint | None" = None


@dataclass(frozen=True)
class Course:
    """Where a fit sets out from, and whom it tells on its way where it has come to.

    Attributes:
        progress: called after every step.
        resume: a checkpoint to go on from.
        history: what was told before it.
        keep: called with what there is from time to time, so that a run can go on from there.
        team: the processes that take parts of each mini-batch, if there are several.
    """

    progress: Progress | None = None
    resume: "Checkpoint | None" = None
    history: tuple[dict[str, Any], ...] = ()
    keep: "Callable[[Trained], None] | None" = None
    team: Ranks | None = None


FROM_START = Course()

STEPS = 2_000
"""Steps at most of the natural-gradient rules, which stop long before."""


def resolve_device(device: str) -> str:
    """The torch device for `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        UsageError: if it is not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.split(":")[0]
    if kind == "cpu" or (kind == "cuda" and torch.cuda.is_available()):
        return device
    if kind == "mps":
        raise UsageError("device mps has no double precision, which this model needs; use cpu")
    if kind == "cuda":
        raise UsageError("device cuda was asked for, but torch sees no GPU; use cpu")
    raise UsageError(f"device must be auto, cpu, cuda or mps, got {device!r}")


def loop(
    rule: Rule,
    problem: Any,
    params: Params,
    batches: Iterator[Any],
    monitor: Plateau | Windows | Told,
    steps: int,
    report: Report,
    after: Callable[[Any], None] | None = None,
) -> Looped:
    """The training loop: steps until every restart is done.

    Args:
        rule: its `init` and `step` make the state; see `ppl_models.inference`.
        problem: what the rule asks of the model.
        params: where to start, with a leading dimension of restarts.
        batches: what to step on.
        monitor: says which restarts are done.
        steps: at most.
        report: called after every step with its number, the best ELBO, the step size and what is left to
            gain.
        after: called after every step with the state.
    """
    state = rule.init(params)
    active = torch.arange(state.best.shape[0], device=state.best.device)
    final = {name: value.clone() for name, value in params.items()}
    elbo, finished = state.best.clone(), -float("inf")
    taken, status = state.step, Status.MAX_STEPS
    try:
        for batch in batches:
            if taken >= steps:
                break
            state, info = rule.step(problem, state, batch)
            sound = torch.isfinite(info.elbo)
            if not bool(sound.any()):
                status = Status.DIVERGED
                break
            taken += 1
            elbo[active[sound]] = info.elbo[sound]
            for name, value in info.kept.items():
                final[name][active[sound]] = value[sound]
            done = monitor.update(info)
            report(taken, float(elbo.max()), info.step_size, monitor.remaining)
            if after is not None:
                after(state)
            if bool(done.any()):
                finished = max(finished, float(info.elbo[done].max()))
            behind = info.elbo + 10 * monitor.left < finished - 1.0
            over = done | behind | ~sound  # what cannot catch up stops, and what is not a number
            if bool(over.any()):
                keep = (~over).nonzero().squeeze(-1)
                active, state = active[keep], state.select(keep)
                monitor.select(keep)
                if not len(active):
                    status = Status.CONVERGED
                    break
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    return Looped(final, elbo, taken, status, state)


@dataclass
class Log:
    """The history of a training, and the progress that is told of it.

    Attributes:
        parameters: of the model, by which what is left to gain is told.
        progress: whom to tell.
    """

    parameters: int
    progress: Progress | None
    began: float = field(default_factory=time.perf_counter)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Since the training began."""
        return time.perf_counter() - self.began

    def phase(self, name: str) -> Report:
        """What to call after every step of a phase."""

        def report(step: int, best: float, size: float, left: float) -> None:
            self.history.append(
                {
                    "phase": name,
                    "step": step,
                    "elbo": best,
                    "step_size": size,
                    "seconds": round(self.seconds, 6),
                }
            )
            if self.progress is not None:
                self.progress(name, step, best, left / max(self.parameters, 1))

        return report


def repeat(batch: Any) -> Iterator[Any]:
    """The same batch for ever."""
    while True:
        yield batch


def why(status: Status, most: int) -> str:
    """The reason of a status, for people, where so many steps were allowed; nothing if it converged."""
    if status is Status.CONVERGED:
        return ""
    if status is Status.MAX_STEPS:
        return f"the ELBO was still rising after {most} steps; allow more with --steps"
    if status is Status.DIVERGED:
        return "the ELBO was not a finite number; the last state before that is kept"
    return "stopped before it was done"
