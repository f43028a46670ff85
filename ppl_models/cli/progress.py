"""One line on the terminal that says how far a fit has come."""

import math
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from ppl_models.cli.output import safe

_INTERVAL = 0.1
_REMEMBERED = 20


class ProgressLine:
    """Called after every step of a fit; draws on stderr if that is a terminal that can be drawn on.

    Args:
        quiet: Never draw.
        tolerance: The nats a parameter at which training ends.
        candidates: What is tried one after the other, if there are several.
        budget: Seconds that the fit may take, if that is limited.
        objective: What the fit raises.
    """

    def __init__(
        self,
        quiet: bool,
        tolerance: float,
        candidates: Sequence[str] = (),
        budget: float | None = None,
        objective: str = "ELBO",
    ) -> None:
        self._live: Any = None
        self._shown = (
            not quiet and sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
        )
        self._tolerance = tolerance
        self._budget = budget
        self._objective = objective
        self._candidates = candidates
        self._current = 0
        self._began = time.monotonic()
        self._drawn = -math.inf
        self._seen: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)

    def __enter__(self) -> Self:
        if self._shown:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
            self.say("starting")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, phase: str, step: int, elbo: float, left: float) -> None:
        """Draw a step, not oftener than the eye follows."""
        if phase == "restarts" and step == 1:
            self._current += 1
            self._seen.clear()
        if self._live is None:
            return
        now = time.monotonic()
        if math.isfinite(left) and left > 0:
            self._seen.append((now, math.log(left)))
        if now - self._drawn >= _INTERVAL:
            self._drawn = now
            self.say(self.line(phase, step, elbo, left))

    def say(self, text: str) -> None:
        """Draw a text."""
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(safe(text), no_wrap=True, overflow="ellipsis"), refresh=True)

    def line(self, phase: str, step: int, elbo: float, left: float) -> str:
        """What is drawn: the most important first, for terminals that are narrow.

        Args:
            phase: of the training.
            step: of the phase.
            elbo: nats.
            left: nats a parameter that are left to gain; not finite where that is not known.
        """
        parts = [phase, f"step {step}"]
        if math.isfinite(elbo):
            parts.append(f"{self._objective} {elbo:,.2f}")
        if len(self._candidates) > 1 and 0 < self._current <= len(self._candidates):
            which = f"{self._candidates[self._current - 1]} ({self._current} of {len(self._candidates)})"
            parts.insert(0, which)
        if math.isfinite(left):
            parts.append(f"{left:.2g} nats a parameter left")
        parts.append(_clock(time.monotonic() - self._began))
        ahead = self.seconds_left()
        if ahead is not None:
            parts.append(f"about {_clock(ahead)} left")
        return " · ".join(parts)

    def seconds_left(self) -> float | None:
        """Seconds until the tolerance is reached if it goes on as it does, or those of the budget.

        Returns:
            None if that cannot be told.
        """
        ahead = self._expected()
        if self._budget is None:
            return ahead
        rest = max(self._began + self._budget - time.monotonic(), 0.0)
        return rest if ahead is None else min(ahead, rest)

    def _expected(self) -> float | None:
        if len(self._seen) < 5:
            return None
        times, logs = zip(*self._seen, strict=True)
        mean_time, mean_log = sum(times) / len(times), sum(logs) / len(logs)
        spread = sum((t - mean_time) ** 2 for t in times)
        slope = sum((t - mean_time) * (y - mean_log) for t, y in self._seen) / spread if spread > 0 else 0.0
        if slope >= 0:
            return None
        ahead = (math.log(self._tolerance) - logs[-1]) / slope
        return ahead if 0 < ahead < 86_400 else None


def _clock(seconds: float) -> str:
    """Minutes and seconds.

    Example:
        >>> _clock(75.2), _clock(3700)
        ('1:15', '1:01:40')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
