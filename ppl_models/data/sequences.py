"""Sequences and time: which rows belong together, and whether they are in order."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ppl_models.data.arrays import to_numpy
from ppl_models.data.cells import Dates, Labels, Numbers
from ppl_models.data.dates import read_dates
from ppl_models.data.messages import plural, quoted
from ppl_models.data.survey import parse
from ppl_models.data.table import Table
from ppl_models.data.totals import without
from ppl_models.errors import UsageError

if TYPE_CHECKING:
    import pyarrow


_FEW = 0.05
"""The share of rows with the time of another one up to which these are corrections."""


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
            reason = f"sequence {name_of} comes back after another; sort the rows by sequence (--sort)"
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


def ordered_times(
    table: Table, name: str, lengths: np.ndarray, date_format: str | None = None
) -> tuple[str, ...] | np.ndarray:
    """The time column, as numbers or as text, after checking that time passes within each sequence.

    Args:
        table: The data.
        name: The column: numbers, dates, times of day, or text that is ISO dates.
        lengths: (S,) the number of rows of each sequence.
        date_format: How dates are written, where their cells do not tell.

    Returns:
        (n,) int64 if all numbers are whole, else float64; or n texts, in ISO 8601 where written with
        day or month first.

    Raises:
        DataError: A time is missing or is neither a number nor a date; or it decreases.
    """
    when, texts = _times(table, name, date_format)
    _check_increasing(table, name, when, texts, lengths)
    if texts is not None:
        return texts
    whole = (when == np.rint(when)).all() and np.abs(when).max(initial=0.0) < 2**53
    return when.astype(np.int64) if whole else when


def _times(table: Table, name: str, date_format: str | None) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The times as numbers, all there, and as text where they are dates."""
    import pyarrow as pa

    cells = table.columns[name]
    texts: tuple[str, ...] | None = None
    if isinstance(cells, np.ndarray):
        when = cells.astype(np.float64, copy=False)
    elif pa.types.is_temporal(cells.type):
        when, texts = _instants(table, name, cells), tuple(iso(cells).to_pylist())
    else:
        parsed = parse(table, name)
        if isinstance(parsed, Dates) or date_format is not None:
            parsed = parse(table, name, text=True)
        if isinstance(parsed, Numbers):
            when = parsed.values
        elif isinstance(parsed, Labels):
            texts = tuple(parsed.labels[code] if code >= 0 else "" for code in parsed.codes)
            when, texts = _written(table, name, texts, date_format)
        else:
            raise table.column_error(name, "neither numbers nor dates")
    if np.isnan(when).any():
        raise table.column_error(name, "a time is missing", int(np.argmax(np.isnan(when))))
    return when, texts


def joined(table: Table, names: list[str], name: str) -> Table:
    """The table with a column that names a row by several others, with commas between them.

    Args:
        table: The data, with these columns.
        names: The others.
        name: What the column is called.
    """
    import pyarrow as pa

    parts = [_labels(table, each) for each in names]
    for each, part in zip(names, parts, strict=True):
        if (part.codes < 0).any():
            row = int(np.argmax(part.codes < 0))
            raise table.column_error(each, "a row without the name of its sequence", row)
    rows = zip(*([part.labels[code] for code in part.codes] for part in parts), strict=True)
    cells = pa.chunked_array([pa.array([",".join(row) for row in rows], pa.string())])
    return replace(table, columns={**table.columns, name: cells}, names=[*table.names, name])


def sorted_rows(table: Table, sequence: str | None, time: str | None, date_format: str | None) -> Table:
    """The table with the rows of a sequence together, in the order of their times.

    Sequences stand in the order in which each is first seen; rows of one time stay as they were. Where
    they are one in twenty or fewer, they are corrections, of which the last is kept.

    Args:
        table: The data.
        sequence: The column that names sequences, if any.
        time: The column of times, if any.
        date_format: How its dates are written.

    Raises:
        UsageError: There is nothing to sort by, or the table is too large to be held in memory.
    """
    if sequence is None and time is None:
        raise UsageError("sort orders the rows by time, within sequences; give --time, --sequence or both")
    if table.parts is not None:
        raise UsageError(f"{table.source} is too large to be sorted in memory; sort it before")
    keys = [] if time is None else [_times(table, time, date_format)[0]]
    if sequence is not None:
        keys.append(_labels(table, sequence).codes)
    order = np.lexsort(keys)
    moved = int((order != np.arange(table.rows)).sum())
    table = _in_order(table, order, moved) if moved else table
    if time is None:
        return table
    same = np.logical_and.reduce([key[order][1:] == key[order][:-1] for key in keys])
    if not 0 < same.sum() <= _FEW * table.rows:
        return table
    rows = np.flatnonzero(same).tolist()
    said = f"left out {plural(len(rows), 'row')} with the time of a later line, which is kept, the first in "
    return without(table, rows, said + table.place(rows[0]))


def _in_order(table: Table, order: np.ndarray, moved: int) -> Table:
    place, cell = table.place, table.cell
    columns = {
        name: cells[order] if isinstance(cells, np.ndarray) else cells.take(order)
        for name, cells in table.columns.items()
    }
    return replace(
        table,
        columns=columns,
        matrix=None if table.matrix is None else table.matrix[order],
        index=None if table.index is None else table.index[order],
        notes=[*table.notes, f"sorted the rows; {moved:,} of {table.rows:,} have moved"],
        place=lambda row: place(int(order[row])),
        cell=None if cell is None else lambda row, name: cell(int(order[row]), name),
    )


def _written(
    table: Table, name: str, texts: tuple[str, ...], date_format: str | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Microseconds since 1970, NaN where missing, and the texts, in ISO 8601 where figures mislead."""
    import pyarrow as pa

    filled = [i for i, text in enumerate(texts) if text]
    found = read_dates([texts[i] for i in filled], date_format)
    if isinstance(found, int):
        arrow = pa.chunked_array([pa.array([text or None for text in texts])])
        return _instants(table, name, arrow, date_format), texts
    when = np.full(len(texts), np.nan)
    when[filled] = found.when.astype("datetime64[us]").astype(np.int64)
    if found.style in ("ymd", "zoned", "month", "quarter", "week"):
        return when, texts
    if found.ambiguous:
        order = "the day" if found.style == "dmy" else "the month"
        other = "mdy" if found.style == "dmy" else "dmy"
        table.notes.append(
            f"column {quoted(name)}: {quoted(texts[filled[0]])} is read with {order} first; --date-format "
            f"{other} reads it the other way"
        )
    days = bool((found.when == found.when.astype("datetime64[D]")).all())
    written = np.datetime_as_string(found.when, unit="D" if days else "auto")
    iso_texts = list(texts)
    for i, text in zip(filled, written.tolist(), strict=True):
        iso_texts[i] = text.removesuffix(".000000")
    return when, tuple(iso_texts)


def _instants(
    table: Table, name: str, cells: "pyarrow.ChunkedArray", date_format: str | None = None
) -> np.ndarray:
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
                f"{quoted(text)} is neither a number nor an ISO date such as 2024-03-31 or 2024-03-31T12:00, "
                "nor a date written like the others; --date-format says how they are written"
            )
            if date_format is not None:
                reason = f"{quoted(text)} is no date of the format {quoted(date_format)}"
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
    stalled[1:] = when[1:] < when[:-1]
    repeats = np.zeros(len(when), dtype=bool)
    repeats[1:] = when[1:] == when[:-1]
    for each in (stalled, repeats):
        each[np.cumsum(lengths)[:-1]] = False
    if not stalled.any():
        _remark(table, name, when, repeats, lengths)
        return
    row = int(np.argmax(stalled))
    before, now = (f"{when[i]:g}" if texts is None else texts[i] for i in (row - 1, row))
    reason = f"time {quoted(now)} comes after {quoted(before)}; sort the rows by time (--sort)"
    raise table.column_error(name, f"{reason}, or name the sequences with --sequence", row)


def _remark(table: Table, name: str, when: np.ndarray, repeats: np.ndarray, lengths: np.ndarray) -> None:
    """Say which times are there twice, and where some are not there."""
    if repeats.any():
        row = int(np.argmax(repeats))
        number = plural(int(repeats.sum()), "row")
        table.notes.append(
            f"column {quoted(name)}: {number} with the time of the row before, "
            f"the first in {table.place(row)}"
        )
    steps = np.diff(when)[np.isin(np.arange(1, len(when)), np.cumsum(lengths)[:-1], invert=True)]
    steps = steps[steps > 0]
    if len(steps) < 4:
        return
    sizes, numbers = np.unique(steps, return_counts=True)
    usual = sizes[np.argmax(numbers)]
    long = int((steps > 3.5 * usual).sum())  # a weekend, or a month of 31 days, is no gap
    if numbers.max() > 0.5 * len(steps) and long:
        table.notes.append(
            f"column {quoted(name)}: {plural(long, 'gap')} in {len(steps):,} steps; "
            "rows follow each other all the same"
        )


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
    if (
        array.max(initial=0) > table.rows or array.sum() != table.rows
    ):  # a sum may overflow to what it must be
        raise UsageError(f"lengths must sum to the {table.rows} rows of {table.source}, got {array.sum()}")
    return array
