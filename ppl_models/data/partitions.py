"""Dask data frames: partitions are computed where Dask computes them, and come here one after another.

A small one is a pandas data frame, of all partitions in order; one that is better not held in memory is
looked at as a large file is, partition by partition, as often as needed. Where a Dask client is there, its
workers keep the partitions meanwhile (`persist`); without one they are computed once more for each look.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ppl_models.data.came import of_pandas
from ppl_models.data.columnar import chosen, on_disk
from ppl_models.data.frames import from_frame
from ppl_models.data.messages import clean
from ppl_models.data.readers.base import Request
from ppl_models.data.spill import stays_on_disk
from ppl_models.data.table import Came, Table, check_names
from ppl_models.errors import DataError, PplError, UsageError

if TYPE_CHECKING:
    import pandas
    import pyarrow

SOURCE = "Dask data frame"
"""What messages call it."""

AHEAD = 4
"""Partitions that are computed at a time."""


def is_partitioned(data: Any) -> bool:
    """Whether it is a data frame of Dask."""
    return type(data).__module__.startswith("dask.dataframe") and hasattr(data, "npartitions")


def cluster_of(data: Any) -> Any:
    """The Dask client whose workers compute a data frame of Dask; None where there is none.

    Raises:
        UsageError: it can only be waited for by a coroutine.
    """
    if not is_partitioned(data):
        return None
    try:
        from distributed import Client

        client = Client.current()
    except (ImportError, ValueError):  # Dask computes by threads or processes of this machine
        return None
    if client.asynchronous:
        raise UsageError(f"{SOURCE}: the Dask client is asynchronous; make one without asynchronous=True")
    return client


def from_partitions(data: Any, request: Request) -> Table:
    """The columns of a data frame of Dask, rows in the order of its partitions.

    Args:
        data: the data frame.
        request: what is wanted of it.

    Raises:
        DataError: it has no rows, names that do not tell the columns apart, or cannot be computed.
    """
    if not hasattr(data, "columns"):
        data = data.to_frame()
    names = [str(name) for name in data.columns]
    check_names(SOURCE, names)
    if getattr(data.columns, "nlevels", 1) > 1:
        raise DataError(f"{SOURCE}: the columns have several levels of names; give each one name")
    with _guard():
        data = data.rename(columns=str)[request.chosen(names)]
        if cluster_of(data) is not None:
            data = data.persist()
        rows = int(data.map_partitions(len, meta=("rows", "int64")).sum().compute())
    wanted, notes = chosen(SOURCE, names, rows, request)
    if not stays_on_disk(rows * len(wanted)):
        with _guard():
            frame = data[wanted].compute()
        table = from_frame(frame, SOURCE)
        return replace(table, notes=notes, names=names)
    with _guard():
        unknown = [name for name in wanted if data[name].dtype == "category" and not data[name].cat.known]
        data = data.categorize(columns=unknown, index=False) if unknown else data
        kinds, came = _types(data, wanted)

    def batches(columns: list[str]) -> "Iterator[pyarrow.RecordBatch]":
        import dask

        with _guard():
            own = dask.delayed(batch, pure=False)  # pyright: ignore[reportPrivateImportUsage]
            parts = [own(part, columns, kinds) for part in data[columns].to_delayed()]
            for lo in range(0, len(parts), AHEAD):
                found = dask.compute(*parts[lo : lo + AHEAD])  # pyright: ignore[reportPrivateImportUsage]
                yield from (each for each in found if each.num_rows)

    return replace(on_disk(SOURCE, SOURCE, wanted, rows, notes, names, batches), came=came)


@contextmanager
def _guard() -> Iterator[None]:
    """Within it, whatever Dask or one of its workers raises is said in one line."""
    try:
        yield
    except PplError:
        raise
    except Exception as error:
        reason = clean(" ".join(str(error).split()) or type(error).__name__)
        raise DataError(f"{SOURCE}: cannot be computed ({reason[:300]})") from None


def _types(data: Any, names: list[str]) -> "tuple[pyarrow.Schema, dict[str, Came]]":
    """The Arrow type of each column, and as what it came, by what Dask knows without computing it."""
    import pyarrow as pa
    from dask.dataframe.utils import meta_nonempty

    like = meta_nonempty(data._meta)[names]
    cells = pa.Table.from_pandas(like, preserve_index=False)
    came = {name: of_pandas(like[name].dtype, cells.column(name)) for name in names}
    return cells.schema.remove_metadata(), came


def batch(part: "pandas.DataFrame", columns: list[str], kinds: "pyarrow.Schema") -> "pyarrow.RecordBatch":
    """Columns of a partition in the types of all.

    Raises:
        DataError: cells of a column are of another type.
    """
    import pyarrow as pa

    arrays = []
    for name in columns:
        cells, kind = part[name], kinds.field(name).type
        try:
            arrays.append(pa.array(cells, kind, from_pandas=True))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"{SOURCE}, column {name}: a partition has other cells than {kind} ({clean(error)}); "
                "give the column one type with astype"
            ) from None
    return pa.record_batch(arrays, names=columns)
