"""From a model and data to a record of a fit: reading, binding, training. Nothing here offers verbs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from typing import Any

import torch

from ppl_models.bound import Bayesian, Bound
from ppl_models.capabilities import Conditional
from ppl_models.data import Dataset, read
from ppl_models.data.files import budget, file_of
from ppl_models.data.pairs import unwrapped
from ppl_models.distributed import Divided, Shares, Team, packed
from ppl_models.errors import DataError, Lost, Unsupported, UsageError
from ppl_models.forming import formed, launched
from ppl_models.inference.loop import FROM_START, Course, Status, Trained, resolve_device
from ppl_models.inference.settings import STARTS, NetworkSettings, Training, settings_of
from ppl_models.model import Model
from ppl_models.record import Record
from ppl_models.registry import complete, numeric_targets, reference
from ppl_models.threads import threads_for


def checked(model: Any) -> Model:
    """The model, if it is one, with a name.

    Raises:
        UsageError: it is not a model.
    """
    if not isinstance(model, Model):
        raise UsageError(f"the first argument must be a model such as HMM(states=3), got {model!r}")
    complete(type(model), type(model).__name__.lower())
    return model


def settings_for(model: Model, given: Mapping[str, Any]) -> Training:
    """How to train a model, on a device that is there.

    Raises:
        UsageError: a value cannot be meant.
    """
    found = settings_of(type(model).settings, given)
    if found.device == "auto" and not any(bound.on_device for bound in type(model).bounds()):
        return replace(found, device="cpu")
    return replace(found, device=resolve_device(found.device))


def read_for(model: Model, data: Any, reading: Mapping[str, Any]) -> Dataset:
    """Read data once, with the kinds of column that the model asks for, and what its priors refer to.

    Args:
        model: which asks.
        data: a file, a table in memory, or a data set that was read already.
        reading: options of reading.

    Raises:
        UsageError: options of reading with data that was read already.
        DataError: it cannot be read.
    """
    if isinstance(data, Dataset):
        if any(value is not None for value in reading.values()):
            raise UsageError(f"data was read already; {', '.join(reading)} can no longer apply")
        return data
    if not any(bound.takes_arrays for bound in type(model).bounds()):
        data = unwrapped(data)
    return read(data, refine=model.types, **model.reading(reading))


def fitted(
    model: Model,
    data: Dataset,
    settings: Training,
    course: Course = FROM_START,
    keep: Callable[[Record], None] | None = None,
) -> Record:
    """Fit a model to data that was read for it, from the start or from a checkpoint.

    Args:
        model: the model.
        data: the rows.
        settings: how to train.
        course: a checkpoint to go on from, and whom to tell.
        keep: handed what there is from time to time, so that a run can go on from there.

    Raises:
        DataError: the model cannot be fitted to it.
        UsageError: an option cannot be meant.
    """
    _check_target(model, data)
    data = replace(data, schema=model.refer(data))
    bound = model.bind(data.schema)
    _check_form(model, bound, data)
    if not (bound.on_device or settings.device.startswith("cpu")):
        note = f"{model.name} computes on the CPU: the device {settings.device} made no difference"
        return fitted(model, data, replace(settings, device="cpu"), course, keep).noted(note)
    bound = bound.prepare(data)
    if data.weight is not None and not bound.exchangeable:
        raise UsageError(f"{model.name} cannot weigh rows, as they follow one another; leave --weights out")
    _check_memory(bound, data, settings)
    if settings.method == "nuts":
        _check_chains(model, bound, data)
    kept: list[Trained] = []

    def write(trained: Trained) -> None:
        assert keep is not None
        keep(Record(model, data, trained, settings, bound))
        kept.append(trained)

    if keep is not None:
        course = replace(course, keep=write)
    with _processes(bound, data, settings) as team:
        alone = data.cluster is not None and not isinstance(bound, Divided)
        data = replace(data, cluster=None)
        if team is None:
            found = trained(model, bound, data, settings, course)
            note = f"{model.name} was fitted by this process alone: Dask has only computed the rows"
            return found.noted(note) if alone else found
        record = None
        try:
            shared, course = divided(team, model, bound, data, settings, course)
            record = trained(model, bound, shared, settings, course)
            return record.alone(data)
        except Lost as error:
            if record is not None and record.trained.checkpoint is not None and keep is not None:
                write(replace(record.trained, status=Status.INTERRUPTED))
            what = "`ppl resume` goes on from the last pass" if kept else "fit again"
            raise Lost(f"{error}; {what}") from error


@contextmanager
def _processes(bound: Bound, data: Dataset, settings: Training) -> Iterator[Team | None]:
    """Those of a fit: started for it, of its job, or of the Dask cluster that computed the rows."""
    ours = data.cluster is not None and isinstance(bound, Divided)
    with formed(1 if ours else settings.workers) as team:
        if team is not None or not ours:
            yield team
            return
    from ppl_models.cluster import gathered

    parts = data.rows if bound.exchangeable else len(data.lengths)
    with gathered(data.cluster, min(parts, settings.workers if settings.workers > 1 else parts)) as team:
        yield team


def trained(
    model: Model, bound: Bound, data: Dataset, settings: Training, course: Course = FROM_START
) -> Record:
    """Train a model that knows its columns and what its priors refer to.

    Args:
        model: the model.
        bound: the same over the columns, prepared.
        data: the rows.
        settings: how to train.
        course: a checkpoint to go on from, and whom to tell.
    """
    work = bound.numbers(data) * (getattr(settings, "restarts", 1) or STARTS)
    with torch.random.fork_rng(devices=[]), threads_for(work):
        torch.manual_seed(settings.seed)
        found = bound.train(data, settings, course)
    return Record(model, data, found, settings, bound)


def divided(
    team: Team, model: Model, bound: Bound, data: Dataset, settings: Training, course: Course
) -> tuple[Dataset, Course]:
    """Give each process its part of a fit.

    Args:
        team: the processes.
        model: what is fitted.
        bound: the same over the columns of the data.
        data: the rows.
        settings: how it is trained.
        course: what else the training is told.

    Returns:
        The rows with who has which of them; and the course, with the processes that take part in gradients.

    Raises:
        UsageError: the model is fitted by one process only, or a process cannot take part.
    """
    if not isinstance(bound, Divided) and not isinstance(settings, NetworkSettings):
        raise UsageError(f"{model.name} is fitted by one process; leave --workers out")
    team.introduce(
        {
            "model": reference(type(model)),
            "fields": {field.name: getattr(model, field.name) for field in fields(model)},
            "schema": data.schema.to_dict(),
            "settings": asdict(settings),
            "path": data.path,
            "file": None if data.path is None else file_of(data.path),
            "launched": launched(),
        }
    )
    if not isinstance(bound, Divided):
        team.tell("train", {"source": data.source, "sequence_ids": list(data.sequence_ids)}, packed(data))
        return data, replace(course, team=team)
    own = team.deal(bound.deal(data, team.size))
    return replace(data, shares=Shares(team, bound.share(own))), course


def _check_form(model: Model, bound: Bound, data: Dataset) -> None:
    """Refuse data whose form the model cannot take.

    Raises:
        DataError: saying which.
    """
    if data.arrays and not bound.takes_arrays:
        names = ", ".join(data.arrays)
        raise DataError(f"{data.source}: {model.name} takes a table; {names} have other shapes than its rows")
    if data.rows < 1 and not data.arrays:
        raise DataError(f"{data.source}: no rows; {model.name} needs at least one")


def _check_chains(model: Model, bound: Bound, data: Dataset) -> None:
    """Refuse Markov chains where there are none.

    Raises:
        Unsupported: saying why.
    """
    if not isinstance(bound, Bayesian):
        raise Unsupported(f"--method=nuts draws from a posterior, and {model.name} has point estimates")
    if why := bound.unchained(data):
        raise Unsupported(f"--method=nuts: {model.name} {why}; leave it out")


def _check_target(model: Model, data: Dataset) -> None:
    """Refuse a number as the target of a model that only classifies.

    Raises:
        DataError: naming the models that predict numbers.
    """
    bounds, target = type(model).bounds(), data.schema.target
    classifies = any(issubclass(bound, Conditional) for bound in bounds)
    if target is None or not classifies or any(bound.numeric_target for bound in bounds):
        return
    column = data.schema.columns[data.schema.names.index(target)]
    if not column.labelled:
        what = f"a {column.kind} column such as {target!r} cannot be the target of {model.name}"
        raise DataError(
            f"{data.source}: {what}, which predicts labels; numbers are predicted by {numeric_targets()}"
        )


def _check_memory(bound: Bound, data: Dataset, settings: Training) -> None:
    """Refuse what would not fit, before anything is done.

    Raises:
        DataError: with the estimate.
    """
    need, free = bound.working_bytes(settings), budget()
    if need > free:
        columns = len(data.names)
        raise DataError(
            f"{data.source}: {bound.describe} over {columns} columns takes about {need / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free; use --covariance diag, fewer --columns or --restarts"
        )
