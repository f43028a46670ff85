"""The hinge: the pseudo-likelihood exp(−2 max(0, 1 − y f)) of y ∈ {−1, 1}.

Its maximum with a normal prior of the coefficients is the support vector machine (Polson & Scott 2011, Data
augmentation for support vector machines, Bayesian Analysis 6, https://doi.org/10.1214/11-BA601; Henao, Yuan &
Carin 2014, NIPS 27; Wenzel et al. 2017, Bayesian nonlinear support vector machines for big data, ECML). No
augmentation is needed: with f ~ N(m, s²) and u = (1 − y m)/s

    E[max(0, 1 − y f)] = (1 − y m) Φ(u) + s φ(u),   ∂/∂m = −y Φ(u),   ∂²/∂m² = φ(u)/s

It is no density of y. The pair of y = 1 and y = −1, normalised, is one: p(1 | f) = σ(g(f)),
g = 2 max(0, 1 + f) − 2 max(0, 1 − f).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_models.regression.quadrature import trapezoid
from ppl_models.regression.responses.response import Response, RowTerms

SMOOTH = 1.0
"""The sd that f is taken to have where it is known exactly: the hinge has no curvature at a point."""

NODES = 48
"""Of the quadrature of `Pair`."""

_ROOT = math.sqrt(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Hinge(Response):
    """One class against the others.

    Attributes:
        positive: code of the class whose y is 1.
    """

    positive: int = 1

    def sign(self, y: Tensor) -> Tensor:
        """±1 of codes."""
        return torch.where(y == self.positive, 1.0, -1.0).to(torch.float64)

    def row_terms(
        self, y: Tensor, mean: Tensor, cov: Tensor | None, trials: Tensor | None = None
    ) -> RowTerms:
        """In closed form."""
        sign = self.sign(y)
        gap = 1 - sign * mean[:, 0]
        s = torch.full_like(gap, SMOOTH) if cov is None else cov[:, 0, 0].clamp_min(1e-12).sqrt()
        u = gap / s
        below, at = torch.special.ndtr(u), (-0.5 * u**2).exp() / _ROOT
        value = -2 * (gap * below + s * at)
        return RowTerms(value, (2 * sign * below)[:, None], (2 * at / s)[:, None, None])

    def log_prob(
        self, phi: Tensor, y: Tensor, psi: Tensor | None = None, trials: Tensor | None = None
    ) -> Tensor:
        """−2 max(0, 1 − y f)."""
        return -2 * (1 - self.sign(y) * phi[..., 0]).clamp_min(0.0)

    def start(self, y: Tensor, weight: Tensor, trials: Tensor | None = None) -> Tensor:
        """0: between the classes."""
        return torch.zeros(1, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Pair(Hinge):
    """The density σ(±g(f)) of one class against the others, by which kernels are compared.

    As exp(−2 max(0, 1 − y f)) is at most 1 whatever y, its evidence grows without end where classes can be
    told apart (Sollich 2002, Bayesian methods for support vector machines, Machine Learning 46,
    https://doi.org/10.1023/A:1012489924661); that of the pair does not.
    """

    def row_terms(
        self, y: Tensor, mean: Tensor, cov: Tensor | None, trials: Tensor | None = None
    ) -> RowTerms:
        """By the trapezoid rule; E[∇] = E[z log p]/s, E[∇²] = E[(z² − 1) log p]/s² (Stein 1981)."""
        nodes, weights = (torch.tensor(v, dtype=torch.float64) for v in trapezoid(NODES))
        m = mean[:, 0]
        s = torch.full_like(m, SMOOTH) if cov is None else cov[:, 0, 0].clamp_min(1e-6).sqrt()
        odds = self.sign(y) * log_odds(m + nodes[:, None] * s)
        each = torch.stack([weights, weights * nodes, weights * (1 - nodes**2)])
        value, slope, curvature = each @ torch.nn.functional.logsigmoid(odds)
        return RowTerms(value, (slope / s)[:, None], (curvature / s**2)[:, None, None])

    def log_prob(
        self, phi: Tensor, y: Tensor, psi: Tensor | None = None, trials: Tensor | None = None
    ) -> Tensor:
        """Log σ(±g(f))."""
        return torch.nn.functional.logsigmoid(self.sign(y) * log_odds(phi[..., 0]))


@dataclass(frozen=True, eq=False)
class OneAgainstRest(Response):
    """A hinge for each of C classes: outputs that share no coefficient.

    Attributes:
        classes: C; of two classes one hinge is enough.
    """

    classes: int

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """K = C, or 1 of two classes."""
        return 1 if self.classes == 2 else self.classes

    @property
    def parts(self) -> tuple[Hinge, ...]:
        """The hinge of each output."""
        return (Hinge(1),) if self.classes == 2 else tuple(map(Hinge, range(self.classes)))

    def alone(self, y: Tensor) -> list[tuple[Response, Tensor]]:
        """The normalised pair of each output: of a pseudo-likelihood there is no evidence."""
        return [(Pair(part.positive), y) for part in self.parts]

    def row_terms(
        self, y: Tensor, mean: Tensor, cov: Tensor | None, trials: Tensor | None = None
    ) -> RowTerms:
        """Those of each output, which do not know of one another."""
        found = [
            part.row_terms(y, mean[:, k, None], None if cov is None else cov[:, k, k][:, None, None])
            for k, part in enumerate(self.parts)
        ]
        return RowTerms(
            torch.stack([f.value for f in found]).sum(0),
            torch.cat([f.gradient for f in found], 1),
            torch.diag_embed(torch.cat([f.curvature[:, :, 0] for f in found], 1)),
        )

    def log_prob(
        self, phi: Tensor, y: Tensor, psi: Tensor | None = None, trials: Tensor | None = None
    ) -> Tensor:
        """The sum of the outputs' hinges."""
        parts = [part.log_prob(phi[..., k, None], y) for k, part in enumerate(self.parts)]
        return torch.stack(parts).sum(0)

    def start(self, y: Tensor, weight: Tensor, trials: Tensor | None = None) -> Tensor:
        """0."""
        return torch.zeros(self.outputs, dtype=torch.float64)


def log_odds(f: Tensor) -> Tensor:
    """g(f): log odds of the normalised pair of pseudo-likelihoods."""
    return 2 * (f + f.clamp(-1.0, 1.0))
