"""Rows with the features that a network made of them."""

from typing import NamedTuple

from torch import Tensor


class Rows(NamedTuple):
    """Rows with their features.

    Attributes:
        Z: (n, d + 1) float64, a first column of ones, then standardised features; NaN of rows without any.
        y: (n,) float64 cells of the target as they are, NaN where it is missing.
        out: (M, n, O) outputs of the members, where it is these that predict.
    """

    Z: Tensor
    y: Tensor
    out: Tensor | None = None

    def at(self, index: Tensor) -> "Rows":
        """Some of them, by indices (m,) int64."""
        return Rows(self.Z[index], self.y[index], None if self.out is None else self.out[:, index])
