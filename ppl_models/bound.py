"""A model over the columns of a table: how it is trained, checked, and its parameters drawn."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Fitted
from ppl_models.checks import Check
from ppl_models.data import Dataset, Schema
from ppl_models.draws import Draws, Params, Variables
from ppl_models.errors import Unsupported
from ppl_models.inference.calibration import Calibrated
from ppl_models.inference.loop import Course, Trained
from ppl_models.inference.settings import Training


class Bound(ABC):
    """What every model is once it knows its columns.

    What it can do beyond this is said by the protocols of `ppl_models.capabilities` that it implements.

    Attributes:
        schema: the columns.
        exchangeable: whether rows are independent given θ.
        takes_arrays: whether arrays of other shapes than the rows may stand beside them.
        partial_rows: whether later rows may lack columns of the fit, which are then what is asked for.
        numeric_target: whether a target may be a number; else it must be labels.
        on_device: whether it computes on the device of the settings; else on the CPU, and fits say so.
        form: of what rows it is, in words, where a system has forms for several.
        lagged: positions of the columns that go on from their row before, so that trends are carried on.
        rotates: whether some parameters are determined up to a rotation only, so that weights cannot judge
            the guide, which is of one of them.
        ridges: what to do where draws cannot get around in the posterior.
    """

    schema: Schema
    exchangeable: bool
    takes_arrays: bool = False
    partial_rows: bool = False
    numeric_target: bool = False
    on_device: bool = True
    form: str = ""
    lagged: tuple[int, ...] = ()
    rotates: bool = False
    ridges: str = "fit a smaller model, or give stronger priors"

    def prepare(self, data: Dataset) -> Self:
        """The same, knowing what else of the rows of the fit it needs."""
        return self

    def afresh(self, data: Dataset) -> Self:
        """The same priors over other rows of the same columns, what it learned of the last ones forgotten."""
        return copy(self)

    def essence(self) -> Mapping[str, np.ndarray] | None:
        """All that `prepare` took from the rows, so that a run can do without them; None where it cannot."""
        return {}

    def recalled(self, essence: Mapping[str, np.ndarray]) -> Self:
        """What `prepare` gave, from its `essence`."""
        return self

    @property
    @abstractmethod
    def describe(self) -> str:
        """Its size in a few words: `3 states`."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """The number of free parameters."""

    @abstractmethod
    def working_bytes(self, settings: Training) -> int:
        """Memory that a fit takes beside its rows."""

    @abstractmethod
    def train(self, data: Dataset, settings: Any, course: Course) -> Trained:
        """Fit it to the rows of a data set, by the update rule that `settings` are of.

        Args:
            data: the rows.
            settings: how to train.
            course: a checkpoint to go on from, and whom to tell.
        """

    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]] | None:
        """The shapes of `Params` without the first dimension, where the schema alone says them."""

    def params_fault(self, params: Params) -> str:
        """What stored parameters have that no training leaves, in words that name one; "" if nothing.

        Asked once the rows are known: some shapes follow from them.
        """
        return weights_fault(params, self.shapes() or {})

    @abstractmethod
    def rows(self, data: Dataset, device: str = "cpu") -> Any:
        """The rows of a data set as its capabilities take them."""

    def to(self, device: str) -> Self:
        """The same with what it computes by on a device, where that is not with the rows: see `rows`."""
        return self

    @abstractmethod
    def numbers(self, data: Dataset) -> int:
        """Numbers held for each draw of θ where all rows are looked at, by which draws are budgeted."""

    def needed(self) -> frozenset[str] | None:
        """The columns that later rows must have; None for all of the schema's but the target."""
        return frozenset() if self.partial_rows else None

    def remarks(self, data: Dataset) -> Sequence[str]:
        """What is to be known of what is said of later rows, a sentence each: that it is an extrapolation."""
        return ()

    def learned_from(self, data: Dataset, params: Params, settings: Training) -> Dataset:
        """The rows of the fit as training saw them, where it left some out."""
        return data

    def learned(self, params: Params) -> dict[str, Any]:
        """Fields of the model that were left to the data, as the parameters of a fit have them."""
        return {}

    def at(self, learned: Mapping[str, Any]) -> Self:
        """The same with these fields filled in."""
        return self

    def beyond(self) -> str:
        """What else may be done where a selection ends at the largest size, as the end of a sentence."""
        return ""

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """What is looked at beside convergence, starts and the posterior."""
        return ()


class Bayesian(Bound):
    """A bound model whose parameters θ have a posterior, rather than point estimates.

    Attributes:
        chains: of how many Markov chains `exact` draws are.
        identified: whether parameters mean the same in another fit to the same rows; those of a head on
            features that were learned do not.
        generates: whether its likelihood is a density, from which data can be drawn.
    """

    chains: int = 0
    identified: bool = True
    generates: bool = True

    def exact(self, params: Params) -> Draws | None:
        """Draws of the posterior itself, where training has made some."""
        return None

    @abstractmethod
    def calibrate(self, params: Params, data: Dataset, device: str, seed: int) -> Calibrated:
        """From the guide that training left to one whose draws have the right widths.

        Args:
            params: the guide that training left.
            data: the rows of the fit.
            device: where densities are evaluated.
            seed: of the fit.
        """

    def unchained(self, data: Dataset) -> str:
        """Why Markov chains cannot be had of its posterior, as the end of a sentence; "" if they can."""
        return "has no chains of its own: its draws are corrected, or moved, as far as they have to be"

    def chained(self, params: Params, data: Dataset, seed: int) -> Calibrated:
        """Draws of the posterior by Markov chains, where `unchained` says nothing against it.

        Args:
            params: the guide that training left, beside which they are kept.
            data: the rows of the fit.
            seed: of the fit.
        """
        raise Unsupported(self.unchained(data))

    @abstractmethod
    def restored(self, method: str, learned: Params, params: Params) -> Calibrated:
        """What `calibrate` gave, from its method and `Calibrated.params`.

        Args:
            method: `Calibrated.method`.
            learned: the guide that training left.
            params: `Calibrated.params`.
        """

    @abstractmethod
    def dataset_batch(self, data: Dataset, device: str = "cpu") -> Any:
        """All rows of a data set, ready to be scored by `log_evidence`."""

    @abstractmethod
    def draw(self, params: Params, draws: int) -> Draws:
        """θ from the guide, by torch's global generator."""

    @abstractmethod
    def log_q(self, theta: Draws, params: Params) -> Tensor:
        """Log density of the guide, (S,)."""

    @abstractmethod
    def log_prior(self, theta: Draws) -> Tensor:
        """Log density of the prior, (S,)."""

    def draws_fault(self, params: Params, theta: Draws) -> str:
        """What stored draws have that those of this model cannot, in words that name the site; "" if nothing.

        They have the sites and shapes of a draw of the guide, are finite, and the prior has a density there.

        Args:
            params: the guide that training left.
            theta: the draws.
        """
        with torch.random.fork_rng(devices=[]):
            like = self.draw(params, 1)
        if said := unlike(theta, like):
            return said
        return "the prior has no density at some draw" if self.log_prior(theta).isnan().any() else ""

    def log_scaled_prior(self, theta: Draws) -> Tensor:
        """Log density of what is the prior, and no part of the model, in a hierarchy, (S,)."""
        return self.log_prior(theta)

    @abstractmethod
    def log_likelihood(self, data: Dataset, theta: Draws, device: str = "cpu") -> Tensor:
        """Log density of the data by unit, in the user's units: (S, rows), or (S, sequences) of a chain.

        Args:
            data: the rows.
            theta: S draws of θ.
            device: where it is evaluated.
        """

    @abstractmethod
    def log_evidence(self, batch: Any, theta: Draws) -> Tensor:
        """Log density of all data of a batch, (S,)."""

    @abstractmethod
    def variables(self, theta: Draws) -> tuple[Variables, dict[str, Any]]:
        """θ in the user's units, and the coordinates of the dimensions."""

    @abstractmethod
    def replicate(self, data: Dataset, theta: Draws) -> np.ndarray:
        """Data sets of the same shape as `data`, one for each draw, (S, n, C), by torch's generator."""

    def simulated(self, data: Dataset, theta: Draws) -> Dataset:
        """A data set of the same shape that one draw of θ gives, by torch's generator.

        Args:
            data: what is not random, and which cells are missing.
            theta: S = 1.
        """
        values = self.replicate(data, theta)[0]
        return replace(data, values=np.where(np.isnan(data.values), np.nan, values))

    def open_fields(self) -> Mapping[str, Any]:
        """Fields of the prior that are left to the data, at values that say something without data."""
        return {}

    def functions(self, theta: Draws) -> tuple[Variables, dict[str, Any]]:
        """Functions of θ that do not depend on what states are called: by which fits may be compared."""
        return self.variables(theta)

    def pyro_data(self, data: Dataset) -> Any:
        """What its Pyro program takes: the data set."""
        return data

    def plate_nesting(self) -> int:
        """How deep the plates of its Pyro program are nested."""
        return 1


def weights_fault(params: Params, shapes: Mapping[str, Sequence[int]]) -> str:
    """What is missing, not of one fit, of another shape or not finite, in words; else ""."""
    for name, value in params.items():
        if value.dim() == 0 or len(value) != 1:
            return f"{name} is not of one fit"
    for name, shape in shapes.items():
        value = params.get(name)
        if value is None:
            return f"{name} is missing"
        if tuple(value.shape[1:]) != tuple(shape) or not value.isfinite().all():
            return f"{name} is not {tuple(shape)} finite numbers"
    return ""


def unlike(theta: Draws, like: Draws) -> str:
    """The first site of draws that is not one of `like`, of its type and shape, or not finite; "" if none."""
    for factor, site in sorted(
        {(f, s) for draws in (like, theta) for f, sites in draws.items() for s in sites}
    ):
        own, found = like.get(factor, {}).get(site), theta.get(factor, {}).get(site)
        if own is None or found is None:
            return f"{factor}/{site} {'is missing' if found is None else 'is of no site'}"
        if found.dtype != own.dtype or found.shape[1:] != own.shape[1:]:
            return f"{factor}/{site} has another shape or type than a draw of the guide"
        if not (found.isfinite().all() and own.isfinite().all()):
            return f"{factor}/{site} is not finite"
    return ""
