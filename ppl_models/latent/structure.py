"""What a local structure is: how the discrete latents of the rows hang together.

A structure has factors over its own parameters, and names the kind of latents (`ppl_models.kernels.latents`)
that infers them given all parameters. Whatever it does is batched over R sets of parameters (restarts,
posterior draws) that share the rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from ppl_models.inference.factors import Factor, Theta
from ppl_models.kernels.latents import Latents, LogDensity, Marginals
from ppl_models.kernels.rows import Rows
from ppl_models.latent.topology import Topology

Observe = Callable[[str, Tensor, Tensor], None]
"""Scores rows (..., C) given their latents as a part of a Pyro program: called as (label, rows, z)."""


class Structure(ABC):
    """p(z | θ) of all rows, z_n one of K.

    Attributes:
        states: K.
        factors: over the structure's own parameters, by name.
        noun: what one of the K is called.
        latents: infers them.
        free_parameters: how many numbers θ has.
        topology: which of them may begin and follow, None for all.
    """

    topology: Topology | None = None
    states: int
    factors: dict[str, Factor]
    noun: str
    latents: Latents

    @property
    @abstractmethod
    def free_parameters(self) -> int:
        """How many numbers θ has."""

    @property
    def told(self) -> bool:
        """Whether the K differ by what may precede or follow them, so that they may not change places."""
        return False

    @property
    def enters(self) -> bool:
        """Whether rows may be taken from the middle of a sequence as if they were one."""
        return True

    @property
    def exchangeable(self) -> bool:
        """Whether rows are independent given θ."""
        return self.latents.exchangeable

    @abstractmethod
    def hard(self, labels: Tensor, rows: Rows, smooth: float) -> dict[str, Tensor]:
        """Statistics of given latents (R, n), a share `smooth` of each count spread over all K."""

    def marginals(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Marginals:
        """Probabilities of the latents."""
        return self.latents.marginals(density, natural, rows)

    def path(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """The most probable latents (R, n)."""
        return self.latents.path(density, natural, rows)

    def draw_paths(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """Latents drawn from their posterior (R, n), by torch's global generator."""
        return self.latents.draw_paths(density, natural, rows)

    def log_predictive(
        self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows
    ) -> tuple[Tensor, Tensor]:
        """Log p(x_t | x_{1:t−1}) (R, n), and the last probabilities of each sequence (R, S, K)."""
        return self.latents.log_predictive(density, natural, rows)

    def entered(self, filtered: Tensor, theta: Theta, rows: Rows) -> Tensor:
        """p(z_n | rows before n) from p(z_n | rows up to n), (R, n, K): of independent rows p(z_n)."""
        return theta["weight"].unsqueeze(1).expand(filtered.shape)

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
