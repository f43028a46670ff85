"""Likelihoods of cells given what a network puts out, one module for all columns of a family.

Cells u are in the units of the network, float32; log densities are of cells in the user's units, by the
constant log |du/dx|.

Shapes: outputs (..., O), cells (B, D) or (..., B, D), where D columns take O outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

FLOOR = 0.01
"""The least scale of a column given the outputs, in standard deviations of the column.

A constant column, or one that is reconstructed without error, would have unbounded density (Mattei & Frellsen
2018, Leveraging the exact likelihood of deep latent variable models, NeurIPS,
https://arxiv.org/abs/1802.04826).
"""


class Likelihood(nn.Module, ABC):
    """Columns of one family.

    Attributes:
        name: of the family.
        outputs: O, how many numbers of the decoder it takes.
        inputs: how many numbers its cells are to the encoder.
        shift, scale: u = (x − shift)/scale, (D,) float64.
        log_unit: log |du/dx| of each column, (D,); 0 where cells are discrete.
        slots: how many numbers of `expect` each column takes.
        limits: (D, 2) the values that it can describe, in the user's units, or None for all.
    """

    name: str
    shift: Tensor
    scale: Tensor
    log_unit: Tensor
    limits: Tensor | None

    def __init__(self, name: str, shift: Sequence[float], scale: Sequence[float], dense: bool) -> None:
        super().__init__()
        self.name, self.outputs, self.inputs = name, len(shift), len(shift)
        self.width = len(shift)
        self.slots = (1,) * len(shift)
        self.register_buffer("limits", None, persistent=False)
        self._constant("shift", torch.tensor(shift, dtype=torch.float64))
        self._constant("scale", torch.tensor(scale, dtype=torch.float64))
        self._constant("log_unit", -self.scale.log().float() if dense else torch.zeros(self.width))

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        """Cells in the units of the network, float32, from those of the user, float64."""
        return ((x - self.shift) / self.scale).float()

    def features(self, u: Tensor, seen: Tensor | None) -> Tensor:
        """Cells as the encoder takes them; those that are missing are 0 in `u`, and must be 0 here."""
        return u

    def noise(self) -> list[float] | None:
        """The sd of each column given the latents, in the user's units, where one number says it."""
        return None

    @abstractmethod
    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """Log density of each cell in the units of the network, (..., D)."""

    def total(self, out: Tensor, u: Tensor) -> Tensor:
        """The sum of `log_prob` over all cells: where one kernel does both, it says so here."""
        return self.log_prob(out, u).sum()

    @abstractmethod
    def expect(self, out: Tensor) -> Tensor:
        """Expected values in the user's units, probabilities of codes or of 1 for labels: (..., O)."""

    @abstractmethod
    def sample(self, out: Tensor) -> Tensor:
        """Cells in the user's units, codes for labels, by torch's global generator: (..., D) float64."""

    @abstractmethod
    def distribution(self, out: Tensor) -> Any:
        """The same density by Pyro, of cells in the user's units."""

    def observed(self, u: Tensor) -> Tensor:
        """Cells as `distribution` takes them."""
        return self.back(u)

    def back(self, u: Tensor) -> Tensor:
        """From the units of the network to those of the user, float64."""
        return u.double() * self.scale + self.shift
