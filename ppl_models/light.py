"""torch without what only its compilers need, for processes of `ppl`, which are short.

Two parts of `import torch` are put off. Rules of shapes for tensors without data
(`torch._meta_registrations`: `torch.compile`, `torch.export` and the device `meta` ask for them) are a
third of a second of processor time; they come by themselves when a module of torch is imported that
`import torch` has not imported, as those that compile are. And `torch.broadcast_shapes`, which every
multivariate normal and Wishart distribution calls, imports symbolic shapes and with them SymPy, to
compare two tuples of plain numbers; here it is a function that compares them, and asks torch's about
anything else.

Where `ppl_models` is imported, torch is what it always is.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

REGISTRATIONS = ("torch._meta_registrations", "torch.distributed._meta_registrations")
"""Modules that `import torch` imports for what they do, which is to register rules."""

_wanted = False


class Deferred(MetaPathFinder, Loader):
    """Stands in for `REGISTRATIONS` while torch is imported, and imports them before any further module."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """A spec of a module without content, for those; everything else is found as ever."""
        if not name.startswith("torch."):
            return None
        if getattr(sys.modules["torch"].__spec__, "_initializing", False):
            return ModuleSpec(name, self) if name in REGISTRATIONS else None
        self.fetch()
        return None

    def exec_module(self, module: ModuleType) -> None:
        """What else comes with the rules: the class of `torch.Generator`, which has no instances before."""
        from torch import _C

        if hasattr(_C, "_set_generator_metaclass"):
            _C._set_generator_metaclass(import_module("torch._opaque_base").OpaqueBaseMeta)

    def fetch(self) -> None:
        """Import what was put off."""
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
        for name in REGISTRATIONS:
            if isinstance(getattr(sys.modules.get(name), "__loader__", None), Deferred):
                del sys.modules[name]
        for name in REGISTRATIONS:
            import_module(name)


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
    deferred = Deferred()
    sys.meta_path.insert(0, deferred)
    try:
        yield
    finally:
        torch = sys.modules.get("torch")
        if torch is None:
            sys.meta_path.remove(deferred)
    if torch is not None:
        torch.broadcast_shapes = plain_first(torch.broadcast_shapes)  # type: ignore[attr-defined]
        try:
            torch.Generator()
        except RuntimeError:  # another release of torch needs something else of them
            deferred.fetch()


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
