"""The manifest of a run: sealed with its own checksum when written, believed only when that matches."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ppl_models.errors import RunError
from ppl_models.store._json import loads
from ppl_models.store._layout import (
    MANIFEST,
    MAX_FILES,
    MAX_MANIFEST_BYTES,
    SCHEMA_VERSION,
    is_file_name,
    shown,
    system_says,
)

_DIGEST = re.compile(r"[0-9a-f]{64}")


def seal(text: str) -> bytes:
    """Return the bytes of `run.json`: the object `text`, and as its last key the checksum of all before."""
    body = text.removesuffix("\n}").encode("ascii")
    return body + _sealed_with(hashlib.sha256(body).hexdigest())


def _sealed_with(digest: str) -> bytes:
    return f',\n  "manifest_sha256": "{digest}"\n}}\n'.encode("ascii")


_SEAL_BYTES = len(_sealed_with("0" * 64))


def read_manifest(run: Path) -> dict[str, Any]:
    """Read the `run.json` of a run, without its own checksum.

    Raises:
        RunError: If it is missing, damaged, not the manifest of a run, or of a newer version.
    """
    try:
        kind = os.stat(run).st_mode
    except FileNotFoundError:
        raise RunError(f"there is no run at {shown(run)}") from None
    except OSError as error:
        raise RunError(f"cannot read {shown(run)}: {system_says(error)}") from error
    if not stat.S_ISDIR(kind):
        raise RunError(f"{shown(run)} is not a run: a run is a directory")
    path = run / MANIFEST
    with opened(path) as (file, size):
        if size > MAX_MANIFEST_BYTES:
            raise RunError(f"{shown(path)} is larger than {MAX_MANIFEST_BYTES} bytes: it is not a manifest")
        raw = file.read(MAX_MANIFEST_BYTES + 1)
    try:
        return _parse(raw)
    except ValueError as error:
        raise RunError(f"cannot read {shown(path)}: {reason(error)}") from None


def looks_like_run(directory: Path) -> bool:
    """Say whether `run.json` in `directory` reads as the manifest of a run, of any version.

    Raises:
        OSError: If it is there and cannot be read.
    """
    path = directory / MANIFEST
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            manifest = loads(file.read(MAX_MANIFEST_BYTES))
    except ValueError:
        return False
    return (
        isinstance(manifest, dict)
        and {"schema_version", "manifest_sha256"} <= manifest.keys()
        and isinstance(manifest.get("files"), dict)
    )


def _parse(raw: bytes) -> dict[str, Any]:
    manifest = loads(raw)
    if not isinstance(manifest, dict) or "schema_version" not in manifest or "files" not in manifest:
        raise ValueError("it is not the manifest of a run")
    version = manifest["schema_version"]
    if type(version) is not int or version < 1:
        raise ValueError(f"schema_version must be a positive integer, got {shown(repr(version)[:40])}")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"it was written by a newer version (schema {str(version)[:40]}, this one reads up to"
            f" {SCHEMA_VERSION}): upgrade ppl_models"
        )
    body = raw[:-_SEAL_BYTES]
    if raw[-_SEAL_BYTES:] != _sealed_with(hashlib.sha256(body).hexdigest()):
        raise ValueError("it does not match its own checksum: the run is damaged, restore it or fit it again")
    files = manifest["files"]
    if not isinstance(files, dict) or len(files) > MAX_FILES:
        raise ValueError(f"files must be an object of at most {MAX_FILES} entries")
    for name, entry in files.items():
        if not is_file_name(name):
            raise ValueError(f"{shown(repr(name)[:120])} is not a plain file name")
        if not (
            isinstance(entry, dict)
            and type(entry.get("size")) is int
            and entry["size"] >= 0
            and isinstance(entry.get("sha256"), str)
            and _DIGEST.fullmatch(entry["sha256"])
        ):
            raise ValueError(f"the entry of {name} must hold its size and its sha256")
    del manifest["manifest_sha256"]
    return manifest


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file, and nothing else, for reading, and say how many bytes it has.

    Raises:
        RunError: If it is missing, something else, or cannot be read, in the body as well.
    """
    irregular = f"{shown(path)} is not a regular file: links and devices are refused"
    try:
        # A link could lead out of the run, and opening a pipe could wait for ever.
        if not stat.S_ISREG(os.stat(path, follow_symlinks=False).st_mode):
            raise RunError(irregular)
        with open(path, "rb", opener=_open_no_follow) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise RunError(irregular)
            yield file, status.st_size
    except FileNotFoundError:
        raise RunError(f"{shown(path)} is missing: the directory is no run, or a damaged one") from None
    except OSError as error:
        raise RunError(f"cannot read {shown(path)}: {system_says(error)}") from error


def _open_no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def reason(error: Exception) -> str:
    """Return what an error says, as one short line."""
    return shown(str(error)[:300]) or type(error).__name__
