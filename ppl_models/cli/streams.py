"""The three streams of the process, and results apart from whatever else is printed.

What a model that a user wrote prints, or writes to descriptor 1, belongs beside the results and not into
them: while a command runs, both go to stderr, and results take a descriptor of their own.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any, TextIO

from ppl_models.errors import OutputError

_own: list[TextIO] = []  # where results go while a command runs


class Closed(io.TextIOBase):
    """Stands for a standard output that the process was started without."""

    def write(self, text: str, /) -> int:
        """Refuse.

        Raises:
            OutputError: Always.
        """
        raise OutputError("standard output is closed; send it somewhere, or use --output FILE")


def results() -> TextIO:
    """Where results are printed."""
    return _own[-1] if _own else sys.stdout


def open_streams() -> None:
    """Give closed descriptors a place, so that no file takes their number, and make all text printable."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_RDWR)
                if nowhere != number:
                    os.dup2(nowhere, number)
                    os.close(nowhere)
    if sys.stdout is None:
        sys.stdout = Closed()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        # Without a locale, text that ASCII lacks would be an error rather than escaped.
        if getattr(stream, "errors", "") in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def apart() -> Iterator[None]:
    """Print results where they belong, and on stderr what anything else prints meanwhile.

    Descriptor 1 is never given back, since a model may also print while the process ends.
    """
    if _own:
        yield
        return
    real = sys.stdout
    private = _private(real)
    _own.append(real if private is None else private)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _own.pop()
        if private is not None:
            sys.stdout = private


def _private(stream: Any) -> TextIO | None:
    """The stream on a descriptor of its own, with descriptor 1 made a copy of 2; None if it is not on 1."""
    try:
        if stream.fileno() != 1:
            return None
        stream.flush()
        own = os.dup(1)
        os.dup2(2, 1)
    except (OSError, ValueError, AttributeError):
        return None
    return open(own, "w", encoding=stream.encoding, errors=stream.errors, newline="")
