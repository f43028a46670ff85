"""Sequences and time: which rows belong together, and whether they are in order."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ppl_models.data.arrays import to_numpy
from ppl_models.data.cells import Dates, Labels, Numbers
from ppl_models.data.messages import quoted
from ppl_models.data.survey import parse
from ppl_models.data.table import Table
from ppl_models.errors import UsageError

if TYPE_CHECKING:
    import pyarrow


def runs(table: Table, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Lengths and names of the runs of equal values in the sequence column.

    Returns:
        (S,) int64, the number of rows of each, and the S values, dates as ISO 8601 text.

    Raises:
        DataError: A cell is missing, or a value comes back after another.
    """
    parsed = _labels(table, name)
    codes = parsed.codes
    if (codes < 0).any():
        raise table.column_error(name, "a row without the name of its sequence", int(np.argmax(codes < 0)))
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    lengths = np.diff(np.append(starts, len(codes))).astype(np.int64)
    seen: set[int] = set()
    for start in starts:
        code = int(codes[start])
        if code in seen:
            name_of = quoted(parsed.labels[code])
            reason = f"sequence {name_of} comes back after another; sort the rows by sequence"
            raise table.column_error(name, reason, int(start))
        seen.add(code)
    return lengths, tuple(parsed.labels[codes[start]] for start in starts)


def _labels(table: Table, name: str) -> Labels:
    import pyarrow as pa

    cells = table.columns[name]
    if not isinstance(cells, np.ndarray) and pa.types.is_temporal(cells.type):
        cells = iso(cells)
        table = replace(table, columns={name: cells}, matrix=None, parts=None)
    parsed = parse(table, name, text=True)
    if not isinstance(parsed, Labels) or not parsed.labels:
        raise table.column_error(name, "every cell is missing, and it is to name the sequences")
    return parsed


def iso(cells: "pyarrow.ChunkedArray") -> "pyarrow.ChunkedArray":
    """Dates and times as ISO 8601 text, without fractions of zero and without a midnight that all share."""
    import pyarrow as pa
    import pyarrow.compute as pc

    replace = pc.replace_substring_regex  # pyright: ignore[reportAttributeAccessIssue]
    texts = replace(cells.cast(pa.string()), r"\.0+(Z?)$", r"\1")
    midnight = all(text is None or text.endswith(" 00:00:00") for text in texts.to_pylist())
    return replace(texts, " 00:00:00$", "") if midnight else texts


def ordered_times(table: Table, name: str, lengths: np.ndarray) -> tuple[str, ...] | np.ndarray:
    """The time column, as numbers or as text, after checking that time passes within each sequence.

    Args:
        table: The data.
        name: The column: numbers, dates, times of day, or text that is ISO dates.
        lengths: (S,) the number of rows of each sequence.

    Returns:
        (n,) int64 if all numbers are whole, else float64; or n texts.

    Raises:
        DataError: A time is missing or is neither a number nor an ISO date; or it does not increase.
    """
    import pyarrow as pa

    cells = table.columns[name]
    texts: tuple[str, ...] | None = None
    if isinstance(cells, np.ndarray):
        when = cells.astype(np.float64, copy=False)
    elif pa.types.is_temporal(cells.type):
        when, texts = _instants(table, name, cells), tuple(iso(cells).to_pylist())
    else:
        parsed = parse(table, name)
        if isinstance(parsed, Dates):
            parsed = parse(table, name, text=True)
        if isinstance(parsed, Numbers):
            when = parsed.values
        elif isinstance(parsed, Labels):
            texts = tuple(parsed.labels[code] if code >= 0 else "" for code in parsed.codes)
            when = _instants(table, name, pa.chunked_array([pa.array([text or None for text in texts])]))
        else:
            raise table.column_error(name, "neither numbers nor dates")
    if np.isnan(when).any():
        raise table.column_error(name, "a time is missing", int(np.argmax(np.isnan(when))))
    _check_increasing(table, name, when, texts, lengths)
    if texts is not None:
        return texts
    whole = (when == np.rint(when)).all() and np.abs(when).max(initial=0.0) < 2**53
    return when.astype(np.int64) if whole else when


def _instants(table: Table, name: str, cells: "pyarrow.ChunkedArray") -> np.ndarray:
    """Microseconds since 1970, as floats (exact until the year 2255), NaN where missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_time(cells.type) or pa.types.is_duration(cells.type):
        return pc.fill_null(
            cells.cast(pa.int64() if cells.type.bit_width == 64 else pa.int32()).cast(pa.float64()), np.nan
        ).to_numpy()
    for target in (pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            instants = cells.cast(target).cast(pa.int64())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
        return pc.fill_null(instants.cast(pa.float64(), safe=False), np.nan).to_numpy()
    for row, text in enumerate(cells.to_pylist()):
        if text is not None and not _is_date(text):
            reason = (
                f"{quoted(text)} is neither a number nor an ISO date such as 2024-03-31 or 2024-03-31T12:00"
            )
            raise table.column_error(name, reason, row)
    raise table.column_error(name, "times with and without a time zone are mixed")


def _is_date(text: str) -> bool:
    import pyarrow as pa

    for target in (pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            pa.scalar(text).cast(target)
        except pa.ArrowInvalid:
            continue
        return True
    return False


def _check_increasing(
    table: Table, name: str, when: np.ndarray, texts: tuple[str, ...] | None, lengths: np.ndarray
) -> None:
    stalled = np.zeros(len(when), dtype=bool)
    stalled[1:] = when[1:] <= when[:-1]
    stalled[np.cumsum(lengths)[:-1]] = False
    if not stalled.any():
        return
    row = int(np.argmax(stalled))
    before, now = (f"{when[i]:g}" if texts is None else texts[i] for i in (row - 1, row))
    if when[row] == when[row - 1]:
        reason = f"time {quoted(now)} occurs twice; keep one row for each time"
    else:
        reason = f"time {quoted(now)} comes after {quoted(before)}; sort the rows by time"
    raise table.column_error(name, f"{reason}, or name the sequences with --sequence", row)


def check_lengths(table: Table, lengths: object) -> np.ndarray:
    """Lengths given by the caller, as (S,) int64.

    Args:
        table: The data.
        lengths: Whole numbers, one for each sequence, in whatever holds them.

    Raises:
        UsageError: They are not positive whole numbers that sum to the number of rows.
    """
    given = list(lengths) if isinstance(lengths, Iterator) else lengths
    array = np.atleast_1d(to_numpy(given))
    if array.ndim != 1 or array.dtype.kind not in "iub":
        raise UsageError(f"lengths must be a list of whole numbers, got {quoted(lengths)}")
    array = array.astype(np.int64)
    if (array < 1).any():
        raise UsageError(f"lengths must be positive, got {array[array < 1][0]}")
    if array.sum() != table.rows:
        raise UsageError(f"lengths must sum to the {table.rows} rows of {table.source}, got {array.sum()}")
    return array
