"""The index of a data frame as plain values, to be stored with a run, and back."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas

MOST = 2_000_000
"""Rows up to which an index is stored."""


def to_plain(index: "pandas.Index | None") -> dict[str, Any] | None:
    """Names, types and values of the levels of an index as JSON values; None for none, or for too many."""
    if index is None or len(index) > MOST:
        return None
    levels = [index.get_level_values(i) for i in range(index.nlevels)]
    return {
        "names": [None if name is None else str(name) for name in index.names],
        "types": [str(level.dtype) for level in levels],
        "values": [_values(level) for level in levels],
    }


def _values(level: "pandas.Index") -> list[Any]:
    if level.dtype.kind in "iub":
        return level.to_numpy().tolist()
    if level.dtype.kind == "f":
        return [None if np.isnan(x) else float(x) for x in level]
    return [each if isinstance(each, int | str | None) else _text(each) for each in level]


def _text(value: Any) -> str | None:
    if value != value:  # NaN, and what pandas has for times
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def from_plain(stored: dict[str, Any] | None) -> "pandas.Index | None":
    """The inverse of `to_plain`; values of a type that this pandas does not know stay text."""
    if stored is None:
        return None
    import pandas as pd

    levels = [_level(values, dtype) for values, dtype in zip(stored["values"], stored["types"], strict=True)]
    if len(levels) == 1:
        return levels[0].rename(stored["names"][0])
    return pd.MultiIndex.from_arrays(levels, names=stored["names"])


def _level(values: list[Any], dtype: str) -> "pandas.Index":
    import pandas as pd

    try:
        if dtype.startswith("datetime64"):
            return pd.DatetimeIndex(pd.to_datetime(values, format="ISO8601", utc="," in dtype).astype(dtype))
        return pd.Index(values, dtype=dtype)  # pyright: ignore[reportCallIssue, reportArgumentType]
    except (TypeError, ValueError, ImportError):
        return pd.Index(values, dtype=object)
