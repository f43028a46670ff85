"""The E step of a batch in the lanes of a CPU's registers, for any emissions linear in their features."""

import numpy as np
import torch
from torch import Tensor

from ppl_models.families.base import Emission, columns_of
from ppl_models.inference.conjugate import Statistics
from ppl_models.kernels import chain, lanes
from ppl_models.kernels.rows import Chunk, Rows
from ppl_models.kernels.workspace import Workspace

BUDGET = 16 * 2**20
"""Bytes of one chunk in lanes, where the features of all rows are too many to keep."""


class SideBySide:
    """The E step of a batch eight blocks at a time, for emissions that are linear in their features."""

    def __init__(self, emissions: tuple[Emission, ...], values: Tensor, rows: Rows, keep: bool) -> None:
        self.emissions, self.values, self.rows, self.keep = emissions, values, rows, keep
        self.failures = 0
        self.widths: list[int] = []
        self._laid: dict[tuple[int, int], lanes.Layout] = {}
        self._size = 0
        self._memory = Workspace()
        self._starts = np.zeros(rows.steps, dtype=bool)
        self._starts[rows.offsets[:-1]] = True
        # What is missing decides how wide the features are, which must be the same for all chunks.
        self._masked = [missing_in(e, values) for e in emissions]
        self._squares = len(emissions) == 1 and emissions[0].squares and not self._masked[0]

    def _layout(self, chunk: Chunk) -> lanes.Layout:
        laid = self._laid.get((chunk.lo, chunk.hi))
        if laid is None:
            lead = min(lanes.WARM_UP[1], chunk.lo) if chunk.continues else 0
            rows = slice(chunk.lo - lead, chunk.hi)
            x = self.values[rows]
            parts = [
                e.features(x, self._memory, e.name, masked).matrix
                for e, masked in zip(self.emissions, self._masked, strict=True)
            ]
            self.widths = [part.shape[1] for part in parts]
            matrix = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
            if self._squares:
                matrix = matrix[:, : matrix.shape[1] // 2]
            laid = lanes.Layout.of(
                matrix.numpy(),
                self._starts[rows],
                bool(chunk.ends[-1]),
                lanes.groups_for(chunk.hi - chunk.lo),
                lead,
            )
            if self.keep:
                self._laid[chunk.lo, chunk.hi] = laid
        return laid

    def expect(self, natural: Statistics, work: Workspace) -> tuple[Tensor, dict[str, Tensor]]:
        """Log evidence and statistics of all rows.

        Raises:
            Forgetful: if the chain cannot be cut into blocks.
        """
        found = self._run(natural, work, smooth=True)
        evidence, start, count, transition, sums = (
            torch.from_numpy(np.ascontiguousarray(part)) for part in found[:5]
        )
        statistics = {"start": start, "transition": transition}
        for e, part in zip(self.emissions, sums.split(self.widths, -1), strict=True):
            statistics[e.name] = e.collect(part, count)
        return evidence, statistics

    def evidence(self, natural: Statistics, work: Workspace) -> Tensor:
        """Log evidence of all rows, (R,), by the forward pass alone.

        Raises:
            Forgetful: if the chain cannot be cut into blocks.
        """
        return torch.from_numpy(self._run(natural, work, smooth=False).evidence)

    def _run(self, natural: Statistics, work: Workspace, smooth: bool) -> lanes.Sums:
        rows, (R, K) = self.rows, natural["start"].shape
        if not self.widths:
            self._layout(next(rows.chunks(16)))
            self._laid.clear()
        each = 8 * (sum(self.widths) * (1 if self._squares else 2) + 2 * K * R)
        size = rows.steps if self.keep and each * rows.steps <= 4 * BUDGET else BUDGET // each
        pairs = [e.linear(natural[e.name], w) for e, w in zip(self.emissions, self.widths, strict=True)]
        weights = torch.cat([weight for weight, _ in pairs], -1).contiguous().numpy()
        constant = torch.stack([constant for _, constant in pairs]).sum(0).numpy()
        logs = natural["start"].numpy(), natural["transition"].numpy()
        size = lanes.even(max(size, 4 * lanes.LEAST))
        if size != self._size:
            self._laid.clear()
            self._size = size
        return lanes.expect_all(self._layout, rows, size, weights, constant, *logs, work, chain.pool, smooth)


def missing_in(emission: Emission, values: Tensor) -> bool:
    """Whether any cell of the emission's columns is missing: their sum is then not a number."""
    return bool(columns_of(values, emission.columns).sum().isnan())


def possible(emissions: tuple[Emission, ...], values: Tensor, rows: Rows) -> bool:
    """Whether the rows can be worked on side by side: in main memory, enough of them, and linear."""
    if values.device.type != "cpu" or rows.weight is not None or rows.steps < lanes.LEAST:
        return False
    return all(e.linear_density and (e.masks_cells or not missing_in(e, values)) for e in emissions)
