"""Parquet and Arrow files."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ppl_models.data.files import check_memory
from ppl_models.data.messages import clean, listed
from ppl_models.data.table import Table, check_names
from ppl_models.errors import DataError

if TYPE_CHECKING:
    import pyarrow


def read_parquet(path: Path, wanted: Collection[str] | None, unwanted: Collection[str]) -> Table:
    """A Parquet file; only the wanted columns are read.

    Raises:
        DataError: It is damaged, or too large for the memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = clean(path)
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            names = file.schema_arrow.names
            chosen, notes = _chosen(name, names, wanted, unwanted)
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            size = sum(group.total_byte_size for group in groups) * len(chosen) / max(len(names), 1)
            check_memory(name, size + 8 * file.metadata.num_rows * len(chosen))
            table = file.read(columns=chosen)
    except DataError:
        raise
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise DataError(f"{name}: is not a Parquet file, or is damaged ({clean(error)})") from None
    return _table(name, table, notes, names)


def read_arrow(path: Path, wanted: Collection[str] | None, unwanted: Collection[str]) -> Table:
    """An Arrow IPC file (Feather version 2) or stream.

    Raises:
        DataError: It is damaged, or too large for the memory.
    """
    import pyarrow as pa

    name = clean(path)
    check_memory(name, 2 * path.stat().st_size)
    try:
        content = pa.memory_map(str(path)).read_buffer()
        try:
            table = pa.ipc.open_file(content).read_all()
        except pa.ArrowInvalid:
            table = pa.ipc.open_stream(content).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise DataError(f"{name}: is not an Arrow file, or is damaged ({clean(error)})") from None
    chosen, notes = _chosen(name, table.column_names, wanted, unwanted)
    return _table(name, table.select(chosen), notes, table.column_names)


def _chosen(
    source: str, names: list[str], wanted: Collection[str] | None, unwanted: Collection[str]
) -> tuple[list[str], list[str]]:
    check_names(source, names)
    index = [n for n in names if n.startswith("__index_level_") and (wanted is None or n not in wanted)]
    chosen = [n for n in names if (wanted is None or n in wanted) and n not in unwanted and n not in index]
    return chosen, [f"left out {listed(index)} (the index of a data frame)"] if index else []


def _table(source: str, table: "pyarrow.Table", notes: list[str], names: list[str]) -> Table:
    if not table.num_rows:
        raise DataError(f"{source}: has no rows")
    return Table(
        source, dict(zip(table.column_names, table.columns, strict=True)), table.num_rows, notes, names=names
    )
