"""The threads that kernels run in, which hold no lock while they do."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache


def pool() -> ThreadPoolExecutor:
    """As many threads as there are processors, made once a process: threads do not outlive a fork."""
    return _pool(os.getpid())


@cache
def _pool(pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, os.cpu_count() or 1), thread_name_prefix="kernels")
