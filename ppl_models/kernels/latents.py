"""What is asked of the discrete latents of a batch of rows, given each row's log density in each state.

All of it is batched over R sets of natural parameters (restarts, posterior draws) that share the rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from ppl_models.kernels.rows import Rows
from ppl_models.kernels.workspace import Workspace

LogDensity = Callable[[slice, Tensor], object]
"""Writes log p(x_t | k) of a slice of the rows into the tensor (R, rows, K) it is given."""

Consume = Callable[[slice | None, Tensor | None], None]
"""Takes a slice of the rows with their weighted marginals γ (R, rows, K): every row once, in no fixed order;
and `None` twice, which takes back all that it was given so far."""


SAFE = -600.0
"""Scaled probabilities below e⁻⁷⁴⁵ are lost. That is made good, to rounding, by transitions into their state
from any other, if none is less probable than e⁻⁶⁰⁰; else recursions over time must run in log space."""


class Marginals(NamedTuple):
    """Probabilities of the latents, row by row: given the rows so far and given all, (R, n, K)."""

    filtered: Float[Tensor, "r n k"]
    smoothed: Float[Tensor, "r n k"]


class Latents(ABC):
    """p(z | x) for one kind of dependence between the rows' latents z_n, each one of K.

    Attributes:
        exchangeable: whether rows are independent given the parameters.
        blocks: whether compiled blocks of rows may serve a chain of them.
    """

    exchangeable: bool
    blocks: bool = True

    @abstractmethod
    def expect(
        self,
        density: LogDensity,
        natural: Mapping[str, Tensor],
        rows: Rows,
        consume: Consume,
        work: Workspace,
        chunk: int | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Log evidence (R,) and expected statistics of the latents; `consume` gets the marginals."""

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
