"""torch without SymPy, for processes of `ppl`, which are short.

`torch.broadcast_shapes`, which every multivariate normal and Wishart distribution calls, imports torch's
symbolic shapes and with them SymPy: a third of a second of processor time, to compare two tuples of plain
numbers. In a process of our own it is a function that compares them, and asks torch's about anything else.
Where `ppl_models` is imported, torch is what it always is.

The rest of `import torch`, a second of processor time, is a floor under every command that computes. A
quarter of it are rules of shapes that only `torch.compile` asks for (`torch._meta_registrations`), but they
are not left out: modules that they import in turn have effects that torch relies on (`torch.Generator`).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_wanted = False


def lighten() -> None:
    """Have torch like this once it is imported, if it has not been yet."""
    global _wanted
    _wanted = "torch" not in sys.modules


@contextmanager
def lightened() -> Iterator[None]:
    """A block that may be the first to import torch."""
    if not _wanted or "torch" in sys.modules:
        yield
        return
    yield
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.broadcast_shapes = plain_first(torch.broadcast_shapes)


def plain_first(general: Any) -> Any:
    """`torch.broadcast_shapes` that compares plain numbers by itself.

    Args:
        general: what it was, for symbolic sizes, while a graph is traced, and for shapes that do not fit.
    """
    import torch

    def broadcast_shapes(*shapes: Any) -> torch.Size:
        """The shape that all of them can be expanded to."""
        given = [shape for shape in shapes if isinstance(shape, tuple | list)]
        plain = all(type(n) is int for shape in given for n in shape)
        if len(given) < len(shapes) or not plain or torch.jit.is_tracing():
            return general(*shapes)
        sizes = [1] * max(map(len, given), default=0)
        for shape in given:
            for at, n in enumerate(shape, len(sizes) - len(shape)):
                if n != 1 and sizes[at] not in (1, n):
                    return general(*shapes)  # which has a message
                sizes[at] = sizes[at] if n == 1 else n
        return torch.Size(sizes)

    return broadcast_shapes
