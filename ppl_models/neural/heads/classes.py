"""One of some classes, by a softmax: see `heads`."""

from typing import ClassVar

import torch
from torch import Tensor

from ppl_models.draws import Draws
from ppl_models.neural.heads.glm import GLMHead
from ppl_models.neural.heads.head import NAME
from ppl_models.regression.priors import contrasts
from ppl_models.regression.responses import Categorical


class ClassHead(GLMHead):
    """One of C classes.

    Args:
        classes: C.
        features: d.
    """

    dtype: ClassVar[torch.dtype] = torch.int64

    def __init__(self, classes: int, features: int) -> None:
        self.classes = self.outputs = classes
        self.features = features
        self.A = contrasts(classes)
        self.response = Categorical(classes)

    def inside(self, y: Tensor) -> Tensor:
        """Codes."""
        return y.to(torch.int64)

    def outside(self, y: Tensor) -> Tensor:
        """Codes."""
        return y

    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        """Cross entropy of every member."""
        B, M, C = out.shape
        target = y.unsqueeze(1).expand(B, M).reshape(-1)
        return torch.nn.functional.cross_entropy(out.reshape(-1, C), target, reduction="none").view(B, M)

    def held(self, out: Tensor, y: Tensor, weight: Tensor) -> float:
        """By the mean logits."""
        each = out.mean(1).double().log_softmax(-1).gather(1, y[:, None])[:, 0]
        return float((each @ weight) / weight.sum())

    def centre(self, weight: Tensor, bias: Tensor) -> Tensor:
        """2 Aᵀ logits, as Aᵀ A = I/2: (d + 1, K)."""
        return 2 * torch.cat([bias[None], weight.mT]) @ self.A

    def theta(self, points: Tensor) -> Draws:
        """φ (S, d + 1, K)."""
        return {NAME: {"coefficient": points.reshape(len(points), self.features + 1, self.classes - 1)}}

    def points(self, theta: Draws) -> Tensor:
        """(S, (d + 1) K)."""
        return theta[NAME]["coefficient"].flatten(1)

    def outcomes(self, theta: Draws, Z: Tensor) -> Tensor:
        """Logits (S, m, C)."""
        B = theta[NAME]["coefficient"]
        return torch.stack([B[..., k] @ Z.mT for k in range(B.shape[-1])], -1) @ self.A.mT

    def from_outputs(self, out: Tensor, temperature: float) -> torch.distributions.Categorical:
        """Softmax of the logits over T."""
        return torch.distributions.Categorical(logits=out / temperature, validate_args=False)
