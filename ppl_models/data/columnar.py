"""What Parquet and Arrow files share: large ones stay on disk, and are read block after block."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ppl_models.data.files import check_memory
from ppl_models.data.messages import clean, listed
from ppl_models.data.readers.base import Request
from ppl_models.data.table import Table, check_names
from ppl_models.errors import DataError

if TYPE_CHECKING:
    import pyarrow

    Batches = Callable[[list[str]], Iterator[pyarrow.RecordBatch]]


_UNCHECKED = 128 << 20
"""Bytes of a stream up to which nobody asks how much memory is left."""


@contextmanager
def guard(name: str, form: str) -> Iterator[None]:
    """Say in one line that a file is damaged."""
    import pyarrow as pa

    try:
        yield
    except DataError:
        raise
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:  # names are decoded late
        article = "an" if form[0] in "AEIOU" else "a"
        raise DataError(f"{name}: is not {article} {form} file, or is damaged ({clean(error)})") from None


def chosen(source: str, names: list[str], rows: int, request: Request) -> tuple[list[str], list[str]]:
    """The columns of a file that are to be read, and notes.

    The index of a data frame, which pandas stores as a column, is left out unless it is asked for.

    Args:
        source: What messages call the file.
        names: All of its columns.
        rows: How many rows it has.
        request: What is wanted of it.

    Raises:
        DataError: It has no rows, or names that do not tell the columns apart.
    """
    check_names(source, names)
    if not rows:
        raise DataError(f"{source}: has no rows")
    wanted = request.wanted or ()
    index = [name for name in names if name.startswith("__index_level_") and name not in wanted]
    notes = [f"left out {listed(index)} (the index of a data frame)"] if index else []
    return [name for name in request.chosen(names) if name not in index], notes


def by_name(table: "pyarrow.Table") -> dict[str, "pyarrow.ChunkedArray"]:
    """The columns of an Arrow table under their names."""
    return dict(zip(table.column_names, table.columns, strict=True))


def from_stream(data: Any, source: str) -> "pyarrow.Table":
    """All rows of something that gives a stream of Arrow batches, such as a DuckDB relation.

    Args:
        data: It has `__arrow_c_stream__`.
        source: What messages call it.

    Raises:
        DataError: It has no rows, names that do not tell the columns apart, or more than the memory holds.
    """
    import pyarrow as pa

    names: list[str] = list(getattr(data, "columns", ()))  # DuckDB's stream itself may call a second x x_1
    stream = pa.RecordBatchReader.from_stream(data)
    if len(names) != len(stream.schema) or not all(isinstance(name, str) for name in names):
        names = stream.schema.names
    check_names(source, names)
    batches, size = [], 0
    for batch in stream:
        batches.append(batch)
        size += batch.nbytes
        check_memory(source, 2 * size if size > _UNCHECKED else 0)
    table = pa.Table.from_batches(batches, stream.schema)
    if not table.num_rows:
        raise DataError(f"{source}: has no rows")
    return table.rename_columns(names)


def on_disk(
    source: str,
    form: str,
    columns: list[str],
    rows: int,
    notes: list[str],
    names: list[str],
    batches: "Batches",
) -> Table:
    """A table whose rows are read again whenever they are looked at.

    Args:
        source: What messages call the file.
        form: The name of its format.
        columns: Those that are to be read.
        rows: How many rows it has.
        notes: What was done so far.
        names: All columns of the file.
        batches: Reads some columns, a block of rows after another.
    """
    import pyarrow as pa

    def parts(wanted: Collection[str]) -> Iterator[Mapping[str, "pyarrow.ChunkedArray"]]:
        order = list(wanted)
        remaining = batches(order)
        while True:
            with guard(source, form):
                batch = next(remaining, None)
            if batch is None:
                return
            yield {name: pa.chunked_array([batch.column(name)]) for name in order}

    def whole(name: str) -> "pyarrow.ChunkedArray":
        check_memory(source, 3 * 8 * rows)
        return pa.chunked_array([chunk for part in parts([name]) for chunk in part[name].chunks])

    return Table(source, Columns(columns, whole), rows, notes, names=names, parts=parts, typed=True)


class Columns(Mapping[str, "pyarrow.ChunkedArray"]):
    """Columns of a file, each read when it is asked for."""

    def __init__(self, names: list[str], whole: Callable[[str], "pyarrow.ChunkedArray"]) -> None:
        self._names, self._whole = dict.fromkeys(names), whole

    def __getitem__(self, name: str) -> "pyarrow.ChunkedArray":
        if name not in self._names:
            raise KeyError(name)
        return self._whole(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names
