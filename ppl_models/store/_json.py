"""Strict JSON: no NaN, no duplicate keys, nothing turned into text behind the caller's back.

JSON has no NaN and no infinity. They are stored as `{"$float": "nan"}`, `{"$float": "inf"}` and
`{"$float": "-inf"}`, so that neither the number nor the words "nan" and "inf" change on the way.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ppl_models.errors import UsageError
from ppl_models.store._layout import shown

_TAG = "$float"
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def dumps(value: object, where: str, *, indent: int | None = None) -> str:
    """Write `value` as ASCII JSON.

    Args:
        value: None, bool, int, float, str, NumPy scalars and arrays, and lists, tuples and mappings of them.
            Tuples and arrays come back as lists.
        where: What `value` is, for the message.
        indent: As in `json.dumps`.

    Raises:
        UsageError: If something in it has another type, or a key is not a string.
    """
    try:
        return json.dumps(_plain(value, where), indent=indent, allow_nan=False)
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply, or holds itself, and cannot be stored") from None
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{where} cannot be stored: {shown(error)}") from None


def loads(text: str | bytes) -> Any:
    """Read what `dumps` wrote.

    Raises:
        ValueError: If it is not strict JSON; the message is one line.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _plain(value: object, where: str) -> object:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, np.ndarray):
        return _plain(value.tolist(), where)
    if isinstance(value, np.generic) and not isinstance(value.item(), np.generic):
        value = value.item()
        if isinstance(value, bool | int | str):
            return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {_TAG: repr(float(value))}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == _TAG:
                raise UsageError(f"{where} has the key {shown(repr(key))}, which cannot be stored")
        return {key: _plain(item, f"{where}.{shown(key)}") for key, item in value.items()}
    raise UsageError(f"{where} is a {type(value).__name__}, which cannot be stored as JSON")


def _object(pairs: list[tuple[str, Any]]) -> Any:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has the same key twice")
    if _TAG in found:
        word = found[_TAG]
        if len(found) > 1 or not isinstance(word, str) or word not in _NON_FINITE:
            raise ValueError(f"{_TAG} must stand alone and be one of {', '.join(_NON_FINITE)}")
        return _NON_FINITE[word]
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is too large for a float")
    return number
