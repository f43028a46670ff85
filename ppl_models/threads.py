"""One thread for small tensors: where an operation takes microseconds, waking threads costs more."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 2_000_000
"""Numbers up to which an operation is done by one thread."""


@contextmanager
def threads_for(size: int) -> Iterator[None]:
    """As many threads as tensors of `size` numbers are worth, within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if size <= SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
