"""The cells of one column, each for itself: numbers, labels, or dates.

Text is trimmed, but for the categories of a categorical. These texts are missing cells in a source
without types, such as CSV: an empty one, NA, N/A, NaN, nan, null, None, ? and a few spellings of them
(`MISSING`). In one with types and missing cells of its own, such as Parquet or a data frame, "NA" and
blanks are labels, unless all else in the column is numbers. What the cells of a column are together is
judged in `survey`.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ppl_models.data.messages import plural, quoted
from ppl_models.data.table import Table
from ppl_models.errors import DataError

if TYPE_CHECKING:
    import pyarrow

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
CODE = re.compile(r"[+-]?0\d+", re.ASCII)
"""A whole number with leading zeros, which is a code, as a number would lose them."""
EXACT = 2**53


@dataclass(frozen=True)
class Numbers:
    """(n,) float64 with NaN where missing."""

    values: np.ndarray


@dataclass(frozen=True)
class Labels:
    """(n,) codes, -1 where missing, and the text each stands for, in order of first appearance.

    `typed` if the data itself said that these are categories or truth values; `dropped` says which texts were
    taken as missing, and in how many cells.
    """

    codes: np.ndarray
    labels: tuple[str, ...]
    typed: bool = False
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Dates:
    """A column of dates or times, which no model takes as they are."""


Parsed = Numbers | Labels | Dates


def scan(table: Table, name: str, *, missing: Collection[str] = (), text: bool = False) -> Parsed:
    """The cells of a column, or of a block of its rows.

    Args:
        table: The table, or a block of it.
        name: The column.
        missing: Further texts and numbers that mean a missing cell.
        text: Take every value for a label, even a number.

    Raises:
        DataError: A whole number is too large to be exact, a number that is to be a label is infinite, or
            the cells are neither numbers nor text.
    """
    cells = table.columns[name]
    if isinstance(cells, np.ndarray):
        return _numbers(table, name, cells.astype(np.float64, copy=False), missing, text)

    import pyarrow as pa

    kind = cells.type
    if not pa.types.is_dictionary(kind):
        return _scan_arrow(table, name, cells, missing, text)
    parsed = _scan_arrow(table, name, cells.cast(kind.value_type), missing, text=True, trim=False)
    return replace(parsed, typed=True) if isinstance(parsed, Labels) else parsed


def _scan_arrow(
    table: Table,
    name: str,
    cells: "pyarrow.ChunkedArray",
    missing: Collection[str],
    text: bool,
    trim: bool = True,
) -> Parsed:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_type, kind = pa.types, cells.type
    if is_type.is_null(kind):
        return _numbers(table, name, np.full(len(cells), np.nan), (), text)
    if is_type.is_boolean(kind):
        codes = pc.fill_null(cells.cast(pa.int8()), -1).to_numpy()
        return Labels(codes.astype(np.int64), ("false", "true"), typed=True)
    if is_type.is_integer(kind) or is_type.is_floating(kind) or is_type.is_decimal(kind):
        if is_type.is_integer(kind):
            if text and beyond_exact(cells):  # as labels they stay what they are
                return _labels(cells.cast(pa.large_string()), missing)
            _check_exact(table, name, cells)
        values = pc.fill_null(cells.cast(pa.float64(), safe=False), np.nan).to_numpy()
        return _numbers(table, name, values, missing, text)
    if is_type.is_string(kind) or is_type.is_large_string(kind) or is_type.is_string_view(kind):
        return _labels(cells.cast(pa.large_string()), {*table.usual, *missing}, trim=trim)
    if is_type.is_temporal(kind):
        return Dates()
    raise table.column_error(
        name, f"cells of type {quoted(kind)} are neither numbers nor text; leave it out with --ignore"
    )


def _numbers(
    table: Table, name: str, values: np.ndarray, missing: Collection[str], text: bool
) -> Numbers | Labels:
    values = drop(values, missing)
    if not text:
        return Numbers(values)
    infinite = np.isinf(values)
    if infinite.any():
        raise infinite_error(table, name, int(infinite.sum()), int(np.argmax(infinite)))
    observed = ~np.isnan(values)
    distinct, inverse = np.unique(values[observed], return_inverse=True)
    codes = np.full(len(values), -1, dtype=np.int64)
    codes[observed] = inverse
    return Labels(codes, tuple(label(value) for value in distinct.tolist()))


def _labels(cells: "pyarrow.ChunkedArray", missing: Collection[str], *, trim: bool = True) -> Labels:
    """Trim the labels, merge those that become equal, and drop those that mean a missing cell."""
    import pyarrow.compute as pc

    encoded = cells.combine_chunks().dictionary_encode()
    if hasattr(encoded, "chunks"):
        encoded = encoded.chunk(0)
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    raw = encoded.dictionary.to_pylist()
    position: dict[str, int] = {}
    dropped: dict[str, int] = {}
    target = np.empty(len(raw) + 1, dtype=np.int64)
    target[-1] = -1
    for i, each in enumerate(raw):
        each = each.strip() if trim else each
        target[i] = -1 if each in missing else position.setdefault(each, len(position))
        if each in missing:
            dropped[each] = dropped.get(each, 0) + int((codes == i).sum())
    return Labels(target[codes], tuple(position), dropped=dropped)


def beyond_exact(cells: "pyarrow.ChunkedArray") -> bool:
    """Whether some of these integers are beyond 2⁵³."""
    import pyarrow.compute as pc

    ends = pc.min_max(cells).as_py()  # pyright: ignore[reportAttributeAccessIssue]
    return ends["min"] is not None and (ends["max"] > EXACT or ends["min"] < -EXACT)


def identifiers(cells: "pyarrow.ChunkedArray") -> bool:
    """Whether these are integers of which most are beyond 2⁵³: nobody measures such, they are names."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_integer(cells.type) or not beyond_exact(cells):
        return False
    if pa.types.is_uint64(cells.type):  # which Arrow would compare as signed
        large = pc.sum(pc.greater(cells, pa.scalar(EXACT, pa.uint64()))).as_py() or 0  # pyright: ignore
    else:
        beyond = pc.or_(pc.greater(cells, EXACT), pc.less(cells, -EXACT))  # pyright: ignore
        large = pc.sum(beyond).as_py() or 0  # pyright: ignore[reportAttributeAccessIssue]
    return 2 * large > len(cells) - cells.null_count


def _check_exact(table: Table, name: str, cells: "pyarrow.ChunkedArray") -> None:
    if not beyond_exact(cells):
        return
    for row, value in enumerate(cells.to_pylist()):
        if value is not None and abs(value) > EXACT:
            raise too_large(table, name, str(value), row)


def too_large(table: Table, name: str, value: str, row: int) -> DataError:
    """The error of a whole number beyond 2⁵³, which float64 would round.

    Args:
        table: where it stands.
        name: of the column.
        value: as it is written.
        row: counting from 0.
    """
    reason = f"{quoted(value)} is too large to be exact as a number; if it is an identifier, use --ignore"
    return table.column_error(name, reason, row)


def infinite_error(table: Table, name: str, number: int, row: int) -> DataError:
    """The error of some infinite values, of which the first is in `row`.

    Args:
        table: where they stand.
        name: of the column.
        number: how many there are.
        row: counting from 0.
    """
    count = plural(number, "infinite value")
    advice = "correct them, or leave those cells empty, which means missing"
    return table.column_error(name, f"{count}, the first here; {advice}", row)


def drop(values: np.ndarray, missing: Collection[str]) -> np.ndarray:
    """NaN for the numbers that mean a missing cell."""
    numbers = missing_numbers(missing)
    return np.where(np.isin(values, numbers), np.nan, values) if numbers else values


def missing_numbers(missing: Collection[str]) -> list[float]:
    """The numbers among the texts that mean a missing cell."""
    return [float(token) for token in missing if NUMBER.fullmatch(token)]


def label(number: float) -> str:
    """A number as the label of a category: `3`, `2.5`."""
    return str(int(number)) if number == int(number) else repr(number)
