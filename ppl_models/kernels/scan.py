"""The recursions over time of a hidden Markov chain as blocked scans in torch, for a GPU.

A step is the K×K matrix M_t = A ∘ b_t, or 1 ⊗ (π ∘ b_t) where a sequence begins, so that sequences
of any lengths are one chain of matrices. The chain is cut into about √n blocks: all blocks multiply
up their own matrices side by side, the block products are chained, and then all blocks run their own
vectors side by side: about 3√n launches rather than n. (Särkkä & García-Fernández 2021, IEEE TAC 66,
https://arxiv.org/abs/1905.13002, with blocks for the tree.)

The same scan serves three semirings: (+, ×) with a scale for each row, (logsumexp, +) and (max, +).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Semiring(NamedTuple):
    """What × and + mean for vectors and matrices, and how a result is brought back to scale."""

    linear: bool
    maximum: bool = False

    def matmul(self, left: Tensor, right: Tensor) -> Tensor:
        """Left (..., I, K) by right (..., K, J)."""
        if self.linear:
            return left @ right
        terms = left.unsqueeze(-1) + right.unsqueeze(-3)
        return terms.amax(-2) if self.maximum else terms.logsumexp(-2)

    def normalise(self, x: Tensor, dims: int) -> tuple[Tensor, Tensor]:
        """Bring the last `dims` dimensions to scale: `(scaled, log of the scale)`."""
        axes = tuple(range(-dims, 0))
        if self.linear:
            scale = x.sum(axes, keepdim=True)
            return x / scale, scale.log().squeeze(axes)
        scale = x.amax(axes, keepdim=True) if self.maximum else x.logsumexp(axes, keepdim=True)
        return x - scale, scale.squeeze(axes)


LINEAR, LOG, MAX = Semiring(linear=True), Semiring(linear=False), Semiring(linear=False, maximum=True)


def prefix(first: Tensor, matrices: Tensor, semiring: Semiring) -> tuple[Tensor, Tensor]:
    """All the partial products first·M_1⋯M_t.

    Args:
        first: (R, K), the vector on the left.
        matrices: (R, n, K, K).
        semiring: the arithmetic.

    Returns:
        The scaled vectors (R, n, K) and the log scale that each step took off (R, n).
    """
    R, n, K, _ = matrices.shape
    length = max(1, math.isqrt(n))
    blocks = -(-n // length)
    padding = blocks * length - n
    if padding:
        unit = torch.eye(K, dtype=matrices.dtype, device=matrices.device)
        unit = unit if semiring.linear else unit.log()
        matrices = torch.cat([matrices, unit.expand(R, padding, K, K)], 1)
    matrices = matrices.reshape(R, blocks, length, K, K)

    product = matrices[:, :, 0]
    for t in range(1, length):
        product, _ = semiring.normalise(semiring.matmul(product, matrices[:, :, t]), 2)
    vectors = [first]
    for block in range(blocks - 1):
        vector = semiring.matmul(vectors[-1].unsqueeze(-2), product[:, block]).squeeze(-2)
        vectors.append(semiring.normalise(vector, 1)[0])
    vector = torch.stack(vectors, 1)  # (R, blocks, K): what enters each block

    out, scales = [], []
    for t in range(length):
        vector = semiring.matmul(vector.unsqueeze(-2), matrices[:, :, t]).squeeze(-2)
        vector, scale = semiring.normalise(vector, 1)
        out.append(vector)
        scales.append(scale)
    vectors, scales = torch.stack(out, 2), torch.stack(scales, 2)
    return vectors.reshape(R, -1, K)[:, :n], scales.reshape(R, -1)[:, :n]


def follow(pointers: Tensor, last: Tensor) -> Tensor:
    """Follow pointers back in time: z_{t−1} = pointers[t, z_t].

    Args:
        pointers: (R, n, K), the predecessor of each state; row 0 is not used.
        last: (R,), the last state.

    Returns:
        The path (R, n).
    """
    R, n, K = pointers.shape
    steps = pointers[:, 1:].flip(1)  # the maps to apply, in order
    length = max(1, math.isqrt(max(n - 1, 1)))
    blocks = -(-(n - 1) // length)
    padding = blocks * length - (n - 1)
    unit = torch.arange(K, device=pointers.device)
    steps = torch.cat([steps, unit.expand(R, padding, K)], 1).reshape(R, blocks, length, K)

    whole = unit.expand(R, blocks, K)
    for t in range(length):
        whole = steps[:, :, t].gather(-1, whole)
    states = [last]
    for block in range(blocks - 1):
        states.append(whole[:, block].gather(-1, states[-1].unsqueeze(-1)).squeeze(-1))
    if not blocks:
        return last.unsqueeze(1)
    state = torch.stack(states, 1)  # (R, blocks)
    out = []
    for t in range(length):
        state = steps[:, :, t].gather(-1, state.unsqueeze(-1)).squeeze(-1)
        out.append(state)
    path = torch.stack(out, 2).reshape(R, -1)[:, : n - 1]
    return torch.cat([last.unsqueeze(1), path], 1).flip(1)
