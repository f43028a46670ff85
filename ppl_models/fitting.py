"""fit(): from a model and data to a checked posterior. The one training loop is `_train`."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ppl_models.data import Dataset, read
from ppl_models.data.batches import minibatches
from ppl_models.data.files import budget
from ppl_models.errors import DataError, Unsupported, UsageError
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


@dataclass(frozen=True, eq=False)
class Fit:
    """A model fitted to data: the guide, how training went, and the verbs.

    Attributes:
        model: the model.
        data: what it was fitted to.
        trained: the guide's statistics, ELBO, status and history.
        settings: seed, device and the like.
        candidates: the scores of all models that were tried, when one was selected.
        path: the run directory it was loaded from or saved to, if any.
    """

    model: Model
    data: Dataset
    trained: Trained
    settings: Settings
    candidates: tuple[Mapping[str, Any], ...] = ()
    path: str | None = field(default=None)

    @cached_property
    def joint(self) -> Joint:
        """The model bound to the columns."""
        return self.model.bind(self.data.schema)

    @property
    def statistics(self) -> dict[str, torch.Tensor]:
        """Expected sufficient statistics: with the prior, the guide's natural parameters."""
        return self.trained.statistics

    @property
    def status(self) -> Status:
        """How the training ended."""
        return self.trained.status

    @property
    def elbo(self) -> float:
        """The evidence lower bound, in nats, in the user's units."""
        return self.trained.elbo

    @cached_property
    def posterior_draws(self) -> Any:
        """Draws of θ with log p, log q and importance weights: `ppl_models.posterior.Posterior`."""
        from ppl_models.posterior import draw_posterior

        return draw_posterior(self)

    @cached_property
    def posterior(self) -> Any:
        """ArviZ data: `InferenceData` on ArviZ 0.x, a `DataTree` on 1.x."""
        from ppl_models.posterior import to_arviz

        return to_arviz(self)

    def summary(self, **options: Any) -> Any:
        """Posterior means, standard deviations and intervals, a row for each parameter (pandas)."""
        from ppl_models.tasks import summary

        return summary(self, **options)

    def check(self) -> Any:
        """Whether to trust the fit: checks with reasons and a verdict."""
        from ppl_models.diagnostics.checks import check

        return check(self)

    def predict(self, data: Any = None, **options: Any) -> Any:
        """States of each row: the best path, smoothed and filtered probabilities."""
        from ppl_models.tasks import predict

        return predict(self, data, **options)

    def score(self, data: Any = None, **options: Any) -> Any:
        """Log predictive density of each row, or of each sequence with `by="sequence"`."""
        from ppl_models.tasks import score

        return score(self, data, **options)

    def sample(self, steps: int = 100, **options: Any) -> Any:
        """New rows from the posterior predictive distribution."""
        from ppl_models.tasks import sample

        return sample(self, steps, **options)

    def forecast(self, steps: int = 10, data: Any = None, **options: Any) -> Any:
        """The rows after the last one, with intervals."""
        from ppl_models.tasks import forecast

        return forecast(self, steps, data, **options)

    def impute(self, data: Any = None, **options: Any) -> Any:
        """Missing cells, with intervals."""
        from ppl_models.tasks import impute

        return impute(self, data, **options)

    def transform(self, data: Any = None, **options: Any) -> Any:
        """Each row as the probabilities of its states."""
        from ppl_models.tasks import transform

        return transform(self, data, **options)

    def save(self, path: Any = None, *, force: bool = False) -> Any:
        """Write a run directory and return its path."""
        from ppl_models.runs import save

        return save(self, path, force=force)

    def _repr_html_(self) -> str:
        from ppl_models.display import fit_html

        return fit_html(self)

    def __repr__(self) -> str:
        from ppl_models.display import fit_text

        return fit_text(self)


def fit(
    model: Model,
    data: Any,
    *,
    seed: int = 0,
    device: str = "auto",
    restarts: int = 8,
    batch_size: int | None = None,
    steps: int = 2_000,
    tolerance: float = 1e-3,
    progress: Progress | None = None,
    **reading: Any,
) -> Fit:
    """Fit a model to data.

    Args:
        model: for instance `HMM(states=3)`.
        data: a path, `-` for stdin, a data frame, an array or a list of arrays, or a `Dataset`.
        seed: of starts, draws and batches. Equal seeds give equal fits on one machine.
        device: `auto`, `cpu` or `cuda`.
        restarts: starts that race; the best is kept.
        batch_size: rows a mini-batch; all rows at once if not given.
        steps: at most.
        tolerance: nats a parameter that may be left to gain; see `ppl_models.inference.convergence`.
        progress: called after every step.
        **reading: `columns`, `ignore`, `types`, `sequence`, `time`, `lengths`, …: see `ppl_models.data.read`.

    Returns:
        The fit. One that did not converge is returned as well, and says so in `status` and `check()`.

    Raises:
        DataError: if the data cannot be read, or the model cannot be fitted to it.
        UsageError: if an option cannot be meant.
    """
    if not isinstance(model, Model):
        raise UsageError(f"the first argument must be a model such as HMM(states=3), got {model!r}")
    settings = Settings(seed, resolve_device(device), restarts, batch_size, steps, tolerance)
    dataset = _read_for(model, data, reading)
    dataset = replace(dataset, schema=model.refer(dataset))
    joint = model.bind(dataset.schema)
    if not isinstance(joint, Joint):
        raise Unsupported(f"{model.name} has no update rule")
    if dataset.rows < 1:
        raise DataError(f"{dataset.source}: no rows; {model.name} needs at least one")
    _check_memory(joint, dataset, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trained = train(model, joint, dataset, settings, progress)
    return Fit(model, dataset, trained, settings)


def _check_memory(joint: Joint, data: Dataset, settings: Settings) -> None:
    """Refuse what would not fit, before anything is done.

    Raises:
        DataError: with the estimate.
    """
    need, free = joint.working_bytes(settings.restarts), budget()
    if need > free:
        columns = len(data.names)
        raise DataError(
            f"{data.source}: {columns} columns and {joint.states} states take about {need / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free; use --covariance diag, fewer --columns, states or --restarts"
        )


def _read_for(model: Model, data: Any, reading: dict[str, Any]) -> Dataset:
    """Read data, with the kinds of column that the model's emission asks for."""
    if isinstance(data, Dataset):
        if any(value is not None for value in reading.values()):
            raise UsageError(f"data was read already; {', '.join(reading)} can no longer apply")
        return data
    dataset = read(data, **reading)
    types = dict(model.types(dataset.schema))
    if not types:
        return dataset
    if isinstance(data, str) and data == "-":
        raise UsageError(f"standard input can be read once; give --types {','.join(types)}=… with it")
    options: dict[str, Any] = reading | {"types": types | dict(reading.get("types") or {})}
    return read(data, **options)


def select(model: Model, data: Any, values: Mapping[str, Any], **options: Any) -> Fit:
    """Fit a model for each value of one field, and keep the one with the highest evidence.

    ELBOs are compared with log K! added for the K! orders of the states, all equally good, of which the
    guide covers one (Bishop 2006, PRML, §10.2.4). A model with states that no row is in is only chosen where
    all have some: it says no more than the smaller one.

    Args:
        model: the other fields.
        data: as for `fit`; read once.
        values: the field and its values, `{"states": range(1, 7)}`.
        **options: as for `fit`.
    """
    from math import lgamma, log

    ((name, tried),) = values.items()
    tried = list(tried)
    if not tried:
        raise UsageError(f"no values of {name} to select from")
    reading = {k: options.pop(k) for k in list(options) if k not in _FIT_OPTIONS}
    dataset = _read_for(model, data, reading)
    fits, rows = [], []
    for value in tried:
        each = fit(replace(model, **{name: value}), dataset, **options)
        K = each.joint.states
        evidence = each.elbo + lgamma(K + 1)
        natural = each.joint.expected_natural(each.statistics)
        likelihood = float(each.joint.local(each.joint.dataset_batch(dataset), natural)[0][0])
        free = each.joint.parameters
        empty = int((occupied(each.statistics) < 1.0).sum())
        fits.append(each)
        rows.append(
            {
                name: value,
                "evidence": evidence,
                "log_likelihood": likelihood,
                "empty": empty,
                "parameters": free,
                "bic": free * log(max(dataset.rows, 1)) - 2 * likelihood,
                "status": str(each.status),
                "seconds": round(each.trained.seconds, 3),
            }
        )
        if each.status is Status.INTERRUPTED:
            break
    best = max(range(len(fits)), key=lambda i: (rows[i]["empty"] == 0, rows[i]["evidence"]))
    return replace(fits[best], candidates=tuple(rows))


def occupied(statistics: Statistics) -> torch.Tensor:
    """Expected rows in each state, (K,): every row is the start of a sequence or entered from another."""
    return (statistics["start"][0] + statistics["transition"][0].sum(0)).cpu()


_FIT_OPTIONS = {"seed", "device", "restarts", "batch_size", "steps", "tolerance", "progress"}
