"""Reading runs: verified before it is believed."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ppl_models.errors import RunError, UsageError
from ppl_models.store._json import loads
from ppl_models.store._layout import (
    HISTORY,
    MANIFEST,
    MAX_HEADER_BYTES,
    MAX_HISTORY_BYTES,
    PARAMS,
    POSTERIOR,
    hidden_name,
    run_path,
    shown,
    system_says,
)
from ppl_models.store._manifest import opened, read_manifest, reason
from ppl_models.store._recovery import settled


@dataclass(frozen=True)
class StoredRun:
    """A run on disk.

    The sizes of its files are checked when it is read; their checksums when each is first opened.

    Attributes:
        path: Where it is.
        manifest: What `run.json` says: the caller's keys, `schema_version`, and `files`, which holds
            `{"sha256": …, "size": …}` for each file by name.
    """

    path: Path
    manifest: dict[str, Any]
    _verified: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The name of the run."""
        found = hidden_name(self.path.name)
        return found[0] if found else self.path.name

    def params(self) -> dict[str, np.ndarray]:
        """Read the arrays of `params.safetensors`, in native byte order and writable.

        Raises:
            RunError: If the file is missing, damaged, or not safetensors.
        """
        return self.arrays(PARAMS)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Read the arrays of a safetensors file of this run.

        Args:
            name: A name in `manifest["files"]`.

        Raises:
            RunError: If the file is missing, damaged, or not safetensors.
        """
        return _unpack(self._read(name), self._where(name))

    def history(self) -> list[dict[str, Any]]:
        """Read `history.jsonl`, one dictionary a line.

        Raises:
            RunError: If the file is missing, damaged, or not JSON lines.
        """
        if self._entry(HISTORY)["size"] > MAX_HISTORY_BYTES:
            raise RunError(f"{self._where(HISTORY)} is larger than {MAX_HISTORY_BYTES} bytes")
        rows = []
        for number, line in enumerate(self._read(HISTORY).splitlines(), start=1):
            try:
                row = loads(line)
            except ValueError as error:
                raise RunError(f"{self._where(HISTORY)}, line {number}: {reason(error)}") from None
            if not isinstance(row, dict):
                raise RunError(f"{self._where(HISTORY)}, line {number}: not a JSON object")
            rows.append(row)
        return rows

    def posterior_path(self) -> Path | None:
        """Return the path of `posterior.nc` after verifying it, or None where the run has none.

        Raises:
            RunError: If the file is missing or damaged.
        """
        return self.file(POSTERIOR) if POSTERIOR in self.manifest["files"] else None

    def file(self, name: str) -> Path:
        """Return the path of one of the run's files after verifying it.

        Args:
            name: A name in `manifest["files"]`.

        Raises:
            RunError: If the run has no such file, or it is damaged.
        """
        entry = self._entry(name)
        if name not in self._verified:
            with self._open(name) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]
            self._check(name, digest, entry)
        return self.path / name

    def verify(self) -> None:
        """Verify every file now.

        Raises:
            RunError: If one is missing or damaged.
        """
        for name in self.manifest["files"]:
            self.file(name)

    def _entry(self, name: str) -> dict[str, Any]:
        try:
            return self.manifest["files"][name]
        except KeyError:
            raise RunError(f"the run {shown(self.path)} holds no {shown(name)}") from None

    def _where(self, name: str) -> str:
        return shown(self.path / name)

    def _read(self, name: str) -> bytes:
        entry = self._entry(name)
        with self._open(name) as file:
            try:
                content = file.read(entry["size"])
            except MemoryError:
                raise RunError(f"{self._where(name)} does not fit into memory") from None
        if name not in self._verified:
            self._check(name, hashlib.sha256(content).hexdigest(), entry)
        return content

    @contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        with opened(self.path / name) as (file, size):
            if size != self._entry(name)["size"]:
                self._damaged(name, f"has {size} bytes, not {self._entry(name)['size']}")
            yield file

    def _check(self, name: str, digest: str, entry: dict[str, Any]) -> None:
        if digest != entry["sha256"]:
            self._damaged(name, "does not match its checksum")
        self._verified.add(name)

    def _damaged(self, name: str, reason: str) -> None:
        try:
            replaced = read_manifest(self.path)["files"] != self.manifest["files"]
        except RunError:
            replaced = False
        if replaced:
            raise RunError(f"the run {shown(self.path)} was replaced while it was open: load it again")
        raise RunError(f"{self._where(name)} {reason}: the run is damaged, restore it or fit it again")


@dataclass(frozen=True)
class DamagedRun:
    """A directory that is, or was, a run and cannot be read.

    Attributes:
        path: Where it is.
        reason: One line that says what is wrong.
    """

    path: Path
    reason: str

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.path.name


def read_run(path: str | os.PathLike[str]) -> StoredRun:
    """Read the manifest of a run and check that its files are there and have their sizes.

    Args:
        path: The run directory; it may be a link to one.

    Raises:
        RunError: If it is missing, damaged, not a run, or written by a newer version.
        UsageError: If `path` cannot name a run.
    """
    run = run_path(path)
    if os.path.islink(run):
        run = Path(os.path.realpath(run))
    while True:
        directory = settled(run)
        seen = _identity(directory)
        try:
            stored = StoredRun(directory, read_manifest(directory))
            for name in stored.manifest["files"]:
                with stored._open(name):
                    pass  # it is there and has its size
            return stored
        except RunError:
            if _identity(settled(run)) == seen:
                raise  # otherwise it was replaced while we read


def list_runs(parent: str | os.PathLike[str]) -> list[StoredRun | DamagedRun]:
    """Read every run in `parent`, by name; links, hidden names and what never was a run are passed over.

    Args:
        parent: The directory that holds the runs. Where it does not exist there are none.

    Raises:
        RunError: If it cannot be listed.
        UsageError: If it is not a path.
    """
    directory = Path(parent)
    try:
        names = {entry.name for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)}
    except FileNotFoundError:
        return []
    except ValueError:
        raise UsageError(f"{shown(ascii(os.fspath(parent)))} is not a path") from None
    except OSError as error:
        raise RunError(f"cannot list {shown(directory)}: {system_says(error)}") from error
    # A run whose writer died between its two renames is only there under its hidden name.
    names |= {found[0] for name in names if (found := hidden_name(name)) and found[1] == "old"}
    runs: list[StoredRun | DamagedRun] = []
    for name in sorted(names):
        path = directory / name
        if name.startswith("."):
            continue
        try:
            runs.append(read_run(path))
        except RunError as error:
            if any(os.path.lexists(path / file) for file in (MANIFEST, PARAMS, HISTORY)):
                runs.append(DamagedRun(path, str(error)))
    return runs


def _identity(directory: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(directory)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _unpack(content: bytes, where: str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    header = int.from_bytes(content[:8], "little")
    if len(content) < 8 or header > min(MAX_HEADER_BYTES, len(content) - 8):
        raise RunError(f"{where} is not a safetensors file: its header has {header} bytes")
    try:
        arrays = load(content)
    except Exception as error:  # which exceptions it raises on bad input is not documented
        raise RunError(f"{where} is not a safetensors file: {reason(error)}") from None
    return {name: array if array.flags.writeable else array.copy() for name, array in arrays.items()}
