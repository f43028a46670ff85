"""The E step of independent rows in one compiled pass over their values, for densities linear in features."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_models.kernels import mixture
from ppl_models.kernels.backend import Backend, Problem, missing_in
from ppl_models.kernels.workspace import Workspace


class Standardised(NamedTuple):
    """Features that the pass makes by itself, of z = (x − centre) / scale over all columns of complete rows.

    Attributes:
        centre: (C,).
        scale: (C,).
        pairs: whether they are z and all z_i z_j, i ≤ j, rather than z and its squares.
    """

    centre: Tensor
    scale: Tensor
    pairs: bool

    @property
    def width(self) -> int:
        """How many they are."""
        C = len(self.centre)
        return C + C * (C + 1) // 2 if self.pairs else 2 * C


class FusedRows(Backend):
    """Densities, responsibilities and weighted sums of a block of rows while it is in the cache.

    Args:
        problem: rows in main memory and emissions that are linear in their features, given what is missing.
        standardised: the features of the only emission, where the pass can make them.
    """

    def __init__(self, problem: Problem, standardised: Standardised | None = None) -> None:
        super().__init__(problem)
        self._values = problem.values.numpy()
        self._masked = [missing_in(e, problem.values) for e in problem.emissions]
        self._inside = None if any(self._masked) else standardised
        self._widths = [] if self._inside is None else [self._inside.width]

    def _make(self, at: slice) -> np.ndarray:
        """Features of some rows, in memory of their own: several threads call this at once."""
        x = torch.from_numpy(np.ascontiguousarray(self._values[at]))
        parts = [
            e.features(x, Workspace(), e.name, masked).matrix
            for e, masked in zip(self.problem.emissions, self._masked, strict=True)
        ]
        self._widths = [part.shape[1] for part in parts]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).numpy()

    def expect(self, natural: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Backend`."""
        emissions, rows, inside = self.problem.linear_emissions, self.problem.rows, self._inside
        if not self._widths:
            self._make(slice(0, 1))
        pairs = [e.linear(natural[e.name], w) for e, w in zip(emissions, self._widths, strict=True)]
        W = torch.cat([w for w, _ in pairs], -1).contiguous().numpy()
        c = (torch.stack([c for _, c in pairs]).sum(0) + natural["weight"]).contiguous().numpy()
        if inside is not None:
            run = mixture.expect_full if inside.pairs else mixture.expect_squares
            found = run(self._values, inside.centre.numpy(), inside.scale.numpy(), W, c, rows.weight)
        else:
            found = mixture.expect_features(self._make, rows.steps, W, c, rows.weight)
        count, sums = torch.from_numpy(found.count), torch.from_numpy(found.sums)
        statistics = {"weight": count}
        for e, part in zip(emissions, sums.split(self._widths, -1), strict=True):
            statistics[e.name] = e.collect(part, count)
        return torch.from_numpy(found.evidence), statistics

    def evidence(self, natural: Mapping[str, Tensor]) -> Tensor:
        """See `Backend`: the pass adds up sums on its way."""
        return self.expect(natural)[0]
