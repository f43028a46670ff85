"""Priors of regression coefficients, in coordinates where they are isotropic.

The coefficients of a predictor are K = C − 1 differences from the reference class, with prior covariance
scale² M, M = (I + 11ᵀ)/2. That is what C symmetric coefficients, iid N(0, scale²/2), imply for their
differences, so that no class is special; for C = 2 it is scale². With an orthonormal basis A√2 of the
contrasts of C classes, logits = A φ with φ ~ N(0, scale² I): all inference is done on φ.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ppl_models.regression.quadrature import normal_nodes, safe_cholesky, trapezoid


def contrasts(classes: int) -> Tensor:
    """A, (C, K): logits = A φ up to a constant; A[1:] − A[0] = R with R Rᵀ = M.

    Example:
        >>> A = contrasts(4)
        >>> R = A[1:] - A[0]
        >>> bool(torch.allclose(R @ R.T, (torch.eye(3) + torch.ones(3, 3)).double() / 2))
        True
    """
    A = torch.zeros(classes, classes - 1, dtype=torch.float64)
    for k in range(classes - 1):  # Helmert: class k + 1 against the mean of those before it
        A[: k + 1, k] = -1.0
        A[k + 1, k] = k + 1.0
        A[:, k] /= A[:, k].norm() * math.sqrt(2)
    return A


class Expected(NamedTuple):
    """E[log p(b)] (sum over predictors), its gradient (p, K) and minus its Hessian (p, K, K)."""

    log_prior: Tensor
    gradient: Tensor
    curvature: Tensor


class Prior(Protocol):
    """A prior that is independent over predictors: (p, K) coefficients φ."""

    def expect(self, mean: Tensor, cov: Tensor) -> Expected:
        """Expectations under independent N(mean_j, cov_j): mean (p, K), cov (p, K, K)."""
        ...

    def log_prob(self, b: Tensor) -> Tensor:
        """Log p(b), (...,) for b (..., p, K)."""
        ...

    def majoriser(self, b: Tensor) -> Tensor:
        """(p,) precision of an isotropic Gaussian that lies below p(b) and touches it at b: (p, K)."""
        ...


@dataclass(frozen=True, eq=False)
class NormalPrior:
    """b_j ~ N(0, scale_j² I_K); `scale` is (p,)."""

    scale: Tensor

    def expect(self, mean: Tensor, cov: Tensor) -> Expected:
        """In closed form."""
        K, precision = mean.shape[-1], self.scale**-2
        second = (mean**2).sum(-1) + cov.diagonal(dim1=-1, dim2=-2).sum(-1)
        log_prior = -0.5 * (second * precision).sum() - K * _log_scale(self.scale)
        eye = torch.eye(K, dtype=mean.dtype, device=mean.device)
        return Expected(log_prior, -mean * precision[:, None], precision[:, None, None] * eye)

    def log_prob(self, b: Tensor) -> Tensor:
        """Log p(b)."""
        return -0.5 * ((b / self.scale[:, None]) ** 2).sum((-1, -2)) - b.shape[-1] * _log_scale(self.scale)

    def sample(self, draws: int, K: int) -> Tensor:
        """B (draws, p, K), by torch's global generator."""
        return self.scale[:, None] * torch.randn(draws, len(self.scale), K, dtype=self.scale.dtype)

    def majoriser(self, b: Tensor) -> Tensor:
        """The precision itself."""
        return self.scale**-2


def _log_scale(scale: Tensor) -> Tensor:
    return (scale.log() + 0.5 * math.log(2 * math.pi)).sum()


@dataclass(frozen=True, eq=False)
class StudentPrior:
    """b_j ~ multivariate t_df(0, scale_j² I_K): log p = const − (df + K)/2 · log(1 + |b|²/(df scale²))."""

    scale: Tensor
    df: float

    def _constant(self, K: int) -> Tensor:
        each = math.lgamma((self.df + K) / 2) - math.lgamma(self.df / 2) - K / 2 * math.log(self.df * math.pi)
        return each * len(self.scale) - K * self.scale.log().sum()

    def expect(self, mean: Tensor, cov: Tensor) -> Expected:
        """By quadrature over the K dimensions of each predictor."""
        p, K = mean.shape
        if K == 1:
            nodes, weights = trapezoid(32)
            x, w = torch.tensor(nodes).to(mean).unsqueeze(-1), torch.tensor(weights).to(mean)
        else:
            x, w = (v.to(mean) for v in normal_nodes(K))
        b = mean.unsqueeze(1) + torch.einsum("qk,pjk->pqj", x, safe_cholesky(cov))  # (p, Q, K)
        total = self.df * self.scale[:, None] ** 2 + (b**2).sum(-1)  # (p, Q)
        log_t = (total / (self.df * self.scale[:, None] ** 2)).log()
        inverse = 1 / total
        c = self.df + K
        pull = b * inverse.unsqueeze(-1)
        eye = torch.eye(K, dtype=mean.dtype, device=mean.device)
        curvature = c * (
            (inverse @ w)[:, None, None] * eye - 2 * torch.einsum("pqa,pqb,q->pab", pull, pull, w)
        )
        log_prior = self._constant(K) - c / 2 * (log_t @ w).sum()
        return Expected(log_prior, -c * torch.einsum("pqk,q->pk", pull, w), curvature)

    def log_prob(self, b: Tensor) -> Tensor:
        """Log p(b)."""
        K = b.shape[-1]
        ratio = (b**2).sum(-1) / (self.df * self.scale**2)
        return self._constant(K) - (self.df + K) / 2 * ratio.log1p().sum(-1)

    def sample(self, draws: int, K: int) -> Tensor:
        """B (draws, p, K), a normal divided by the root of χ²/df, by torch's global generator."""
        chi2 = torch.distributions.Chi2(torch.as_tensor(self.df, dtype=self.scale.dtype))
        root = (chi2.sample((draws, len(self.scale), 1)) / self.df).sqrt()
        return NormalPrior(self.scale).sample(draws, K) / root

    def majoriser(self, b: Tensor) -> Tensor:
        """E[1/variance | b] of the t as a scale mixture of normals (Lange, Little & Taylor 1989)."""
        return (self.df + b.shape[-1]) / (self.df * self.scale**2 + (b**2).sum(-1))


@dataclass(frozen=True, eq=False)
class WithIntercept:
    """A normal intercept in row 0, and another prior for the predictors in rows 1 to p."""

    intercept: NormalPrior
    predictors: Prior

    def expect(self, mean: Tensor, cov: Tensor) -> Expected:
        """Both, stacked."""
        a = self.intercept.expect(mean[:1], cov[:1])
        b = self.predictors.expect(mean[1:], cov[1:])
        gradient, curvature = torch.cat([a.gradient, b.gradient]), torch.cat([a.curvature, b.curvature])
        return Expected(a.log_prior + b.log_prior, gradient, curvature)

    def log_prob(self, b: Tensor) -> Tensor:
        """Log p(b)."""
        return self.intercept.log_prob(b[..., :1, :]) + self.predictors.log_prob(b[..., 1:, :])

    def majoriser(self, b: Tensor) -> Tensor:
        """Both, stacked: (p + 1,)."""
        return torch.cat([self.intercept.majoriser(b[:1]), self.predictors.majoriser(b[1:])])


@dataclass(frozen=True, eq=False)
class Stacked:
    """Priors of successive runs of predictors: `widths` of each, which sum to p."""

    parts: tuple[Prior, ...]
    widths: tuple[int, ...]

    def expect(self, mean: Tensor, cov: Tensor) -> Expected:
        """All of them, stacked."""
        found = [
            part.expect(m, c)
            for part, m, c in zip(self.parts, mean.split(self.widths), cov.split(self.widths), strict=True)
        ]
        total = torch.stack([each.log_prior for each in found]).sum()
        return Expected(
            total, torch.cat([each.gradient for each in found]), torch.cat([each.curvature for each in found])
        )

    def log_prob(self, b: Tensor) -> Tensor:
        """Log p(b)."""
        some = zip(self.parts, b.split(self.widths, -2), strict=True)
        return torch.stack([part.log_prob(each) for part, each in some]).sum(0)

    def majoriser(self, b: Tensor) -> Tensor:
        """All of them, stacked."""
        some = zip(self.parts, b.split(self.widths), strict=True)
        return torch.cat([part.majoriser(each) for part, each in some])
