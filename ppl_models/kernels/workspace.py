"""Memory that is used again: large tensors taken by name, allocated once."""

import math

import torch
from torch import Tensor


class Workspace:
    """Named tensors that keep their memory between calls.

    A fresh allocation of megabytes is paged in anew each time, which costs more than the arithmetic of
    one E step. What is taken under a name is overwritten by the next taker of that name.

    >>> work = Workspace()
    >>> a = work.take("a", (2, 3), torch.empty(0))
    >>> b = work.take("a", (3,), torch.empty(0))
    >>> a.data_ptr() == b.data_ptr()
    True
    """

    def __init__(self) -> None:
        self._memory: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """An uninitialised tensor of `shape` with the dtype and device of `like`."""
        size = math.prod(shape)
        held = self._memory.get(name)
        if held is None or held.numel() < size or held.dtype != like.dtype or held.device != like.device:
            held = self._memory[name] = torch.empty(size, dtype=like.dtype, device=like.device)
        return held[:size].view(shape)
