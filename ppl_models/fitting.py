"""fit() and select(): from a model and data to a checked posterior, and `Fit`, what they return."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from ppl_models.data import Dataset, read
from ppl_models.data.files import budget
from ppl_models.errors import DataError, Unsupported, UsageError
from ppl_models.inference.conjugate import Statistics
from ppl_models.model import Model
from ppl_models.models.joint import Joint
from ppl_models.training import Progress, Settings, Status, Trained, resolve_device, train


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
    def joint(self) -> Joint:
        """The model bound to the columns."""
        return self.model.bind(self.data.schema)

    @property
    def statistics(self) -> dict[str, torch.Tensor]:
        """Expected sufficient statistics: with the prior, the guide's natural parameters."""
        return self.trained.statistics

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
        """States of each row: the best path, smoothed and filtered probabilities."""
        from ppl_models.tasks import predict

        return predict(self, data, **options)

    def score(self, data: Any = None, **options: Any) -> Any:
        """Log predictive density of each row, or of each sequence with `by="sequence"`."""
        from ppl_models.tasks import score

        return score(self, data, **options)

    def sample(self, steps: int = 100, **options: Any) -> Any:
        """New rows from the posterior predictive distribution."""
        from ppl_models.tasks import sample

        return sample(self, steps, **options)

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
    steps: int = 2_000,
    tolerance: float = 1e-3,
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
        steps: at most.
        tolerance: nats a parameter that may be left to gain; see `ppl_models.inference.convergence`.
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
    settings = Settings(seed, resolve_device(device), restarts, batch_size, steps, tolerance)
    dataset = _read_for(model, data, reading)
    dataset = replace(dataset, schema=model.refer(dataset))
    joint = model.bind(dataset.schema)
    if not isinstance(joint, Joint):
        raise Unsupported(f"{model.name} has no update rule")
    if dataset.rows < 1:
        raise DataError(f"{dataset.source}: no rows; {model.name} needs at least one")
    _check_memory(joint, dataset, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        trained = train(model, joint, dataset, settings, progress)
    return Fit(model, dataset, trained, settings)


def _check_memory(joint: Joint, data: Dataset, settings: Settings) -> None:
    """Refuse what would not fit, before anything is done.

    Raises:
        DataError: with the estimate.
    """
    need, free = joint.working_bytes(settings.restarts), budget()
    if need > free:
        columns = len(data.names)
        raise DataError(
            f"{data.source}: {columns} columns and {joint.states} states take about {need / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free; use --covariance diag, fewer --columns, states or --restarts"
        )


def _read_for(model: Model, data: Any, reading: dict[str, Any]) -> Dataset:
    """Read data, with the kinds of column that the model's emission asks for."""
    if isinstance(data, Dataset):
        if any(value is not None for value in reading.values()):
            raise UsageError(f"data was read already; {', '.join(reading)} can no longer apply")
        return data
    dataset = read(data, **reading)
    types = dict(model.types(dataset.schema))
    if not types:
        return dataset
    if isinstance(data, str) and data == "-":
        raise UsageError(f"standard input can be read once; give --types {','.join(types)}=… with it")
    options: dict[str, Any] = reading | {"types": types | dict(reading.get("types") or {})}
    return read(data, **options)


def select(model: Model, data: Any, values: Mapping[str, Any], **options: Any) -> Fit:
    """Fit a model for each value of one field, and keep the one with the highest evidence.

    ELBOs are compared with log K! added for the K! orders of the states, all equally good, of which the
    guide covers one (Bishop 2006, PRML, §10.2.4). A model with states that no row is in is only chosen where
    all have some: it says no more than the smaller one.

    Args:
        model: the other fields.
        data: as for `fit`; read once.
        values: the field and its values, `{"states": range(1, 7)}`.
        **options: as for `fit`.
    """
    from math import lgamma, log

    ((name, tried),) = values.items()
    tried = list(tried)
    if not tried:
        raise UsageError(f"no values of {name} to select from")
    reading = {k: options.pop(k) for k in list(options) if k not in _FIT_OPTIONS}
    dataset = _read_for(model, data, reading)
    fits, rows = [], []
    for value in tried:
        each = fit(replace(model, **{name: value}), dataset, **options)
        K = each.joint.states
        evidence = each.elbo + lgamma(K + 1)
        natural = each.joint.expected_natural(each.statistics)
        likelihood = float(each.joint.local(each.joint.dataset_batch(dataset), natural)[0][0])
        free = each.joint.parameters
        empty = int((occupied(each.statistics) < 1.0).sum())
        fits.append(each)
        rows.append(
            {
                name: value,
                "evidence": evidence,
                "log_likelihood": likelihood,
                "empty": empty,
                "parameters": free,
                "bic": free * log(max(dataset.rows, 1)) - 2 * likelihood,
                "status": str(each.status),
                "seconds": round(each.trained.seconds, 3),
            }
        )
        if each.status is Status.INTERRUPTED:
            break
    best = max(range(len(fits)), key=lambda i: (rows[i]["empty"] == 0, rows[i]["evidence"]))
    return replace(fits[best], candidates=tuple(rows))


def occupied(statistics: Statistics) -> torch.Tensor:
    """Expected rows in each state, (K,): every row is the start of a sequence or entered from another."""
    return (statistics["start"][0] + statistics["transition"][0].sum(0)).cpu()


_FIT_OPTIONS = {"seed", "device", "restarts", "batch_size", "steps", "tolerance", "progress"}
