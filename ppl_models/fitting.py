"""fit(): from a model and data to a checked posterior, and `Fit`, what it returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from ppl_models.data import Dataset, read
from ppl_models.data.files import budget
from ppl_models.errors import DataError, UsageError
from ppl_models.model import Model
from ppl_models.models.bound import Bound
from ppl_models.registry import complete
from ppl_models.training import Course, Progress, Settings, Status, Trained, resolve_device, train


@dataclass(frozen=True, eq=False)
class Fit:
    """A model fitted to data: the guide, how training went, and the verbs.

    Attributes:
        model: the model.
        data: what it was fitted to.
        trained: the guide's statistics, ELBO, status and history.
        settings: seed, device and the like.
        candidates: the scores of all models that were tried, when one was selected.
        path: the run directory it was loaded from or saved to, if any.
    """

    model: Model
    data: Dataset
    trained: Trained
    settings: Settings
    candidates: tuple[Mapping[str, Any], ...] = ()
    path: str | None = field(default=None)

    @cached_property
    def resolved(self) -> Model:
        """The model with what it left to the data filled in: the one whose posterior this is."""
        return self.model.resolve(self.data.schema, self.params)

    @cached_property
    def bound(self) -> Any:
        """That model bound to the columns: `ppl_models.models.bound.Bound`."""
        return self.resolved.bind(self.data.schema).learn(self.data)

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """What was learned: of a conjugate model expected sufficient statistics."""
        return self.trained.params

    @cached_property
    def batch(self) -> Any:
        """The data on the device, ready to be scored."""
        return self.bound.dataset_batch(self.data, self.settings.device)

    @cached_property
    def calibrated(self) -> Any:
        """The guide that draws come from and how it was come by: `ppl_models.calibration.Calibrated`."""
        from ppl_models.calibration import calibrate

        return calibrate(self.bound, self.data, self.params, self.settings.device, self.settings.seed)

    @property
    def guide(self) -> Any:
        """The approximation of the posterior that draws come from: `ppl_models.models.bound.Guide`."""
        return self.calibrated.guide

    @property
    def status(self) -> Status:
        """How the training ended."""
        return self.trained.status

    @property
    def elbo(self) -> float:
        """The evidence lower bound, in nats, in the user's units."""
        return self.trained.elbo

    @cached_property
    def posterior_draws(self) -> Any:
        """Draws of θ with log p, log q and importance weights: `ppl_models.posterior.Posterior`."""
        from ppl_models.posterior import draw_posterior

        return draw_posterior(self)

    @cached_property
    def posterior(self) -> Any:
        """ArviZ data: `InferenceData` on ArviZ 0.x, a `DataTree` on 1.x."""
        from ppl_models.posterior import to_arviz

        return to_arviz(self)

    def summary(self, **options: Any) -> Any:
        """Posterior means, standard deviations and intervals, a row for each parameter (pandas)."""
        from ppl_models.tasks import summary

        return summary(self, **options)

    def check(self) -> Any:
        """Whether to trust the fit: checks with reasons and a verdict."""
        from ppl_models.diagnostics.checks import check

        return check(self)

    def predict(self, data: Any = None, **options: Any) -> Any:
        """The state, component or class of each row, with probabilities."""
        from ppl_models.tasks import predict

        return predict(self, data, **options)

    def score(self, data: Any = None, **options: Any) -> Any:
        """Log predictive density of each row, or of each sequence with `by="sequence"`."""
        from ppl_models.tasks import score

        return score(self, data, **options)

    def sample(self, *args: Any, **options: Any) -> Any:
        """New rows from the posterior predictive distribution."""
        from ppl_models.tasks import sample

        return sample(self, *args, **options)

    def forecast(self, steps: int = 10, data: Any = None, **options: Any) -> Any:
        """The rows after the last one, with intervals."""
        from ppl_models.tasks import forecast

        return forecast(self, steps, data, **options)

    def impute(self, data: Any = None, **options: Any) -> Any:
        """Missing cells, with intervals."""
        from ppl_models.tasks import impute

        return impute(self, data, **options)

    def transform(self, data: Any = None, **options: Any) -> Any:
        """Each row as the probabilities of its states."""
        from ppl_models.tasks import transform

        return transform(self, data, **options)

    def reconstruct(self, data: Any = None, **options: Any) -> Any:
        """The table as the latents of each row have it."""
        from ppl_models.tasks import reconstruct

        return reconstruct(self, data, **options)

    def save(self, path: Any = None, *, force: bool = False) -> Any:
        """Write a run directory and return its path."""
        from ppl_models.runs import save

        return save(self, path, force=force)

    def _repr_html_(self) -> str:
        from ppl_models.display import fit_html

        return fit_html(self)

    def __repr__(self) -> str:
        from ppl_models.display import fit_text

        return fit_text(self)


def fit(
    model: Model,
    data: Any,
    *,
    seed: int = 0,
    device: str = "auto",
    restarts: int = 8,
    batch_size: int | None = None,
    steps: int | None = None,
    tolerance: float = 1e-3,
    learning_rate: float | None = None,
    guide: str = "auto",
    elbo: str = "auto",
    particles: int = 1,
    patience: int = 10,
    precision: str = "float32",
    compile: bool = False,
    checkpoint: Any = None,
    checkpoint_every: float = 60.0,
    progress: Progress | None = None,
    **reading: Any,
) -> Fit:
    """Fit a model to data.

    Args:
        model: for instance `HMM(states=3)`.
        data: a path, `-` for stdin, a data frame, an array or a list of arrays, or a `Dataset`.
        seed: of starts, draws and batches. Equal seeds give equal fits on one machine.
        device: `auto`, `cpu` or `cuda`.
        restarts: starts that race; the best is kept.
        batch_size: rows a mini-batch; all rows at once if not given.
        steps: at most; by the update rule if not given.
        tolerance: nats a parameter that may be left to gain; see `ppl_models.inference.convergence`. Of a
            network, nats a row that count as a gain.
        learning_rate: step size of stochastic gradients; by the model if not given.
        guide: of a model of your own: `auto`, `own`, `normal`, `full-rank`, `low-rank` or `flow`.
        elbo: what stochastic gradients ascend: `auto`, `trace`, `mean-field`, `enum` or `renyi`.
        particles: draws of the guide a step, of stochastic gradients.
        patience: looks at the held-out ELBO without a gain before the step size is cut.
        precision: of the matrix products of networks: `float32` or `bfloat16`.
        compile: compile the loss of a network with `torch.compile`.
        checkpoint: a run directory to write to while a fit by stochastic gradients is under way, so that
            `resume` can go on from there should the process die. Save the finished fit over it.
        checkpoint_every: seconds between two checkpoints.
        progress: called after every step.
        **reading: `columns`, `ignore`, `types`, `sequence`, `time`, `lengths`, …: see `ppl_models.data.read`.

    Returns:
        The fit. One that did not converge is returned as well, and says so in `status` and `check()`.

    Raises:
        DataError: if the data cannot be read, or the model cannot be fitted to it.
        UsageError: if an option cannot be meant.
    """
    if not isinstance(model, Model):
        raise UsageError(f"the first argument must be a model such as HMM(states=3), got {model!r}")
    complete(type(model), type(model).__name__.lower())
    settings = Settings(
        seed, resolve_device(device), restarts, batch_size, steps, tolerance, learning_rate, guide, elbo,
        particles, patience, precision, compile,
    )  # fmt: skip
    dataset = read_for(model, data, reading)
    dataset = replace(dataset, schema=model.refer(dataset))
    keep = None
    if checkpoint is not None:
        from ppl_models.runs import keeper

        keep = keeper(model, dataset, settings, checkpoint)
    return fitted(model, dataset, settings, Course(progress, keep=keep, every=checkpoint_every))


def fitted(model: Model, dataset: Dataset, settings: Settings, course: Course) -> Fit:
    """Fit a model to data that was read for it, from the start or from a checkpoint."""
    bound = model.bind(dataset.schema)
    if dataset.arrays and bound.kind != "program":
        names = ", ".join(dataset.arrays)
        what = f"{model.name} takes a table; {names} have other shapes than its rows"
        raise DataError(f"{dataset.source}: {what}")
    if dataset.rows < 1 and not dataset.arrays:
        raise DataError(f"{dataset.source}: no rows; {model.name} needs at least one")
    bound = bound.learn(dataset)
    if dataset.weight is not None and not bound.exchangeable:
        raise UsageError(f"{model.name} cannot weigh rows, as they follow one another; leave --weights out")
    _check_memory(bound, dataset, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        trained = train(bound, dataset, settings, course)
    return Fit(model, dataset, trained, settings)


def _check_memory(bound: Bound, data: Dataset, settings: Settings) -> None:
    """Refuse what would not fit, before anything is done.

    Raises:
        DataError: with the estimate.
    """
    need, free = bound.working_bytes(settings.restarts), budget()
    if need > free:
        columns = len(data.names)
        raise DataError(
            f"{data.source}: {bound.describe} over {columns} columns takes about {need / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free; use --covariance diag, fewer --columns or --restarts"
        )


def read_for(model: Model, data: Any, reading: dict[str, Any]) -> Dataset:
    """Read data, with the kinds of column that the model's emission asks for."""
    if isinstance(data, Dataset):
        if any(value is not None for value in reading.values()):
            raise UsageError(f"data was read already; {', '.join(reading)} can no longer apply")
        return data
    reading = model.reading(reading)
    dataset = read(data, **reading)
    types = dict(model.types(dataset.schema))
    if not types:
        return dataset
    if isinstance(data, str) and data == "-":
        raise UsageError(f"standard input can be read once; give --types {','.join(types)}=… with it")
    options: dict[str, Any] = reading | {"types": types | dict(reading.get("types") or {})}
    return read(data, **options)
