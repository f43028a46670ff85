"""What a local structure is: how the discrete latents of the rows hang together.

A structure has factors over its own parameters and infers the latents given all others. Whatever it does
is batched over R sets of parameters (restarts, posterior draws) that share the rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ppl_models.inference.factors import Factor, Theta
from ppl_models.kernels.rows import Rows
from ppl_models.kernels.workspace import Workspace

LogDensity = Callable[[slice, Tensor], object]
"""Writes log p(x_t | k) of a slice of the rows into the tensor (R, rows, K) it is given."""

Observe = Callable[[str, Tensor, Tensor], None]
"""Scores rows (..., C) given their latents as a part of a Pyro program: called as (label, rows, z)."""


class Marginals(NamedTuple):
    """Probabilities of the latents, row by row: given the rows so far and given all, (R, n, K)."""

    filtered: Float[Tensor, "r n k"]
    smoothed: Float[Tensor, "r n k"]


class Structure(ABC):
    """p(z | θ) of all rows, z_n one of K.

    Attributes:
        states: K.
        factors: over the structure's own parameters, by name.
        noun: what one of the K is called.
        exchangeable: whether rows are independent given θ.
        free_parameters: how many numbers θ has.
    """

    states: int
    factors: dict[str, Factor]
    noun: str
    exchangeable: bool

    @property
    @abstractmethod
    def free_parameters(self) -> int:
        """How many numbers θ has."""

    @abstractmethod
    def expect(
        self,
        density: LogDensity,
        natural: Mapping[str, Tensor],
        rows: Rows,
        consume: Callable[[slice, Tensor], None],
        work: Workspace,
        chunk: int | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Log evidence (R,) and the structure's expected statistics; `consume` gets the marginals.

        `consume` is called once for every row with a slice and its weighted marginals γ (R, rows, K), in no
        fixed order; and with `None` before it starts again from the first.
        """

    @abstractmethod
    def hard(self, labels: Tensor, rows: Rows, smooth: float) -> dict[str, Tensor]:
        """Statistics of given latents (R, n), a share `smooth` of each count spread over all K."""

    @abstractmethod
    def marginals(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Marginals:
        """Probabilities of the latents."""

    @abstractmethod
    def path(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """The most probable latents (R, n)."""

    @abstractmethod
    def draw_paths(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """Latents drawn from their posterior (R, n), by torch's global generator."""

    @abstractmethod
    def log_predictive(
        self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows
    ) -> tuple[Tensor, Tensor]:
        """Log p(x_t | x_{1:t−1}) (R, n), and the last probabilities of each sequence (R, S, K)."""

    @abstractmethod
    def simulate(self, theta: Theta, steps: int, now: Tensor | None = None) -> Tensor:
        """Draw latents (R, steps), from the start or going on from probabilities `now` (R, K)."""

    @abstractmethod
    def reorder(self, statistics: Mapping[str, Tensor], order: Tensor) -> dict[str, Tensor]:
        """Statistics with the K renamed: new i is the old `order[i]`."""

    @abstractmethod
    def permute(self, theta: Theta, order: Tensor) -> dict[str, Tensor]:
        """Draws of θ with the K renamed draw by draw: new i of draw s is the old `order[s, i]`."""

    @abstractmethod
    def occupied(self, statistics: Mapping[str, Tensor]) -> Tensor:
        """Expected rows of each of the K, (R, K)."""

    @abstractmethod
    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """The structure's parameters with the names of their dimensions after (draw,)."""

    @abstractmethod
    def describe(self, theta: Theta) -> dict[str, np.ndarray]:
        """What people want to know of each of the K beside its share, (K,)."""

    @abstractmethod
    def pyro_latents(self, theta: Theta, values: Tensor, lengths: list[int], observe: Observe) -> None:
        """The structure as a Pyro program whose latents can be summed out in parallel."""

    @abstractmethod
    def pyro_path(
        self, log_b: Tensor, natural: Mapping[str, Tensor], values: Tensor, lengths: list[int]
    ) -> None:
        """q(z) as a Pyro program, from the expected log density (n, K) of each row."""
