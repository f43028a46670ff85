"""Parquet files, of which only the wanted columns are read."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ppl_models.data.files import check_memory
from ppl_models.data.readers.base import File, Reader, Request
from ppl_models.data.table import Table

if TYPE_CHECKING:
    import pyarrow


def _read(file: File, request: Request) -> Table:
    import pyarrow.parquet as pq

    from ppl_models.data.columnar import by_name, chosen, guard, on_disk
    from ppl_models.data.spill import block_rows, stays_on_disk

    path, name = file.path, file.name
    with guard(name, "Parquet"):
        with pq.ParquetFile(path, memory_map=True) as stored:
            names, rows = stored.schema_arrow.names, stored.metadata.num_rows
            wanted, notes = chosen(name, names, rows, request)
            if not request.large and not stays_on_disk(rows * len(wanted)):
                groups = [stored.metadata.row_group(i) for i in range(stored.metadata.num_row_groups)]
                size = sum(group.total_byte_size for group in groups) * len(wanted) / max(len(names), 1)
                check_memory(name, size + 8 * rows * len(wanted))
                table = stored.read(columns=wanted)
                table.validate(full=True)  # of text that is not UTF-8 nothing is said before
                return Table(name, by_name(table), rows, notes, names=names, typed=True)
        # Without these a whole row group, and the next ones ahead, would be held in memory.
        large = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16)

    def batches(columns: list[str]) -> Iterator["pyarrow.RecordBatch"]:
        for batch in large.iter_batches(batch_size=block_rows(len(columns)), columns=columns):
            batch.validate(full=True)
            yield batch

    return on_disk(name, "Parquet", wanted, rows, notes, names, batches)


READER = Reader(name="Parquet", description="Parquet", suffixes=(".parquet",), read=_read)
