"""torch without what only its compiler needs, for processes of `ppl`, which are short.

`import torch` takes a second of processor time, a quarter of it for Python rules of how operations move
shapes (`torch._meta_registrations`), which nothing but `torch.compile`, `torch.export` and fake tensors asks
for. They are imported when the compiler is, or before code of users runs. So is `torch.broadcast_shapes` as
torch has it, which imports SymPy, for another third of a second, to add up two tuples of plain numbers.

Only a process of our own is treated so: where `ppl_models` is imported, torch is what it always is.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

RULES = ("torch._meta_registrations", "torch.distributed._meta_registrations")
"""Modules that are imported later. Where torch has no such modules, nothing is."""

USERS = ("torch._dynamo", "torch._inductor")
"""Modules before which they are: `torch.compile`, `torch.export` and `torch.onnx` import the first."""

_wanted = False
_restore: list[tuple[Any, str, Any]] = []


def lighten() -> None:
    """Import torch like this from now on, if it has not been yet."""
    global _wanted
    _wanted = "torch" not in sys.modules


@contextmanager
def lightened() -> Iterator[None]:
    """A block that may be the first to import torch: afterwards it is there without the rules."""
    if not _wanted or "torch" in sys.modules:
        yield
        return
    sys.modules.update((name, _Later(name)) for name in RULES)
    try:
        yield
    finally:
        for name in RULES:
            _forget(name)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        _restore.append((torch, "broadcast_shapes", torch.broadcast_shapes))
        torch.broadcast_shapes = _plain(torch.broadcast_shapes)
        sys.meta_path.insert(0, _WATCH)  # pyright: ignore[reportArgumentType]


def whole() -> None:
    """Make torch what it always is, before code that may ask anything of it."""
    global _wanted
    _wanted = False
    if _WATCH in sys.meta_path:
        sys.meta_path.remove(_WATCH)  # pyright: ignore[reportArgumentType]
        while _restore:
            setattr(*_restore.pop())
        for name in RULES:
            import_module(name)


class _Later(ModuleType):
    """Stands for a module while torch is imported, and is it as soon as something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _forget(self.__name__)
        return getattr(import_module(self.__name__), name)


def _forget(name: str) -> None:
    """Take away what stands for a module."""
    if isinstance(sys.modules.get(name), _Later):
        del sys.modules[name]
        parent, _, own = name.rpartition(".")
        vars(sys.modules.get(parent, _Later(parent))).pop(own, None)


class _Watch:
    """Sees the compiler being imported; it finds no modules itself."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """None: others find the module, once torch is whole."""
        if name in USERS:
            whole()


_WATCH = _Watch()


def _plain(general: Any) -> Any:
    """`torch.broadcast_shapes` of sizes that are plain numbers; of others, what it was."""
    import torch

    def broadcast_shapes(*shapes: Any) -> torch.Size:
        """The shape that all of them can be expanded to."""
        given = [s for s in shapes if isinstance(s, tuple | list)]
        if len(given) < len(shapes) or any(type(n) is not int for s in given for n in s):
            return general(*shapes)
        sizes = [1] * max(map(len, given), default=0)
        for shape in given:
            for at, n in enumerate(shape, len(sizes) - len(shape)):
                if n != 1 and sizes[at] not in (1, n):
                    return general(*shapes)  # which has a message
                sizes[at] = sizes[at] if n == 1 else n
        return torch.Size(sizes)

    return broadcast_shapes
