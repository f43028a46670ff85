"""Fits on disk: a run directory from a fit, and a fit from a run directory.

A run directory holds:

    run.json                model, fields, data schema and fingerprint, settings, status, verdict, versions
    params.safetensors      what was learned (of a conjugate model expected sufficient statistics), and the
                            calibrated guide
    data.safetensors        the rows the model was fitted to, and the lengths of their sequences
    history.jsonl           phase, step, ELBO, step size, seconds
    posterior.nc            draws and their groups, for ArviZ
    draws.safetensors       the same draws as the model has them, and how they were weighed
    checkpoint.safetensors  of a fit that was stopped: what `resume` goes on from
"""

import platform
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppl_models import registry, store
from ppl_models.checks import Check, Report
from ppl_models.data import Dataset, Schema, read
from ppl_models.data.dataset import Lent
from ppl_models.data.files import file_of
from ppl_models.data.index import from_plain, to_plain
from ppl_models.data.spill import SPILL_BYTES
from ppl_models.draws import Posterior
from ppl_models.errors import DataError, RunError, UsageError
from ppl_models.inference.checkpoint import Checkpoint
from ppl_models.inference.loop import Restarts, Status, Trained, resolve_device
from ppl_models.inference.settings import settings_of
from ppl_models.posterior import netcdf
from ppl_models.record import UNFIT, Record
from ppl_models.stated import check_numbers, check_parts, check_rows, check_schema
from ppl_models.threads import threads_for

CALIBRATED = "calibrated."
"""What the names of parameters of a calibrated guide begin with in params.safetensors."""

CHECKPOINT, PARAMS = "checkpoint.safetensors", "params.safetensors"

ARRAY = "array."
"""What the names of arrays beside the rows begin with in data.safetensors."""

LIBRARIES = ("ppl_models", "torch", "pyro-ppl", "arviz", "numpy", "numba")


DRAWS, ESSENCE = "draws.safetensors", "essence."
"""Where draws are, and what the names of what `Bound.essence` gave begin with in data.safetensors."""

WEIGHED = ("k_hat", "k_hat_sd", "even", "corrected")
"""What run.json says of the draws, as `Posterior` has it."""


def save(fit: Record, path: Any = None, *, force: bool = False, slim: bool = False) -> Path:
    """Write a run directory.

    Args:
        fit: the fit.
        path: where; `runs/MODEL-STEM-NNN` if not given.
        force: replace a run that is there.
        slim: without the rows, and what there is of each of them.

    Raises:
        OutputError: if it cannot be written, or a run is there already.
        UsageError: if it is to be slim, and the model needs its rows.
    """
    slim = slim or fit.absent is not None
    if slim and fit.origin.essence() is None:
        raise UsageError(f"{fit.name} cannot be saved without its rows, by which it is made: leave out slim")
    with threads_for(fit.bound.numbers(fit.data)):
        return _saved(fit, path, force, slim)


def _saved(fit: Record, path: Any, force: bool, slim: bool) -> Path:
    if path is None:
        path, force = store.next_run_directory(Path("runs"), fit.model.name, Path(fit.data.source).stem), True
    params = {}
    if fit.bayesian:
        params = {f"{CALIBRATED}{name}": value for name, value in fit.calibrated.params.items()}
    said, files = manifest(fit) | judged(fit), dict[str, bytes]()
    if fit.bayesian:
        p = fit.posterior_draws
        said["draws"] = {name: getattr(p, name) for name in WEIGHED} | {
            "corrected": bool(p.corrected),
            "chains": p.chains,
        }
        files[DRAWS] = _packed(p)
    if fit.bayesian or not slim:
        files["posterior.nc"] = netcdf(fit, rows=not slim)
    if slim:
        said |= {"slim": True}
        said["data"] |= {
            "sequence_ids": [],
            "times": None,
            "stored": False,
            "rows": fit.absent or fit.data.rows,
        }
        fit = replace(fit, data=_without_rows(fit.data), trained=replace(fit.trained, checkpoint=None))
    return _write(path, fit, said, params, files, force)


def _without_rows(data: Dataset) -> Dataset:
    """Columns alone."""
    return Dataset(
        np.zeros((0, len(data.names))), data.schema, np.zeros(0, np.int64), (), None, data.source, data.notes,
    )  # fmt: skip


def _packed(p: Posterior) -> bytes:
    """Draws, log densities and weights."""
    arrays = {name: np.asarray(getattr(p, name), np.float64) for name in ("log_p", "log_q", "log_weight")}
    if p.iteration is not None:
        arrays["iteration"] = np.asarray(p.iteration, np.int64)
    for factor, sites in p.theta.items():
        arrays |= {f"{factor}/{site}": np.ascontiguousarray(v.numpy()) for site, v in sites.items()}
    return store.pack(arrays)


def _unpacked(arrays: dict[str, np.ndarray], said: dict[str, Any]) -> Posterior:
    """The same as a posterior, without the log likelihood of rows."""
    theta: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in arrays.items():
        factor, slash, site = name.partition("/")
        if slash:
            theta.setdefault(factor, {})[site] = torch.from_numpy(value)
    weighed = {name: arrays[name] for name in ("log_p", "log_q", "log_weight")}
    if {len(value) for value in (*weighed.values(), *(v for s in theta.values() for v in s.values()))} != {
        weighed["log_p"].size
    }:
        raise ValueError("its draws differ in number")
    own = {name: said[name] for name in WEIGHED}
    return Posterior(
        theta, **weighed, **own,
        by_unit=lambda: (np.zeros((len(arrays["log_p"]), 0)), "row"),
        chains=said.get("chains", 1), iteration=arrays.get("iteration"),
    )  # fmt: skip


def keeper(path: Any) -> Callable[[Record], None]:
    """What writes a fit that is not finished, to go on from with `resume`: without draws or a verdict."""

    def keep(fit: Record) -> None:
        said = {"calibration": None, "k_hat": None, "verdict": "not trusted", "checks": []}
        _write(path, fit, manifest(fit) | said, {}, {}, True)

    return keep


def _write(
    path: Any, fit: Record, said: dict[str, Any], params: dict[str, Any], files: dict[str, bytes], force: bool
) -> Path:
    data, checkpoint = fit.data, fit.trained.checkpoint
    rows: dict[str, np.ndarray] = {}
    if not said.get("slim"):
        rows["lengths"] = np.asarray(data.lengths, np.int64)
        if not _elsewhere(data):
            rows["values"] = data.values
    if data.weight is not None:
        rows["weight"] = data.weight
    rows |= {
        f"{ESSENCE}{name}": array for name, array in (fit.origin.essence() or {}).items() if said.get("slim")
    }
    rows |= {f"{ARRAY}{name}": np.array(array, np.float64) for name, array in data.arrays.items()}
    files = {"data.safetensors": store.pack(rows), **files}
    if checkpoint is not None:
        files[CHECKPOINT] = store.pack({name: value.numpy() for name, value in checkpoint.tensors.items()})
        said = said | {"checkpoint": checkpoint.numbers}
    params = {name: value.cpu().numpy() for name, value in {**fit.params, **params}.items()}
    stored = store.write_run(
        path, manifest=said, params=params, history=fit.trained.history, files=files, force=force
    )
    return stored.path


def _elsewhere(data: Dataset) -> bool:
    """Whether the rows are too many to be copied into the run: they are read again from where they are."""
    return data.path is not None and data.values.nbytes > SPILL_BYTES


def _reread(run: str, stored: dict[str, Any], schema: Schema) -> np.ndarray:
    """The rows of a fit from the file that they came from.

    Raises:
        RunError: if it is gone, or no longer what it was.
    """
    try:
        data = read(stored["path"], schema=schema)
    except DataError as error:
        raise RunError(f"{run}: its data is read from {stored['path']}, and cannot be: {error}") from None
    return data.values


def manifest(fit: Record) -> dict[str, Any]:
    """What run.json says, but for the verdict."""
    data, t = fit.data, fit.trained
    times = data.times
    return {
        "model": registry.reference(type(fit.model)),
        "code": registry.digests(type(fit.model)),
        "fields": {f.name: getattr(fit.model, f.name) for f in fields(fit.model)},
        "learned": {
            f.name: getattr(fit.resolved, f.name)
            for f in fields(fit.model)
            if getattr(fit.resolved, f.name) != getattr(fit.model, f.name)
        },
        "rule": t.rule,
        "data": {
            "source": data.source,
            "sha256": data.sha256,
            "rows": data.rows,
            "schema": data.schema.to_dict(),
            "sequence_ids": list(data.sequence_ids),
            "times": None if times is None else np.asarray(times).tolist(),
            "index": to_plain(data.index),
            "notes": list(data.notes),
            "path": data.path,
            "stored": not _elsewhere(data),
            "file": None if data.path is None else file_of(data.path),
            "weight_unit": data.weight_unit,
            "lent": None if data.lent is None else asdict(data.lent),
        },
        "settings": asdict(fit.settings),
        "status": str(t.status),
        "reason": t.reason,
        "elbo": t.elbo,
        "steps": t.steps,
        "seconds": t.seconds,
        "training_notes": list(t.notes),
        "separated": t.separated,
        "restarts": None if t.restarts is None else asdict(t.restarts),
        "candidates": [dict(c) for c in fit.candidates],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | {name: version_of(name) for name in LIBRARIES},
    }


def judged(fit: Record) -> dict[str, Any]:
    """What run.json says of how far the fit can be trusted."""
    report, bayesian = fit.report, fit.bayesian
    return {
        "calibration": fit.calibrated.method if bayesian else None,
        "k_hat": fit.posterior_draws.k_hat if bayesian else None,
        "verdict": report.verdict,
        "predictions": report.predictions,
        "checks": [asdict(each) for each in report.checks],
    }


def _model_of(m: dict[str, Any], name: str, given: Any) -> Any:
    """The class of the model of a run.

    Raises:
        RunError: if it is not known, or its code is no longer what was fitted.
    """
    try:
        if given is None:
            kind = registry.find(m["model"])
        else:
            kind = registry.find(given, files=True) if isinstance(given, str) else given
            registry.complete(kind, kind.__name__.lower())
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{name}: run.json names no model ({error})") from None
    except UsageError as error:
        own = isinstance(m.get("model"), str) and (":" in m["model"])
        own = own and given is None
        advice = f"; give it with --model {m['model']}, or load(run, model=...)" if own else ""
        raise RunError(f"{name}: its model cannot be had: {error}{advice}") from None
    stored, now = m.get("code") or {}, registry.digests(kind)
    if stored.get("code") and now.get("code") != stored["code"]:
        raise RunError(
            f"{name}: the code of {m['model']} has changed since the fit; restore it, or fit again"
        )
    return kind


def version_of(name: str) -> str:
    """Of a library that is installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


MOST = 1_000
"""What a run may ask for without showing that it has it: states, restarts, draws a step."""


def _check_sizes(name: str, m: dict[str, Any], params: dict[str, np.ndarray]) -> None:
    """Refuse a manifest that asks for more than its run holds, before anything of that size is made.

    Whole numbers among the fields of a model that is installed are sizes, and what was learned has an axis as
    long; of user-defined models only the settings are looked at. As many starts raced as there are ELBOs.

    Raises:
        RunError: naming what is too large.
    """
    longest = max((length for array in params.values() for length in array.shape), default=0)
    raced = m.get("restarts")
    raced = len(raced["elbo"]) if isinstance(raced, dict) else 0
    bounds = {"restarts": max(MOST, raced), "particles": MOST}
    asked = {key: m["settings"].get(key) for key in bounds}
    if ":" not in m["model"]:
        asked |= m["fields"]
    for key, value in asked.items():
        most = bounds.get(key, max(MOST, longest))
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, int) and not isinstance(each, bool) and abs(each) > most:
                raise RunError(
                    f"{name}: run.json asks for {each:,} {key}, and the run holds no more than {most:,}"
                )


def _checkpoint(stored: store.StoredRun) -> Checkpoint | None:
    """Where an unfinished fit can go on, if it can."""
    numbers = stored.manifest.get("checkpoint")
    if numbers is None:
        return None
    tensors = {name: torch.from_numpy(np.array(v)) for name, v in stored.arrays(CHECKPOINT).items()}
    return Checkpoint(tensors, {str(name): float(value) for name, value in numbers.items()})


def _lent(fields: Any) -> Lent | None:
    """Which columns another run made."""
    return None if fields is None else Lent(**fields | {"columns": tuple(fields["columns"])})


def load(path: Any, model: Any = None) -> Record:
    """A fit from a run directory; nothing in it is executed.

    Args:
        path: the run directory.
        model: the class of a user-defined model, or `FILE.py:Class`, which is executed. Not needed where the
            model is built in, of a package, or of a file that this process has executed before.

    Raises:
        RunError: if it is damaged, foreign, of a newer version, or of a model whose code has changed since.
    """
    stored = store.read_run(path)
    m, name = stored.manifest, Path(path).name
    try:
        check_parts(m)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{name}: run.json is not of a fit ({error})") from None
    kind = _model_of(m, name, model)
    try:
        _check_sizes(name, m, stored.params())
        model = kind(**m["fields"])
        rows, slim = stored.arrays("data.safetensors"), bool(m.get("slim"))
        check_rows(rows)
        schema = Schema.from_dict(m["data"]["schema"])
        check_schema(schema)
        times = m["data"]["times"]
        if times is not None:
            numeric = bool(times) and not isinstance(times[0], str)
            times = np.asarray(times) if numeric else tuple(times)
        if slim:
            values, rows["lengths"] = np.zeros((0, len(schema.columns))), np.zeros(0, np.int64)
        else:
            values = rows["values"] if m["data"]["stored"] else _reread(name, m["data"], schema)
        data = Dataset(
            values=values,
            schema=schema,
            lengths=rows["lengths"],
            sequence_ids=tuple(m["data"]["sequence_ids"]),
            times=times,
            source=m["data"]["source"],
            notes=tuple(m["data"]["notes"]),
            weight=rows.get("weight"),
            weight_unit=float(m["data"].get("weight_unit", 1.0)),
            path=m["data"]["path"],
            index=from_plain(m["data"].get("index")),
            lent=_lent(m["data"].get("lent")),
            arrays={k.removeprefix(ARRAY): v for k, v in rows.items() if k.startswith(ARRAY)},
        )
        restarts = m["restarts"]
        if restarts is not None:
            restarts = Restarts(**restarts | {"elbo": tuple(restarts["elbo"])})
        settings = settings_of(kind.settings, m["settings"])
        own_model = ":" in m["model"]
        if not own_model:
            check_numbers(stored.params(), PARAMS)
        params = {k: torch.from_numpy(np.array(v)) for k, v in stored.params().items()}
        own = {k: v for k, v in params.items() if not k.startswith(CALIBRATED)}
        trained = Trained(
            own,
            m["elbo"], Status(m["status"]), m["steps"], m["seconds"],
            tuple(stored.history()), restarts, m["reason"], m["rule"],
            tuple(m["training_notes"]), m["separated"], _checkpoint(stored),
        )  # fmt: skip
        origin = model.bind(schema)
        wanted = origin.shapes()
    except UNFIT as error:
        raise RunError(
            f"{name}: run.json does not describe a fit that this version can read ({error})"
        ) from None
    found = {k: tuple(v.shape[1:]) for k, v in trained.params.items()}
    own_shapes = found if wanted is None else dict(wanted)
    if (
        trained.checkpoint is not None and trained.status is Status.INTERRUPTED
    ):  # what follows the steps may not be there yet
        own_shapes = {k: own_shapes.get(k, ()) for k in found}
    unfit = found != own_shapes
    if unfit or values.ndim != 2 or values.shape[1] != len(schema.columns):
        raise RunError(f"{name}: params.safetensors does not fit the model in run.json; fit it again")
    if int(rows["lengths"].sum()) != data.rows or (not slim and data.sha256 != m["data"]["sha256"]):
        where = "data.safetensors" if m["data"]["stored"] else str(data.path)
        raise RunError(f"{name}: {where} is not the data that run.json describes")
    if not settings.device.startswith("cpu"):
        settings = replace(settings, device=resolve_device("auto"))
    essence = {k.removeprefix(ESSENCE): v for k, v in rows.items() if k.startswith(ESSENCE)}
    try:
        origin = origin.recalled(essence) if slim else origin.prepare(data)
    except UNFIT as error:
        raise RunError(f"{name}: data.safetensors does not fit the model in run.json ({error})") from None
    absent = m["data"]["rows"] if slim else None
    fit = Record(model, data, trained, settings, origin, tuple(m["candidates"]), str(path), absent)
    try:
        said = "" if own_model else fit.bound.params_fault(own)
    except UNFIT as error:
        said = str(error)
    if said:
        raise RunError(f"{name}: {PARAMS} is of no fit ({said})")
    calibrated = {k.removeprefix(CALIBRATED): v for k, v in params.items() if k.startswith(CALIBRATED)}
    if slim:
        fit.__dict__["report"] = Report(tuple(Check(**check) for check in m["checks"]))
    if m["calibration"] is None:  # there are no draws, or it was written on the way to them
        return fit
    fit.__dict__["_stored_guide"] = m["calibration"], calibrated
    if DRAWS in m["files"]:
        try:
            posterior = _unpacked(stored.arrays(DRAWS), m["draws"])
            said = "" if own_model else fit.bound.draws_fault(own, posterior.theta)
            if said:
                raise ValueError(said)
        except UNFIT as error:
            raise RunError(f"{name}: {DRAWS} does not fit the model in run.json ({error})") from None
        fit.__dict__["_stored_draws"] = posterior.theta
        if slim:
            fit.__dict__["posterior_draws"] = posterior
    return fit
