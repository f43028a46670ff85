"""The cells of one column: numbers, labels, or dates.

Text is trimmed. These texts are missing cells everywhere: an empty one, NA, N/A, NaN, nan, null, None, ?
and a few spellings of them (`MISSING`).
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ppl_models.data.messages import plural, quoted
from ppl_models.data.table import Table

if TYPE_CHECKING:
    import pyarrow

MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "None", "?")

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?", re.ASCII)
_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)
_UNIT = re.compile(r"[$€£¥]?\s*[+-]?[$€£¥]?\d[\d.,]*\s*[%$€£¥]?")
_DATE = re.compile(r"(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3\d{2,4})([T ]\d.*)?", re.ASCII)
_EXACT = 2**53


@dataclass(frozen=True)
class Numbers:
    """(n,) float64 with NaN where missing; `integer` if all are whole."""

    values: np.ndarray
    integer: bool


@dataclass(frozen=True)
class Labels:
    """(n,) codes, -1 where missing, and the text each stands for, in order of first appearance.

    `typed` if the data itself said that these are categories or truth values.
    """

    codes: np.ndarray
    labels: tuple[str, ...]
    typed: bool = False


@dataclass(frozen=True)
class Dates:
    """A column of dates or times, which no model takes as they are."""


Parsed = Numbers | Labels | Dates


def parse(
    table: Table, name: str, *, missing: Collection[str] = (), decimal: str = ".", text: bool = False
) -> Parsed:
    """Find out what the cells of a column are.

    Args:
        table: The table.
        name: The column.
        missing: Further texts and numbers that mean a missing cell.
        decimal: The decimal mark of numbers in text.
        text: Take every value for a label, even a number.

    Raises:
        DataError: Numbers and words are mixed, a value is infinite or too large to be exact, or the
            cells are none of the three.
    """
    cells = table.columns[name]
    if isinstance(cells, np.ndarray):
        numbers = _drop(cells.astype(np.float64, copy=False), missing)
        checked = _checked(table, name, numbers)
        return _numbers_as_labels(numbers) if text else checked

    import pyarrow as pa

    kind = cells.type
    if pa.types.is_dictionary(kind):
        cells, text = cells.cast(kind.value_type), True
        parsed = _parse_arrow(table, name, cells, missing, decimal, text)
        return Labels(parsed.codes, parsed.labels, typed=True) if isinstance(parsed, Labels) else parsed
    return _parse_arrow(table, name, cells, missing, decimal, text)


def _parse_arrow(
    table: Table, name: str, cells: "pyarrow.ChunkedArray", missing: Collection[str], decimal: str, text: bool
) -> Parsed:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_type, kind = pa.types, cells.type
    if is_type.is_null(kind):
        return Numbers(np.full(len(cells), np.nan), integer=False)
    if is_type.is_boolean(kind):
        codes = pc.fill_null(cells.cast(pa.int8()), -1).to_numpy()
        return Labels(codes.astype(np.int64), ("false", "true"), typed=True)
    if is_type.is_integer(kind) or is_type.is_floating(kind) or is_type.is_decimal(kind):
        if is_type.is_integer(kind):
            _check_exact(table, name, cells)
        numbers = pc.fill_null(cells.cast(pa.float64(), safe=False), np.nan).to_numpy()
        numbers = _drop(numbers, missing)
        checked = _checked(table, name, numbers)
        return _numbers_as_labels(numbers) if text else checked
    if is_type.is_string(kind) or is_type.is_large_string(kind) or is_type.is_string_view(kind):
        return _parse_text(table, name, cells.cast(pa.large_string()), missing, decimal, text)
    if is_type.is_temporal(kind):
        return Dates()
    raise table.column_error(
        name, f"cells of type {quoted(kind)} are neither numbers nor text; leave it out with --ignore"
    )


def _parse_text(
    table: Table, name: str, cells: "pyarrow.ChunkedArray", missing: Collection[str], decimal: str, text: bool
) -> Parsed:
    import pyarrow.compute as pc

    encoded = cells.combine_chunks().dictionary_encode()
    if hasattr(encoded, "chunks"):
        encoded = encoded.chunk(0)
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    labels, codes = _trimmed(encoded.dictionary.to_pylist(), codes, {*MISSING, *missing})
    if text or not labels:
        return Labels(codes, labels) if labels else Numbers(np.full(len(codes), np.nan), integer=False)

    plain = [label.replace(decimal, ".") for label in labels] if decimal != "." else labels
    numeric = np.array([bool(_NUMBER.fullmatch(p) or _INFINITE.fullmatch(p)) for p in plain])
    if numeric.all():
        return _text_numbers(table, name, plain, codes, missing)
    if all(_DATE.fullmatch(text) for text in labels):
        return Dates()
    _check_marks(table, name, labels, numeric, codes)
    known = codes[codes >= 0]
    share = np.bincount(known, minlength=len(labels))[numeric].sum() / len(known)
    if share > 0.5:
        row = int(np.flatnonzero((codes >= 0) & ~numeric[codes])[0])
        word = quoted(labels[codes[row]])
        raise table.column_error(
            name,
            f"{word} is not a number, as most of the column is; correct it, or use --missing {word} if the "
            f"cell is missing, or --types {quoted(name + '=categorical')}",
            row,
        )
    return Labels(codes, labels)


def _trimmed(
    raw: list[str], codes: np.ndarray, missing: Collection[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Trim the labels, merge those that become equal, and drop those that mean a missing cell."""
    position: dict[str, int] = {}
    target = np.empty(len(raw) + 1, dtype=np.int64)
    target[-1] = -1
    for i, label in enumerate(raw):
        label = label.strip()
        target[i] = -1 if label in missing else position.setdefault(label, len(position))
    return tuple(position), target[codes]


def _text_numbers(
    table: Table, name: str, labels: Collection[str], codes: np.ndarray, missing: Collection[str]
) -> Numbers:
    for i, label in enumerate(labels):
        if label.lstrip("+-").isdigit() and abs(int(label[:400])) > _EXACT:
            raise _too_large(table, name, label, int(np.flatnonzero(codes == i)[0]))
    values = np.array([*map(float, labels), np.nan])[codes]
    return _checked(table, name, _drop(values, missing))


def _check_marks(
    table: Table, name: str, labels: Collection[str], numeric: np.ndarray, codes: np.ndarray
) -> None:
    """Refuse numbers with a comma, a percent sign or a currency, if else the column would be numeric."""
    odd = [label for label, is_number in zip(labels, numeric, strict=True) if not is_number]
    thousands = all(_THOUSANDS.fullmatch(label) for label in odd)
    commas = all(_COMMA.fullmatch(label) for label in odd)
    if not all(_UNIT.fullmatch(label) for label in odd) and not commas:
        return
    row = int(np.flatnonzero((codes >= 0) & ~numeric[codes])[0])
    first = quoted(odd[0])
    if thousands:
        advice = (
            "has a thousands separator, to be removed, or a decimal comma, which is read with --decimal ,"
        )
    elif commas:
        advice = "has a decimal comma; use --decimal ,"
    else:
        advice = f"is a number with a mark; remove the mark, or use --types {quoted(name + '=categorical')}"
    raise table.column_error(name, f"{first} {advice}", row)


def _check_exact(table: Table, name: str, cells: "pyarrow.ChunkedArray") -> None:
    import pyarrow.compute as pc

    ends = pc.min_max(cells).as_py()  # pyright: ignore[reportAttributeAccessIssue]
    if ends["min"] is None or (ends["max"] <= _EXACT and ends["min"] >= -_EXACT):
        return
    whole = cells.to_pylist()
    row = next(i for i, value in enumerate(whole) if value is not None and abs(value) > _EXACT)
    raise _too_large(table, name, str(whole[row]), row)


def _too_large(table: Table, name: str, value: str, row: int) -> Exception:
    reason = f"{quoted(value)} is too large to be exact as a number; if it is an identifier, use --ignore"
    return table.column_error(name, reason, row)


def _drop(values: np.ndarray, missing: Collection[str]) -> np.ndarray:
    """NaN for the numbers that mean a missing cell."""
    numbers = [float(token) for token in missing if _NUMBER.fullmatch(token)]
    return np.where(np.isin(values, numbers), np.nan, values) if numbers else values


def _checked(table: Table, name: str, values: np.ndarray) -> Numbers:
    infinite = np.isinf(values)
    if infinite.any():
        row = int(np.argmax(infinite))
        count = plural(int(infinite.sum()), "infinite value")
        advice = "correct them, or leave those cells empty, which means missing"
        raise table.column_error(name, f"{count}, the first here; {advice}", row)
    integer = whole(values)
    if integer and table.cell is not None and np.nanmax(np.abs(values)) > _EXACT:
        row = int(np.nanargmax(np.abs(values) > _EXACT))
        text = table.cell(row, name)
        if text.strip().lstrip("+-").isdigit():
            raise _too_large(table, name, text, row)
    return Numbers(values, integer)


def whole(values: np.ndarray) -> bool:
    """Whether all observed values, and there is at least one, are whole numbers."""
    observed = values[~np.isnan(values)]
    return bool(observed.size) and bool((observed == np.trunc(observed)).all())


def _numbers_as_labels(values: np.ndarray) -> Parsed:
    observed = ~np.isnan(values)
    if not observed.any():
        return Numbers(values, integer=False)
    distinct, inverse = np.unique(values[observed], return_inverse=True)
    codes = np.full(len(values), -1, dtype=np.int64)
    codes[observed] = inverse
    return Labels(codes, tuple(label(value) for value in distinct.tolist()))


def label(number: float) -> str:
    """A number as the label of a category: `3`, `2.5`."""
    return str(int(number)) if number == int(number) else repr(number)
