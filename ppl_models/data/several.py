"""Several files with the same columns as one table, and files that are not on this machine.

A name with `*`, `?` or `[…]` stands for all files that match it, in the order of their names. A name such as
`s3://bucket/part-*.parquet` is looked up by the file systems of pyarrow (`file`, `s3`, `gs`, `hdfs`, …); what
is not on this machine is fetched into the directory for temporary files first.
"""

import re
import shutil
import tempfile
import weakref
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from glob import glob, has_magic
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from ppl_models.data.files import checked
from ppl_models.data.messages import clean, listed, quoted
from ppl_models.data.table import Table
from ppl_models.errors import DataError

REMOTE = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def paths_of(name: str) -> tuple[list[Path], Any]:
    """The files that a name stands for, and what must be kept while they are read.

    Args:
        name: a path, a pattern or a URI.

    Raises:
        DataError: no file matches, or they cannot be reached.
    """
    if REMOTE.match(name):
        return _fetched(name)
    if not has_magic(name) or Path(name).exists():
        return [Path(name)], None
    found = sorted(Path(each) for each in glob(name, recursive=True))
    if not found:
        raise DataError(f"{clean(name)}: no file matches")
    return found, None


def check_files(name: str) -> None:
    """Refuse a name of files on this machine that are not there, before anything is done.

    Raises:
        DataError: naming what is wrong.
    """
    for path in () if REMOTE.match(name) else paths_of(name)[0]:
        checked(path)


def _fetched(uri: str) -> tuple[list[Path], Any]:
    """Files by a file system of pyarrow."""
    import pyarrow as pa
    from pyarrow import fs

    called = clean(uri)
    try:
        pattern = uri.rpartition("/")[2]
        magic = has_magic(pattern)
        system, where = fs.FileSystem.from_uri(uri.rpartition("/")[0] if magic else uri)
        names = [where]
        if magic:
            listing = system.get_file_info(fs.FileSelector(where))
            names = sorted(f.path for f in listing if f.is_file and fnmatch(f.base_name, pattern))
        if not names:
            raise DataError(f"{called}: no file matches")
        if isinstance(system, fs.LocalFileSystem):
            return [Path(each) for each in names], None
        folder = tempfile.TemporaryDirectory(prefix="ppl-")
        found = []
        for i, each in enumerate(names):
            found.append(Path(folder.name, f"{i}-{Path(each).name}"))
            with system.open_input_stream(each, compression=None) as source, found[-1].open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 22)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{called}: cannot be read ({clean(error)})") from None
    return found, folder


def keep(table: Table, folder: Any) -> Table:
    """A table whose files, if they were fetched, are removed once nothing can read them any more."""
    if folder is not None and table.parts is None:
        folder.cleanup()
    elif folder is not None:
        weakref.finalize(table.parts, folder.cleanup)
    return table


def one_below_another(tables: Sequence[Table], name: str) -> Table:
    """The rows of several tables with the same columns; on disk where one of them is.

    Args:
        tables: one or more.
        name: what messages call all of them.

    Raises:
        DataError: their columns differ, or what these hold does.
    """
    first = tables[0]
    if len(tables) == 1:
        return first
    names = list(first.columns)
    for table in tables[1:]:
        if {*table.columns} != {*names}:
            differ = sorted({*table.columns} ^ {*names})
            raise DataError(
                f"{clean(table.source)}: its columns are not those of {clean(first.source)}: only one of "
                f"them has {listed(differ, 5)}"
            )
    kinds = _kinds(tables, names)
    ends = list(accumulate(table.rows for table in tables))

    def place(row: int) -> str:
        at = min(bisect_right(ends, row), len(tables) - 1)
        before = ends[at - 1] if at else 0
        return f"{clean(tables[at].source)}, {tables[at].place(row - before)}"

    def parts(wanted: Collection[str]) -> Iterator[Mapping[str, Any]]:
        for table in tables:
            for block in table.blocks(list(wanted)):
                yield {each: _cast(block.columns[each], kinds[each]) for each in wanted}

    both = {
        "source": name,
        "rows": ends[-1],
        "notes": list(dict.fromkeys(note for table in tables for note in table.notes)),
        "place": place,
        "cell": None,
        "came": first.came,
    }
    if any(table.parts is not None for table in tables):
        from ppl_models.data.columnar import Columns

        def whole(each: str) -> Any:
            return _joined([part[each] for part in parts([each])])

        return replace(first, **both, columns=Columns(names, whole), parts=parts)
    columns = {each: _joined([_cast(table.columns[each], kinds[each]) for table in tables]) for each in names}
    return replace(first, **both, columns=columns)


def _joined(cells: Sequence[Any]) -> Any:
    import pyarrow as pa

    return pa.chunked_array([chunk for part in cells for chunk in part.chunks])


def _kinds(tables: Sequence[Table], names: Sequence[str]) -> dict[str, Any]:
    """The type of each column in all tables: by their first rows, numbers of all sizes being numbers.

    Raises:
        DataError: a column holds something else in one of them.
    """
    import pyarrow as pa

    found: dict[str, Any] = {}
    for table in tables:
        block = next(table.blocks(names))
        for name in names:
            cells = block.columns[name]
            if isinstance(cells, np.ndarray):
                raise DataError(
                    f"{clean(table.source)}: several files of this format cannot be read as one table"
                )
            own, before = cells.type, found.get(name)
            numeric = [
                each is not None and (pa.types.is_integer(each) or pa.types.is_floating(each))
                for each in (own, before)
            ]
            if before is None or pa.types.is_null(before):
                found[name] = own
            elif all(numeric) and own != before:
                found[name] = pa.float64()
            elif own != before and not pa.types.is_null(own):
                raise DataError(
                    f"{clean(table.source)}, column {quoted(name)}: {own} cells, and {before} ones in the "
                    "files before it; make them alike"
                )
    return found


def _cast(cells: Any, kind: Any) -> Any:
    return cells if cells.type == kind else cells.cast(kind, safe=False)
