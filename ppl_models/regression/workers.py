"""Work on blocks of rows by several threads, each of which computes alone.

A thread for each core that takes whole blocks needs to wait for the others once a pass. Threads inside of
every matrix product, which is what torch does by itself, wait thousands of times, for no gain where
blocks fit a cache, and for ever where the machine has other work to do.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

T = TypeVar("T")


@lru_cache(maxsize=4)
def _pool(threads: int, pid: int) -> ThreadPoolExecutor:
    """So many threads of a process, torch's own parallelism switched off inside them.

    A forked process inherits the cache and none of the threads, for which it would wait for ever.
    """
    ready = threading.Barrier(threads + 1)
    pool = ThreadPoolExecutor(threads, "ppl-rows")

    def prepare() -> None:
        torch.set_num_threads(1)  # of this thread, and the default of threads to come
        ready.wait()

    before = torch.get_num_threads()
    for _ in range(threads):
        pool.submit(prepare)
    ready.wait()
    torch.set_num_threads(before)
    return pool


def shares(count: int) -> list[range]:
    """Blocks 0 … count − 1 in as many runs as there are threads to use."""
    threads = max(1, min(torch.get_num_threads(), count))
    edges = [round(i * count / threads) for i in range(threads + 1)]
    return [range(lo, hi) for lo, hi in zip(edges, edges[1:], strict=False)]


def spread(work: Callable[[range], T], parts: Sequence[range]) -> list[T]:
    """`work` on every part, in parallel; results in the order of the parts."""
    return list(_pool(len(parts), os.getpid()).map(work, parts))
