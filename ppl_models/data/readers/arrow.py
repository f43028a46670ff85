"""Arrow IPC files and streams, Feather among them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ppl_models.data.files import check_memory
from ppl_models.data.messages import clean
from ppl_models.data.readers.base import File, Reader, Request
from ppl_models.data.table import Table, check_names

if TYPE_CHECKING:
    import pyarrow


def _read(file: File, request: Request) -> Table:
    from ppl_models.data.columnar import by_name, chosen, guard, on_disk
    from ppl_models.data.spill import block_rows, stays_on_disk

    path, name = file.path, file.name
    with guard(name, "Arrow"):
        names = _open_arrow(path, None)[0].names
        rows = sum(batch.num_rows for batch in _open_arrow(path, names[:1])[1]) if names else 0
        wanted, notes = chosen(name, names, rows, request)
        if not request.large and not stays_on_disk(rows * len(wanted)):
            check_memory(name, 2 * path.stat().st_size)
            whole = by_name(_whole_arrow(path, wanted))
            return Table(name, whole, rows, notes, names=names, typed=True)

    def batches(columns: list[str]) -> Iterator["pyarrow.RecordBatch"]:
        step = block_rows(len(columns))
        for batch in _open_arrow(path, columns)[1]:
            batch.validate(full=True)
            for start in range(0, batch.num_rows, step):
                yield batch.slice(start, step)

    return on_disk(name, "Arrow", wanted, rows, notes, names, batches)


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


READER = Reader(
    name="Arrow", description="Arrow, Feather (version 2)", suffixes=(".arrow", ".feather"), read=_read
)
