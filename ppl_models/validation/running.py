"""Many simulations, on several processes, written down as they come.

    OUT/simulations.jsonl    first what they have in common, then a line for each simulation in any order

A simulation follows from its number and the seed, so that it is the same on however many workers, and a run
that was stopped goes on with those that are missing. A last line that was cut off is done again.
"""

import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, fields
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from ppl_models import store
from ppl_models.api import apart
from ppl_models.errors import OutputError, RunError, UsageError
from ppl_models.model import Model
from ppl_models.registry import find, reference
from ppl_models.threads import set_threads
from ppl_models.validation.result import Calibration
from ppl_models.validation.simulation import Bench, bench

FILE = "simulations.jsonl"
"""The file in the directory of the simulations."""

VERSION = 1
"""Of what it means."""

Told = Callable[[int, int], None]


def sbc(
    model: Model,
    data: Any = None,
    *,
    simulations: int = 200,
    rows: int = 100,
    columns: int | Sequence[str] = 2,
    rank_draws: int = 99,
    workers: int = 1,
    out: Any = None,
    force: bool = False,
    level: float = 0.95,
    progress: Told | None = None,
    **options: Any,
) -> Calibration:
    """Simulation-based calibration: whether fits to data of known parameters are right about them.

    Parameters are drawn from the prior, data from these, and the model is fitted to the data. If all is well
    the true value of whatever follows from the parameters is equally likely to have any rank among the draws
    of its posterior: see `ppl_models.validation.simulation`, and docs/trust.md.

    Sizes of the prior that a fit would learn from the data are filled in first (`Bound.open_fields`), as a
    prior that follows from the data is none that data could be drawn from.

    Args:
        model: gmm, hmm, logistic, glm or a user-defined one, with its fields.
        data: a template, as for `fit`: columns and what is not random in them (predictors, known numbers,
            lengths of sequences, missing cells). Standard normal columns if None.
        simulations: N.
        rows: of a template that is made up.
        columns: how many there are in one, beside the target; of `data` the names of those to be taken.
        rank_draws: L, draws of each fit that the truth is ranked among.
        workers: processes, each of one thread.
        out: a directory that simulations are written to as they come, and that one can go on with.
        force: begin anew, whatever is in `out`.
        level: of the band, for all quantities together.
        progress: called as (done, of all) after every simulation.
        **options: how to train and how to read the template, as for `fit`; `seed` is that of everything.

    Raises:
        Unsupported: the model has no such posterior, or no prior that can be drawn from.
        UsageError: an option cannot be meant, or `out` has simulations of something else.
        DataError: the template cannot be read.
    """
    for name, value in (("simulations", simulations), ("workers", workers), ("rows", rows)):
        if value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    if isinstance(columns, int) and columns < 1:
        raise UsageError(f"columns must be at least 1, got {columns}")
    if not 0 < level < 1:
        raise UsageError(f"level must be between 0 and 1, got {level}")
    settings, reading = apart(options)
    if not isinstance(columns, int):
        reading, columns = reading | {"columns": columns}, len(columns)
    given = {"rows": rows, "columns": columns, "draws": rank_draws}
    shared = bench(model, data, settings, reading, **given)
    about = _about(shared)
    folder = None if out is None else Path(os.fspath(out))
    if folder is None:
        done: dict[int, dict[str, Any]] = {}
        for found in _made(shared, (model, data, settings, reading, given), range(simulations), workers):
            _keep(done, found, simulations, progress)
        return Calibration(about, tuple(done.values()), rank_draws, level)
    with store.lock(folder):
        done = {} if force else _written(folder, about)
        done = {number: each for number, each in done.items() if number < simulations}
        left = [number for number in range(simulations) if number not in done]
        with _opened(folder, about, force or not done) as file:
            for found in _made(shared, (model, data, settings, reading, given), left, workers):
                file.write(json.dumps(found) + "\n")
                file.flush()
                _keep(done, found, simulations, progress)
    return Calibration(about, tuple(done[number] for number in sorted(done)), rank_draws, level)


def _keep(
    done: dict[int, dict[str, Any]], found: dict[str, Any], simulations: int, progress: Told | None
) -> None:
    done[found["simulation"]] = found
    if progress is not None:
        progress(len(done), simulations)


def _about(shared: Bench) -> dict[str, Any]:
    """What simulations have in common, by which they are known again."""
    settings = {name: value for name, value in asdict(shared.settings).items() if name != "device"}
    schema = json.dumps(shared.template.schema.to_dict(), sort_keys=True, default=str)
    return json.loads(
        json.dumps(
            {
                "sbc": VERSION,
                "model": reference(type(shared.model)),
                "fields": {f.name: getattr(shared.model, f.name) for f in fields(shared.model)},
                "settings": settings,
                "rank_draws": shared.draws,
                "rows": shared.template.rows,
                "template": shared.template.sha256,
                "schema": hashlib.sha256(schema.encode()).hexdigest(),
            },
            default=str,
        )
    )


def _written(folder: Path, about: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The simulations of a directory by their numbers; nothing if there are none.

    Raises:
        UsageError: they are of something else.
        RunError: the file cannot be read.
    """
    path = folder / FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: cannot be read ({error}); --force begins anew") from None
    read = [each for each in map(_parsed, lines) if each is not None]
    if not read or "sbc" not in read[0]:
        raise RunError(f"{path}: is no file of simulations; --force begins anew")
    if different := sorted(_different(read[0], about)):
        raise UsageError(
            f"{folder} has simulations with another {', '.join(different)}: give another --out, or --force "
            "to begin anew"
        )
    return {each["simulation"]: each for each in read[1:] if "simulation" in each}


def _different(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Names of what is not the same, those of fields and settings one by one."""
    for name, value in now.items():
        if isinstance(value, dict) and isinstance(was.get(name), dict):
            yield from _different(was[name], value)
        elif was.get(name) != value:
            yield name


def _parsed(line: str) -> dict[str, Any] | None:
    """A line, or None of one that was cut off."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _opened(folder: Path, about: Mapping[str, Any], anew: bool) -> Any:
    """The file to write further simulations to.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if anew:
            path.write_text(json.dumps(about) + "\n", encoding="utf-8")
        file = open(path, "a+", encoding="utf-8")
        file.seek(0, os.SEEK_END)
        if file.tell():  # what was cut off is not gone on with
            file.seek(file.tell() - 1)
            if file.read(1) != "\n":
                file.write("\n")
        return file
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None


def _made(shared: Bench, given: tuple[Any, ...], numbers: Sequence[int], workers: int) -> Iterator[dict]:
    """Simulations as they are done."""
    if workers == 1 or len(numbers) < 2:
        yield from map(shared.of, numbers)
        return
    model, data, settings, reading, sizes = given
    name = reference(type(model))
    values = {f.name: getattr(model, f.name) for f in fields(model) if f.init}
    if name.startswith("__main__:"):
        raise UsageError(
            f"{type(model).__name__} is of this session alone: write it to a file, or take workers=1"
        )
    pool = ProcessPoolExecutor(
        min(workers, len(numbers)),
        get_context("spawn"),
        _start,
        (name, values, data, settings, reading, sizes),
    )
    try:
        with _uninterrupted():  # workers begin with the first submissions
            waiting: list[Future[dict[str, Any]]] = [pool.submit(_one, number) for number in numbers]
        for each in as_completed(waiting):
            yield each.result()
    finally:  # also where it was stopped: what is under way is ended, nothing further begun
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes that are begun in the block take no notice of Ctrl-C: their parent says when to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)


_bench: Bench | None = None  # of a worker


def _start(name: str, values: dict[str, Any], data: Any, settings: Any, reading: Any, given: Any) -> None:
    """Import everything once a worker."""
    import warnings

    import torch

    global _bench
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    set_threads(1)
    _bench = bench(find(name, files=True)(**values), data, settings, reading, **given)


def _leave_with_parent() -> None:
    """End the worker where its parent was killed: nobody else would."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _one(number: int) -> dict[str, Any]:
    assert _bench is not None
    return _bench.of(number)
