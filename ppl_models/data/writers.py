"""Results as CSV, TSV, JSON lines, Parquet, Arrow or Excel, by the name of the file: whole or not at all."""

import contextlib
import gzip
import json as json_library
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ppl_models.data.messages import clean
from ppl_models.errors import OutputError, UsageError
from ppl_models.extras import needed

if TYPE_CHECKING:
    import pandas

    Parts = Iterator[pandas.DataFrame]
    """Tables with the same columns that follow one another."""

ROWS = 100_000
"""Rows that are made text at a time."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]\d+(\.\d*)?(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


def write_table(
    frame: "pandas.DataFrame | Iterable[pandas.DataFrame]",
    destination: str | os.PathLike[str],
    *,
    json: bool = False,
) -> None:
    """Write a table to a file, or to standard output for `-`.

    The name decides: `.csv` or `.txt`; `.tsv`; `.jsonl`, `.ndjson` or `.json` (JSON lines), each with `.gz`
    behind it if that is wanted; `.parquet`; `.feather` or `.arrow`; `.xlsx`. A name without an ending is CSV;
    any other is refused. In CSV and Excel, text that a spreadsheet would run as a formula gets a quote in
    front; numbers, negative ones too, are as they are. A file appears complete or not at all; only then is an
    older one replaced.

    Args:
        frame: The table, or tables with the same columns that follow one another: each is written before
            the next is asked for. Their index is not written.
        destination: A path, or `-`.
        json: Write JSON lines; the name must then end in nothing, in `.txt` or as theirs does.

    Raises:
        UsageError: There is no writing files of this name.
        OutputError: The file cannot be written. Nothing is left behind.
    """
    name, parts = os.fspath(destination), _parts([frame] if hasattr(frame, "columns") else frame)
    if name == "-":
        _to_stdout(parts, json)
        return
    path = Path(name)
    suffix, packed = check_destination(path, json)
    try:
        _replace(path, parts, suffix, packed)
    except (OSError, ValueError) as error:
        reason = clean(getattr(error, "strerror", None) or error)
        raise OutputError(f"{clean(path)}: cannot be written ({reason})") from None


def _parts(frames: "Iterable[pandas.DataFrame]") -> "Parts":
    """The rows of tables, `ROWS` at a time: their text is a multiple of what they take as numbers."""
    for frame in frames:
        for lo in range(0, max(len(frame), 1), ROWS):
            yield frame.iloc[lo : lo + ROWS]


def check_destination(destination: str | os.PathLike[str], json: bool = False) -> tuple[str, bool]:
    """The ending that says how a file is written, and whether it is compressed.

    Args:
        destination: A path.
        json: Whether JSON lines are asked for.

    Raises:
        UsageError: There is no writing files of this name, or it is not one of JSON lines.
        OutputError: There is no such directory, or it takes a library that is not installed.
    """
    path = Path(os.fspath(destination))
    if "://" in os.fspath(destination):
        raise UsageError(f"{clean(destination)}: tables are written to local files; give a path")
    if not path.parent.is_dir():
        raise OutputError(f"{clean(path)}: cannot be written (there is no directory {clean(path.parent)})")
    suffix, packed = path.suffix.lower(), path.suffix.lower() == ".gz"
    if packed:
        suffix = path.with_suffix("").suffix.lower()
    if path.exists() and not path.is_file():  # a device or a pipe has no format in its name
        suffix, packed = "", False
    known = {*_WRITERS, ""}
    if json:
        suffix, known = ".jsonl" if suffix in ("", ".txt") else suffix, {*_JSON}
    if suffix not in known or (packed and suffix not in _TEXT):
        names = ", ".join(sorted(known - {""}))
        raise UsageError(f"{clean(path)}: files of this name are not written; it must end in one of {names}")
    if suffix == ".xlsx":
        needed("openpyxl", "excel", f"{clean(path)}: Excel is written by", OutputError)
    return suffix, packed


def _to_stdout(parts: "Parts", json: bool) -> None:
    try:
        for text in (_json_lines if json else _csv)(parts):
            sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output cannot be written ({clean(error.strerror or error)})") from None


def _replace(path: Path, parts: "Parts", suffix: str, packed: bool) -> None:
    target = path.resolve() if path.is_symlink() else path
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb+") as file:
            if packed:
                with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped:
                    _WRITERS[suffix](parts, zipped)
            else:
                _WRITERS[suffix](parts, file)
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


def _parquet(parts: "Parts", file: IO[bytes]) -> None:
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


def _whole(parts: "Parts") -> "pandas.DataFrame":
    import pandas as pd

    return pd.concat(list(parts), ignore_index=True)


def _arrow(parts: "Parts", file: IO[bytes]) -> None:
    import pyarrow as pa

    table = pa.Table.from_pandas(_whole(parts), preserve_index=False)
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _excel(parts: "Parts", file: IO[bytes]) -> None:
    safe = _safe(_whole(parts)).map(
        lambda cell: None if isinstance(cell, float) and not math.isfinite(cell) else cell
    )
    safe.to_excel(file, index=False, engine="openpyxl")


_TEXT: "dict[str, Callable[[Parts], Iterator[str]]]" = {
    **dict.fromkeys(("", ".csv", ".txt"), lambda parts: _csv(parts)),
    ".tsv": lambda parts: _csv(parts, "\t"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), lambda parts: _json_lines(parts)),
}
_JSON = (".jsonl", ".ndjson", ".json")


def _written(text: "Callable[[Parts], Iterator[str]]") -> "Callable[[Parts, Any], None]":
    def write(parts: "Parts", file: Any) -> None:
        for each in text(parts):
            file.write(each.encode())

    return write


_WRITERS: "dict[str, Callable[[Parts, Any], None]]" = {
    **{suffix: _written(text) for suffix, text in _TEXT.items()},
    ".parquet": _parquet,
    ".feather": _arrow,
    ".arrow": _arrow,
    ".xlsx": _excel,
}
"""How a table is written, by the ending of the name."""


def _json_lines(parts: "Parts") -> Iterator[str]:
    return map(_lines, parts)


def _lines(frame: "pandas.DataFrame") -> str:
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


def _csv(parts: "Parts", separator: str = ",") -> Iterator[str]:
    for i, part in enumerate(parts):
        yield _safe(part).to_csv(index=False, header=i == 0, sep=separator, lineterminator="\n")


def _safe(frame: "pandas.DataFrame") -> "pandas.DataFrame":
    """The table without text that a spreadsheet would run."""
    import pandas as pd

    safe = frame.copy(deep=False)
    for position, dtype in enumerate(frame.dtypes):
        if not pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_datetime64_any_dtype(dtype):
            safe.isetitem(position, frame.iloc[:, position].astype(object).map(_harmless).astype(object))
    safe.columns = [_harmless(name) for name in frame.columns]
    return safe


def _harmless(cell: object) -> object:
    runs = isinstance(cell, str) and cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if runs else cell
