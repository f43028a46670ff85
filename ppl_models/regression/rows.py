"""The rows of a regression in blocks that fit a cache: [1, Z], classes and weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.distributed import Shares
from ppl_models.regression.design import BLOCK, Block, Design

CACHE = 2**28
"""Bytes of [1, Z] that are kept between passes; beyond that it is made again, block by block."""


class Gram(NamedTuple):
    """Of rows with weights w: Σ w z̃ z̃ᵀ (p + 1, p + 1), Σ w z̃ y (p + 1,), Σ w y² and Σ w."""

    square: Tensor
    cross: Tensor
    target: Tensor
    count: Tensor


@dataclass(eq=False)
class Batch:
    """Rows of a table that stand for Σ w · scale observations.

    Attributes:
        design: how the table becomes Z.
        data: the table.
        index: (N,) increasing indices of the rows.
        class_weight: (C,) factor of each class, or None.
        scale: N/B: what each row's log likelihood is multiplied with.
        shares: which processes have a part of the rows, if there are several.
    """

    design: Design
    data: Dataset
    index: np.ndarray
    class_weight: np.ndarray | None = None
    scale: float = 1.0
    _kept: dict[int, Block] = field(default_factory=dict)
    shares: Shares | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def width(self) -> int:
        """P + 1."""
        return len(self.design.names) + 1

    @property
    def _size(self) -> int:
        return min(BLOCK, max(1_024, len(self.index) // 8 + 1))  # enough blocks to share out

    @property
    def count(self) -> int:
        """The number of blocks."""
        return -(-len(self.index) // self._size)

    def blocks(self, which: range | None = None) -> Iterator[Block]:
        """Some blocks, or all, in order; kept after the first time where all of them are small."""
        for i in range(self.count) if which is None else which:
            block = self._kept.get(i)
            if block is None:
                block = self._block(self.index[i * self._size : (i + 1) * self._size])
                if 8 * len(self.index) * self.width <= CACHE:
                    self._kept[i] = block
            yield block

    def _block(self, index: np.ndarray) -> Block:
        first, last = int(index[0]), int(index[-1]) + 1
        whole = last - first == len(index)
        values = self.data.values[first:last] if whole else self.data.values[index]
        weight = getattr(self.data, "weight", None)
        if weight is not None:
            weight = weight[first:last] if whole else weight[index]
        if self.class_weight is not None:
            own = self.class_weight[values[:, self.design.target].astype(np.int64)]
            weight = own * (1.0 if weight is None else weight)
        return self.design.block(values, self.design.standardised(values), weight)

    @cached_property
    def gram(self) -> Gram:
        """Σ w z̃ z̃ᵀ and the like: all that a normal target with a linear mean asks of the rows."""
        if self.shares is not None:
            return Gram(**self.shares.sum("gram", {}))
        found: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        for block in self.blocks():
            y = block.y if block.offset is None else block.y - block.offset
            Z = block.Z if block.weight is None else block.Z * block.weight[:, None]
            count = torch.tensor(float(len(y))) if block.weight is None else block.weight.sum()
            own = (
                Z.mT @ block.Z,
                Z.mT @ y,
                (y**2 if block.weight is None else block.weight * y**2).sum(),
                count,
            )
            found = own if found is None else tuple(a + b for a, b in zip(found, own, strict=True))  # type: ignore[assignment]
        assert found is not None
        return Gram(*(part * self.scale for part in found))

    @cached_property
    def weight_sum(self) -> float:
        """Σ w · scale: the number of rows that they stand for."""
        blocks = list(self.blocks())
        total = sum(float(len(b.y) if b.weight is None else b.weight.sum()) for b in blocks)
        return total * self.scale

    @property
    def important(self) -> bool:
        """Whether the weights of its rows are not counts, and differ."""
        weight = getattr(self.data, "weight", None)
        if self.class_weight is not None:
            seen = self.class_weight[self.class_weight > 0]
            if np.ptp(seen) > 1e-9 * seen.max():
                return True
        if weight is None or self.data.schema.weights_are != "importance":
            return False
        own = weight[self.index]
        return bool(np.ptp(own) > 1e-9 * own.max())

    def numbers(self) -> Iterator[Tensor]:
        """How many rows of the data a row is, block by block: its weight, where that is a count."""
        weight = getattr(self.data, "weight", None)
        counts = weight is not None and self.data.schema.weights_are != "importance"
        for i in range(self.count):
            index = self.index[i * self._size : (i + 1) * self._size]
            yield torch.from_numpy(np.array(weight[index]) if counts else np.ones(len(index)))  # type: ignore[index]

    def effective(self) -> float:
        """(Σ w)² / Σ (w² / m): rows that would know as much if they all weighed the same (Kish)."""
        total = square = 0.0
        for block, number in zip(self.blocks(), self.numbers(), strict=True):
            w = number if block.weight is None else block.weight
            total, square = total + float(w.sum()), square + float((w**2 / number).sum())
        return total**2 / square

    def some(self, rows: int, seed: int = 0) -> "Batch":
        """A random subset of the rows, scaled up to stand for all of them."""
        chosen = np.sort(np.random.default_rng(seed).choice(len(self.index), rows, replace=False))
        factor = self._total(self.index) / max(self._total(self.index[chosen]), 1e-300)
        return replace(self, index=self.index[chosen], scale=self.scale * factor, _kept={}, shares=None)

    def parts(self, number: int) -> Iterator[Block]:
        """The rows in so many parts, one after another."""
        for index in np.array_split(self.index, number):
            yield joined(list(replace(self, index=index, _kept={}, shares=None).blocks()))

    def _total(self, index: np.ndarray) -> float:
        weight = getattr(self.data, "weight", None)
        return float(len(index) if weight is None else weight[index].sum())

    def whole(self) -> Block:
        """All rows in one block; the weights hold `scale`."""
        parts = list(self.blocks())
        ones = [torch.ones(len(b.y)).to(b.Z) if b.weight is None else b.weight for b in parts]
        return joined(parts)._replace(weight=torch.cat(ones) * self.scale)


def joined(parts: Sequence[Block]) -> Block:
    """Blocks as one."""
    return Block(*(None if v[0] is None else torch.cat(v) for v in zip(*parts, strict=True)))  # type: ignore[arg-type]


def held(block: Block) -> Batch:
    """Rows of which there is no more than their block."""
    found = Batch(None, None, np.arange(len(block.y)))  # type: ignore[arg-type]
    size = found._size
    found._kept |= {i: block.part(slice(i * size, (i + 1) * size)) for i in range(found.count)}
    return found


def all_rows(design: Design, data: Dataset, balanced: bool) -> Batch:
    """The rows that a fit uses.

    Args:
        design: made from this table.
        data: the table.
        balanced: weigh every class by Σ w / (C Σ_{class} w), so that all weigh the same in total: as many
            rows
            as are effective, C² / Σ_c (1 / Σ_{class c} w) (Kish; see `ppl_models.data.weights`).
    """
    index = np.flatnonzero(design.rows)
    weight = None
    if balanced:
        codes = data.values[index, design.target].astype(np.int64)
        rows = getattr(data, "weight", None)
        count = np.bincount(codes, None if rows is None else rows[index], len(design.levels))
        weight = class_weights(count)
    return Batch(design, data, index, weight, shares=data.shares)


def class_weights(count: np.ndarray) -> np.ndarray:
    """Factors (C,) that make all classes weigh the same, and all rows together as much as they inform.

    With v_c = Σ w / (C n_c) the effective size is (Σ v)² / Σ v² = C² / Σ_c (1 / n_c), over the classes that
    are
    there: four times the rows of the rarer of two classes, at most. So each class gets C / Σ_c (1 / n_c).

    Example:
        >>> n = np.array([90.0, 10.0])
        >>> (class_weights(n) * n).round(9).tolist()
        [18.0, 18.0]
    """
    seen = count > 0
    inverse = np.where(seen, 1 / np.where(seen, count, 1.0), 0.0)
    return inverse * seen.sum() / inverse.sum()
