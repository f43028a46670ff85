"""Rows of features as a regression takes them, and a prior around the network's own output layer."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ppl_models.regression.design import Block
from ppl_models.regression.priors import Expected, NormalPrior


@dataclass(eq=False)
class FeatureRows:
    """Rows of features in blocks: what `ppl_models.regression` asks of a batch.

    Attributes:
        Z: (n, d + 1), a first column of ones.
        y: (n,) int64 codes, or float64 numbers as the head takes them.
        weight: (n,) or None.
        scale: what each row's log likelihood is multiplied with.
        size: rows of a block.
        shares: none: all rows are with this process.
    """

    Z: Tensor
    y: Tensor
    weight: Tensor | None = None
    scale: float = 1.0
    size: int = field(default=4_096)
    shares: None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def count(self) -> int:
        """The number of blocks."""
        return -(-len(self.y) // self.size)

    def blocks(self, which: range | None = None) -> Iterator[Block]:
        """Some blocks, or all, in order."""
        for i in range(self.count) if which is None else which:
            at = slice(i * self.size, (i + 1) * self.size)
            yield Block(self.Z[at], self.y[at], None if self.weight is None else self.weight[at])

    def at(self, index: Tensor) -> "FeatureRows":
        """Some of them, by indices (m,) int64."""
        weight = None if self.weight is None else self.weight[index]
        return FeatureRows(self.Z[index], self.y[index], weight, self.scale, self.size)

    def some(self, rows: int, seed: int = 0) -> "FeatureRows":
        """A random subset of the rows, scaled up to stand for all of them."""
        chosen = torch.from_numpy(np.sort(np.random.default_rng(seed).choice(len(self), rows, replace=False)))
        found = self.at(chosen)
        if found.weight is None or self.weight is None:
            found.scale *= len(self) / rows
        else:
            found.scale *= float(self.weight.sum() / found.weight.sum().clamp_min(1e-300))
        return found

    def mean(self, each: Tensor) -> float:
        """The mean of numbers (n,) by the weights."""
        return float(each.mean() if self.weight is None else (each @ self.weight) / self.weight.sum())


@dataclass(frozen=True, eq=False)
class Centred:
    """A prior around another point than 0.

    Attributes:
        prior: around 0.
        at: the point, (p, K).
    """

    prior: NormalPrior
    at: Tensor

    def expect(self, mean: Tensor, cov: Tensor) -> Expected:
        """That of the difference."""
        return self.prior.expect(mean - self.at, cov)

    def log_prob(self, b: Tensor) -> Tensor:
        """Log p(b)."""
        return self.prior.log_prob(b - self.at)

    def majoriser(self, b: Tensor) -> Tensor:
        """That of the difference."""
        return self.prior.majoriser(b - self.at)
