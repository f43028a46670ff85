"""Weights that are not counts: how much a weighted likelihood knows, by the sandwich.

A likelihood with weights of importance, Σ_n w_n log p(y_n | φ), has the curvature H of as many rows as Σ w
says, whatever the weights are; what its maximum varies by over samples is H⁻¹ J H⁻¹, J the variance of its
gradient. Weights that sum to Kish's effective size (`ppl_models.data.weights`) make both alike where weights
have nothing to do with predictors. Where they have, the likelihood is bent about the mode φ̂ so that its
curvature is H J⁻¹ H, direction by direction,

    L(φ)  →  L(φ̂ + C (φ − φ̂)),    Cᵀ H C = H J⁻¹ H,

and the prior is as it is (Ribatet, Cooley & Davison 2012, Bayesian inference from composite likelihoods,
Statistica Sinica 22, https://www.jstor.org/stable/24310027; Williams & Savitsky 2021, Uncertainty estimation
for pseudo-Bayesian inference under complex sampling, International Statistical Review 89,
https://doi.org/10.1111/insr.12376). J is of residuals over 1 − leverage (HC3: MacKinnon & White 1985, Journal
of Econometrics 29), drawn to H by d/(d + effective rows), as it is of no use where rows are few; by 60 d/(60
d + effective rows) where it is below H, as a sandwich of few rows is too narrow more often than too wide.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Adjustment(NamedTuple):
    """φ → φ̂ + C (φ − φ̂): centre φ̂ (d,), and C (d, d)."""

    centre: Tensor
    map: Tensor

    def points(self, B: Tensor) -> Tensor:
        """Where the likelihood of coefficients (..., p + 1, K) is taken."""
        x = B.flatten(-2) - self.centre
        return (self.centre + x @ self.map.mT).view_as(B)

    def covariance(self, sigma: Tensor) -> Tensor:
        """C Σ Cᵀ of Σ (p + 1, K, p + 1, K)."""
        d = len(self.centre)
        return (self.map @ sigma.reshape(d, d) @ self.map.mT).view_as(sigma)

    def back(self, gradient: Tensor, curvature: Tensor) -> tuple[Tensor, Tensor]:
        """Cᵀ g (p + 1, K) and Cᵀ F C (p + 1, K, p + 1, K)."""
        d = len(self.centre)
        return (
            (gradient.reshape(d) @ self.map).view_as(gradient),
            (self.map.mT @ curvature.reshape(d, d) @ self.map).view_as(curvature),
        )


NARROW, LEAST = 60.0, 0.05
"""How much more J is drawn to H where it is below, and the smallest ratio of both."""


def adjustment(mode: Tensor, H: Tensor, J: Tensor, prior: Tensor, rows: float) -> Adjustment:
    """C from H and J, in coordinates where H and the prior together are I.

    Where the data says nothing both are the prior's precision, and C is I.

    Args:
        mode: φ̂, (d,).
        H: the likelihood's −∇² there, (d, d).
        J: the variance of its gradient, (d, d).
        prior: the precision of the prior there, (d, d).
        rows: how many there are effectively.
    """
    d = len(mode)
    L = torch.linalg.cholesky(H + prior)
    half = torch.linalg.solve_triangular(L, J + prior, upper=False)
    inner = torch.linalg.solve_triangular(L, half.mT, upper=False)
    value, vector = torch.linalg.eigh((inner + inner.mT) / 2)
    share = torch.where(value < 1, NARROW * d / (NARROW * d + rows), d / (d + rows))
    value = ((1 - share) * value + share).clamp_min(LEAST)
    root = (vector * value**-0.5) @ vector.mT
    return Adjustment(mode, torch.linalg.solve_triangular(L.mT, root @ L.mT, upper=True))
