"""How processes of one fit find one another, and are let go: see `ppl_models.distributed` for what they do.

Ranks are started by `torchrun`, or anything else that sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; or
on one machine as processes of ours (`workers`).
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path

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
"""The environment variable that tells a worker of ours where to meet the others."""


def launched() -> bool:
    """Whether something like torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1 and "RANK" in os.environ


def _join(rank: int, size: int, local: int, meeting: str | None = None) -> Team:
    """Set up torch.distributed.

    Args:
        rank: of this process.
        size: how many there are.
        local: how many of them are on this machine.
        meeting: the file by which they find one another; by the environment, as torchrun has it, if None.

    Raises:
        UsageError: it is in use already, or cannot be had.
    """
    import torch.distributed as dist

    if not dist.is_available():
        raise UsageError("this build of PyTorch has no torch.distributed; fit with one process")
    if dist.is_initialized():
        raise UsageError("torch.distributed is in use in this process already; fit with one process")
    hook = sys.excepthook  # torch.distributed puts one of its own there, which says the rank
    try:
        where = "env://" if meeting is None else f"file://{meeting}"
        dist.init_process_group("gloo", where, rank=rank, world_size=size, timeout=PATIENCE)
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
    with _at_work(_join(rank, size, int(os.environ.get("LOCAL_WORLD_SIZE") or 1))) as team:
        yield team


@contextmanager
def worker() -> Iterator[Team]:
    """The team of a worker that `formed` started."""
    rank, size, meeting = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), os.environ[MEETING]
    Path(f"{meeting}.{rank}").touch()  # all that can go wrong at the start has not
    with _at_work(_join(rank, size, size, meeting)) as team:
        yield team


@contextmanager
def _at_work(team: Team) -> Iterator[Team]:
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
        processes = {rank: _started(rank, workers, meeting) for rank in range(1, workers)}
        try:
            _wait_for(processes, meeting)
            with _at_work(_join(0, workers, workers, meeting)) as team:
                yield team
        finally:
            for process in processes.values():
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _started(rank: int, size: int, meeting: str) -> "subprocess.Popen[bytes]":
    """A worker on this machine, which has a share of its processors."""
    threads = str(max(1, (os.cpu_count() or 1) // size))
    own = {"RANK": str(rank), "WORLD_SIZE": str(size), MEETING: meeting}
    own |= {"PPL_THREADS": threads, "OMP_NUM_THREADS": threads}
    own["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    with open(f"{meeting}.{rank}.log", "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ppl_models.worker"],
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for rank 0
        )


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
                said = Path(f"{meeting}.{rank}.log").read_text(errors="replace").strip().splitlines()
                reason = f" ({clean(said[-1])})" if said else ""
                raise UsageError(f"a process for the fit could not be started{reason}; leave --workers out")
            time.sleep(0.02)
