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
            each = self.glm.log_likelihood(B, self.rows, own)
            value = each.sum(1) if self.rows.weight is None else each @ self.rows.weight
            value = value + bound.log_prior_given(B, psi)
            if psi is not None:
                value = value + bound.log_prior_shared(psi)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient
