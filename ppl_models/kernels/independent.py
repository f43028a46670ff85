"""Latents of rows that are independent given the parameters, as in a mixture, in torch on any device.

Of row n and state k:

    γ_nk = p(z_n = k | x_n) ∝ π_k p(x_n | k)
    log p(x_n) = log Σ_k π_k p(x_n | k)
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ppl_models.kernels.latents import Consume, Latents, LogDensity, Marginals
from ppl_models.kernels.rows import Rows
from ppl_models.kernels.workspace import Workspace

CHUNK = 4 * 2**20
"""Numbers that the densities of one chunk of rows may be."""


class IndependentRows(Latents):
    """z_n ~ π, independently: natural parameter `weight` (R, K), log π."""

    exchangeable = True

    def _log_joint(
        self,
        density: LogDensity,
        natural: Mapping[str, Tensor],
        rows: Rows,
        work: Workspace,
        chunk: int | None,
    ) -> Iterator[tuple[slice, Tensor]]:
        """Log π_k + log p(x_n | k) of chunks of rows, in memory that the next chunk takes again."""
        log_weight = natural["weight"]
        R, K = log_weight.shape
        size = chunk or max(256, CHUNK // (R * K))
        for lo in range(0, rows.steps, size):
            at = slice(lo, min(lo + size, rows.steps))
            out = work.take("log_joint", (R, at.stop - lo, K), log_weight)
            density(at, out)
            yield at, out.add_(log_weight[:, None, :])

    def expect(
        self,
        density: LogDensity,
        natural: Mapping[str, Tensor],
        rows: Rows,
        consume: Consume,
        work: Workspace,
        chunk: int | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Responsibilities γ_nk ∝ π_k p(x_n | k), and log Σ_k of the same."""
        evidence = natural["weight"].new_zeros(natural["weight"].shape[0])
        count = torch.zeros_like(natural["weight"])
        weight = None if rows.weight is None else torch.as_tensor(rows.weight).to(evidence)
        for at, log_joint in self._log_joint(density, natural, rows, work, chunk):
            log_x = log_joint.logsumexp(-1)
            gamma = log_joint.sub_(log_x.unsqueeze(-1)).exp_()
            if weight is None:
                evidence += log_x.sum(-1)
            else:
                evidence += (log_x * weight[..., at]).sum(-1)
                gamma = gamma.mul_(weight[..., at, None])
            count += gamma.sum(1)
            consume(at, gamma)
        return evidence, {"weight": count}

    def _all(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> tuple[Tensor, Tensor]:
        """Responsibilities (R, n, K) and log densities (R, n) of all rows."""
        R, K = natural["weight"].shape
        gamma = natural["weight"].new_empty(R, rows.steps, K)
        log_x = natural["weight"].new_empty(R, rows.steps)
        for at, log_joint in self._log_joint(density, natural, rows, Workspace(), None):
            log_x[:, at] = log_joint.logsumexp(-1)
            gamma[:, at] = log_joint.softmax(-1)
        return gamma, log_x

    def marginals(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Marginals:
        """Responsibilities: other rows say nothing of a row's component, given θ."""
        gamma, _ = self._all(density, natural, rows)
        return Marginals(gamma, gamma)

    def path(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """The most probable component of each row."""
        best = [
            log_joint.argmax(-1)
            for _, log_joint in self._log_joint(density, natural, rows, Workspace(), None)
        ]
        return torch.cat(best, 1)

    def draw_paths(self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows) -> Tensor:
        """Components drawn from the responsibilities, by inversion."""
        drawn = []
        for _, log_joint in self._log_joint(density, natural, rows, Workspace(), None):
            cumulative = log_joint.softmax(-1).cumsum(-1)
            u = torch.rand(cumulative.shape[:2], dtype=torch.float64).to(cumulative)
            drawn.append((cumulative <= u.unsqueeze(-1)).sum(-1).clamp_max(log_joint.shape[-1] - 1))
        return torch.cat(drawn, 1)

    def log_predictive(
        self, density: LogDensity, natural: Mapping[str, Tensor], rows: Rows
    ) -> tuple[Tensor, Tensor]:
        """Log p(x_n | θ), and π, as what came before a row says nothing of the next."""
        parts = [
            log_joint.logsumexp(-1)
            for _, log_joint in self._log_joint(density, natural, rows, Workspace(), None)
        ]
        R, K = natural["weight"].shape
        return torch.cat(parts, 1), natural["weight"].exp()[:, None, :].expand(R, len(rows.lengths), K)
