"""Numbers of several shapes under names: one JSON object, or a Python dictionary.

    {"J": 8, "y": [28, 8, ...], "sigma": [15, 10, ...], "matrix": [[1, 0], [0, 1]]}

Lists of one length are the columns of a table, as in a data frame; numbers and nested lists are arrays beside
it, for user-defined models, and so are all lists if they differ in length and there is such an array.
"""

import json
from collections.abc import Mapping, Sized
from typing import Any

import numpy as np

from ppl_models.data.arrays import is_array, to_numpy
from ppl_models.data.frames import from_columns
from ppl_models.data.messages import clean, quoted
from ppl_models.data.table import Table, check_names
from ppl_models.errors import DataError


def json_object(content: bytes) -> dict[str, Any] | None:
    """The object that a text is, if it is one with a list among its values."""
    text = content.strip()
    if not (text.startswith(b"{") and text.endswith(b"}")) or b"[" not in text:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if any(isinstance(value, list) for value in found.values()) else None


def shaped(data: Mapping[Any, Any]) -> bool:
    """Whether it holds numbers or nested lists; columns alone that differ in length are a mistake."""
    return any(outer(value)[0] not in (1, -1) for value in data.values())


def outer(value: Any) -> tuple[int, int]:
    """How deep a value is nested, −1 for what is no number, and how long it is."""
    if is_array(value):
        array = to_numpy(value)
        return array.ndim, len(array) if array.ndim else 1
    if isinstance(value, list | tuple):
        return (2 if any(isinstance(each, list | tuple) for each in value) else 1), len(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return 0, 1
    return (1, len(value)) if isinstance(value, Sized) and not isinstance(value, str) else (-1, 0)


def from_shapes(data: Mapping[Any, Any], source: str) -> Table:
    """A table of the columns of one length, with all else as arrays beside it.

    Raises:
        DataError: A value holds no numbers, or lists that differ in length.
    """
    names = [str(name) for name in data]
    check_names(source, names)
    columns: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for name, value in zip(names, data.values(), strict=True):
        (columns if outer(value)[0] == 1 else arrays)[name] = value
    if len({outer(value)[1] for value in columns.values()}) > 1:
        arrays, columns = {name: data[name] for name in names}, {}
    made = {name: _numbers(source, name, value) for name, value in arrays.items()}
    if not columns:
        return Table(source, {}, 0, arrays=made)
    table = from_columns(columns, source)
    table.arrays = made
    return table


def _numbers(source: str, name: str, value: Any) -> np.ndarray:
    where = f"{clean(source)}, {quoted(name)}"
    try:
        array = to_numpy(value) if is_array(value) else np.array(value, np.float64)  # None becomes NaN
    except (TypeError, ValueError):
        ragged = isinstance(value, list | tuple)
        why = "lists that differ in length, or hold something else than numbers" if ragged else "not a number"
        raise DataError(f"{where}: {why}; give a number, or lists of numbers of one shape") from None
    if array.dtype.kind not in "fiub":
        raise DataError(f"{where}: not numbers; give a number, or lists of numbers of one shape")
    if not array.size:
        raise DataError(f"{where}: is empty")
    return np.asarray(array, np.float64)
