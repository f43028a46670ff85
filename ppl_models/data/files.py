"""Opening files: what can go wrong before the first byte is understood."""

import gzip
import hashlib
import os
import stat
import sys
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from ppl_models.data.messages import clean
from ppl_models.errors import DataError

_CHUNK = 1 << 24

HASHED = 2**30
"""Bytes of a data file up to which its content is hashed."""


def checked(path: Path) -> Path:
    """The path of a file that exists and can be read.

    Raises:
        DataError: It does not exist, is a directory, a pipe or a device, or may not be read.
    """
    name = clean(path)
    try:
        # To open a pipe would wait for a writer, for ever if there is none; a device may have no end.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            kind = os.fstat(handle).st_mode
        finally:
            os.close(handle)
        if stat.S_ISDIR(kind):
            raise DataError(f"{name}: is a directory; name a file in it")
        if not stat.S_ISREG(kind):
            raise DataError(f"{name}: is a pipe or a device, not a file; give it on standard input, as -")
        return path
    except FileNotFoundError:
        if str(path).startswith("~"):
            raise DataError(f"{name}: no such file; the shell did not find that home directory") from None
        raise DataError(f"{name}: no such file") from None
    except PermissionError:
        raise DataError(f"{name}: may not be read (permission denied)") from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{name}: cannot be opened ({clean(getattr(error, 'strerror', None) or error)})"
        ) from None


def budget() -> int:
    """How many bytes may still be used: free memory, or less if the process is limited to less."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 1 << 62
    try:
        free = max(free, _available())
    except (OSError, ValueError, StopIteration):
        pass
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            free = min(free, limit - used)
    except (ImportError, OSError, ValueError):
        pass
    return max(free, 0)


def _available() -> int:
    """What Linux counts as available, which includes the file cache."""
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def check_memory(name: str, need: float) -> None:
    """Refuse what would not fit.

    Args:
        name: What messages call the file.
        need: Bytes that reading it takes.

    Raises:
        DataError: Reading needs more memory than there is.
    """
    free = budget()
    if need > free:
        raise DataError(
            f"{clean(name)}: reading it takes about {need / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB "
            "are free; take a part of the rows, or --columns of a Parquet file"
        )


def read_bytes(path: Path) -> bytes:
    """The contents of a file, decompressed if its name ends in .gz.

    Raises:
        DataError: It is empty, damaged or too large for the memory.
    """
    name = clean(path)
    check_memory(name, 3 * path.stat().st_size)
    try:
        with path.open("rb") as file:
            content = unzipped(file, name) if path.suffix.lower() == ".gz" else file.read()
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({clean(error.strerror or error)})") from None
    return _not_empty(content, name)


def read_stdin() -> bytes:
    """Everything on standard input, decompressed if it is gzip.

    Raises:
        DataError: There is nothing, it is closed or a directory, or it is more than the memory holds.
    """
    pieces, size = [], 0
    if sys.stdin is None or sys.stdin.closed:
        raise DataError("stdin: is closed; name a file, or give the data on standard input")
    try:
        while piece := sys.stdin.buffer.read(_CHUNK):
            size += len(piece)
            check_memory("stdin", 3 * size if size > 8 * _CHUNK else 0)
            pieces.append(piece)
    except (OSError, ValueError) as error:
        raise DataError(
            f"stdin: cannot be read ({clean(getattr(error, 'strerror', None) or error)})"
        ) from None
    content = b"".join(pieces)
    if content.startswith(b"\x1f\x8b"):
        import io

        content = unzipped(io.BytesIO(content), "stdin")
    return _not_empty(content, "stdin")


def unzipped(file: BinaryIO, name: str) -> bytes:
    """Decompress gzip, without ever holding more than the memory allows.

    Raises:
        DataError: It is not gzip, is cut off or damaged, or would not fit.
    """
    pieces, size = [], 0
    try:
        with gzip.open(file) as unzipping:
            while piece := unzipping.read(_CHUNK):
                size += len(piece)
                check_memory(name, 3 * size if size > 8 * _CHUNK else 0)
                pieces.append(piece)
    except EOFError:
        raise DataError(f"{name}: the compressed file is cut off; fetch it again") from None
    except (gzip.BadGzipFile, zlib.error):
        raise DataError(f"{name}: is not gzip, or is damaged; fetch it again") from None
    return b"".join(pieces)


def _not_empty(content: bytes, name: str) -> bytes:
    if not content.strip():
        raise DataError(f"{name}: is empty")
    return content


def file_of(path: str) -> dict[str, Any] | None:
    """By what a file is known again: size, and SHA-256 or, of a large one, the time of its last change."""
    try:
        about = Path(path).stat()
        if not Path(path).is_file():
            return None
        if about.st_size > HASHED:
            return {"size": about.st_size, "changed": about.st_mtime_ns}
        with open(path, "rb") as file:
            return {"size": about.st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError:
        return None
