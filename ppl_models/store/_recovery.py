"""What a killed writer leaves, and how it is put right.

Every function here that changes a run is called by the holder of its lock.
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ppl_models.store._json import loads
from ppl_models.store._layout import MANIFEST, MAX_MANIFEST_BYTES, beside, has_manifest, hidden_name, is_empty
from ppl_models.store._locking import acquire, release

_PATIENCE = 2.0  # seconds that a reader waits for a writer between its two renames


def settled(run: Path) -> Path:
    """Return the directory to read the run at `run` from.

    It is `run` itself, unless a writer died between its two renames and nothing here may be renamed.
    """
    old = beside(run, "old")
    give_up = time.monotonic() + _PATIENCE
    while not has_manifest(run) and has_manifest(old):
        try:
            with _held_by_us(run) as ours:
                if ours:
                    recover(run)
                    return run
        except OSError:
            return old
        if time.monotonic() >= give_up:
            return old
        time.sleep(0.005)
    return run


def recover(run: Path) -> None:
    """Bring `run` to the last complete state and remove what is left of others.

    Raises:
        OSError: If something cannot be renamed or removed.
    """
    old = beside(run, "old")
    if os.path.lexists(old):
        if has_manifest(run):
            retire(old, run)
        elif not has_manifest(old):  # its removal had begun
            remove(old)
        elif not os.path.lexists(run) or is_empty(run):
            put_in_place(old, run)
    remove(beside(run, "new"))


def recover_all(parent: Path) -> None:
    """Recover every run in `parent` whose writer is dead; what cannot be recovered is left alone."""
    with suppress(OSError):
        names = {found[0] for name in os.listdir(parent) if (found := hidden_name(name))}
        for name in sorted(names):
            with suppress(OSError), _held_by_us(parent / name) as ours:
                if ours:
                    recover(parent / name)


def retire(old: Path, run: Path) -> None:
    """Remove `old`, which `run` replaces, after moving what others had put into it over to `run`.

    The manifest goes first among the run's own files, so that what is half removed is never taken for a run.
    """
    if has_manifest(old):
        own = {MANIFEST} | _listed(old)
        for name in os.listdir(old):
            if name not in own and not os.path.lexists(run / name):
                os.rename(old / name, run / name)
        os.unlink(old / MANIFEST)
    remove(old)


def put_in_place(source: Path, run: Path) -> None:
    """Rename the directory `source` to `run`, which is missing or empty."""
    if os.name == "nt" and run.exists():  # POSIX replaces an empty directory in one step
        run.rmdir()
    os.rename(source, run)


def remove(directory: Path) -> None:
    """Remove a directory and what is in it, if it is there; a link goes, what it leads to stays."""
    if os.path.islink(directory) or os.path.isfile(directory):
        directory.unlink()
    elif os.path.lexists(directory):
        shutil.rmtree(directory)


def sync_directory(directory: Path) -> None:
    """Ask the system to put the names in `directory` on disk, where it can."""
    if os.name == "nt":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that have no such thing
            raise
    finally:
        os.close(handle)


def _listed(run: Path) -> set[str]:
    try:
        with open(run / MANIFEST, "rb") as file:
            return set(loads(file.read(MAX_MANIFEST_BYTES))["files"])
    except (ValueError, KeyError, TypeError):  # nothing that we wrote: then nothing in it is ours to remove
        return set()


@contextmanager
def _held_by_us(run: Path) -> Iterator[bool]:
    handle = acquire(run)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            release(run, handle)
