"""How kernels are compiled: by Numba, once a machine."""

from collections.abc import Callable

import numba


def jit(**options) -> Callable:
    """`numba.njit`, cached on disk where a place for that can be found.

    The place is what `NUMBA_CACHE_DIR` says, else `__pycache__` beside the kernel, else, where that may not
    be written, a folder of the user's (`~/.cache/numba`). A cached kernel is for one processor and one
    version of its own file: who changes a function that kernels of other files call must remove the cache,
    for it is compiled into them.

    Kernels copy arrays number by number. To assign one to a part of another (`a[i] = b`) compiles the text of
    an error message about their shapes as well, which takes up to five times as long as all the rest.
    """

    def decorate(function: Callable) -> Callable:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no place may be written to: compile once a process
            return numba.njit(**options)(function)

    return decorate
