"""The E step of a chain in blocks side by side in a CPU's registers, for densities linear in features."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ppl_models.kernels import blocks
from ppl_models.kernels.backend import Backend, Problem, missing_in
from ppl_models.kernels.blocks import DoesNotForget
from ppl_models.kernels.generic import Generic
from ppl_models.kernels.rows import Chunk
from ppl_models.kernels.workspace import Workspace

BUDGET = 16 * 2**20
"""Bytes of one chunk in blocks, where the features of all rows are too many to keep."""

PATIENCE = 3
"""Failures after which blocks are not tried again on a batch: each costs the passes of an attempt."""

HELD = 150_000
"""Numbers that are held at once for each parameter set, about: few, as rows go through in chunks."""


class BlockedChain(Backend):
    """Eight blocks at a time; the generic way where the chain does not forget within a block.

    Args:
        problem: unweighted rows in main memory and emissions that are linear in their features, given what is
            missing.
        keep: whether the rows laid out in blocks are kept between calls.
    """

    def __init__(self, problem: Problem, keep: bool) -> None:
        super().__init__(problem)
        self.keep, self.failures = keep, 0
        self._generic = Generic(problem)
        rows, emissions = problem.rows, problem.emissions
        self._widths: list[int] = []
        self._laid: dict[tuple[int, int], blocks.Layout] = {}
        self._size = 0
        self._memory = Workspace()
        self._starts = np.zeros(rows.steps, dtype=bool)
        self._starts[rows.offsets[:-1]] = True
        # What is missing decides how wide the features are, which must be the same for all chunks.
        self._masked = [missing_in(e, problem.values) for e in emissions]
        self._squares = len(emissions) == 1 and emissions[0].squares and not self._masked[0]

    @property
    def held(self) -> int:
        """Numbers that are held at once for each parameter set."""
        return HELD if self.failures < PATIENCE else self._generic.held

    def expect(self, natural: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Backend`."""
        if self.failures < PATIENCE:
            try:
                return self.expect_in_blocks(natural)
            except DoesNotForget:
                self.failures += 1
        return self._generic.expect(natural)

    def evidence(self, natural: Mapping[str, Tensor]) -> Tensor:
        """See `Backend`: by the forward pass alone. A failure says nothing of other parameters here."""
        if self.failures < PATIENCE:
            try:
                return self.evidence_in_blocks(natural)
            except DoesNotForget:
                pass
        return self._generic.evidence(natural)

    def expect_in_blocks(self, natural: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Log evidence and statistics of all rows.

        Raises:
            DoesNotForget: if the chain cannot be cut into blocks.
        """
        found = self._run(natural, smooth=True)
        evidence, start, count, transition, sums = (
            torch.from_numpy(np.ascontiguousarray(part)) for part in found[:5]
        )
        statistics = {"start": start, "transition": transition}
        for e, part in zip(self.problem.linear_emissions, sums.split(self._widths, -1), strict=True):
            statistics[e.name] = e.collect(part, count)
        return evidence, statistics

    def evidence_in_blocks(self, natural: Mapping[str, Tensor]) -> Tensor:
        """Log evidence of all rows, (R,).

        Raises:
            DoesNotForget: if the chain cannot be cut into blocks.
        """
        return torch.from_numpy(self._run(natural, smooth=False).evidence)

    def _layout(self, chunk: Chunk) -> blocks.Layout:
        """A chunk laid out in blocks, kept for the next call or made again."""
        laid = self._laid.get((chunk.lo, chunk.hi))
        if laid is None:
            lead = min(blocks.WARM_UP[1], chunk.lo) if chunk.continues else 0
            rows = slice(chunk.lo - lead, chunk.hi)
            x = self.problem.values[rows]
            parts = [
                e.features(x, self._memory, e.name, masked).matrix
                for e, masked in zip(self.problem.emissions, self._masked, strict=True)
            ]
            self._widths = [part.shape[1] for part in parts]
            matrix = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
            if self._squares:
                matrix = matrix[:, : matrix.shape[1] // 2]
            laid = blocks.Layout.of(
                matrix.numpy(),
                self._starts[rows],
                bool(chunk.ends[-1]),
                blocks.groups_for(chunk.hi - chunk.lo),
                lead,
            )
            if self.keep:
                self._laid[chunk.lo, chunk.hi] = laid
        return laid

    def _run(self, natural: Mapping[str, Tensor], smooth: bool) -> blocks.Sums:
        rows, emissions, (R, K) = self.problem.rows, self.problem.linear_emissions, natural["start"].shape
        if not self._widths:
            self._layout(next(rows.chunks(16)))
            self._laid.clear()
        each = 8 * (sum(self._widths) * (1 if self._squares else 2) + 2 * K * R)
        size = rows.steps if self.keep and each * rows.steps <= 4 * BUDGET else BUDGET // each
        pairs = [e.linear(natural[e.name], w) for e, w in zip(emissions, self._widths, strict=True)]
        weights = torch.cat([weight for weight, _ in pairs], -1).contiguous().numpy()
        constant = torch.stack([constant for _, constant in pairs]).sum(0).numpy()
        logs = natural["start"].numpy(), natural["transition"].numpy()
        size = blocks.even(max(size, 4 * blocks.LEAST))
        if size != self._size:
            self._laid.clear()
            self._size = size
        return blocks.expect_all(
            self._layout, rows, size, weights, constant, *logs, self.problem.work, smooth
        )
