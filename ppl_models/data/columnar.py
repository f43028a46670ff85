"""Parquet and Arrow files, of which large ones stay on disk: they are read block after block."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ppl_models.data.files import check_memory
from ppl_models.data.messages import clean, listed
from ppl_models.data.spill import block_rows, stays_on_disk
from ppl_models.data.table import Table, check_names
from ppl_models.errors import DataError

if TYPE_CHECKING:
    import pyarrow

    Batches = Callable[[list[str]], Iterator[pyarrow.RecordBatch]]


def read_parquet(path: Path, wanted: Collection[str] | None, unwanted: Collection[str]) -> Table:
    """A Parquet file; only the wanted columns are read.

    Raises:
        DataError: It is damaged.
    """
    import pyarrow.parquet as pq

    name = clean(path)
    with _guard(name, "Parquet"):
        with pq.ParquetFile(path, memory_map=True) as file:
            names, rows = file.schema_arrow.names, file.metadata.num_rows
            chosen, notes = _chosen(name, names, wanted, unwanted, rows)
            if not stays_on_disk(rows * len(chosen)):
                groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
                size = sum(group.total_byte_size for group in groups) * len(chosen) / max(len(names), 1)
                check_memory(name, size + 8 * rows * len(chosen))
                table = file.read(columns=chosen)
                return Table(name, _by_name(table), rows, notes, names=names)
        # Without these a whole row group, and the next ones ahead, would be held in memory.
        large = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16)

    def batches(columns: list[str]) -> Iterator["pyarrow.RecordBatch"]:
        return large.iter_batches(batch_size=block_rows(len(columns)), columns=columns)

    return _on_disk(name, "Parquet", chosen, rows, notes, names, batches)


def read_arrow(path: Path, wanted: Collection[str] | None, unwanted: Collection[str]) -> Table:
    """An Arrow IPC file (Feather version 2) or stream.

    Raises:
        DataError: It is damaged.
    """
    name = clean(path)
    with _guard(name, "Arrow"):
        names = _open_arrow(path, None)[0].names
        rows = sum(batch.num_rows for batch in _open_arrow(path, names[:1])[1]) if names else 0
        chosen, notes = _chosen(name, names, wanted, unwanted, rows)
        if not stays_on_disk(rows * len(chosen)):
            check_memory(name, 2 * path.stat().st_size)
            return Table(name, _by_name(_whole_arrow(path, chosen)), rows, notes, names=names)

    def batches(columns: list[str]) -> Iterator["pyarrow.RecordBatch"]:
        step = block_rows(len(columns))
        for batch in _open_arrow(path, columns)[1]:
            batch.validate(full=True)
            for start in range(0, batch.num_rows, step):
                yield batch.slice(start, step)

    return _on_disk(name, "Arrow", chosen, rows, notes, names, batches)


def _open_arrow(
    path: Path, columns: list[str] | None
) -> tuple["pyarrow.Schema", Iterator["pyarrow.RecordBatch"]]:
    """The schema, and the batches with some columns, or with all."""
    import pyarrow as pa

    content = pa.memory_map(str(path)).read_buffer()
    try:
        opener, schema = pa.ipc.open_file, pa.ipc.open_file(content).schema
    except pa.ArrowInvalid:
        opener, schema = pa.ipc.open_stream, pa.ipc.open_stream(content).schema
    check_names(clean(path), schema.names)
    fields = None if columns is None else sorted(schema.get_field_index(name) for name in columns)
    reader = opener(content, options=pa.ipc.IpcReadOptions(included_fields=fields))
    if opener is pa.ipc.open_stream:
        return schema, iter(reader)
    return schema, (reader.get_batch(i) for i in range(reader.num_record_batches))


def _whole_arrow(path: Path, columns: list[str]) -> "pyarrow.Table":
    import pyarrow as pa

    if not columns:
        return pa.table({})
    schema, batches = _open_arrow(path, columns)
    table = pa.Table.from_batches(list(batches), pa.schema([f for f in schema if f.name in columns]))
    table.validate(full=True)
    return table.select(columns)


@contextmanager
def _guard(name: str, form: str) -> Iterator[None]:
    """Say in one line that a file is damaged."""
    import pyarrow as pa

    try:
        yield
    except DataError:
        raise
    except (pa.ArrowException, OSError, MemoryError) as error:
        article = "an" if form[0] in "AEIOU" else "a"
        raise DataError(f"{name}: is not {article} {form} file, or is damaged ({clean(error)})") from None


def _chosen(
    source: str, names: list[str], wanted: Collection[str] | None, unwanted: Collection[str], rows: int
) -> tuple[list[str], list[str]]:
    check_names(source, names)
    if not rows:
        raise DataError(f"{source}: has no rows")
    index = [n for n in names if n.startswith("__index_level_") and (wanted is None or n not in wanted)]
    chosen = [n for n in names if (wanted is None or n in wanted) and n not in unwanted and n not in index]
    return chosen, [f"left out {listed(index)} (the index of a data frame)"] if index else []


def _by_name(table: "pyarrow.Table") -> dict[str, "pyarrow.ChunkedArray"]:
    return dict(zip(table.column_names, table.columns, strict=True))


def _on_disk(
    source: str,
    form: str,
    chosen: list[str],
    rows: int,
    notes: list[str],
    names: list[str],
    batches: "Batches",
) -> Table:
    """A table whose rows are read again whenever they are looked at."""
    import pyarrow as pa

    def parts(wanted: Collection[str]) -> Iterator[Mapping[str, "pyarrow.ChunkedArray"]]:
        columns = list(wanted)
        remaining = batches(columns)
        while True:
            with _guard(source, form):
                batch = next(remaining, None)
            if batch is None:
                return
            yield {name: pa.chunked_array([batch.column(name)]) for name in columns}

    def whole(name: str) -> "pyarrow.ChunkedArray":
        check_memory(source, 3 * 8 * rows)
        return pa.chunked_array([chunk for part in parts([name]) for chunk in part[name].chunks])

    return Table(source, _Columns(chosen, whole), rows, notes, names=names, parts=parts)


class _Columns(Mapping[str, "pyarrow.ChunkedArray"]):
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
