"""Imports of large packages without Python's cyclic garbage collector.

It goes over everything that there is again and again while torch is imported, and once more when the process
ends: a quarter of the time of a short process, for nothing, as what an import makes stays to the end.
"""

import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from ppl_models.light import lightened

BEGUN = 100_000
"""Objects up to which a process has only begun, so that all of them may be left alone from then on."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Where the block is the first to import torch: no garbage is collected within it.

    If the process has only begun, what there is afterwards is never looked at again (`gc.freeze`). It is
    freed all the same once nothing refers to it, unless it is part of a cycle.
    """
    if "torch" in sys.modules or not gc.isenabled():
        with lightened():
            yield
        return
    begun = len(gc.get_objects()) < BEGUN
    gc.disable()
    try:
        with lightened():
            yield
    finally:
        gc.enable()
        if begun and "torch" in sys.modules:
            gc.freeze()


@contextmanager
def unadvised() -> Iterator[None]:
    """Where Pyro is imported first: without tqdm's advice to notebooks to install what draws Pyro's bars."""
    if "pyro" in sys.modules:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        yield


def lazy(name: str) -> Any:
    """A module that is imported when something of it is first used.

    For modules that say light things, such as the fields of a prior, next to densities that need torch.

    Example:
        >>> lazy("math").floor(2.5)
        2
    """
    return _Lazy(name)


class _Lazy:
    """Stands for a module until it is used, and has what was used of it from then on."""

    def __init__(self, name: str) -> None:
        self._module = name

    def __getattr__(self, name: str) -> Any:
        with uncollected(), unadvised():
            value = getattr(import_module(self._module), name)
        setattr(self, name, value)  # so that the next look-up does not come here
        return value
