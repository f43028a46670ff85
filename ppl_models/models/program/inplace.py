"""Models that write into tensors, executed for many points at once.

`torch.func.vmap` refuses `p = torch.zeros(3); p[0] = q`, where q differs from point to point and p does not.
Here tensors that are made by the model differ as well, as 0 · u is added to them, so that they may be written
into. A boolean mask as an index, as in PyTorch's own multinomial density, becomes `masked_fill_`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

MAKERS = {
    torch.zeros, torch.ones, torch.empty, torch.full, torch.zeros_like, torch.ones_like, torch.empty_like,
    torch.full_like, Tensor.new_zeros, Tensor.new_ones, Tensor.new_empty, Tensor.new_full,
}  # fmt: skip
"""Functions that make tensors to be written into."""


class Writable(TorchFunctionMode):
    """Tensors that a model makes may be written into, under `vmap` over u (d,)."""

    def __init__(self, u: Tensor) -> None:
        super().__init__()
        self.zero = 0 * u.sum()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The function, its result made to differ from point to point where it is a new tensor."""
        if func is Tensor.__setitem__ and _masks(args):
            target, mask, value = args
            target.masked_fill_(mask, value)
            return None
        found = func(*args, **(kwargs or {}))
        if func in MAKERS and isinstance(found, Tensor) and found.is_floating_point():
            return found + self.zero
        return found


def _masks(args: Any) -> bool:
    """Whether an assignment is of one number to the cells of a boolean mask of the same shape."""
    if len(args) != 3 or not isinstance(args[1], Tensor):
        return False
    target, mask, value = args
    return mask.dtype == torch.bool and mask.shape == target.shape and isinstance(value, int | float)
