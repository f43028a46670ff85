"""What the likelihood of a family is: a density of cells given what a decoder puts out, all columns at once.

Cells u are in the units of the network, float32; log densities are of cells in the user's units, by the
constant log |du/dx|. Shapes: outputs (..., O), cells (B, D) or (..., B, D), where D columns take O outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from ppl_models.importing import lazy

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module

    from ppl_models.data import Column
else:
    torch, Module = lazy("torch"), object

FLOOR = 0.01
"""σ_min, in standard deviations of the column.

A constant column, or one that is reconstructed without error, would have unbounded density (Mattei &
Frellsen 2018, Leveraging the exact likelihood of deep latent variable models, NeurIPS,
https://arxiv.org/abs/1802.04826).
"""


class Likelihood(ABC, Module):
    """Columns of one family, as a torch module: what is learned of them are its parameters.

    It becomes a module when it is first made, so that a family's file can be read without torch.

    Attributes:
        name: of the family.
        outputs: O, how many numbers of the decoder it takes.
        inputs: how many numbers its cells are to the encoder.
        slots: how many numbers of `expect` each column has.
        shift, scale: u = (x − shift)/scale, (D,) float64.
        log_unit: log |du/dx| of each column, (D,); 0 where cells are discrete.
        limits: (D, 2) the values that it can describe, in the user's units, or None for all.
    """

    name: str
    shift: Tensor
    scale: Tensor
    log_unit: Tensor
    limits: Tensor | None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """An instance of the class that is a torch module as well."""
        return super().__new__(_module(cls))

    def __init__(self, name: str, shift: Sequence[float], scale: Sequence[float], dense: bool) -> None:
        super().__init__()
        self.name, self.outputs, self.inputs = name, len(shift), len(shift)
        self.width, self.slots = len(shift), (1,) * len(shift)
        self.register_buffer("limits", None, persistent=False)
        self._constant("shift", torch.tensor(shift, dtype=torch.float64))
        self._constant("scale", torch.tensor(scale, dtype=torch.float64))
        self._constant("log_unit", -self.scale.log().float() if dense else torch.zeros(self.width))

    def _constant(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    def _learned(self, value: float) -> Tensor:
        """A parameter of each column."""
        return torch.nn.Parameter(torch.full((self.width,), value))

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


class CountLikelihood(Likelihood):
    """Counts, whose outputs o are log means relative to the mean of the column: μ = x̄ e^o."""

    log_mean: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, name: str, columns: Sequence[Column]) -> None:
        super().__init__(name, [0.0] * len(columns), [1.0] * len(columns), dense=False)
        mean = torch.tensor([c.mean for c in columns])
        self._constant("log_mean", mean.clamp(min=1e-3).log().float())
        sd = torch.tensor([c.sd for c in columns]).float()
        self._constant("centre", mean.log1p().float())
        self._constant("spread", (sd / (1 + mean)).clamp(min=1e-3).float())  # of log1p(x), to first order

    def features(self, u: Tensor, seen: Tensor | None) -> Tensor:
        """log(1 + x), about standardised."""
        f = (u.log1p() - self.centre) / self.spread
        return f if seen is None else f * seen

    def expect(self, out: Tensor) -> Tensor:
        """x̄ e^o."""
        return (out.double() + self.log_mean).exp()


@cache
def _module(kind: type) -> type:
    from torch import nn

    if issubclass(kind, nn.Module):
        return kind
    return type(kind.__name__, (kind, nn.Module), {"__module__": kind.__module__, "__doc__": kind.__doc__})
