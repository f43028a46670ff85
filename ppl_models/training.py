"""Training: the race of the restarts, and the one loop, `_train`, that every fit runs through."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import torch

from ppl_models.data import Dataset
from ppl_models.data.batches import minibatches
from ppl_models.errors import UsageError
from ppl_models.inference.conjugate import ConjugateRule, State, Statistics
from ppl_models.inference.convergence import Plateau, Windows
from ppl_models.inference.starts import starts
from ppl_models.latent.rows import Rows
from ppl_models.model import Model
from ppl_models.models.joint import Batch, Joint

RACE = 8_000
"""Rows that the restarts race on; the winner goes on with all rows."""

Progress = Callable[[str, int, float, float], None]
"""Called as (phase, step, ELBO, nats a parameter left to gain)."""


class Status(StrEnum):
    """How the training ended."""

    CONVERGED = "converged"
    MAX_STEPS = "max_steps"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Restarts:
    """How the restarts ended: their ELBOs on the rows they raced on, best first."""

    elbo: tuple[float, ...]
    rows: int
    steps: int

    @property
    def agreeing(self) -> int:
        """Restarts that ended within 1 nat of the best."""
        return sum(self.elbo[0] - value < 1.0 for value in self.elbo)


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves: the guide's statistics and how it went."""

    statistics: dict[str, torch.Tensor]
    elbo: float
    status: Status
    steps: int
    seconds: float
    history: tuple[dict[str, Any], ...]
    restarts: Restarts | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Settings:
    """How to train, apart from what to fit."""

    seed: int = 0
    device: str = "cpu"
    restarts: int = 8
    batch_size: int | None = None
    steps: int = 2_000
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        for name, least in (("restarts", 1), ("steps", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if self.batch_size is not None and self.batch_size < 1:
            raise UsageError(f"batch_size must be at least 1, got {self.batch_size}")
        if not self.tolerance > 0:
            raise UsageError(f"tolerance must be positive, got {self.tolerance}")


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


def _train(
    rule: ConjugateRule,
    joint: Joint,
    statistics: Statistics,
    batches: Iterator[Batch],
    monitor: Plateau | Windows,
    steps: int,
    report: Callable[[int, float, float, float], None],
) -> tuple[State, Status]:
    """The training loop: steps until every restart is done.

    Returns:
        The final state of all restarts, `best` being their ELBOs, and the status of the whole.
    """
    state = rule.init(statistics)
    active = torch.arange(state.best.shape[0], device=state.best.device)
    final = {name: value.clone() for name, value in statistics.items()}
    elbo, finished = state.best.clone(), -float("inf")
    taken, status = 0, Status.MAX_STEPS
    try:
        for batch in batches:
            if taken >= steps:
                break
            state, info = rule.step(joint, state, batch)
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
    return State(final, taken, elbo), status


def _repeat(batch: Batch) -> Iterator[Batch]:
    while True:
        yield batch


def train(
    model: Model, joint: Joint, data: Dataset, settings: Settings, progress: Progress | None = None
) -> Trained:
    """Race the restarts, then train the best one on all rows."""
    began = time.perf_counter()
    rule = ConjugateRule()
    limit = settings.tolerance * max(joint.parameters, 1)
    history: list[dict[str, Any]] = []

    def reporter(phase: str) -> Callable[[int, float, float, float], None]:
        def report(step: int, best: float, size: float, left: float) -> None:
            seconds = round(time.perf_counter() - began, 6)
            history.append(
                {"phase": phase, "step": step, "elbo": best, "step_size": size, "seconds": seconds}
            )
            if progress is not None:
                progress(phase, step, best, left / max(joint.parameters, 1))

        return report

    everything = Rows(np.asarray(data.lengths, np.int64))
    some = _excerpt(data, RACE)
    batch = joint.dataset_batch(some, settings.device)
    number = 1 if joint.states == 1 else settings.restarts
    labels = np.stack(list(starts(some, batch.rows, joint.states, number, settings.seed)))
    first = joint.from_labels(batch, torch.as_tensor(labels, device=batch.values.device))
    state, status = _train(
        rule, joint, first, _repeat(batch), Plateau(limit), settings.steps, reporter("restarts")
    )
    ranked = state.best.nan_to_num(nan=-torch.inf, neginf=-torch.inf).sort(descending=True)
    best = ranked.indices[:1]
    statistics = {name: value[best] for name, value in state.statistics.items()}
    finished = float(ranked.values[0])
    restarts = Restarts(tuple(ranked.values.tolist()), some.rows, state.step)
    steps = state.step

    if status is not Status.INTERRUPTED and (some is not data or settings.batch_size):
        scale = data.rows / some.rows
        statistics = {name: scale * value for name, value in statistics.items()}
        if settings.batch_size and settings.batch_size < data.rows:
            batches, monitor = _stochastic(joint, data, settings, statistics)
            rule = replace(rule, delay=float(monitor.size))  # the start weighs as much as a pass
        else:
            batches = _repeat(joint.batch(data.values, everything, settings.device))
            monitor = Plateau(limit)
        state, status = _train(
            rule, joint, statistics, batches, monitor, settings.steps, reporter("all rows")
        )
        statistics, finished, steps = state.statistics, float(state.best[0]), steps + state.step
        if settings.batch_size:
            whole = joint.batch(data.values, everything, settings.device)
            finished = float(joint.elbo(whole, statistics)[0][0])
    reason = _why(status, settings) if status is not Status.CONVERGED else ""
    return Trained(
        joint.canonical(statistics), finished, status, steps, time.perf_counter() - began,
        tuple(history), restarts, reason,
    )  # fmt: skip


def _why(status: Status, settings: Settings) -> str:
    if status is Status.MAX_STEPS:
        return f"the ELBO was still rising after {settings.steps} steps; allow more with --steps"
    if status is Status.DIVERGED:
        return "the ELBO was not a finite number; the last state before that is kept"
    return "stopped before it was done"


def _stochastic(
    joint: Joint, data: Dataset, settings: Settings, statistics: Statistics
) -> tuple[Iterator[Batch], Windows]:
    """Mini-batches on the device, with a buffer in which the chain forgets."""
    size = settings.batch_size
    assert size is not None
    log_A = joint.expected_natural(statistics)["transition"][0]
    A = log_A.softmax(-1)
    second = torch.linalg.eigvals(A).abs().sort(descending=True).values[1:2]
    mixing = float(second.clamp(1e-6, 1 - 1e-6).log()) if len(second) else -1.0
    buffer = min(int(np.ceil(np.log(1e-3) / mixing)), size)
    rng = np.random.default_rng(settings.seed)

    def batches() -> Iterator[Batch]:
        for part in minibatches(data.lengths, size, buffer, rng):
            rows = Rows(part.lengths, part.entered, part.weight)
            yield joint.batch(data.values[part.rows], rows, settings.device, part.scale)

    return batches(), Windows(max(1, -(-data.rows // size)), data.rows)


def _excerpt(data: Dataset, rows: int) -> Dataset:
    """About `rows` rows: all of a small data set, else sequences, or blocks of them, spread over it."""
    if data.rows <= 2 * rows:
        return data
    lengths = np.minimum(data.lengths, max(rows // 8, 1))
    offsets = np.concatenate([[0], np.cumsum(data.lengths)])[:-1]
    blocks: list[tuple[int, int]] = []
    if len(lengths) >= 8:
        wanted = np.linspace(0, len(lengths) - 1, max(8, int(rows / lengths.mean()))).round().astype(int)
        blocks = [(int(offsets[i]), int(lengths[i])) for i in np.unique(wanted)]
        while sum(b[1] for b in blocks) > 2 * rows and len(blocks) > 8:
            blocks = blocks[::2]
    else:
        for offset, length in zip(offsets, data.lengths, strict=True):
            share = max(1, round(8 * length / data.rows))
            size = min(rows // 8, length // share)
            for at in np.linspace(0, length - size, share).round().astype(int):
                blocks.append((int(offset + at), int(size)))
    index = np.concatenate([np.arange(lo, lo + size) for lo, size in blocks])
    return replace(
        data,
        values=np.ascontiguousarray(data.values[index]),
        lengths=np.array([size for _, size in blocks], np.int64),
        sequence_ids=("",) * len(blocks),
        times=None,
    )
