"""Results as CSV, JSON lines or Parquet: whole or not at all, and some rows at a time."""

import contextlib
import json as json_library
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ppl_models.data.messages import clean
from ppl_models.errors import OutputError

if TYPE_CHECKING:
    import pandas

ROWS = 100_000
"""Rows that are made text at a time."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_table(
    frame: "pandas.DataFrame | Iterable[pandas.DataFrame]",
    destination: str | os.PathLike[str],
    *,
    json: bool = False,
) -> None:
    """Write a table to a file, or to standard output for `-`.

    The name decides: `.parquet`; `.jsonl`, `.ndjson` or `.json` (JSON lines); anything else is CSV. In
    CSV, text that a spreadsheet would run as a formula gets a quote in front; numbers, negative ones
    too, are as they are. A file appears complete or not at all; only then is an older one replaced.

    Args:
        frame: The table, or tables with the same columns that follow one another: each is written before
            the next is asked for. Their index is not written.
        destination: A path, or `-`.
        json: Write JSON lines whatever the name.

    Raises:
        OutputError: The file cannot be written. Nothing is left behind.
    """
    name, parts = os.fspath(destination), _parts([frame] if hasattr(frame, "columns") else frame)
    if name == "-":
        _to_stdout(parts, json)
        return
    path = Path(name)
    suffix = ".jsonl" if json else path.suffix.lower()
    try:
        _replace(path, parts, suffix)
    except (OSError, ValueError) as error:
        reason = clean(getattr(error, "strerror", None) or error)
        raise OutputError(f"{clean(path)}: cannot be written ({reason})") from None


def _parts(frames: "Iterable[pandas.DataFrame]") -> "Iterator[pandas.DataFrame]":
    """The rows of tables, `ROWS` at a time: their text is a multiple of what they take as numbers."""
    for frame in frames:
        for lo in range(0, max(len(frame), 1), ROWS):
            yield frame.iloc[lo : lo + ROWS]


def _to_stdout(parts: "Iterator[pandas.DataFrame]", json: bool) -> None:
    try:
        for text in _texts(parts, json):
            sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output cannot be written ({clean(error.strerror or error)})") from None


def _texts(parts: "Iterator[pandas.DataFrame]", json: bool) -> Iterator[str]:
    return (_json_lines(part) if json else _csv(part, header=i == 0) for i, part in enumerate(parts))


def _replace(path: Path, parts: "Iterator[pandas.DataFrame]", suffix: str) -> None:
    target = path.resolve() if path.is_symlink() else path
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb+") as file:
            _write(parts, file, suffix)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _mode(path: Path) -> int:
    """The permissions of the file that is replaced, or those a new file gets."""
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _write(parts: "Iterator[pandas.DataFrame]", file: IO[bytes], suffix: str) -> None:
    if suffix == ".parquet":
        _parquet(parts, file)
        return
    for text in _texts(parts, suffix in (".jsonl", ".ndjson", ".json")):
        file.write(text.encode())


def _parquet(parts: "Iterator[pandas.DataFrame]", file: IO[bytes]) -> None:
    """A row group a part. Where a part needs other types than those before, these are written once more."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = (pa.Table.from_pandas(part, preserve_index=False) for part in parts)
    table = next(tables)
    writer = pq.ParquetWriter(file, table.schema)
    for following in tables:
        writer.write_table(table)
        table = following
        wider = pa.unify_schemas([writer.schema, table.schema], promote_options="permissive")
        if wider.remove_metadata() != writer.schema.remove_metadata():
            writer.close()
            with tempfile.TemporaryFile() as before:
                file.seek(0)
                shutil.copyfileobj(file, before)
                file.seek(0)
                file.truncate()
                writer = pq.ParquetWriter(file, wider)
                written = pq.ParquetFile(before)
                for group in range(written.num_row_groups):
                    writer.write_table(written.read_row_group(group).cast(wider))
        table = table.cast(writer.schema)
    writer.write_table(table)
    writer.close()


def _json_lines(frame: "pandas.DataFrame") -> str:
    """A JSON object a row: numbers in their shortest form, null for what is missing or not finite."""
    import pandas as pd

    def plain(value: object) -> object:
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        return None if value is pd.NaT or value is pd.NA else value

    names = [str(name) for name in frame.columns]
    columns = [frame.iloc[:, j].astype(object).tolist() for j in range(len(names))]
    rows = zip(*columns, strict=True)
    lines = (
        json_library.dumps(
            {n: plain(v) for n, v in zip(names, row, strict=True)},
            default=str,
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for row in rows
    )
    return "".join(f"{line}\n" for line in lines)


def _csv(frame: "pandas.DataFrame", header: bool = True) -> str:
    import pandas as pd

    safe = frame.copy(deep=False)
    for position, dtype in enumerate(frame.dtypes):
        if not pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_datetime64_any_dtype(dtype):
            safe.isetitem(position, frame.iloc[:, position].map(_harmless).astype(object))
    safe.columns = [_harmless(name) for name in frame.columns]
    return safe.to_csv(index=False, header=header, lineterminator="\n")


def _harmless(cell: object) -> object:
    return "'" + cell if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
