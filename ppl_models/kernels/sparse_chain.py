"""A hidden Markov chain in which most transitions are impossible: the same answers by few exponentials.

Sequences are worked through whole, as many at a time as the workspace holds.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ppl_models.importing import lazy
from ppl_models.kernels.chain import WORKSPACE, MarkovChain
from ppl_models.kernels.chain_steps import each_share, unreachable
from ppl_models.kernels.latents import Consume, LogDensity, Marginals
from ppl_models.kernels.rows import Rows
from ppl_models.kernels.workspace import Workspace

if TYPE_CHECKING:
    from ppl_models.kernels import edges, forward_backward
else:  # Numba takes half a second to load
    edges = lazy("ppl_models.kernels.edges")
    forward_backward = lazy("ppl_models.kernels.forward_backward")


class SparseChain(MarkovChain):
    """z_1 ~ π, z_t ~ A_{z_{t−1}}, where A has zeros; natural parameters as in `MarkovChain`.

    Args:
        allowed: (K, K), which transitions there are.
    """

    blocks = False

    def __init__(self, allowed: np.ndarray) -> None:
        target, source = np.nonzero(allowed.T)
        self.source, self.target = source.astype(np.int64), target.astype(np.int64)
        self.into = np.searchsorted(target, np.arange(len(allowed) + 1)).astype(np.int64)

    def expect(
        self,
        density: LogDensity,
        natural: Mapping[str, Tensor],
        rows: Rows,
        consume: Consume,
        work: Workspace,
        chunk: int | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Expected starts and transitions, by forward–backward over the edges."""
        start, A = natural["start"], natural["transition"]
        if not self._serves(start, rows):
            return super().expect(density, natural, rows, consume, work, chunk)
        R, K = start.shape
        log_evidence, first = start.new_zeros(R), start.new_zeros(R, K)
        pairs = np.zeros((R, len(self.source)))
        for at, tasks, log_b, alpha, log_c in self._filtered(density, natural, rows, work):
            gamma, counts = self._smoothed(A, tasks, log_b, alpha, log_c)
            pairs += counts
            begins = torch.as_tensor(tasks[: len(tasks) // R, 1])
            log_evidence += log_c.sum(-1)
            first += gamma[:, begins].sum(1)
            consume(at, gamma)
        transition = torch.zeros(R, K, K, dtype=start.dtype)
        transition[:, self.source, self.target] = torch.from_numpy(pairs)
        return log_evidence, {"start": first, "transition": transition}

    def marginals(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Marginals:
        """Filtered and smoothed state probabilities."""
        start, A = natural["start"], natural["transition"]
        if not self._serves(start, rows):
            return super().marginals(density, natural, rows)
        filtered = start.new_empty(start.shape[0], rows.steps, start.shape[1])
        smoothed = torch.empty_like(filtered)
        for at, tasks, log_b, alpha, log_c in self._filtered(density, natural, rows, Workspace()):
            smoothed[:, at] = self._smoothed(A, tasks, log_b, alpha, log_c)[0]
            filtered[:, at] = alpha.exp()
        return Marginals(filtered, smoothed)

    def draw_paths(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """States drawn from their posterior (R, n)."""
        start, A = natural["start"], natural["transition"]
        if not self._serves(start, rows):
            return super().draw_paths(density, natural, rows)
        R = start.shape[0]
        path = torch.empty(R, rows.steps, dtype=torch.int64)
        uniform = torch.rand(R, rows.steps, dtype=start.dtype)
        log_A = A.contiguous().numpy()
        for at, tasks, _, alpha, _ in self._filtered(density, natural, rows, Workspace()):
            drawn, u = np.empty(alpha.shape[:2], np.int64), uniform[:, at].contiguous().numpy()
            forward_backward.sample_paths(alpha.numpy(), log_A, tasks, u, drawn)
            path[:, at] = torch.from_numpy(drawn)
        return path

    def log_predictive(
        self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows
    ) -> tuple[Tensor, Tensor]:
        """Log p(x_t | x_{1:t−1}) (R, n) and the last filtered probabilities of each sequence (R, S, K)."""
        start = natural["start"]
        if not self._serves(start, rows):
            return super().log_predictive(density, natural, rows)
        found, ends = [], []
        for _, tasks, _, alpha, log_c in self._filtered(density, natural, rows, Workspace()):
            found.append(log_c.clone())
            last = torch.as_tensor(tasks[: len(tasks) // start.shape[0], 2] - 1)
            ends.append(alpha[:, last].exp())
        return torch.cat(found, 1), torch.cat(ends, 1)

    def _serves(self, start: Tensor, rows: Rows) -> bool:
        """Whether rows are in main memory, whole sequences, each row counting once."""
        return start.device.type == "cpu" and rows.entered is None and rows.weight is None

    def _filtered(
        self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows, work: Workspace
    ) -> Iterator[tuple[slice, np.ndarray, Tensor, Tensor, Tensor]]:
        """Sequences a few at a time: their rows, tasks, log densities, log α, and log c.

        Raises:
            DataError: if a row has probability zero under every path.
        """
        start, A = natural["start"].contiguous(), natural["transition"]
        R, K = start.shape
        edge = A[:, self.source, self.target].contiguous().numpy()
        size, offsets, i = max(1024, WORKSPACE // (16 * R * K)), rows.offsets, 0
        while i < len(rows.lengths):
            j = max(i + 1, int(np.searchsorted(offsets, offsets[i] + size, "right")) - 1)
            at = slice(int(offsets[i]), int(offsets[j]))
            bounds = offsets[i : j + 1] - offsets[i]
            one = np.stack([bounds[:-1], bounds[1:], np.zeros(j - i, np.int64)], 1)
            tasks = np.column_stack([np.repeat(np.arange(R), j - i), np.tile(one, (R, 1))]).astype(np.int64)
            m = at.stop - at.start
            log_b = work.take("log_b", (R, m, K), start)
            density(at, log_b)
            alpha, log_c = work.take("alpha", (R, m, K), start), work.take("log_c", (R, m), start)
            args = log_b.numpy(), start.numpy(), edge, self.source, self.into
            into = alpha.numpy(), log_c.numpy()
            found = each_share(lambda part, _, a=args, o=into: edges.filter_edges(*a, part, *o), tasks)  # type: ignore[call-arg]
            bad = max(found)
            if bad >= 0:
                raise unreachable(at.start + bad)
            yield at, tasks, log_b, alpha, log_c
            i = j

    def _smoothed(
        self, A: Tensor, tasks: np.ndarray, log_b: Tensor, alpha: Tensor, log_c: Tensor
    ) -> tuple[Tensor, np.ndarray]:
        """γ in the place of `log_b`, and Σ_t ξ_t (R, E)."""
        edge = A[:, self.source, self.target].contiguous().numpy()
        pairs = np.empty((len(tasks), len(self.source)))
        arrays = alpha.numpy(), log_c.numpy(), log_b.numpy()

        def smooth(part: np.ndarray, index: slice) -> None:
            edges.smooth_edges(log_b.numpy(), edge, self.source, self.into, part, *arrays, pairs[index])

        each_share(smooth, tasks)
        return log_b, pairs.reshape(A.shape[0], -1, len(self.source)).sum(1)
