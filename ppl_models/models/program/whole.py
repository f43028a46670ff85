"""Whole numbers that stand beside the rows, to be used as sizes and as numbers alike.

`{"J": 8, "y": […]}`: `data["J"]` is a Python integer, as `range`, `torch.zeros` and `pyro.plate` want it, and
as `dist.Normal(data["J"], 0.5)` takes it, where a tensor of integers would cut 0.5 down to 0.
"""

from typing import Any

import torch
from torch import Tensor


class Whole(int):
    """An integer that has what a tensor () of type float64 has, where an integer lacks it.

    Example:
        >>> Whole(3) + 0.5, Whole(3).item(), Whole(3).shape
        (3.5, 3, torch.Size([]))
    """

    @property
    def tensor(self) -> Tensor:
        """The number as a tensor."""
        return torch.tensor(float(self), dtype=torch.float64)

    def item(self) -> int:
        """The number, as an integer."""
        return int(self)

    def __getattr__(self, name: str) -> Any:
        """What an integer lacks is that of the tensor: `shape`, `log()`, `expand(3)`."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.tensor, name)
