"""A fit as data: the model, the rows, what was learned, and what follows from these."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import torch

from ppl_models.bound import Bayesian, Bound, unlike
from ppl_models.capabilities import NETWORKS
from ppl_models.checks import Report, check
from ppl_models.data import Dataset
from ppl_models.draws import Draws, Posterior
from ppl_models.errors import RunError, UsageError
from ppl_models.inference.calibration import Calibrated, Guide
from ppl_models.inference.loop import Status, Trained
from ppl_models.inference.settings import Training
from ppl_models.model import Model
from ppl_models.posterior import draw_posterior, to_arviz
from ppl_models.prior import prior_to_arviz
from ppl_models.threads import threads_for, turn
from ppl_models.wording import spoken

UNFIT = (
    KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RuntimeError, UsageError
)  # fmt: skip
"""What comes of a run whose parts do not go together."""

if TYPE_CHECKING:
    once = property  # as protocols ask for it; a type checker takes `cached_property` for something else
else:
    from functools import cached_property

    class once(cached_property):
        """What is computed when it is first asked for, by one thread."""

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is None or self.attrname in instance.__dict__:
                return super().__get__(instance, owner)
            with turn():
                return super().__get__(instance, owner)


@dataclass(frozen=True, eq=False)
class Record:
    """A model fitted to data. What follows from its fields is computed when it is first asked for, once.

    Attributes:
        model: the model.
        data: what it was fitted to.
        trained: the guide's statistics, ELBO, status and history.
        settings: seed, device and the like.
        origin: the model bound to the columns of the data, as training had it.
        candidates: the scores of all models that were tried, when one was selected.
        path: the run directory it was loaded from or saved to, if any.
        absent: how many rows it was fitted to, where the run does without them (`save(slim=True)`): `data`
            has none then.
        waited: seconds from the call to the fit: reading, and all models that were tried; 0 if not known.
    """

    model: Model
    data: Dataset
    trained: Trained
    settings: Training
    origin: Bound = field(repr=False)
    candidates: tuple[Mapping[str, Any], ...] = ()
    path: str | None = None
    absent: int | None = None
    waited: float = 0.0

    def noted(self, note: str) -> "Record":
        """The same with one more note."""
        return replace(self, trained=replace(self.trained, notes=(*self.trained.notes, note)))

    def alone(self, data: Dataset) -> "Record":
        """The same without the other processes of the fit: its checks and draws are made now, with them.

        Args:
            data: the rows, as this process has them.
        """
        _ = self.report
        ended = self.trained
        if ended.status is Status.CONVERGED:
            ended = replace(ended, checkpoint=None)
        found = replace(self, data=data, trained=ended)
        shared = {field.name for field in fields(self)} | {"batch", "learned_from"}
        found.__dict__.update({name: value for name, value in self.__dict__.items() if name not in shared})
        return found

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle has: as a run, the fields, the calibrated guide and draws; the bound is made anew."""
        state = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "origin"}
        if self.absent is not None:
            state["essence"] = self.origin.essence()
        done = self.__dict__
        if self.bayesian and (done.get("_stored_draws") or "posterior_draws" in done):
            state["_stored_draws"] = self.draws
        if done.get("_stored_guide") or "calibrated" in done:
            state["_stored_guide"] = self.calibrated.method, self.calibrated.params
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        essence = state.pop("essence", None)
        self.__dict__.update(state)
        origin = self.model.bind(self.data.schema)
        self.__dict__["origin"] = origin.prepare(self.data) if essence is None else origin.recalled(essence)

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.model.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the data, or noticed in it, and in the training: what the command line says."""
        return tuple(map(spoken, (*self.data.notes, *self.trained.notes)))

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """What was learned: of a conjugate model expected sufficient statistics."""
        return self.trained.params

    @once
    def _learned(self) -> dict[str, Any]:
        return self.origin.learned(self.params)

    @once
    def resolved(self) -> Model:
        """The model with what it left to the data filled in: the one whose posterior this is."""
        return self.model.with_learned(self._learned) if self._learned else self.model

    @once
    def bound(self) -> Any:
        """That model over the columns: `ppl_models.bound.Bound`, and what else it can do."""
        return self.origin.at(self._learned).to(self.settings.device)

    @property
    def bayesian(self) -> bool:
        """Whether its parameters have a posterior, rather than point estimates."""
        return isinstance(self.origin, Bayesian)

    @once
    def learned_from(self) -> Dataset:
        """The data as training saw it: of a robust fit without the cells of the rows that it left out."""
        return self.origin.learned_from(self.data, self.params, self.settings)

    @once
    def batch(self) -> Any:
        """The data that it learned from on the device, ready to be scored."""
        return self.bound.dataset_batch(self.learned_from, self.settings.device)

    @once
    def calibrated(self) -> Calibrated:
        """The guide that draws come from and how it was come by."""
        if self._stored_guide is not None:
            method, params = self._stored_guide
            try:
                found = self.bound.restored(method, self.params, params)
                with torch.random.fork_rng(devices=[]):
                    like = found.guide.draw(1)
                if found.draws is not None and (said := unlike(found.draws, like)):
                    raise ValueError(said)
            except UNFIT as error:
                said = f"{self.path}: params.safetensors has no guide that can be drawn from"
                raise RunError(f"{said} ({type(error).__name__}: {error})") from None
            return found
        if self.settings.method == "nuts":
            return self.bound.chained(self.params, self.learned_from, self.settings.seed)
        return self.bound.calibrate(self.params, self.learned_from, self.settings.device, self.settings.seed)

    @once
    def _stored_guide(self) -> tuple[str, dict[str, torch.Tensor]] | None:
        return None  # nor the method of calibration and what it found, unless a run says so

    @property
    def guide(self) -> Guide:
        """The approximation of the posterior that draws come from."""
        return self.calibrated.guide

    @property
    def status(self) -> Status:
        """How the training ended."""
        return self.trained.status

    @property
    def elbo(self) -> float:
        """The evidence lower bound, in nats, in the user's units."""
        return self.trained.elbo

    @once
    def posterior_draws(self) -> Posterior:
        """Draws of θ with log p, log q and importance weights."""
        return draw_posterior(self)

    @property
    def draws(self) -> Draws:
        """Draws of θ, S of them; of a model with a point estimate that, as S = 1."""
        if not self.bayesian:
            return {NETWORKS: self.params}
        return self._stored_draws or self.posterior_draws.theta

    @once
    def _stored_draws(self) -> Draws | None:
        return None  # a run that has them says so when it is loaded

    @once
    def posterior(self) -> Any:
        """ArviZ data: `InferenceData` on ArviZ 0.x, a `DataTree` on 1.x."""
        with threads_for(self.bound.numbers(self.data)):
            return to_arviz(self)

    @once
    def prior(self) -> Any:
        """Draws of the prior and what they predict for the rows of the fit, beside these, as ArviZ data.

        Raises:
            Unsupported: the model has no prior that can be drawn from.
        """
        with threads_for(self.bound.numbers(self.data)):
            return prior_to_arviz(self)

    @once
    def report(self) -> Report:
        """Whether to trust the fit: checks with reasons and a verdict."""
        with threads_for(self.bound.numbers(self.data)):
            return check(self, self.bayesian)
