"""What a model is once it knows its columns: densities and draws of θ, whatever the update rule."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset, Schema

Theta = Mapping[str, Tensor]
"""Values of the sites of a factor."""

Draws = Mapping[str, Theta]
"""θ of every factor, each value (S, ...)."""

Params = Mapping[str, Tensor]
"""What was learned: tensors with one leading dimension of restarts, 1 once training is over."""

Variables = dict[str, tuple[tuple[str, ...], np.ndarray]]
"""Names of parameters in the user's units -> the names of their dimensions after (draw,), and values."""


class Bound(ABC):
    """A model over the columns of a table.

    Attributes:
        schema: the columns.
        kind: a key of `ppl_models.kinds.KINDS`: `chain`, `mixture` or `regression`.
        exchangeable: whether rows are independent given θ.
    """

    schema: Schema
    kind: str
    exchangeable: bool

    def learn(self, data: Dataset) -> "Bound":
        """The same, knowing what else of the rows of the fit it needs."""
        return self

    @property
    @abstractmethod
    def describe(self) -> str:
        """Its size in a few words: `3 states`."""

    @abstractmethod
    def working_bytes(self, restarts: int) -> int:
        """Memory that a fit takes beside its rows."""

    @abstractmethod
    def dataset_batch(self, data: Dataset, device: str = "cpu") -> Any:
        """All rows of a data set, ready to be scored."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """The number of free parameters."""

    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]] | None:
        """The shapes of `Params` without the first dimension, where the schema alone says them."""


class Bayesian(Bound):
    """A bound model whose parameters θ have a posterior, rather than point estimates.

    Attributes:
        chains: of how many Markov chains `exact` draws are.
    """

    chains: int = 0

    def exact(self, params: Params) -> Draws | None:
        """Draws of the posterior itself, where training has made some."""
        return None

    @abstractmethod
    def draw(self, params: Params, draws: int) -> Draws:
        """θ from the guide, by torch's global generator."""

    @abstractmethod
    def log_q(self, theta: Draws, params: Params) -> Tensor:
        """Log density of the guide, (S,)."""

    @abstractmethod
    def log_prior(self, theta: Draws) -> Tensor:
        """Log density of the prior, (S,)."""

    @abstractmethod
    def log_likelihood(self, data: Dataset, theta: Draws, device: str = "cpu") -> Tensor:
        """Log density of the data by unit, in the user's units: (S, rows), or (S, sequences) of a chain."""

    @abstractmethod
    def log_evidence(self, batch: Any, theta: Draws) -> Tensor:
        """Log density of all data of a batch, (S,)."""

    @abstractmethod
    def variables(self, theta: Draws) -> tuple[Variables, dict[str, Any]]:
        """θ in the user's units, and the coordinates of the dimensions."""

    @abstractmethod
    def replicate(self, data: Dataset, theta: Draws) -> np.ndarray:
        """Data sets of the same shape as `data`, one for each draw, (S, n, C), by torch's generator."""


class Guide(Protocol):
    """An approximation of the posterior that can be drawn from and scored."""

    def draw(self, draws: int) -> Draws:
        """θ, `draws` of them, by torch's global generator."""
        ...

    def log_prob(self, theta: Draws) -> Tensor:
        """Log q(θ), (S,)."""
        ...


class Learned:
    """The guide as training left it."""

    def __init__(self, bound: Bayesian, params: Params) -> None:
        self.bound = bound
        self.params = {key: value.cpu() for key, value in params.items()}

    def draw(self, draws: int) -> Draws:
        """θ from the guide of the model."""
        with torch.no_grad():
            return self.bound.draw(self.params, draws)

    def log_prob(self, theta: Draws) -> Tensor:
        """Its log density."""
        return self.bound.log_q(theta, self.params)


def groups(total: int, each: int, budget: int = 2**23):
    """Slices of `total` draws such that `each` numbers a draw stay within a budget of numbers."""
    size = max(1, min(total, budget // max(each, 1)))
    for lo in range(0, total, size):
        yield slice(lo, min(lo + size, total))


def on_device(theta: Draws, device: torch.device | str) -> dict[str, dict[str, Tensor]]:
    """The draws on a device."""
    return {name: {site: v.to(device) for site, v in values.items()} for name, values in theta.items()}


def select_draws(theta: Draws, at: slice | Tensor) -> dict[str, Theta]:
    """Some of the draws."""
    return {name: {site: v[at] for site, v in values.items()} for name, values in theta.items()}


def number_of(theta: Draws) -> int:
    """How many draws."""
    return next(iter(next(iter(theta.values())).values())).shape[0]


def plain(name: str) -> str:
    """A column's name as a netCDF variable's."""
    return re.sub(r"[/\x00-\x1f\x7f]", "_", name).strip() or "column"
