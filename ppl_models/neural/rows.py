"""Rows with the features that a network made of them."""

from typing import Any, NamedTuple

from torch import Tensor


class Source(NamedTuple):
    """Where rows come from, for a network whose weights are not known yet.

    Attributes:
        inputs: as the backbone takes them.
        unit: (n,) int64 which of the network's outputs each row has, increasing.
    """

    inputs: Any
    unit: Tensor


class Rows(NamedTuple):
    """Rows with their features.

    Attributes:
        Z: (n, d + 1) float64, a first column of ones, then standardised features; NaN of rows without any.
        y: (n,) float64 cells of the target as they are, NaN where it is missing.
        out: (M, n, O) outputs of the members, where it is these that predict.
        source: what a network is applied to, where it is draws of its weights that predict.
    """

    Z: Tensor
    y: Tensor
    out: Tensor | None = None
    source: Source | None = None

    def at(self, index: Tensor) -> "Rows":
        """Some of them, by indices (m,) int64."""
        return Rows(
            self.Z[index],
            self.y[index],
            None if self.out is None else self.out[:, index],
            None if self.source is None else self.source._replace(unit=self.source.unit[index]),
        )
