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
        self.glm, self.rows = bound.glm, batch.whole()

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values (S,) and gradients (S, d)."""
        each = len(self.rows.y) * self.glm.classes
        found = [self._some(points[at]) for at in groups(len(points), each, 2**22)]
        return torch.cat([value for value, _ in found]), torch.cat([gradient for _, gradient in found])

    def _some(self, points: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = points.detach().requires_grad_()
            B = x.reshape(len(x), self.glm.width, self.glm.outputs)
            at = B if self.glm.adjust is None else self.glm.adjust.points(B)
            each = self.glm.log_likelihood(at, self.rows.Z, self.rows.y)
            total = each.sum(1) if self.rows.weight is None else each @ self.rows.weight
            value = total + self.glm.prior.log_prob(B)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient
