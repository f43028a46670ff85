"""Ctrl-C and SIGTERM wait until a step is whole."""

import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self


class Whole:
    """A context in which the first signal is passed on between two steps rather than inside one.

    Whoever handled it before then handles it: Python's own handler raises KeyboardInterrupt. A second
    signal is passed on at once.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._pending: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                if callable(before):
                    self._before[number] = before
                    signal.signal(number, self._received)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        if error is None:
            self.between()

    def between(self) -> None:
        """Pass on what has been received."""
        number, self._pending = self._pending, None
        if number is not None:
            self._before[number](number, None)

    def _received(self, number: int, frame: FrameType | None) -> None:
        if self._pending is not None:
            with suppress(KeyboardInterrupt):  # the first one, which had to wait
                self._before[self._pending](self._pending, frame)
            self._before[number](number, frame)
        self._pending = number
