"""An entry in a comparison: fitted to folds, timed, and judged."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ppl_models.comparison import harder
from ppl_models.comparison.answers import Answer
from ppl_models.comparison.figures import of_classes, of_numbers
from ppl_models.comparison.folds import Fold, classes, described
from ppl_models.data import Dataset
from ppl_models.errors import DataError, UsageError


class Made(NamedTuple):
    """An entry fitted to a fold.

    Attributes:
        fold: which.
        fitted: it.
        figures: of the test part.
        answer: what it says of the rows there.
        seconds: of the fit.
        memory: megabytes that it took at most beyond what there was, by samples; NaN where not known.
    """

    fold: Fold
    fitted: Any
    figures: dict[str, float]
    answer: Answer
    seconds: float
    memory: float


@dataclass
class Contestant:
    """An entry, the rows as it sees them, and what came of it."""

    name: str
    entry: Any
    data: Dataset
    folds: list[Made] = field(default_factory=list)
    verdict: str = ""
    failed: str = ""
    extra: dict[str, harder.Rows] = field(default_factory=dict)

    def losses(self, loss: str) -> np.ndarray:
        """(J,) of the folds."""
        return np.array([made.figures.get(loss, np.nan) for made in self.folds])

    @property
    def joint(self) -> bool:
        """Whether it is of p(x, y), rather than of p(y | x)."""
        fitted = self.folds[0].fitted if self.folds else None
        return bool(getattr(fitted, "joint", False) or getattr(fitted, "generative", False))


class Judge:
    """How answers are judged: by classes, by numbers, or by densities."""

    def __init__(self, base: Dataset) -> None:
        self.target = base.schema.target
        self.y = classes(base)
        self.labels: tuple[str, ...] = ()
        if self.y is not None:
            self.labels = base.schema.columns[base.names.index(str(self.target))].levels

    def figures(self, fitted: Any, test: Dataset) -> tuple[dict[str, float], Answer]:
        """Of a fitted entry on a test part, means over the rows that have the target."""
        told = fitted.answer(test)
        weight = np.ones(test.rows) if test.weight is None else test.weight
        found: dict[str, float] = {}
        if self.target is not None:
            y = np.asarray(test.column(self.target), float)
            known = ~np.isnan(y) & (weight > 0)
            if not known.any():
                raise DataError(f"{test.source}: a fold has no row with its target {self.target!r}")
            if self.labels and told.p is not None:
                found |= of_classes(told.p[known], y[known].astype(int), weight[known])
            elif told.mean is not None:
                cut = Answer(mean=told.mean[known], log_p=told.log_p[known], crps=told.crps[known])  # type: ignore[index]
                found |= of_numbers(cut, y[known], weight[known])
            else:
                raise UsageError(f"it does not predict {self.target!r}")
        elif told.log_density is None:
            raise UsageError("it has no density of rows; give a target")
        if told.log_density is not None:
            found["log_density"] = float(np.average(told.log_density, weights=weight))
            if self.target is None:
                found["negative_log_density"] = -found["log_density"]
        return found, told

    def judge(self, fitted: Any, test: Dataset) -> dict[str, float]:
        """The figures alone."""
        return self.figures(fitted, test)[0]

    def deciding(self, figures: Sequence[Mapping[str, float]]) -> str:
        """The loss that decides: log loss where every entry has it."""
        if self.target is None:
            return "negative_log_density"
        if self.labels or all(np.isfinite(each["log_loss"]) for each in figures):
            return "log_loss"
        return "crps"


def made(entry: Any, data: Dataset, fold: Fold, seed: int, figures: Any) -> Made:
    """Fit an entry to a training part, and judge it on the rest.

    Args:
        entry: which.
        data: all rows, as it sees them.
        fold: which are which.
        seed: of the fit.
        figures: `Judge.figures`.
    """
    train, test = described(data.subset(fold.train)), data.subset(fold.test)
    with _memory() as most:
        began = time.perf_counter()
        fitted = entry.fit(train, seed)
        seconds = time.perf_counter() - began
    told, answer = figures(fitted, test)
    return Made(fold, fitted, told, answer, seconds, most())


@contextmanager
def _memory() -> Any:
    """A function that says how many megabytes more were resident at most, by a sample each 20 ms."""
    import os

    def now() -> float:
        try:
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        except (OSError, ValueError, IndexError):
            return np.nan

    before, most, stop = now(), [now()], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            most[0] = max(most[0], now())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: max(most[0] - before, 0.0)
    finally:
        stop.set()
        watcher.join()
        most[0] = max(most[0], now())
