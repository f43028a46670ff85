"""Muon for matrices, Adam for all else, as one optimiser.

    M ← μ M + G,   W ← W − ρ · 0.2 √max(r, c) · NS(G + μ M)

for a matrix W of r rows and c columns with gradient G: NS(X) ≈ U Vᵀ, where X = U S Vᵀ, by five Newton–Schulz
iterations (Jordan et al. 2024, Muon: an optimizer for hidden layers, https://kellerjordan.github.io/posts/muon).
The factor gives steps the size of Adam's, so that ρ is that of both (Liu et al. 2025, Muon is scalable for
LLM training, https://arxiv.org/abs/2502.16982).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
"""μ."""

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the iteration X ← a X + (b A + c A²) X, A = X Xᵀ, which takes all singular values to about one."""

ITERATIONS = 5


class Muon(torch.optim.Adam):
    """Adam, but for some matrices, whose momentum is made orthogonal.

    Args:
        parameters: all of them.
        matrices: those of them that are stepped by Muon, (r, c) each.
        lr: ρ, of both.
        betas: of Adam.
        fused: of Adam.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        matrices: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        fused: bool = False,
    ) -> None:
        super().__init__(parameters, lr=lr, betas=betas, fused=fused)
        self._matrices = list(matrices)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of both."""
        kept = [(w, w.grad) for w in self._matrices if w.grad is not None]
        for w, gradient in kept:
            moments = self.state[w]
            if "momentum" not in moments:
                moments["momentum"] = torch.zeros_like(w)
            moments["momentum"].mul_(MOMENTUM).add_(gradient)
            update = orthogonal(gradient.add(moments["momentum"], alpha=MOMENTUM))
            w.add_(update, alpha=-self.param_groups[0]["lr"] * 0.2 * max(w.shape) ** 0.5)
            w.grad = None  # Adam leaves it alone
        super().step()
        for w, gradient in kept:
            w.grad = gradient


def orthogonal(x: Tensor) -> Tensor:
    """U Vᵀ of X = U S Vᵀ, about: singular values are between 0.7 and 1.2.

    Args:
        x: (r, c).
    """
    a, b, c = COEFFICIENTS
    tall = x.shape[0] > x.shape[1]
    x = x.mT if tall else x
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(ITERATIONS):
        A = x @ x.mT
        x = a * x + (b * A + c * A @ A) @ x
    return x.mT if tall else x
