"""Whole numbers that stand beside the rows, to be used as sizes and as numbers alike.

`{"J": 8, "y": […]}`: `data["J"]` is a Python integer, as `range`, `torch.zeros` and `pyro.plate` want it, and a
tensor of type float64 wherever torch or a distribution wants one, as in `dist.Normal(data["J"], 1.0)`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class Whole(int):
    """An integer that is a tensor () of type float64 to torch."""

    @property
    def tensor(self) -> Tensor:
        """The number as a tensor."""
        return torch.tensor(float(self), dtype=torch.float64)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """A function of torch with the integer where it takes one, else with the tensor."""
        given = kwargs or {}
        try:
            return function(*_each(args, int), **{name: _each(v, int) for name, v in given.items()})
        except TypeError:
            return function(*_each(args, _tensor), **{name: _each(v, _tensor) for name, v in given.items()})

    def __getattr__(self, name: str) -> Any:
        """What an integer lacks is that of the tensor: `shape`, `dtype`, `log()`, `expand(3)`."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.tensor, name)


def _tensor(value: Whole) -> Tensor:
    return value.tensor


def _each(value: Any, change: Callable[[Whole], Any]) -> Any:
    """Every such number in an argument changed."""
    if isinstance(value, Whole):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(_each(item, change) for item in value)
    return value
