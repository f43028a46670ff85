"""The exact log joint density of a regression's coefficients and its gradient, for many points at once."""

import torch
from torch import Tensor

from ppl_models.draws import groups
from ppl_models.regression.bound import Regression
from ppl_models.regression.rows import Batch


class LogJoint:
    """Log p(y, Φ) of points (S, d) and its gradient by autograd.

    Args:
        bound: the regression.
        batch: the rows that are used.
    """

    def __init__(self, bound: Regression, batch: Batch) -> None:
        self.bound, self.glm, self.rows = bound, bound.glm, batch.whole()
        widths, d = bound.design.widths, bound.glm.dimension
        first = (1 + bound.population) * bound.glm.outputs
        runs = [torch.full((n * bound.glm.outputs,), t) for t, n in enumerate(widths)]
        self.of = torch.cat(runs) if runs else torch.zeros(0, dtype=torch.int64)  # the term of each u
        self.groups, self.tau = slice(first, d), slice(d + bound.of_response, d + bound.shared)

    def round(self, points: Tensor) -> Tensor:
        """Points (S, d + q) with u/τ in the place of u, which a small τ does not squeeze together."""
        return self._scaled(points, -1.0)

    def back(self, points: Tensor) -> Tensor:
        """The inverse of `round`."""
        return self._scaled(points, 1.0)

    def _scaled(self, points: Tensor, sign: float) -> Tensor:
        if not len(self.of):
            return points
        factor = (sign * points[:, self.tau])[:, self.of].exp()
        return torch.cat(
            [points[:, : self.groups.start], points[:, self.groups] * factor, points[:, self.groups.stop :]],
            1,
        )

    def rounded(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values (S,) and gradients (S, d + q) with respect to what `round` gives."""
        with torch.enable_grad():
            x = points.detach().requires_grad_()
            there = self.back(x)
            value, slope = self(there.detach())
            volume = x[:, self.tau][:, self.of].sum(1)
            (gradient,) = torch.autograd.grad((there * slope).sum() + volume.sum(), x)
        return value + volume.detach(), gradient

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values (S,) and gradients (S, d)."""
        each = len(self.rows.y) * self.glm.response.width
        found = [self._some(points[at]) for at in groups(len(points), each, 2**22)]
        return torch.cat([value for value, _ in found]), torch.cat([gradient for _, gradient in found])

    def _some(self, points: Tensor) -> tuple[Tensor, Tensor]:
        d, bound = self.glm.dimension, self.bound
        with torch.enable_grad():
            x = points.detach().requires_grad_()
            B = x[:, :d].reshape(len(x), self.glm.width, self.glm.outputs)
            psi = x[:, d:] if bound.shared else None
            own = None if psi is None or not bound.of_response else psi[:, : bound.of_response]
            at = B if self.glm.adjust is None else self.glm.adjust.points(B)
            each = self.glm.log_likelihood(at, self.rows, own)
            value = each.sum(1) if self.rows.weight is None else each @ self.rows.weight
            value = value + bound.log_prior_given(B, psi)
            if psi is not None:
                value = value + bound.log_prior_shared(psi)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient
