"""The E step of exchangeable rows in one pass over their values, for emissions linear in their features."""

import numpy as np
import torch
from torch import Tensor

from ppl_models.families.base import Emission
from ppl_models.families.full_gaussian import FullGaussian
from ppl_models.inference.conjugate import Statistics
from ppl_models.kernels.rows import Rows
from ppl_models.kernels.workspace import Workspace
from ppl_models.latent.side_by_side import missing_in


class Fused:
    """Densities, responsibilities and weighted sums of a block of rows while it is in the cache.

    Where one Gaussian family covers all columns, its features are made inside the pass as well.
    """

    def __init__(self, emissions: tuple[Emission, ...], values: Tensor, rows: Rows) -> None:
        self.emissions, self.values, self.rows = emissions, values.numpy(), rows
        self._masked = [missing_in(e, values) for e in emissions]
        self._widths: list[int] = []
        self._whole = len(emissions) == 1 and not self._masked[0] and self._all_columns(emissions[0])

    def _all_columns(self, e: Emission) -> bool:
        inner = isinstance(e, FullGaussian) or e.squares
        return inner and e.columns == tuple(range(self.values.shape[1]))

    def _make(self, at: slice) -> np.ndarray:
        """Features of some rows, in memory of their own: several threads call this at once."""
        x = torch.from_numpy(np.ascontiguousarray(self.values[at]))
        parts = [
            e.features(x, Workspace(), e.name, masked).matrix
            for e, masked in zip(self.emissions, self._masked, strict=True)
        ]
        self._widths = [part.shape[1] for part in parts]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).numpy()

    def expect(self, natural: Statistics) -> tuple[Tensor, dict[str, Tensor]]:
        """Log evidence (R,), and the statistics of the weights and of every emission."""
        from ppl_models.kernels import independent_kernels as kernels

        weight, n = self.rows.weight, self.rows.steps
        if not self._whole and not self._widths:
            self._make(slice(0, 1))
        e = self.emissions[0]
        D = len(e.columns)
        inner = D + D * (D + 1) // 2 if isinstance(e, FullGaussian) else 2 * D
        widths = [inner] if self._whole else self._widths
        pairs = [e.linear(natural[e.name], w) for e, w in zip(self.emissions, widths, strict=True)]
        W = torch.cat([w for w, _ in pairs], -1).contiguous().numpy()
        c = (torch.stack([c for _, c in pairs]).sum(0) + natural["weight"]).contiguous().numpy()
        if self._whole:
            run = kernels.expect_full if isinstance(e, FullGaussian) else kernels.expect_squares
            found = run(self.values, e.centre.numpy(), e.scale.numpy(), W, c, weight)  # type: ignore[attr-defined]
        else:
            found = kernels.expect_features(self._make, n, W, c, weight)
        count, sums = torch.from_numpy(found.count), torch.from_numpy(found.sums)
        statistics = {"weight": count}
        for e, part in zip(self.emissions, sums.split(widths, -1), strict=True):
            statistics[e.name] = e.collect(part, count)
        return torch.from_numpy(found.evidence), statistics


def possible(emissions: tuple[Emission, ...], values: Tensor) -> bool:
    """Whether rows can be worked on so: in main memory, and linear whatever is missing."""
    if values.device.type != "cpu" or values.shape[0] < LEAST:
        return False
    return all(e.linear_density and (e.masks_cells or not missing_in(e, values)) for e in emissions)


LEAST = 32
"""Rows from which the compiled pass pays."""
