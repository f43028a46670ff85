"""How many threads work is shared out to: the one place that says so, for torch, our kernels and BLAS.

Work is done by one thread where it is small: an operation of microseconds takes longer where threads have to
be woken for it, and on a machine that is busy with something else each of them waits for its turn. Large
work is shared out to as many threads as there may be: `set_threads`, else `PPL_THREADS`, else as many as
torch has, which is one a processor.

Kernels and pools of our own take `torch.get_num_threads()` for what they may use, which a block of
`threads_for` sets and puts back. What the process had before is left as it was.

Fits and verbs that several threads of a process ask for take turns (`in_turn`): what they draw comes of
torch's generator, and what they silence are filters of warnings, of which a process has one each.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache, wraps
from threading import Lock, RLock
from typing import Any, TypeVar

from ppl_models.errors import UsageError
from ppl_models.importing import lazy

torch = lazy("torch")

SMALL = 2_000_000
"""Numbers up to which an operation is done by one thread."""

PRODUCTS = 200_000_000
"""Multiplications of a step of a network up to which it is: some ten milliseconds."""

VARIABLE = "PPL_THREADS"
"""The environment variable that says how many there may be."""

F = TypeVar("F", bound=Callable[..., Any])

_turn = RLock()
_asked: int | None = None
_lock, _inside = Lock(), 0
_limiter: Any = None
_most: ContextVar[int | None] = ContextVar("_most", default=None)


def _begin_anew() -> None:
    """In a process that was forked: nobody else is there whose turn it could be."""
    global _turn
    _turn = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


@contextmanager
def turn() -> Iterator[None]:
    """A block of one thread at a time; within it the thread may begin others."""
    with _turn:
        yield


def in_turn(function: F) -> F:
    """A function that one thread at a time is in."""

    @wraps(function)
    def waiting(*args: Any, **options: Any) -> Any:
        with _turn:
            return function(*args, **options)

    return waiting  # type: ignore[return-value]


def set_threads(number: int | None) -> None:
    """Let fits and verbs of this process use at most so many threads, whatever their size.

    Small work is done by one of them all the same. One is right where several processes share the
    processors: a process for each fold of a cross-validation, say.

    Args:
        number: at least 1; None for what `PPL_THREADS` says, else as many as torch has.

    Raises:
        UsageError: it is no whole number of at least 1.
    """
    global _asked
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
        raise UsageError(f"threads must be a whole number of at least 1, got {number!r}")
    _asked = number


def asked() -> int | None:
    """How many there may be, if anybody said so.

    Raises:
        UsageError: `PPL_THREADS` is no whole number of at least 1.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if _asked is not None or not text:
        return _asked
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{VARIABLE} must be a whole number of at least 1, got {text!r}")
    return int(text)


@contextmanager
def threads_for(size: float, small: float = SMALL) -> Iterator[None]:
    """As many threads as an operation of some size is worth, within the block.

    A block within another may have more threads than that one: how many there are at most is what there was
    outside of all.

    Args:
        size: numbers in the tensors of an operation.
        small: up to which it is done by one thread.
    """
    before = torch.get_num_threads()
    outer = _most.get()
    most = outer or asked() or before
    number = 1 if size <= small else most
    token = _most.set(most)
    try:
        with _blas(number) if outer is None else nullcontext():
            if number != before:
                torch.set_num_threads(number)
            yield
    finally:
        _most.reset(token)
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


@contextmanager
def _blas(number: int) -> Iterator[None]:
    """NumPy's and SciPy's matrix products in so many threads, within a block.

    There is one number for the process: the first block sets it, and the last one that ends puts it back.
    """
    global _inside, _limiter
    controller = _controller()
    if controller is None:
        yield
        return
    with _lock:
        if not _inside:
            _limiter = controller.limit(limits=number, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _limiter.restore_original_limits()


@cache
def _controller() -> Any:
    """What knows the libraries that are loaded; None where BLAS has one thread from the environment."""
    if os.environ.get("OPENBLAS_NUM_THREADS") == "1":
        return None
    import numpy  # noqa: F401  (so that its library is loaded)

    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


def prepare_environment(number: int | None = None) -> None:
    """Tell libraries that are yet to be loaded: for a process of our own, before anything is imported.

    Threads of OpenMP that have nothing to do sleep rather than spin, and NumPy's BLAS, which only starts
    need, has one.

    Args:
        number: how many there may be at most, if anybody said so.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if number is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = str(number)
        set_threads(number)
