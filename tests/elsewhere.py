"""A device without a GPU: main memory that says it is elsewhere, and refuses what a GPU would refuse.

Tensors that are put on the device "meta" within `elsewhere()` are computed by the CPU, but each operation is
looked at first. What a GPU does not take raises `Mixed`: tensors of both places in one operation (but numbers
of no dimension, and indices), a generator of the other place, lengths of packed sequences that are not on the
CPU, and arrays of NumPy of what is elsewhere. What was computed where is counted.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = "lazy"

aten = torch.ops.aten

ANYWHERE = {aten.copy_, aten._to_copy, aten._foreach_copy_}
"""Whose operands may be in different places."""

INDICES = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
"""Whose second operand, a list of indices, may be on the CPU where the first is elsewhere."""

NEVER_MIXED = {aten.cat, aten.stack}
"""That take no number of no dimension from the other place either."""

PRODUCTS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution}
"""What networks spend their time in."""


class Mixed(RuntimeError):
    """Operands that a GPU would refuse."""


class Elsewhere(torch.Tensor):
    """A tensor on the device.

    Attributes:
        inner: what it is, in main memory.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl
    is_meta = False  # the modules of torch would not load weights into it

    @staticmethod
    def __new__(cls, inner):
        found = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, layout=inner.layout, device=DEVICE,
        )  # fmt: skip
        found.inner = inner
        return found

    def __repr__(self):
        return f"Elsewhere({self.inner})"

    def tolist(self):
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {}, Counter())


def computed(func, args, kwargs, products):
    """An operation, by the CPU."""
    packet = func.overloadpacket
    leaves = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    there = any(isinstance(each, Elsewhere) for each in leaves)
    here = any(not isinstance(each, Elsewhere) for each in leaves)
    if there and packet is aten._pack_padded_sequence:
        if isinstance(args[1], Elsewhere):
            raise Mixed("lengths of packed sequences are elsewhere")
    elif there and here and packet not in ANYWHERE:
        looked = leaves
        if packet in INDICES and isinstance(args[0], Elsewhere):
            looked = [args[0], *(each for each in args[2:3] if isinstance(each, torch.Tensor))]
        for each in looked:
            if not isinstance(each, Elsewhere) and (each.dim() or packet in NEVER_MIXED):
                raise Mixed(f"{func}: a tensor {tuple(each.shape)} on the CPU beside one elsewhere")
    asked = kwargs.get("device")
    on = there if asked is None else torch.device(asked).type == DEVICE
    if (on or there) and isinstance(kwargs.get("generator"), torch.Generator):
        raise Mixed(f"{func}: a generator of the CPU for a tensor elsewhere")
    if packet in PRODUCTS:
        products["elsewhere" if there else "here", leaves[0].dtype] += 1
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    inside = tree_map(lambda each: each.inner if isinstance(each, Elsewhere) else each, (args, kwargs))
    out = func(*inside[0], **inside[1])
    if packet is aten._to_copy and there == on and out is inside[0][0]:
        return args[0]
    if not on:
        return out
    if packet is aten._pack_padded_sequence:
        return Elsewhere(out[0]), out[1]
    out = tree_map(lambda each: Elsewhere(each) if isinstance(each, torch.Tensor) else each, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if there else out


class _Mode(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.products = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {}, self.products)


@contextmanager
def elsewhere() -> Iterator[Counter]:
    """Within, "meta" is a device that computes. Counts products of matrices by place and type of number."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=DEVICE) is of the CPU, then moved
    try:
        with _Mode() as mode:
            yield mode.products
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
