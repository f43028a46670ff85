"""How processes of one fit find one another, and are let go: see `ppl_models.distributed` for what they do.

Ranks are started by `torchrun`, or anything else that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; or
as processes of ours: on one machine (`workers`), or beside the workers of a Dask cluster
(`ppl_models.cluster`).
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from typing import Any

from ppl_models.data.messages import clean
from ppl_models.distributed import Team
from ppl_models.errors import UsageError

PATIENCE = timedelta(days=7)
"""How long a rank waits for the next message; one that is lost is noticed at once, as its connection ends."""

_team: ContextVar["Team | None"] = ContextVar("_team", default=None)
"""The team of this thread, while there is one."""

STARTING = 300.0
"""Seconds in which a process of ours must have started."""

MEETING = "PPL_MEETING"
"""The environment variable that tells a worker of ours where to meet the others: a file, or `HOST:PORT`."""

STARTED = "started"
"""Begins the name under which a worker says to those who meet at a port that it is there."""


def launched() -> bool:
    """Whether something like torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1 and "RANK" in os.environ


def join(rank: int, size: int, local: int, meeting: Any = None) -> Team:
    """Set up torch.distributed.

    Args:
        rank: of this process.
        size: how many there are.
        local: how many of them are on this machine.
        meeting: the file or the store by which they find one another; by the environment, as torchrun has
            it, if None.

    Raises:
        UsageError: it is in use already, or cannot be had.
    """
    import torch.distributed as dist

    if not dist.is_available():
        raise UsageError("this build of PyTorch has no torch.distributed; fit with one process")
    if dist.is_initialized():
        raise UsageError("torch.distributed is in use in this process already; fit with one process")
    hook = sys.excepthook  # torch.distributed puts one of its own there, which says the rank
    where: dict[str, Any] = {"init_method": "env://"} if meeting is None else {"store": meeting}
    if isinstance(meeting, str):
        where = {"init_method": f"file://{meeting}"}
    try:
        dist.init_process_group("gloo", rank=rank, world_size=size, timeout=PATIENCE, **where)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"rank {rank} of {size} cannot reach the others ({reason})") from None
    finally:
        sys.excepthook = hook
    return Team(rank, size, local)


def _leave() -> None:
    import torch.distributed as dist

    with suppress(RuntimeError):
        dist.destroy_process_group()


@contextmanager
def joined() -> Iterator[Team]:
    """The team of a process that was launched as one of several."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    with at_work(join(rank, size, int(os.environ.get("LOCAL_WORLD_SIZE") or 1))) as team:
        yield team


@contextmanager
def worker() -> Iterator[Team]:
    """The team of a process that `started` has started; it ends with the one that did.

    All that can go wrong at the start has not, once it says that it is there.
    """
    rank, size, meeting = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), os.environ[MEETING]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if os.path.isabs(meeting):
        where, local = meeting, size
        Path(f"{meeting}.{rank}").touch()
    else:
        from torch.distributed import TCPStore

        host, _, port = meeting.rpartition(":")
        where, local = TCPStore(host, int(port), is_master=False), 1
        where.set(f"{STARTED}/{rank}", "")
    with at_work(join(rank, size, local, where)) as team:
        yield team


def _end_with_parent() -> None:
    """Wait for the end of standard input, which whoever started this process holds open."""
    sys.stdin.buffer.read()
    os._exit(1)


@contextmanager
def at_work(team: Team) -> Iterator[Team]:
    """The team of fits within the block; the others are let go at its end."""
    token = _team.set(team)
    try:
        yield team
    finally:
        if not team.rank:
            team.end()
        _team.reset(token)
        _leave()


@contextmanager
def formed(workers: int) -> Iterator[Team | None]:
    """The team of a fit: that of the job, or of processes that are started for it; None for one process.

    Args:
        workers: how many processes, this one among them, where it was not launched as one of several.

    Raises:
        UsageError: they cannot be started.
    """
    if _team.get() is not None or workers == 1:
        yield _team.get()
        return
    with tempfile.TemporaryDirectory(prefix="ppl-") as directory:  # of this user alone
        meeting = str(Path(directory) / "meeting")
        threads = max(1, (os.cpu_count() or 1) // workers)
        processes = {
            rank: started(rank, workers, meeting, threads, f"{meeting}.{rank}.log")
            for rank in range(1, workers)
        }
        try:
            _wait_for(processes, meeting)
            with at_work(join(0, workers, workers, meeting)) as team:
                yield team
        finally:
            for process in processes.values():
                ended(process)


def started(rank: int, size: int, meeting: str, threads: int, log: str) -> "subprocess.Popen[bytes]":
    """A worker on this machine.

    Args:
        rank: of it.
        size: how many ranks there are.
        meeting: where they meet: a file that they see, or `HOST:PORT`.
        threads: that it may use.
        log: a file for what it says.
    """
    own = {"RANK": str(rank), "WORLD_SIZE": str(size), MEETING: meeting}
    own |= {"PPL_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    own["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    with open(log, "wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "ppl_models.worker"],
            env={**os.environ, **own},
            stdin=subprocess.PIPE,  # its end is ours
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,  # Ctrl-C is for rank 0
        )


def ended(process: "subprocess.Popen[bytes]") -> None:
    """Wait until a worker that was let go has ended; end it, if it takes too long."""
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()


def _wait_for(processes: Mapping[int, "subprocess.Popen[bytes]"], meeting: str) -> None:
    """Wait until workers have started.

    Raises:
        UsageError: one has ended instead, or takes too long.
    """
    until = time.monotonic() + STARTING
    for rank, process in processes.items():
        while not Path(f"{meeting}.{rank}").exists():
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                reason = last_line(f"{meeting}.{rank}.log")
                raise UsageError(f"a process for the fit could not be started{reason}; leave --workers out")
            time.sleep(0.02)


def last_line(log: str) -> str:
    """What a worker said last, in brackets; nothing if it did not say anything."""
    said = Path(log).read_text(errors="replace").strip().splitlines()
    return f" ({clean(said[-1])})" if said else ""
