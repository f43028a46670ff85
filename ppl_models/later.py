"""Later data of a fit: read and checked against its columns, with the features that another run lends."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.capabilities import Latents
from ppl_models.data import Column, Dataset, Kind, Schema, read
from ppl_models.data.dataset import Lent
from ppl_models.data.pairs import unwrapped
from ppl_models.draws import free
from ppl_models.errors import DataError, RunError, UsageError, warn

if TYPE_CHECKING:
    from ppl_models.record import Record

BUDGET, LEAST = 40_000_000, 5
"""Draws × numbers a draw that features are averaged over, about, and the least draws."""


def later(fit: "Record", data: Any, reading: Mapping[str, Any]) -> Dataset:
    """Data for a verb: the fit's own for None, else read and checked against the fit's schema.

    Columns that are features of another run (`features_from`) are made of the others by that run.

    Args:
        fit: whose schema it must have.
        data: a file, a table in memory, a data set that was read already, or None.
        reading: options of reading.

    Raises:
        DataError: it lacks a column, or has other types.
        RunError: the run that lends features is no longer there, or was fitted again.
        UsageError: options of reading without data, or no data and a run without its rows.
    """
    if data is None:
        if reading:
            raise UsageError(f"{', '.join(reading)} can only be given with data")
        if fit.absent is not None:
            raise UsageError(f"{fit.path} was saved without the rows of the fit (--slim): give DATA")
        return fit.data
    if isinstance(data, Dataset):
        if data.names != fit.data.names:
            raise DataError(
                f"{data.source}: its columns {', '.join(data.names)} are not those of the fit, "
                f"{', '.join(fit.data.names)}"
            )
        return data
    if not fit.bound.takes_arrays:
        data = unwrapped(data)
    schema, needed, lent = fit.data.schema, fit.bound.needed(), fit.data.lent
    if lent is not None:
        schema = replace(schema, columns=tuple(c for c in schema.columns if c.name not in lent.columns))
        needed = None if needed is None else [name for name in needed if name not in lent.columns]
    found = read(data, schema=schema, require_schema_columns=True if needed is None else needed, **reading)
    if lent is not None:
        found = replace(with_features(found, lender(lent, fit.path)), schema=fit.data.schema, path=found.path)
    remarks = fit.bound.remarks(found)
    for remark in remarks:
        warn(f"{found.source}: {remark}")
    return replace(found, notes=(*found.notes, *remarks))


def lender(lent: Lent, beside: str | None = None) -> "Record":
    """The run that lends features.

    Args:
        lent: which.
        beside: a run beside which it is looked for where it is not where it was.

    Raises:
        RunError: it is not there, or is not what it was.
    """
    path = Path(lent.run)
    if beside is not None and not path.exists():
        path = Path(beside).parent / path.name
    try:
        found, sha256 = _loaded(path, path.stat().st_mtime_ns if path.exists() else 0)
    except RunError as error:
        raise RunError(f"columns of this fit are features of the run {lent.run}: {error}") from None
    if sha256 != lent.sha256:
        raise RunError(
            f"{path}, whose features this fit has, was fitted again since: fit this one again with "
            f"--features-from {path}"
        )
    return found


@lru_cache(maxsize=8)
def _loaded(path: Path, changed: int) -> tuple["Record", str]:
    """A run and its fingerprint, once as long as it is not written anew."""
    from ppl_models import runs

    found = runs.load(path)
    return found, fingerprint(found)


def fingerprint(record: "Record") -> str:
    """What was learned, as sha256."""
    import hashlib

    digest = hashlib.sha256()
    for name, value in sorted(record.trained.params.items()):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def features(record: "Record", data: Dataset, draws: int | None = None) -> dict[str, np.ndarray]:
    """Probabilities of components or states, or latents, of each row, (n,) each, by name.

    Args:
        record: a fit of a model that has latents.
        data: rows with its columns.
        draws: of the parameters to average over; as many as the answer needs if None.
    """
    from ppl_models.tables import averaging
    from ppl_models.threads import threads_for

    bound, theta = averaging(record, data, BUDGET, LEAST, draws)
    with threads_for(bound.numbers(data)):
        return bound.latents(bound.rows(data, record.settings.device), theta)


def with_features(data: Dataset, record: "Record") -> Dataset:
    """The rows with the features of a joint fit before the target: responsibilities, occupancies, latents.

    Uncertainties of latents (`_sd`) and the first of shares that add up to one are left out.

    Args:
        data: rows with the columns of the fit, and others.
        record: the joint fit.

    Raises:
        UsageError: it has no features.
        DataError: the data lack columns of it.
    """
    if not isinstance(record.bound, Latents):
        from ppl_models.registry import those

        some = ", ".join(those(lambda bound: issubclass(bound, Latents)))
        raise UsageError(f"{record.name} has no features to give to another model; these have some: {some}")
    at = [data.names.index(name) for name in record.data.names if name in data.names]
    if len(at) < len(record.data.names):
        lacks = ", ".join(name for name in record.data.names if name not in data.names)
        raise DataError(f"{data.source}: {record.name} was fitted with {lacks}, which the data do not have")
    mine = np.ascontiguousarray(data.values[:, at])
    found = features(record, replace(data, values=mine, schema=record.data.schema, kept=None, lent=None))
    found = {name: x for name, x in found.items() if not name.endswith("_sd")}
    names, cells = list(found), np.column_stack(list(found.values()))
    if len(cells) and len(names) > 1 and np.allclose(cells.sum(1), 1.0):
        cells, names = cells[:, 1:], names[1:]
    last = len(data.names) - (data.schema.target is not None)
    taken = {*data.names}
    new = tuple(
        Column(
            free(f"{record.name}_{name}", taken), Kind.CONTINUOUS, mean=float(x.mean()),
            sd=float(x.std()) or 1.0, minimum=float(x.min()), maximum=float(x.max()),
        )
        for name, x in zip(names, cells.T, strict=True)
    )  # fmt: skip
    lent = None
    if record.path is not None:
        lent = Lent(str(Path(record.path).absolute()), fingerprint(record), tuple(c.name for c in new))
    values = np.concatenate([data.values[:, :last], cells, data.values[:, last:]], 1)
    schema = _with(data.schema, new, last)
    return replace(data, values=np.ascontiguousarray(values), schema=schema, path=None, lent=lent)


def _with(schema: Schema, new: tuple[Column, ...], at: int) -> Schema:
    return replace(schema, columns=(*schema.columns[:at], *new, *schema.columns[at:]), shape=None)
