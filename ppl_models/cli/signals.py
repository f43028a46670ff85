"""Ctrl-C and SIGTERM while a model is fitted: the first ends the training, the second the program."""

import os
import signal
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from ppl_models.errors import Interrupted

SIGNALS = ("SIGINT", "SIGTERM")


PATIENCE = 1.0
"""Seconds after a second signal in which the process may leave by itself."""


def leave_soon(code: int) -> None:
    """End the process a second from now, whatever swallows exceptions or goes round in a loop.

    Args:
        code: What it exits with.
    """

    def leave() -> None:
        with suppress(OSError):
            os.write(2, b"ppl: stopped at once\n")
        os._exit(code)

    timer = threading.Timer(PATIENCE, leave)
    timer.daemon = True
    timer.start()


class Stop:
    """A context in which the first signal raises KeyboardInterrupt while training, and is else remembered.

    `fit` answers KeyboardInterrupt with what it has so far, which can then be saved. A second signal leaves
    at once with SystemExit, past everything that catches errors.

    Attributes:
        code: The exit code that the signal asks for, 130 or 143; 0 if there was none.
        training: Whether a signal ends the training; else there is only saving left to do.
    """

    def __init__(self) -> None:
        self.code = 0
        self.training = True
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for name in SIGNALS:
            with suppress(ValueError, OSError, AttributeError):  # not the main thread, or no such signal
                number = getattr(signal, name)
                self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if isinstance(error, SystemExit):
            raise Interrupted("stopped at once", self.code) from None
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted("stopped before there was anything to save", self.code or 130) from None

    def check(self) -> None:
        """Raise KeyboardInterrupt again if the training was to end: for a loop over several fits."""
        if self.code and self.training:
            raise KeyboardInterrupt

    def _received(self, number: int, frame: Any) -> None:
        if self.code:
            leave_soon(128 + number)
            raise SystemExit(128 + number)
        self.code = 128 + number
        if self.training:
            raise KeyboardInterrupt
