"""What run.json and the arrays of a run say, checked before it is believed.

A manifest is sealed with a checksum, which finds damage and stops nobody who writes a run on purpose: each
part must be of the type that it has in a run of ours, and what was learned are numbers.
Whether draws are those that a model can have is for the model to say: `Bayesian.draws_fault`.
"""

from collections.abc import Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from ppl_models.data import Schema
from ppl_models.data.schema import Column

PARTS: dict[str, Any] = {
    "code": dict | None,
    "fields": dict,
    "candidates": list,
    "settings": dict,
    "steps": int,
    "elbo": float,
    "seconds": float,
    "reason": str | None,
    "rule": str,
    "training_notes": list,
    "slim": bool | None,
}
"""Of each part of run.json that may be taken for what it is not, the type."""


NEEDED = {
    "": ("calibration", "checks", "restarts", "separated"),
    "data": ("sha256", "rows", "stored", "times"),
}
"""Parts that may be of any type, and have to be there."""


def check_parts(m: Mapping[str, Any]) -> None:
    """Refuse parts of run.json that are of another type, or not there.

    Raises:
        TypeError: naming the part.
    """
    for owner, names in NEEDED.items():
        for name in names:
            if name not in (m[owner] if owner else m):
                raise TypeError(f"{owner and owner + '.'}{name} is missing")
    for name, kind in PARTS.items():
        if name in m:
            _check(name, m[name], kind)
    for each in m["candidates"]:
        _check("candidates", each, dict)
    _check("settings.device", m["settings"].get("device", ""), str)
    for name in ("source", "path"):
        _check(f"data.{name}", m["data"].get(name), str | None)
    for name in ("sequence_ids", "notes"):
        for each in m["data"][name]:
            _check(f"data.{name}", each, str)


def check_schema(schema: Schema) -> None:
    """Refuse a schema with fields of another type, or columns that cannot be.

    Raises:
        TypeError: naming the field.
        ValueError: a column has no name of its own, or figures that are not finite.
    """
    _check_fields("schema", schema)
    for column in schema.columns:
        _check_fields("a column", column)
        figures = (column.mean, column.sd, column.minimum, column.maximum, column.resolution, *column.shares)
        if not all(map(np.isfinite, figures)):
            raise ValueError(f"column {column.name!a} has figures that are not finite")
        for labels in (column.levels, column.categories):
            if len(set(labels)) < len(labels):
                raise ValueError(f"column {column.name!a} has a label twice")
        if not column.labelled:
            _check_figures(column)
    names, square = schema.names, {len(row) for row in schema.correlation}
    if square and square != {len(schema.correlation)}:
        raise ValueError("the correlation is not square")
    if len(set(names)) < len(names):
        raise ValueError("columns share a name")
    if schema.target is not None and schema.target not in names:
        raise ValueError(f"there is no column {schema.target!a}, the target")


def _check_figures(column: Column) -> None:
    """Refuse a mean outside of the ends of a column, and an sd that numbers between these cannot have.

    Of numbers in [a, b] it is (b − a)/2 at most (Popoviciu 1935, Mathematica 9); that of a constant is 1.
    """
    low, high = column.minimum, column.maximum
    rounding = 1e-9 * max(abs(low), abs(high))
    if not low - rounding <= column.mean <= high + rounding:
        raise ValueError(f"column {column.name!a} has a mean that is not between its minimum and maximum")
    if (
        not 0.0
        < column.sd
        <= max((high / 2 - low / 2) * (1 + 1e-9) + rounding, 1.0 if high - low <= rounding else 0.0)
    ):
        raise ValueError(f"column {column.name!a} has an sd that is not that of numbers between its ends")


def check_rows(rows: Mapping[str, np.ndarray]) -> None:
    """Refuse rows, lengths and weights of another type or shape than a data set has.

    Raises:
        ValueError: naming the array.
    """
    for name, kind, dims in (("values", "f8", 2), ("weight", "f8", 1), ("lengths", "i8", 1)):
        array = rows.get(name)
        if array is not None and (array.dtype != np.dtype(kind) or array.ndim != dims):
            raise ValueError(f"data.safetensors: {name} is {array.dtype} in {array.ndim} dimensions")
    for name in ("lengths", "weight"):
        if name in rows and not (np.isfinite(rows[name]).all() and (rows[name] >= 0).all()):
            raise ValueError(f"data.safetensors: {name} is negative or no number")


def check_numbers(arrays: Mapping[str, np.ndarray], what: str) -> None:
    """Refuse arrays with cells that are no numbers, which no fit of a built-in model leaves behind.

    Raises:
        ValueError: naming the array.
    """
    for name, array in arrays.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ValueError(f"{what}: {name} holds what is no number")


def _check_fields(what: str, owner: Column | Schema) -> None:
    known = get_type_hints(type(owner))
    for field in fields(owner):
        if field.name not in ("columns", "marginal"):
            _check(f"{what}: {field.name}", getattr(owner, field.name), known[field.name])


def _check(name: str, value: Any, kind: Any) -> None:
    if not _is(value, kind):
        raise TypeError(f"{name} is of the type {type(value).__name__}")


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a type as annotations spell it: unions, and tuples of one type."""
    if get_origin(kind) in (Union, UnionType):
        return any(_is(value, each) for each in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is(each, get_args(kind)[0]) for each in value)
    if get_origin(kind) is not None:  # a literal, which its user looks at
        return isinstance(value, str)
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return value is None if kind is NoneType else isinstance(value, kind)
