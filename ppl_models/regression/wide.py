"""Posteriors with more coefficients than a d × d matrix can hold.

Few rows (n K up to `ROWS`): the full covariance, exactly, through `Dual`. Many rows: the mean is exact, by
conjugate gradients, and the precision is diag(D) + V Vᵀ with the leading eigenvectors of the curvature
relative to the prior in V and what is left of its diagonal in D (Halko, Martinsson & Tropp 2011, SIAM
Review 53, https://doi.org/10.1137/090771806), or its diagonal alone.
"""

import math
import time
from typing import Any

import torch
from torch import Tensor

from ppl_models.regression.design import Block
from ppl_models.regression.dual import Dual
from ppl_models.regression.forms import Form, Structured
from ppl_models.regression.glm import GLM
from ppl_models.regression.rows import Batch

ROWS = 2_000
RANK = 200


def _entropy(dimension: int, half_log_det: Tensor) -> float:
    return 0.5 * dimension * (1 + math.log(2 * math.pi)) - float(half_log_det)


def _isotropic(curvature: Tensor) -> Tensor:
    """The mean of the diagonals of (p + 1, K, K), (p + 1,)."""
    return curvature.diagonal(dim1=-1, dim2=-2).mean(-1)


def _rows(glm: GLM, rows: Block, B: Tensor, cov: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Σ w E[log p], then w E[∇] (n, K) and w E[−∇²] (n, K, K) of each row."""
    assert rows.weight is not None
    w = rows.weight
    value, g, H = glm.row_terms(rows, rows.Z @ B, cov)
    return (value * w).sum(), g * w[:, None], H * w[:, None, None]


def mode(glm: GLM, rows: Block, B: Tensor, steps: int = 100) -> Tensor:
    """The posterior's mode by damped Newton steps, (p + 1, K); through `Dual` or conjugate gradients.

    Args:
        glm: the likelihood and the prior.
        rows: all rows.
        B: where to begin, (p + 1, K).
        steps: at most.
    """
    few = len(rows.y) * glm.outputs <= ROWS
    none = torch.zeros(glm.width, glm.outputs, glm.outputs).to(B)

    def at(B: Tensor) -> tuple[float, Tensor, Tensor]:
        value, g, H = _rows(glm, rows, B, None)
        prior = glm.prior.expect(B, none)
        return float(value + prior.log_prior), rows.Z.mT @ g + prior.gradient, H

    value, gradient, H = at(B)
    for _ in range(steps):
        D = glm.prior.majoriser(B)
        direction = Dual(rows.Z, D, H).solve(gradient) if few else conjugate(rows.Z, D, H, gradient)
        gain, size = float((gradient * direction).sum()), 1.0
        if gain < 1e-10 * glm.dimension:
            break
        found = at(B + direction)
        while found[0] < value + 1e-4 * size * gain - 1e-12 * abs(value) and size > 1e-6:
            size /= 2
            found = at(B + size * direction)
        if size <= 1e-6:
            break
        B, (value, gradient, H) = B + size * direction, found
    return B


def conjugate(Z: Tensor, D: Tensor, H: Tensor, right: Tensor, tolerance: float = 1e-6) -> Tensor:
    """P⁻¹ right for P = diag(D) + Σ z̃ z̃ᵀ ⊗ H, by conjugate gradients with the diagonal as preconditioner.

    Args:
        Z: rows z̃, (n, p + 1).
        D: precisions of the prior, (p + 1,), the same for each of the K outputs.
        H: curvature of the rows, (n, K, K).
        right: (p + 1, K).
        tolerance: of the residual, relative to where it begins.
    """

    def multiply(x: Tensor) -> Tensor:
        return D[:, None] * x + Z.mT @ (H @ (Z @ x).unsqueeze(-1)).squeeze(-1)

    scale = D[:, None] + (Z**2).mT @ H.diagonal(dim1=-1, dim2=-2)
    x, r = torch.zeros_like(right), right.clone()
    y = r / scale
    p, ry = y.clone(), (r * y).sum()
    first = float(ry)
    for _ in range(min(2 * right.numel(), 1_000)):
        if float(ry) <= tolerance**2 * first or first == 0.0:
            break
        Ap = multiply(p)
        a = ry / (p * Ap).sum()
        x, r = x + a * p, r - a * Ap
        y = r / scale
        ry, before = (r * y).sum(), ry
        p = y + (ry / before) * p
    return x


def fit_many(
    glm: GLM, batch: Batch, rank: int = RANK, steps: int = 30, tolerance: float = 1e-4
) -> tuple[Form, float, bool, tuple[dict[str, float], ...], float]:
    """A Gaussian with a precision of `rank` directions and a diagonal, for many rows and many columns.

    Args:
        glm: the density.
        batch: all rows; they are held in memory.
        rank: r; 0 for a diagonal precision.
        steps: at most.
        tolerance: largest step of the mean, in posterior standard deviations, at the end.

    Returns:
        The posterior, its ELBO, whether it converged, its history and the seconds it took.
    """
    began = time.perf_counter()
    rows = batch.whole()
    B = mode(glm, rows, glm.start(batch))
    D, site = glm.prior.majoriser(B), _rows(glm, rows, B, None)[2]
    history, moved, size, last = [], math.inf, 1.0, math.inf
    form, elbo = _truncated(rows.Z, D, site, B, rank), -math.inf
    for _ in range(steps):
        form = _truncated(rows.Z, D, site, B, rank)
        cov, own = _marginals(rows.Z, form, glm.outputs)
        value, g, site = _rows(glm, rows, B, cov)
        prior = glm.prior.expect(B, own)
        gradient = rows.Z.mT @ g + prior.gradient
        half = 0.5 * form.diagonal.log().sum() + form._root.diagonal().log().sum()
        elbo = float(value + prior.log_prior) + _entropy(glm.dimension, half)
        D = _isotropic(prior.curvature).clamp_min(1e-3 * glm.prior.majoriser(B).min())
        step = conjugate(rows.Z, D, site, gradient)
        moved = float((step.reshape(-1).abs() / form.variance.sqrt()).max())
        history.append({"rows": len(batch), "elbo": elbo, "left": moved, "rho": size})
        if moved < tolerance:
            break
        size = size / 2 if moved > last else min(1.0, 1.5 * size)
        last, B = moved, B + size * step
    return form, elbo, moved < tolerance, tuple(history), time.perf_counter() - began


def _truncated(Z: Tensor, D: Tensor, H: Tensor, B: Tensor, rank: int) -> Structured:
    """N(B, P⁻¹) with the leading directions of the curvature, and the diagonal of what is left."""
    K = H.shape[-1]
    d = B.numel()
    diagonal = (D[:, None] + (Z**2).mT @ H.diagonal(dim1=-1, dim2=-2)).reshape(-1)
    rank = min(rank, d, len(Z) * K)
    if rank == 0:
        return Structured(B.reshape(-1), diagonal, torch.zeros(d, 0).to(B))
    root = D.repeat_interleave(K).sqrt()[:, None]

    def curvature(x: Tensor) -> Tensor:
        x = (x / root).reshape(len(D), K, -1)
        f = torch.einsum("np,pks->nks", Z, x)
        return torch.einsum("np,nks->pks", Z, H @ f).reshape(d, -1) / root

    generator = torch.Generator().manual_seed(3)
    Y = torch.randn(d, min(rank + 10, d), dtype=torch.float64, generator=generator)
    for _ in range(3):
        Y = torch.linalg.qr(curvature(Y)).Q
    value, vector = torch.linalg.eigh(Y.mT @ curvature(Y))
    V = root * (Y @ vector[:, -rank:]) * value[-rank:].clamp_min(0.0).sqrt()
    left = (diagonal - (V**2).sum(-1)).clamp_min(D.repeat_interleave(K))
    return Structured(B.reshape(-1), left, V)


def _marginals(Z: Tensor, form: Structured, K: int) -> tuple[Tensor, Tensor]:
    """Covariances of the linear predictors (n, K, K) and of each predictor's coefficients (p + 1, K, K)."""
    p1 = Z.shape[1]
    D = form.diagonal.reshape(p1, K)
    W = torch.linalg.solve_triangular(form._root, form.factor.mT / form.diagonal, upper=False)
    W = W.reshape(-1, p1, K)  # (r, p + 1, K): P⁻¹ = D⁻¹ − Wᵀ W
    f = torch.einsum("np,rpk->rnk", Z, W)
    cov = torch.diag_embed(Z**2 @ (1 / D)) - torch.einsum("rna,rnb->nab", f, f)
    return cov, torch.diag_embed(1 / D) - torch.einsum("rpa,rpb->pab", W, W)


def fit_dual(
    glm: GLM, batch: Batch, steps: int = 200, tolerance: float = 1e-6
) -> tuple[Form, float, bool, tuple[dict[str, float], ...], float]:
    """The Gaussian closest to the posterior, full covariance, for few rows.

    Args:
        glm: the density.
        batch: all rows; they are held in memory.
        steps: at most.
        tolerance: nats left to gain, a parameter, at the end.

    Returns:
        The posterior, its ELBO, whether it converged, its history and the seconds it took.
    """
    began = time.perf_counter()
    rows = batch.whole()
    B = mode(glm, rows, glm.start(batch))
    D = glm.prior.majoriser(B)
    site = _rows(glm, rows, B, None)[2]
    best: tuple[Any, ...] | None = None
    rho, left = 1.0, math.inf
    history: list[dict[str, float]] = []
    limit = tolerance * glm.dimension
    for _ in range(steps):
        dual = Dual(rows.Z, D, site)
        cov = dual.predictors()
        value, g, H = _rows(glm, rows, B, cov)
        prior = glm.prior.expect(B, dual.coefficients())
        gradient = rows.Z.mT @ g + prior.gradient
        elbo = float(value + prior.log_prior) + _entropy(glm.dimension, dual.half_log_det)
        accepted = best is None or elbo >= best[-1] - 1e-10 * abs(best[-1])
        left = float((gradient * dual.solve(gradient)).sum()) / 2
        left += dual.discrepancy(H - site)
        history.append({"rows": len(batch), "elbo": elbo, "left": left, "rho": rho})
        if accepted:
            curved = _isotropic(prior.curvature).clamp_min(1e-3 * glm.prior.majoriser(B).min())
            best = (B, D, site, gradient, H, curved, elbo)
            rho = min(1.0, 1.5 * rho)
            if left < limit:
                break
        else:
            rho /= 2
            if rho < 1e-6:
                break
        assert best is not None  # the first state is always accepted
        B, D, site, gradient, H, curved, _ = best
        D, site = (1 - rho) * D + rho * curved, (1 - rho) * site + rho * H
        B = B + rho * Dual(rows.Z, D, site).solve(gradient)
    assert best is not None
    B, D, site = best[:3]
    seconds = time.perf_counter() - began
    return Dual(rows.Z, D, site).form(B), best[-1], left < limit, tuple(history), seconds
