"""Writing runs: whole or not at all."""

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ppl_models.errors import OutputError, PplError, UsageError
from ppl_models.store._json import dumps
from ppl_models.store._layout import (
    HISTORY,
    MANIFEST,
    MAX_FILES,
    MAX_HISTORY_BYTES,
    MAX_MANIFEST_BYTES,
    PARAMS,
    SCHEMA_VERSION,
    beside,
    has_manifest,
    hidden_name,
    is_empty,
    is_file_name,
    run_path,
    shown,
    system_says,
)
from ppl_models.store._locking import claimed, lock
from ppl_models.store._manifest import looks_like_run, seal
from ppl_models.store._reading import StoredRun, read_run
from ppl_models.store._recovery import put_in_place, recover, recover_all, remove, retire, sync_directory

_STORABLE = {"bool", "float16", "float32", "float64", "complex64"}
_STORABLE |= {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}

Writer = Callable[[Path], object]
Content = Writer | bytes | bytearray | memoryview


def write_run(
    path: str | os.PathLike[str],
    *,
    manifest: Mapping[str, Any],
    params: Mapping[str, np.ndarray],
    history: Iterable[Mapping[str, Any]],
    files: Mapping[str, Content] | None = None,
    force: bool = False,
) -> StoredRun:
    """Write a run, so that at any moment either all of it is there or what was there before.

    Args:
        path: The run directory: missing, empty or, with `force`, a run.
        manifest: What to say about the run; JSON values, NumPy's and non-finite numbers included. The keys
            `schema_version`, `files` and `manifest_sha256` are set here, whatever it says.
        params: Arrays by name: bool, integers, float16/32/64 or complex64, of any shape, order and layout.
        history: One mapping of JSON values for each line of `history.jsonl`.
        files: More files by name: their bytes, or a function that is called with the path at which to write.
            Give a netCDF file as bytes: HDF5 may end the process when it meets a full disk.
        force: Replace a run that is there. What is in its directory without being part of it is kept.

    Returns:
        The run, as read back.

    Raises:
        OutputError: If something else is there, somebody else is writing it, or the system refuses. What was
            there before is as it was.
        UsageError: If something cannot be stored, or a name is not a plain one.
    """
    content = {
        key: value
        for key, value in manifest.items()
        if key not in ("schema_version", "files", "manifest_sha256")
    }
    content = {"schema_version": SCHEMA_VERSION, **content}
    dumps(content, "manifest")  # refuse before anything is written
    writers: dict[str, Writer] = {
        PARAMS: _bytes_writer(pack(params)),
        HISTORY: _bytes_writer(_lines(history)),
    }
    for name, content_of in (files or {}).items():
        if not is_file_name(name) or name in writers:
            raise UsageError(f"{shown(repr(name))} cannot name a file of a run")
        writers[name] = content_of if callable(content_of) else _bytes_writer(content_of)
    if len(writers) > MAX_FILES:
        raise UsageError(f"a run has at most {MAX_FILES} files, got {len(writers)}")

    with lock(path):
        try:
            run = run_path(path)
            recover_all(run.parent)
            recover(run)
            check_target(run, force=force)
            _write(run, content, writers)
        except PplError:
            raise
        except OSError as error:
            raise OutputError(
                f"cannot write {shown(path)}: {system_says(error)}; nothing was changed:"
                " make room or choose another directory"
            ) from error
        return read_run(run)


def check_target(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Refuse a path that `write_run` would refuse, before the work is done that leads there.

    Args:
        path: The run directory.
        force: Whether a run that is there may be replaced.

    Raises:
        OutputError: If something is there that is not to be replaced.
        UsageError: If `path` cannot name a run.
    """
    run = run_path(path)
    where = shown(path)
    try:
        if not os.path.lexists(run):
            return
        if os.path.islink(run) or not os.path.isdir(run):
            raise OutputError(f"{where} exists and is not a directory: choose another")
        if Path(os.path.realpath(os.getcwd())).is_relative_to(run):
            raise OutputError(f"{where} is the working directory, which cannot be replaced: choose another")
        if is_empty(run):
            return
        is_run = looks_like_run(run)
    except PplError:
        raise
    except OSError as error:
        raise OutputError(f"cannot use {where}: {system_says(error)}") from error
    if not is_run:
        raise OutputError(f"{where} holds files that are no run, and is left alone: choose another directory")
    if not force:
        raise OutputError(
            f"{where} already holds a run: use --force to replace it or choose another directory"
        )


def next_run_directory(parent: str | os.PathLike[str], model: str, stem: str) -> Path:
    """Reserve the next free name `MODEL-STEM-NNN` by creating that directory, empty.

    Args:
        parent: The directory that holds the runs; created where it is missing.
        model: The name of the model.
        stem: What the run is about, for example the name of its data file without the ending.

    Returns:
        A directory that no other call, in any process, was or will be given. It is removed again if a `lock`
        on it ends in this process while it is still empty.

    Raises:
        OutputError: If it cannot be created.
    """
    base = f"{_slug(model, 'model')}-{_slug(stem, 'data')}"
    pattern = re.compile(re.escape(base) + r"-(\d{3,9})", re.IGNORECASE)
    directory = Path(parent)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        names = [(hidden_name(name) or (name,))[0] for name in os.listdir(directory)]
        number = max((int(found[1]) for name in names if (found := pattern.fullmatch(name))), default=0)
        while True:
            number += 1
            path = directory / f"{base}-{number:03d}"
            with suppress(FileExistsError):
                path.mkdir()
                claimed.add(run_path(path))
                return path
    except OSError as error:
        raise OutputError(f"cannot create a run in {shown(parent)}: {system_says(error)}") from error
    except ValueError:
        raise UsageError(f"{shown(ascii(os.fspath(parent)))} is not a path") from None


def _slug(text: str, default: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:64].strip("-") or default


def _write(run: Path, content: dict[str, Any], writers: dict[str, Writer]) -> None:
    """Build the run beside its place, then swap it in; on any failure leave things as they were."""
    new, old = beside(run, "new"), beside(run, "old")
    replaced = has_manifest(run)
    try:
        os.mkdir(new)
        entries = {name: _add(new, name, writer) for name, writer in writers.items()}
        if extra := set(os.listdir(new)) - set(writers):
            raise UsageError(f"a writer also wrote {shown(min(extra))}: name every file of a run")
        text = dumps({**content, "files": entries}, "manifest", indent=2)
        sealed = seal(text)
        if len(sealed) > MAX_MANIFEST_BYTES:
            raise UsageError(f"manifest has {len(sealed)} bytes: at most {MAX_MANIFEST_BYTES} can be stored")
        _add(new, MANIFEST, _bytes_writer(sealed))
        sync_directory(new)
        try:
            if replaced:
                os.rename(run, old)
            put_in_place(new, run)
            sync_directory(run.parent)
        except BaseException:
            # If this fails too, the next reader or writer finds the same state and finishes the work.
            with suppress(OSError):
                if not os.path.lexists(new):
                    os.rename(run, new)
                if replaced and not os.path.lexists(run):
                    os.rename(old, run)
            raise
    except BaseException:
        with suppress(OSError):
            remove(new)
        raise
    if replaced:
        with suppress(OSError):  # the new run is in place; the next write tries again
            retire(old, run)


def _add(directory: Path, name: str, writer: Writer) -> dict[str, Any]:
    """Have a file written, put it on disk, and return its entry for the manifest."""
    path = directory / name
    try:
        writer(path)
    except (PplError, OSError):
        raise
    except Exception as error:
        if (cause := _system_error(error)) is None:
            raise
        raise cause from error
    if os.path.islink(path) or not os.path.isfile(path):
        raise UsageError(f"the writer of {name} wrote no file")
    with open(path, "rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return {"sha256": digest, "size": os.fstat(file.fileno()).st_size}


def _system_error(error: BaseException) -> OSError | None:
    """Return the system's refusal behind an error of a library, if that is what it is."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause
        # HDF5 reports what it meets while it closes a file in the text of a RuntimeError.
        if found := re.search(r"errno = (\d+)", str(cause)):
            return OSError(int(found[1]), os.strerror(int(found[1])))
        cause = cause.__cause__ or cause.__context__
    return None


def _bytes_writer(content: bytes | bytearray | memoryview) -> Writer:
    return lambda path: path.write_bytes(content)


def _lines(history: Iterable[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    for number, row in enumerate(history):
        if not isinstance(row, Mapping):
            raise UsageError(f"history[{number}] is a {type(row).__name__}, not a mapping")
        text.write(dumps(row, f"history[{number}]") + "\n")
    content = text.getvalue().encode("ascii")
    if len(content) > MAX_HISTORY_BYTES:
        raise UsageError(f"history has {len(content)} bytes: at most {MAX_HISTORY_BYTES} can be stored")
    return content


def pack(params: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the bytes of a safetensors file.

    `safetensors.numpy.save` writes the memory of an array as it lies there, and its shape: cells change
    places where it is not in C order, as of weights with channels last. Here it is in that order.

    Raises:
        UsageError: a name or a type cannot be stored.
    """
    from safetensors.numpy import save

    arrays = {}
    for name, value in params.items():
        array = np.asarray(value)
        if not isinstance(name, str) or name == "__metadata__":
            raise UsageError(f"params has the key {shown(repr(name))}, which cannot be stored")
        if array.dtype.name not in _STORABLE:
            raise UsageError(f"params[{shown(repr(name))}] has dtype {array.dtype}, which cannot be stored")
        arrays[name] = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    return save(arrays)
