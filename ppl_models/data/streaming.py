"""Delimited text and JSON lines larger than memory: read block after block, as often as they are looked at.

The beginning of a file says how it is written and what its columns are, as that of a small file does; then
one pass finds out whether all other rows are like that, and how many there are. A column that has begun with
numbers and goes on with words is refused, with the row: to guess once more would change what was read before.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ppl_models.data.files import budget
from ppl_models.data.messages import clean, quoted
from ppl_models.data.readers.base import File
from ppl_models.data.table import Table
from ppl_models.errors import DataError

if TYPE_CHECKING:
    import pyarrow

STREAMED = 64 << 20
"""Bytes of text up to which a file is read as a whole, where these times `HELD` are free."""

HELD = 12
"""Bytes of memory that a byte of text may take while a file is read as a whole."""

HEAD = 8 << 20
"""Bytes at the beginning by which the columns are known."""

BLOCK = 4 << 20
"""Bytes of text that are read at a time."""

LINES = 20_000
"""Lines of JSON that are read at a time."""

PACKED = 5
"""How many times as large a file is that was compressed, about."""

_INVALID = re.compile(
    r"CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error to [^:]+: invalid value '(.*)'"
)


def streamed(file: File) -> bool:
    """Whether a file of text is better not read as a whole."""
    if str(file.path) == "-":
        return False
    size = file.path.stat().st_size * (PACKED if _packed(file.path) else 1)
    return size > STREAMED or HELD * size > budget()


def _packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _opened(path: Path) -> "AbstractContextManager[IO[bytes]]":
    import gzip

    return gzip.open(path) if _packed(path) else path.open("rb")  # type: ignore[return-value]


@contextmanager
def _guard(source: str, form: str) -> Iterator[None]:
    """Say in one line what is wrong with a file."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        raise DataError(f"{source}: cannot be read as {form} ({clean(error)})") from None


def head(file: File) -> File:
    """The same with no more than whole rows at the beginning of its content: none ends within quotes."""

    def content() -> bytes:
        with _guard(file.name, "text"), _opened(file.path) as stream:
            text = stream.read(HEAD)
        last = end = text.rfind(b"\n") + 1
        while end and text.count(b'"', 0, end) % 2:
            end = text.rfind(b"\n", 0, end - 1) + 1
        return text[: end or last] or text

    return replace(file, content=content)


def delimited(
    file: File,
    first: Table,
    lines: int,
    names: list[str],
    delimiter: str,
    quote: str | None,
    nothing: tuple[str, ...],
) -> Table:
    """A table of delimited text whose rows are read again whenever they are looked at.

    Args:
        file: where it is.
        first: what its beginning was read as.
        lines: lines before the first row.
        names: all columns, in their order.
        delimiter: what separates cells.
        quote: what encloses cells that hold a delimiter, if anything does.
        nothing: texts that mean a missing number.

    Raises:
        DataError: a row is not like those at the beginning.
    """
    import pyarrow as pa
    import pyarrow.csv as pc

    from ppl_models.data.columnar import on_disk

    # the type of each column, and what it is where a later cell does not fit
    doubt = {pa.int64(): pa.float64(), pa.null(): pa.float64()}
    types: dict[str, Any] = {name: cells.type for name, cells in first.columns.items()}  # type: ignore[union-attr]
    empty = {name for name, kind in types.items() if pa.types.is_null(kind)}
    types = {name: pa.float64() if name in empty else kind for name, kind in types.items()}

    def batches(columns: list[str]) -> "Iterator[pyarrow.RecordBatch]":
        opened = pa.input_stream(str(file.path), compression="gzip" if _packed(file.path) else None)
        yield from pc.open_csv(
            opened,
            read_options=pc.ReadOptions(
                column_names=names, skip_rows=lines, block_size=BLOCK, use_threads=False
            ),
            parse_options=pc.ParseOptions(
                delimiter=delimiter, quote_char=quote or False, newlines_in_values=quote is not None
            ),
            convert_options=pc.ConvertOptions(
                null_values=list(nothing),
                true_values=["true", "True", "TRUE"],
                false_values=["false", "False", "FALSE"],
                include_columns=columns,
                column_types={name: types[name] for name in columns},
            ),
        )

    rows = 0
    while True:
        try:
            with _guard(file.name, "delimited text"):
                rows = sum(batch.num_rows for batch in batches(list(types)))
            break
        except DataError as error:
            found = _INVALID.search(str(error))
            if found is None:
                raise
            name, text = names[int(found[1])], found[3]
            if types[name] in doubt:
                types[name] = doubt[types[name]]
            elif name in empty:
                types[name] = pa.string()
                empty.discard(name)
            elif types[name] == pa.float64():
                row = f", row {int(found[2]) - lines:,}" if found[2] else ""
                raise DataError(
                    f"{file.name}{row}, column {quoted(name)}: {quoted(text)} is not a number, as the cells "
                    f"before it are; correct it, or use --missing {quoted(text)} if it means a missing cell, "
                    f"or --types {quoted(name + '=categorical')}"
                ) from None
            else:
                types[name] = pa.string()
    table = on_disk(file.name, "delimited text", list(types), rows, first.notes, first.names, batches)
    return replace(
        table, typed=False, place=lambda row: f"line {row + lines + 1}", quoted_commas=delimiter == ","
    )


_KINDS: dict[type, str] = {bool: "truth", int: "whole", float: "number", str: "text"}

_LONG = 1 << 63
"""Whole numbers from which they are no int64."""


def _number(value: float) -> float:
    """As float64; a whole number beyond its range is infinite, which is refused with its row."""
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def json_lines(file: File, loads: Callable[[bytes], Any]) -> Table:
    """A table of JSON objects, one to a line, that are read again whenever they are looked at.

    A column is of numbers or truth values where all its cells are, and else of text.

    Args:
        file: where it is.
        loads: one object from a line.

    Raises:
        DataError: a line is no object of plain values.
    """
    import pyarrow as pa

    from ppl_models.data.columnar import on_disk
    from ppl_models.data.table import check_names

    source, kinds, rows = file.name, dict[str, set[str]](), 0

    def objects() -> Iterator[tuple[int, dict[str, Any]]]:
        with _guard(source, "JSON lines"), _opened(file.path) as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                try:
                    found = loads(line)
                except (ValueError, RecursionError) as error:
                    reason = clean(getattr(error, "msg", error))
                    raise DataError(
                        f"{source}, line {number}: is not JSON, one object to a line ({reason})"
                    ) from None
                if not isinstance(found, dict):
                    raise DataError(f"{source}, line {number}: is not an object with a value for each column")
                yield number, found

    for number, found in objects():
        rows += 1
        for name, cell in found.items():
            own = kinds.setdefault(name, set())
            if cell is None:
                continue
            if type(cell) not in _KINDS:
                where = f"{source}, line {number}, column {quoted(name)}"
                raise DataError(f"{where}: a cell that is itself a list or an object; write plain values")
            own.add("number" if type(cell) is int and abs(cell) >= _LONG else _KINDS[type(cell)])
    if not rows:
        raise DataError(f"{source}: has no rows")
    check_names(source, list(kinds))
    types = {
        name: pa.bool_()
        if own == {"truth"}
        else pa.int64()
        if own == {"whole"}
        else pa.float64()
        if own and own <= {"whole", "number"}
        else pa.string()
        for name, own in kinds.items()
    }

    def cells(name: str, some: list[dict[str, Any]]) -> "pyarrow.Array":
        values = [each.get(name) for each in some]
        if types[name] == pa.string():
            texts = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
            # half of a character, as where a text was cut off, becomes a question mark as in memory
            values = [v if v is None else v.encode("utf-8", "replace").decode() for v in texts]
        elif types[name] == pa.float64():
            values = [None if v is None else _number(v) for v in values]
        return pa.array(values, types[name])

    def batches(columns: list[str]) -> "Iterator[pyarrow.RecordBatch]":
        some: list[dict[str, Any]] = []

        def batch() -> "pyarrow.RecordBatch":
            return pa.record_batch([cells(name, some) for name in columns], names=columns)

        for _, found in objects():
            some.append(found)
            if len(some) == LINES:
                yield batch()
                some = []
        if some:
            yield batch()

    table = on_disk(source, "JSON lines", list(kinds), rows, [], list(kinds), batches)
    return replace(table, typed=False)
