"""Trainings as they go, in TensorBoard or MLflow: something to give to `progress=`.

    with TensorBoard("logs/quakes") as board:
        fit = ppl.fit(model, data, progress=board)
        board.finish(fit)

`progress` is called after every step as (phase, step, ELBO, nats a parameter left to gain); a callback is
such a function that keeps what it is told somewhere. A further one subclasses `Callback`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from math import isfinite
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ppl_models.extras import needed

if TYPE_CHECKING:
    from ppl_models.record import Record


class Callback(ABC):
    """Keeps figures of a training.

    Args:
        every: steps of which one is kept.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self._steps = 0

    def __call__(self, phase: str, step: int, elbo: float, left: float) -> None:
        """After a step: steps of all phases are counted in one row."""
        self._steps += 1
        if self._steps % self.every == 0:
            found = {f"{phase}/elbo": elbo, f"{phase}/left": left}
            self.scalars({name: value for name, value in found.items() if isfinite(value)}, self._steps)

    def finish(self, fit: "Record") -> None:
        """Keep what was fitted, how it ended, and the verdict."""
        said = {f"model.{f.name}": getattr(fit.model, f.name) for f in fields(fit.model)}
        said |= {f"settings.{f.name}": getattr(fit.settings, f.name) for f in fields(fit.settings)}
        about = {"model": fit.name, "data": fit.data.source, "rows": fit.data.rows}
        report = fit.report
        ended = {
            "status": str(fit.trained.status),
            "verdict": report.verdict,
            "predictions": report.predictions,
        }
        figures = {
            "final/elbo": fit.elbo,
            "final/steps": fit.trained.steps,
            "final/seconds": fit.trained.seconds,
        }
        self.texts({name: str(value) for name, value in (about | said | ended).items()})
        self.scalars({name: float(value) for name, value in figures.items()}, self._steps)

    @abstractmethod
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Keep numbers by name, at a step."""

    @abstractmethod
    def texts(self, values: Mapping[str, str]) -> None:
        """Keep texts by name."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more will come."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TensorBoard(Callback):
    """Into a folder that `tensorboard --logdir` shows.

    Args:
        folder: where.
        every: steps of which one is kept.

    Raises:
        UsageError: tensorboard is not installed.
    """

    def __init__(self, folder: Any, every: int = 1) -> None:
        super().__init__(every)
        needed("tensorboard", "tensorboard", "this is written by")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Curves."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def texts(self, values: Mapping[str, str]) -> None:
        """One table."""
        rows = "\n".join(f"| {name} | {value} |" for name, value in values.items())
        self._writer.add_text("fit", f"| | |\n|---|---|\n{rows}")

    def close(self) -> None:
        """Write the rest."""
        self._writer.close()


class MLflow(Callback):
    """Into a run of MLflow: the one that is open, else a new one, which `close` ends.

    Args:
        experiment: its name; MLflow's own if None.
        every: steps of which one is kept.

    Raises:
        UsageError: mlflow is not installed.
    """

    def __init__(self, experiment: str | None = None, every: int = 1) -> None:
        super().__init__(every)
        self._mlflow = needed("mlflow", "mlflow", "this is written by")
        if experiment is not None:
            self._mlflow.set_experiment(experiment)
        self._own = self._mlflow.active_run() is None
        self.run = self._mlflow.start_run() if self._own else self._mlflow.active_run()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Metrics."""
        self._mlflow.log_metrics(dict(values), step=step, synchronous=False)

    def texts(self, values: Mapping[str, str]) -> None:
        """Parameters."""
        self._mlflow.log_params(dict(values))

    def close(self) -> None:
        """End the run, if it was opened here."""
        self._mlflow.flush_async_logging()
        if self._own:
            self._mlflow.end_run()
