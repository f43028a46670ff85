"""One writer a run, by an OS lock that is freed when its holder dies."""

import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ppl_models.errors import OutputError
from ppl_models.store._layout import beside, run_path, shown, system_says

if sys.platform == "win32":
    import msvcrt

    # Locked bytes cannot be read there, so the one that is locked lies behind the holder's name.
    _LOCKED_BYTE = 2**30

    def _try_lock(handle: int) -> bool:
        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


# Someone who clears up holds the lock of a dead run for a moment; that is no reason to refuse a live one.
_PATIENCE = 0.5

_held: dict[Path, tuple[int, int]] = {}  # run -> (file descriptor, thread that holds it)
claimed: set[Path] = set()  # empty directories that this process made to reserve their names


def _forget_after_fork() -> None:
    """Close the locks in a forked child: a worker that outlives its parent must not hold them."""
    for handle, _ in _held.values():
        with suppress(OSError):
            os.close(handle)
    _held.clear()
    claimed.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


@contextmanager
def lock(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the right to write the run at `path`; its parent is created where it is missing.

    The thread that holds it may take it again, so `write_run` works inside. A name reserved by
    `next_run_directory` that is still empty when the lock is left is given back.

    Args:
        path: The run directory, which need not exist.

    Raises:
        OutputError: If somebody else holds it, saying who, or the lock cannot be made.
        UsageError: If `path` cannot name a run.
    """
    run = run_path(path)
    me = threading.get_ident()
    if run in _held and _held[run][1] == me:
        yield
        return
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        handle = acquire(run, patience=_PATIENCE)
    except OSError as error:
        raise OutputError(
            f"cannot write {shown(path)}: {system_says(error)}; choose another directory"
        ) from error
    if handle is None:
        raise OutputError(
            f"{shown(path)} is being written by {_holder(run)}: wait for it or choose another directory"
        )
    _held[run] = (handle, me)
    try:
        yield
    finally:
        if run in claimed:
            claimed.discard(run)
            with suppress(OSError):  # it is not empty, as it should be
                run.rmdir()
        if _held.get(run) == (handle, me):  # not in a child that was forked meanwhile
            del _held[run]
            release(run, handle)


def acquire(run: Path, *, patience: float = 0.0) -> int | None:
    """Take the lock of `run`.

    Args:
        run: As from `run_path`.
        patience: For how many seconds to try.

    Returns:
        What `release` needs, or None if it is held by somebody else.

    Raises:
        OSError: If the lock file cannot be opened or locked.
    """
    path = beside(run, "lock")
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    give_up = time.monotonic() + patience
    while True:
        handle = os.open(path, flags, 0o666)
        try:
            if _try_lock(handle):
                # The holder before us removed the file as it left, perhaps after we had opened it.
                if _is_still(path, handle):
                    with suppress(OSError):  # a full disk: the name is only for the message
                        os.ftruncate(handle, 0)
                        os.lseek(handle, 0, os.SEEK_SET)
                        os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())
                    return handle
                os.close(handle)
                continue
        except BaseException:
            with suppress(OSError):
                os.close(handle)
            raise
        os.close(handle)
        if time.monotonic() >= give_up:
            return None
        time.sleep(0.01)


def release(run: Path, handle: int) -> None:
    """Remove the lock file of `run` and free the lock."""
    path = beside(run, "lock")
    with suppress(OSError):  # Windows removes no open file
        path.unlink()
    os.close(handle)
    if sys.platform == "win32":
        with suppress(OSError):
            path.unlink()


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except FileNotFoundError:
        return False


def _holder(run: Path) -> str:
    if run in _held:
        return "another thread of this process"
    with suppress(OSError, ValueError), open(beside(run, "lock"), "rb") as file:
        words = file.read(200).decode("utf-8", "replace")
        if words:
            return shown(words)
    return "another process"
