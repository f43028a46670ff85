"""Results as CSV, JSON lines or Parquet: whole or not at all."""

import contextlib
import json as json_library
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ppl_models.data.messages import clean
from ppl_models.errors import OutputError

if TYPE_CHECKING:
    import pandas

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_table(
    frame: "pandas.DataFrame", destination: str | os.PathLike[str], *, json: bool = False
) -> None:
    """Write a table to a file, or to standard output for `-`.

    The name decides: `.parquet`; `.jsonl`, `.ndjson` or `.json` (JSON lines); anything else is CSV. In
    CSV, text that a spreadsheet would run as a formula gets a quote in front; numbers, negative ones
    too, are as they are. A file appears complete or not at all; only then is an older one replaced.

    Args:
        frame: The table; its index is not written.
        destination: A path, or `-`.
        json: Write JSON lines whatever the name.

    Raises:
        OutputError: The file cannot be written. Nothing is left behind.
    """
    name = os.fspath(destination)
    if name == "-":
        _to_stdout(frame, json)
        return
    path = Path(name)
    suffix = ".jsonl" if json else path.suffix.lower()
    try:
        _replace(path, frame, suffix)
    except (OSError, ValueError) as error:
        reason = clean(getattr(error, "strerror", None) or error)
        raise OutputError(f"{clean(path)}: cannot be written ({reason})") from None


def _to_stdout(frame: "pandas.DataFrame", json: bool) -> None:
    text = _json_lines(frame) if json else _csv(frame)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output cannot be written ({clean(error.strerror or error)})") from None


def _replace(path: Path, frame: "pandas.DataFrame", suffix: str) -> None:
    target = path.resolve() if path.is_symlink() else path
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            _write(frame, file, suffix)
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


def _write(frame: "pandas.DataFrame", file: IO[bytes], suffix: str) -> None:
    if suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file)
    elif suffix in (".jsonl", ".ndjson", ".json"):
        file.write(_json_lines(frame).encode())
    else:
        file.write(_csv(frame).encode())


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


def _csv(frame: "pandas.DataFrame") -> str:
    import pandas as pd

    safe = frame.copy(deep=False)
    for position, dtype in enumerate(frame.dtypes):
        if not pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_datetime64_any_dtype(dtype):
            safe.isetitem(position, frame.iloc[:, position].map(_harmless).astype(object))
    safe.columns = [_harmless(name) for name in frame.columns]
    return safe.to_csv(index=False, lineterminator="\n")


def _harmless(cell: object) -> object:
    return "'" + cell if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
