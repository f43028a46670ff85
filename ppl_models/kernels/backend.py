"""What the E step is asked for, and what it asks of an emission in turn.

A backend serves one batch of rows under R sets of natural parameters η at a time, by the name of the factor
they belong to: log π of the weights, log π and log A of a chain, and of every emission the η_k of its density

    log p(x_n | k) = ⟨t(x_n), η_k⟩ + log h(x_n).

It knows t(x_n) as a row of numbers that the emission makes, its features, and leaves log h to the caller.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from torch import Tensor

from ppl_models.kernels.latents import Latents, LogDensity
from ppl_models.kernels.rows import Rows
from ppl_models.kernels.workspace import Workspace

CACHE = 32 * 2**20
"""Bytes of features that are kept between steps; beyond it they are made again, chunk by chunk."""


class Emission(Protocol):
    """What a backend asks of a family of densities over some columns.

    Features are an object with a `matrix` (n, F) and views `rows(slice)`, and of no further interest here.
    """

    @property
    def name(self) -> str:
        """Of the factor, by which its parameters and statistics go."""
        ...

    @property
    def columns(self) -> tuple[int, ...]:
        """The columns of the rows that it speaks of."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its statistics, (K, ...)."""
        ...

    @property
    def linear_density(self) -> bool:
        """Whether the log density of complete rows is linear in the features."""
        ...

    @property
    def masks_cells(self) -> bool:
        """Whether missing cells leave the log density linear in the features."""
        ...

    @property
    def squares(self) -> bool:
        """Whether the features of complete rows are some numbers followed by their squares."""
        ...

    def features(self, values: Tensor, take: Workspace, key: str, masked: bool | None = None) -> Any:
        """Of rows (n, C), NaN where missing, in memory taken by `key`; with room for gaps if `masked`."""
        ...

    def log_density(self, features: Any, natural: Tensor, out: Tensor, add: bool) -> None:
        """Write ⟨t(x), η_k⟩ to `out` (R, n, K), or add it."""
        ...

    def statistics(self, features: Any, gamma: Tensor, natural: Tensor) -> Tensor:
        """Σ_n γ_nk E[t(x_n) | k], (R, K, ...)."""
        ...


class LinearEmission(Emission, Protocol):
    """One whose log density is linear in its features: what compiled passes ask for."""

    def linear(self, natural: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """W (R, K, F) and c (R, K) of ⟨t(x_n), η_k⟩ = c_k + Σ_f W_kf T_nf, for `width` F."""
        ...

    def collect(self, sums: Tensor, count: Tensor) -> Tensor:
        """Statistics (R, K, ...) from Σ_n γ_nk T_n (R, K, F) and Σ_n γ_nk (R, K)."""
        ...


class Problem:
    """Rows, what the emissions make of them, and the kind of latents: all that a backend works on.

    Args:
        emissions: the families, over columns that do not overlap.
        latents: how the rows' latents depend on one another.
        values: (n, C), NaN where missing.
        rows: the sequences and weights.
        keep: whether features are kept between calls, all at once.
    """

    def __init__(
        self, emissions: Sequence[Emission], latents: Latents, values: Tensor, rows: Rows, keep: bool
    ) -> None:
        self.emissions, self.latents, self.values, self.rows = tuple(emissions), latents, values, rows
        self.keep = keep
        self.states = self.emissions[0].shape[0]
        self.work = Workspace()
        self._kept: list[Any] | None = None
        self._made: dict[int, tuple[slice, Any]] = {}

    @property
    def linear_emissions(self) -> tuple[LinearEmission, ...]:
        """The emissions, for a backend that was chosen as all of them are linear."""
        return cast("tuple[LinearEmission, ...]", self.emissions)

    def features(self, index: int, at: slice) -> Any:
        """Features of some rows by one emission: views of what is kept, or made now, until the next call."""
        if self.keep:
            if self._kept is None:
                self._kept = [e.features(self.values, Workspace(), e.name) for e in self.emissions]
            return self._kept[index].rows(at)
        made = self._made.get(index)
        if made is None or made[0] != at:  # density and statistics ask for the same rows one after the other
            emission = self.emissions[index]
            made = (at, emission.features(self.values[at], self.work, emission.name))
            self._made[index] = made
        return made[1]

    def density(self, natural: Mapping[str, Tensor]) -> LogDensity:
        """⟨t(x_n), η_k⟩ over all emissions, missing cells integrated out."""

        def write(at: slice, out: Tensor) -> None:
            for i, emission in enumerate(self.emissions):
                emission.log_density(self.features(i, at), natural[emission.name], out, add=i > 0)

        return write


class Backend(ABC):
    """The E step of one batch of rows.

    Attributes:
        problem: what it works on.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @property
    def held(self) -> int:
        """Numbers that are held at once for each parameter set."""
        return self.problem.rows.steps * self.problem.states

    @abstractmethod
    def expect(self, natural: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Log evidence Σ_n w_n log p(x_n | …) − log h (R,), and expected statistics of every factor.

        Raises:
            DataError: if a row has probability zero in every state.
        """

    @abstractmethod
    def evidence(self, natural: Mapping[str, Tensor]) -> Tensor:
        """The log evidence alone, (R,).

        Raises:
            DataError: if a row has probability zero in every state.
        """


def width(emissions: Sequence[Emission]) -> int:
    """Features of a row, at most."""
    return sum(math.prod(e.shape[1:]) for e in emissions)


def chunk(parameter_sets: int, states: int, features: int) -> int:
    """Rows that may be worked on at once within the bytes that are kept."""
    return max(256, CACHE // (8 * (parameter_sets * (3 * states + 4) + 2 * features)))


def missing_in(emission: Emission, values: Tensor) -> bool:
    """Whether any cell of the emission's columns is missing: their sum is then not a number."""
    columns = emission.columns
    adjacent = columns == tuple(range(columns[0], columns[-1] + 1))
    cells = values[:, columns[0] : columns[-1] + 1] if adjacent else values[:, list(columns)]
    return bool(cells.sum().isnan())
