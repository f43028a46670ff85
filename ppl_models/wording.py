"""Advice in the words of whoever reads it: options of the command line, or keywords of Python.

Messages are written once, with options as the command line has them: `--restarts`, and `--states=3` where a
value is meant (after a blank where it holds a digit or is one of `_WORDS`). `spoken` turns them into Python's
`restarts=` and `states=3`, unless the command line, which says so by `at_a_terminal`, is what is spoken to.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_TERMINAL: ContextVar[bool] = ContextVar("terminal", default=False)

_VALUE = r"(?:[^\s,;:()]|:(?=\S))+"
_WORDS = r"(?:diag|gaussian|low_rank|missing|mlp|normal|student_t)(?!\w)|'[^']*'|(?=[\w.-]*[\d=])[\w.=-]*\w"
_OPTION = re.compile(rf"(?<![\w-])--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)(?:=({_VALUE})| ({_WORDS}))?")
_RANGE = re.compile(r"(\d+):(\d+)")


@contextmanager
def at_a_terminal() -> Iterator[None]:
    """Whatever is said within the block is said to somebody at the command line."""
    token = _TERMINAL.set(True)
    try:
        yield
    finally:
        _TERMINAL.reset(token)


def spoken(message: str) -> str:
    r"""A message with its options as whoever reads it writes them.

    Example:
        >>> spoken("try more --restarts, or --covariance=diag")
        "try more restarts=, or covariance='diag'"
        >>> with at_a_terminal():
        ...     spoken("try more --restarts")
        'try more --restarts'
    """
    return message if _TERMINAL.get() else _OPTION.sub(_keyword, message)


def words_of(error: BaseException) -> str:
    r"""What an exception says, in one line; its type where it says nothing, or raises when it is asked to.

    Example:
        >>> words_of(ValueError("two\nlines")), words_of(KeyError())
        ('two lines', 'KeyError')
    """
    try:
        return " ".join(str(error).split()) or type(error).__name__
    except Exception:  # a class that somebody else wrote
        return type(error).__name__


def _keyword(found: re.Match[str]) -> str:
    name, value = found[1].replace("-", "_"), (found[2] or found[3] or "").strip("'")
    if not value:
        return f"{name}="
    if pair := _RANGE.fullmatch(value):  # of `select`
        return f"{name}=range({pair[1]}, {int(pair[2]) + 1})"
    try:
        float(value)
        return f"{name}={value}"
    except ValueError:
        return f"{name}={value!r}"
