"""The workers of a Dask cluster as ranks of a fit: the process that calls leads, and reads and writes.

Beside each worker of the cluster, on its machine and with its number of threads, a process of ours is started
that holds a share of the rows and adds up what rank 0 asks for, as those of `workers` do: see
`ppl_models.distributed`. Dask starts and ends them, and computes the rows; sums do not go through its
scheduler, so that a pass costs two messages whatever the number of partitions. A process of its own, and not
a thread of the worker: numbers that are crunched there would keep the worker from answering its scheduler.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from ppl_models.data.messages import clean
from ppl_models.distributed import Team
from ppl_models.errors import UsageError
from ppl_models.forming import STARTED, STARTING, at_work, ended, join, last_line, started

_processes: dict[tuple[str, int], tuple["subprocess.Popen[bytes]", str]] = {}
"""Of a Dask worker: the processes of ours beside it, by meeting and rank, and the files for what they say."""


@contextmanager
def gathered(client: Any, most: int) -> Iterator[Team | None]:
    """The team of this process and of processes beside the workers of a Dask cluster.

    Args:
        client: of the cluster.
        most: how many processes at most, this one among them.

    Yields:
        The team; None where it is of this process alone.

    Raises:
        UsageError: they cannot be started, or do not reach this process.
    """
    from torch.distributed import TCPStore

    threads = dict(sorted(client.nthreads().items())[: most - 1])
    if not threads:
        yield None
        return
    size, own = len(threads) + 1, _address(client)
    store = TCPStore(own, 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=STARTING))
    meeting = f"{own}:{store.port}"
    ranks = {worker: rank for rank, worker in enumerate(threads, 1)}
    local = 1 + sum(_host(worker, own) == own for worker in ranks)
    try:
        _run(client, _start, ranks, size, meeting, dict(threads))
        _wait_for(client, store, ranks, meeting)
        with at_work(join(0, size, local, store)) as team:
            yield team
    finally:
        with suppress(Exception):  # of workers that are gone, and their processes with them
            client.run(_end, meeting, workers=list(ranks), on_error="ignore")


def _host(address: str, own: str) -> str:
    """The host of the address of a worker, `tcp://10.0.0.3:38915`; this one for workers that are threads."""
    from distributed.comm import get_address_host

    return own if address.startswith("inproc") else get_address_host(address)


def _address(client: Any) -> str:
    """The address by which the cluster reaches this process."""
    from distributed.utils import get_ip

    return get_ip(_host(client.scheduler.address, "127.0.0.1"))


def _run(client: Any, what: Any, ranks: Mapping[str, int], *given: Any) -> dict[str, Any]:
    """What a function of ours gives beside each worker.

    Raises:
        UsageError: a worker cannot run it.
    """
    try:
        return client.run(what, dict(ranks), *given, workers=list(ranks))
    except Exception as error:  # whatever keeps a worker from it, such as a package that it does not have
        reason = clean(" ".join(str(error).split()) or type(error).__name__)
        raise UsageError(
            f"a worker of the Dask cluster cannot take part in the fit ({reason[:200]}); install the same "
            "packages on every machine, or fit data.compute()"
        ) from None


def _wait_for(client: Any, store: Any, ranks: Mapping[str, int], meeting: str) -> None:
    """Wait until all processes have said that they are there.

    Raises:
        UsageError: one has ended instead, or they take too long.
    """
    until = time.monotonic() + STARTING
    names = [f"{STARTED}/{rank}" for rank in ranks.values()]
    while not store.check(names):
        said = {
            worker: end for worker, end in _run(client, _failed, ranks, meeting).items() if end is not None
        }
        if said or time.monotonic() > until:
            worker, reason = next(iter(said.items()), ("some worker", " (it does not reach this process)"))
            raise UsageError(
                f"a process for the fit could not be started beside {worker}{reason}; fit data.compute()"
            )
        time.sleep(0.1)


# What runs in a Dask worker


def _start(
    ranks: Mapping[str, int], size: int, meeting: str, threads: Mapping[str, int], dask_worker: Any
) -> None:
    """Start the process beside a worker."""
    rank = ranks[dask_worker.address]
    handle, log = tempfile.mkstemp(prefix="ppl-", suffix=".log")
    os.close(handle)
    process = started(rank, size, meeting, threads[dask_worker.address], log)
    _processes[meeting, rank] = process, log


def _failed(ranks: Mapping[str, int], meeting: str, dask_worker: Any) -> str | None:
    """What the process beside a worker said last, if it has ended."""
    process, log = _processes[meeting, ranks[dask_worker.address]]
    return None if process.poll() is None else last_line(log)


def _end(meeting: str) -> None:
    """Wait for the end of the processes of a fit that are beside a worker."""
    for key in [key for key in _processes if key[0] == meeting]:
        process, log = _processes.pop(key)
        ended(process)
        with suppress(OSError):
            os.unlink(log)
