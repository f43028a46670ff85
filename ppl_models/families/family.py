"""What a family is to the rest of the package: its two sides, its prior, and the columns it describes.

A family of distributions has a conjugate side, the emission of a mixture or hidden Markov model, and a
network side, the likelihood of a column given what a decoder puts out; it may lack one of them. All that is
said of a family is said in its file, by one `Family` that `ppl_models.families.registry` lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ppl_models.importing import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from ppl_models.data import Column, Kind
    from ppl_models.families.base import Emission
    from ppl_models.families.likelihood import Likelihood
else:
    torch = lazy("torch")

Side = Literal["emission", "likelihood"]
"""The field of a model that names families, and so which side of them is meant."""


@dataclass(frozen=True)
class Prior:
    """Fields of the prior of a family, which become fields of every model that has emissions.

    A number that must be positive says so by `Positive()` in its annotation.
    """


@dataclass(frozen=True)
class Group:
    """The columns of a table that one family describes.

    Attributes:
        index: their positions in the schema.
        columns: what they are.
        correlation: of these columns with one another, where the schema has it.
    """

    index: tuple[int, ...]
    columns: tuple[Column, ...]
    correlation: Sequence[Sequence[float]] = ()

    def constants(self, field: str) -> Tensor:
        """A field of each column, (D,) float64."""
        return torch.tensor([getattr(column, field) for column in self.columns], dtype=torch.float64)

    def positive_means(self) -> Tensor:
        """The mean of each column, (D,), 1 where it is not positive: what rates are relative to."""
        mean = self.constants("mean")
        return torch.where(mean > 0, mean, torch.ones_like(mean))


@dataclass(frozen=True)
class Conjugate:
    """The side of mixtures and hidden Markov models.

    Attributes:
        density: in words and symbols, of a cell given its state; for documentation.
        prior: the same of its parameters.
        kinds: of columns that it describes.
        build: (columns, K, fields of priors) -> emission.
        read_as: the kind that a column of another kind must be read as when the family is named for it.
        correlated: whether the prior refers to the correlations of the data, given its fields.
        lagged: (columns, K, fields of priors, position of the first of the columns of the row before) ->
            emission given the row before, where there is such a one.
    """

    density: str
    prior: str
    kinds: tuple[Kind, ...]
    build: Callable[[Group, int, Any], Emission]
    read_as: Kind | None = None
    correlated: Callable[[Any], bool] = lambda priors: False
    lagged: Callable[[Group, int, Any, int], Emission] | None = None


@dataclass(frozen=True)
class Network:
    """The side of models whose decoder is a neural network.

    Attributes:
        density: in words and symbols, of a cell given outputs o; for documentation.
        kinds: of columns that it describes.
        build: (columns, whether they are the pixels of an image) -> likelihood.
        read_as: the kind that a column of another kind must be read as when the family is named for it.
        pixels: whether it is what the pixels of an image get if nothing is named for them.
    """

    density: str
    kinds: tuple[Kind, ...]
    build: Callable[[Sequence[Column], bool], Likelihood]
    read_as: Kind | None = None
    pixels: Callable[[Sequence[Column]], bool] = lambda columns: False


@dataclass(frozen=True)
class Family:
    """A family of distributions.

    Attributes:
        name: as the user writes it.
        conjugate: its side in mixtures and hidden Markov models, if it has one.
        network: its side in models with a decoder, if it has one.
        fields: the dataclass of the fields of its prior.
        auto: the kind of column that it is chosen for where none is named.
        lacks: what a column would have to have in order to be described ("values positive"); "" if it is.
        instead: the family to try where a check finds `dispersion`, `underdispersion`, `skewness`, `tails` or
            `zeros` that this one does not have.
        of_counts: whole numbers x (u,) and how often each occurs (u,) -> their log likelihood at its maximum,
            by which families of counts are compared; and how many parameters it has.
    """

    name: str
    conjugate: Conjugate | None = None
    network: Network | None = None
    fields: type[Prior] = Prior
    auto: Kind | None = None
    lacks: Callable[[Column], str] = lambda column: ""
    instead: Mapping[str, str] = field(default_factory=dict)
    of_counts: Callable[[np.ndarray, np.ndarray], tuple[float, int]] | None = None

    def side(self, side: Side) -> Conjugate | Network | None:
        """One of the two."""
        return self.conjugate if side == "emission" else self.network
