"""Tables of numbers that stay on disk: written once, row after row, then mapped into memory for reading.

A table goes to disk if as float64 it takes more than `SPILL_BYTES`, 256 MB, or more than a quarter of the
memory that is free. It lies in the directory for temporary files (`TMPDIR`) in a file without a name, which
the system removes when the last array that refers to it is gone, also if the process is killed.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from types import TracebackType

import numpy as np

from ppl_models.data.files import budget
from ppl_models.data.messages import clean
from ppl_models.errors import OutputError

SPILL_BYTES = 256 << 20
"""Tables of more than so many bytes stay on disk."""

_BLOCK_BYTES = 16 << 20
_BLOCK_ROWS = 1 << 16


def stays_on_disk(cells: float) -> bool:
    """Whether a table of so many cells is better not held in memory."""
    return 8 * cells > SPILL_BYTES or 4 * 8 * cells > budget()


def lies_on_disk(values: np.ndarray) -> bool:
    """Whether an array is a map of a file, or a view of one."""
    base: object = values
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap)


def block_rows(columns: int) -> int:
    """How many rows of a table are worked on at a time: 16 MB of them, at most 65,536."""
    return int(np.clip(_BLOCK_BYTES // (8 * max(columns, 1)), 1, _BLOCK_ROWS))


def blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of a table, a block after another, without copying."""
    step = block_rows(values.shape[1])
    return (values[lo : lo + step] for lo in range(0, len(values), step))


class Spill:
    """A file that takes rows of float64 and gives them back as one read-only array.

    Raises:
        OutputError: There is no room for it, at the start or later.
    """

    def __init__(self, source: str, rows: int, columns: int) -> None:
        self._source, self._shape = clean(source), (rows, columns)
        self._directory = tempfile.gettempdir()
        need, free = 8 * rows * columns, shutil.disk_usage(self._directory).free
        if need > free:
            raise self._error(f"{free / 1e9:.1f} GB are free")
        try:
            self._file = tempfile.TemporaryFile(prefix="ppl-", dir=self._directory)
        except OSError as error:
            raise self._error(os.strerror(error.errno or errno.EIO)) from None

    def __enter__(self) -> "Spill":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, rows: np.ndarray) -> None:
        """Write the next rows, (m, C)."""
        try:
            self._file.write(np.ascontiguousarray(rows, dtype=np.float64).data)
        except OSError as error:
            raise self._error(os.strerror(error.errno or errno.EIO)) from None

    def array(self) -> np.ndarray:
        """All rows, (n, C), mapped: they are read when they are looked at, and may be dropped at any time."""
        try:
            return np.asarray(np.memmap(self._file, dtype=np.float64, mode="r", shape=self._shape))
        except OSError as error:
            raise self._error(os.strerror(error.errno or errno.EIO)) from None

    def _error(self, why: str) -> OutputError:
        need = 8 * self._shape[0] * self._shape[1]
        return OutputError(
            f"{self._source}: reading it takes {need / 1e9:.1f} GB in {clean(self._directory)} ({why}); "
            "set TMPDIR to a directory on a larger disk, or read fewer --columns"
        )


def take(values: np.ndarray, index: np.ndarray, source: str) -> np.ndarray:
    """Some rows of a table, (m, C), in memory or on disk as `stays_on_disk` says.

    Args:
        values: (n, C) the table.
        index: (m,) the rows.
        source: What messages call the data.

    Raises:
        OutputError: There is no room on disk for them.
    """
    if not stays_on_disk(len(index) * values.shape[1]):
        return np.ascontiguousarray(values[index])
    step = block_rows(values.shape[1])
    with Spill(source, len(index), values.shape[1]) as spill:
        for lo in range(0, len(index), step):
            spill.append(values[index[lo : lo + step]])
        return spill.array()
