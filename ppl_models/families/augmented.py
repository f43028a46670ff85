"""Columns whose cells have a latent number of their own, given which they are conjugate.

    p(x | θ) = ∫ p(x, u | θ) du,    p(x, u | θ) = h(x, u) exp ⟨t(x, u), η(θ)⟩

With q(θ) fixed, the best q(u) ∝ h exp ⟨t, E[η]⟩ is known, so that the local step has two more lines: the log
density of a cell is log ∫ h exp ⟨t, η⟩ du, and its statistics are E_q(u)[t]. Both are functions of η, and the
second is the gradient of the first (Fisher's identity), also at a point θ, where the first is the exact
density (Beal 2003, ch. 2, https://cse.buffalo.edu/faculty/mbeal/thesis/). They are not linear in features of
x: a missing cell adds nothing to either.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from ppl_models.families.base import Emission, Features, columns_of
from ppl_models.kernels.workspace import Workspace


class AugmentedColumns(Emission):
    """Independent columns given the state, statistics (K, D, J) with the count of observed cells first.

    Attributes:
        centre: (D,) taken off each column before anything else.
        scale: (D,) each column is then divided by it.
        terms: J.
    """

    linear_density = False
    terms: int

    def __init__(self, columns: tuple[int, ...], states: int, centre: Tensor, scale: Tensor) -> None:
        self.columns, self.states = columns, states
        self.centre, self.scale = centre, scale

    @abstractmethod
    def cells(self, x: Tensor, natural: Tensor) -> Tensor:
        """Log ∫ h exp ⟨t, η⟩ du of standardised cells, less what does not depend on η: `log_base`.

        Args:
            x: (n, 1, D).
            natural: (R, 1, K, D, J).

        Returns:
            (R, n, K, D).
        """

    @abstractmethod
    def expected(self, x: Tensor, natural: Tensor) -> list[Tensor]:
        """E[t_j], j > 0, of standardised cells, each (R, n, K, D); arguments as for `cells`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, D, J)."""
        return (self.states, len(self.columns), self.terms)

    def features(self, values: Tensor, take: Workspace, key: str, masked: bool | None = None) -> Features:
        """Standardised cells, and which of them are there, (n, 2 D)."""
        x = columns_of(values, self.columns)
        n, D = x.shape
        matrix = take.take(key, (n, 2 * D), values)
        missing = torch.isnan(x)
        torch.sub(x, self.centre.to(x), out=matrix[:, :D]).div_(self.scale.to(x))
        matrix[:, :D].masked_fill_(missing, 0.0)
        matrix[:, D:].copy_(~missing)
        return Features(matrix)

    def _split(self, features: Features) -> tuple[Tensor, Tensor]:
        x, seen = features.matrix.split(len(self.columns), 1)
        return x.unsqueeze(1), seen.unsqueeze(1)  # (n, 1, D)

    def log_density(self, features: Features, natural: Tensor, out: Tensor, add: bool) -> None:
        """The sum over the observed cells of a row, written to `out` (R, n, K) or added."""
        x, seen = self._split(features)
        found = (self.cells(x, natural.unsqueeze(1)) * seen).sum(-1)
        if add:
            out.add_(found)
        else:
            out.copy_(found)

    def statistics(self, features: Features, gamma: Tensor, natural: Tensor) -> Tensor:
        """Σ_n γ_nk E[t(x_n, u)], (R, K, D, J)."""
        x, seen = self._split(features)
        weight = gamma.unsqueeze(-1) * seen  # (R, n, K, D)
        parts = [torch.ones_like(weight), *self.expected(x, natural.unsqueeze(1))]
        return torch.stack([(weight * part).sum(1) for part in parts], -1)
