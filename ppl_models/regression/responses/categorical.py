"""One of C classes: logits A φ of K = C − 1 linear predictors, by the contrasts of `priors`."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ppl_models.regression.priors import contrasts
from ppl_models.regression.quadrature import Moments, binary_moments, softmax_moments
from ppl_models.regression.responses.response import Response, RowTerms


@dataclass(frozen=True, eq=False)
class Categorical(Response):
    """y ~ Categorical(softmax(A φ)).

    Attributes:
        classes: C.
    """

    classes: int

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """K = C − 1."""
        return self.classes - 1

    @property
    def width(self) -> int:
        """C."""
        return self.classes

    @cached_property
    def A(self) -> Tensor:
        """The contrasts, (C, K)."""
        return contrasts(self.classes)

    def alone(self, y: Tensor) -> list[tuple[Response, Tensor]]:
        """One class against the others, where there are more than two."""
        if self.classes == 2:
            return [(self, y)]
        return [(Categorical(2), (y == c).to(torch.int64)) for c in range(self.classes)]

    def moments(self, mean: Tensor, cov: Tensor | None) -> Moments:
        """Of linear predictors (m, K) with covariances (m, K, K), or known exactly (None)."""
        if self.outputs == 1:
            f = mean[:, 0]
            sd = torch.zeros_like(f) if cov is None else cov[:, 0, 0].clamp_min(0.0).sqrt()
            if cov is None:
                p = torch.sigmoid(f)
                normaliser, slope = torch.logaddexp(f, torch.zeros_like(f)), p * (1 - p)
            else:
                normaliser, p, slope = binary_moments(f, sd)
            # the log normaliser of logits (−φ/2, φ/2) is log(1 + e^φ) − φ/2
            return Moments(normaliser - f / 2, p[:, None] - 0.5, slope[:, None, None])
        A = self.A.to(mean)
        if cov is not None:
            return softmax_moments(mean, cov, A)
        logits = mean @ A.mT
        normaliser = logits.logsumexp(-1)
        p = (logits - normaliser[:, None]).exp()
        g = p @ A
        curvature = torch.einsum("nc,ca,cb->nab", p, A, A) - g.unsqueeze(-1) * g.unsqueeze(-2)
        return Moments(normaliser, g, curvature)

    def row_terms(
        self, y: Tensor, mean: Tensor, cov: Tensor | None, trials: Tensor | None = None
    ) -> RowTerms:
        """The log normaliser has the curvature, the class only the slope."""
        found = self.moments(mean, cov)
        own = self.A.to(mean)[y]  # the contrasts of the observed classes, (m, K)
        value = (own * mean).sum(-1) - found.log_normaliser
        return RowTerms(value, own - found.mean, found.curvature)

    def log_prob(
        self, phi: Tensor, y: Tensor, psi: Tensor | None = None, trials: Tensor | None = None
    ) -> Tensor:
        """Log p(y | φ)."""
        if self.outputs == 1:
            return torch.nn.functional.logsigmoid(torch.where(y == 1, phi[..., 0], -phi[..., 0]))
        # classes first: a reduction over a last dimension of three is ten times slower
        logits = (self.A.to(phi) @ phi.reshape(-1, self.outputs).mT).view(self.classes, *phi.shape[:-1])
        own = logits.gather(0, y.expand(logits.shape[1:]).unsqueeze(0))[0]
        return own - logits.logsumexp(0)

    def of_rows(
        self,
        B: Tensor,
        Z: Tensor,
        y: Tensor,
        psi: Tensor | None = None,
        offset: Tensor | None = None,
        trials: Tensor | None = None,
    ) -> Tensor:
        """As for all, with the classes in the middle, (S, C, m); there are no offsets."""
        if self.outputs == 1:
            return torch.nn.functional.logsigmoid(B[..., 0] @ torch.where(y[:, None] == 1, Z, -Z).mT)
        coefficient = self.A.to(B) @ B.mT  # of every class: (S, C, p + 1)
        logits = (coefficient.flatten(0, 1) @ Z.mT).view(len(B), self.classes, len(Z))
        own = logits.gather(1, y.expand(len(B), 1, len(Z)))[:, 0]
        top = logits.detach().amax(1, keepdim=True)
        return own - top[:, 0] - (logits - top).exp().sum(1).log()

    def start(self, y: Tensor, weight: Tensor, trials: Tensor | None = None) -> Tensor:
        """At the log odds of the classes."""
        count = 0.5 + torch.bincount(y, weight, self.classes)
        logit = count.log() - count.log().mean()
        return 2 * self.A.mT @ logit  # Aᵀ A = I/2
