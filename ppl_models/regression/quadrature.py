"""Expectations of the logistic and softmax log likelihoods under a Gaussian linear predictor.

Binary, f ~ N(m, v): E[log(1 + e^f)], E[σ(f)] and E[σ(f)(1 − σ(f))]. The integrands are analytic in a strip
|Im f| < π, where the trapezoid rule with step h in f converges like e^{−2π²/h} (Trefethen & Weideman 2014,
The exponentially convergent trapezoidal rule, SIAM Review 56, https://doi.org/10.1137/130932132);
Gauss–Hermite with few nodes does as well where v is small. The number of nodes follows from v.

Several classes, φ ~ N(m, V) of K = C − 1 dimensions with logits A φ: a fixed set of nodes, the product of
Gauss–Hermite rules for K ≤ 2, else scrambled Sobol points with their reflections, scaled so that their
second moment is exactly I. The same nodes every time, so that the ELBO is a deterministic function.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Moments(NamedTuple):
    """What a likelihood asks of its linear predictors; K = C − 1.

    Attributes:
        log_normaliser: E[log Σ_c exp logit_c], (m,).
        mean: E of the gradient of the log normaliser with respect to φ, (m, K).
        curvature: E of its Hessian, (m, K, K).
    """

    log_normaliser: Tensor
    mean: Tensor
    curvature: Tensor


# (largest sd, Gauss–Hermite nodes): absolute errors below 1e-9, as the tests check
_LEVELS = ((0.06, 3), (0.12, 4), (0.2, 5), (0.45, 9), (0.8, 17))
_STEP = 0.8  # in f: e^{−2π²/0.8} = 2e-11
_REACH = 6.5  # standard deviations


@lru_cache(maxsize=64)
def gauss_hermite(nodes: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights for the expectation under N(0, 1)."""
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    return tuple(x.tolist()), tuple((w / math.sqrt(2 * math.pi)).tolist())


@lru_cache(maxsize=256)
def trapezoid(half: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """2·half + 1 equidistant nodes over ±6.5, with weights that sum to one."""
    x = np.linspace(-_REACH, _REACH, 2 * half + 1)
    w = np.exp(-(x**2) / 2)
    return tuple(x.tolist()), tuple((w / w.sum()).tolist())


def rule(sd: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes and weights for an expectation under N(0, 1) of a function that changes over 1/sd."""
    for largest, nodes in _LEVELS:
        if sd <= largest:
            return gauss_hermite(nodes)
    step = min(_STEP / sd, 0.65)
    return trapezoid(min(math.ceil(_REACH / step), 2_000))


def binary_moments(mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E[log(1 + e^f)], E[σ(f)], E[σ(f)(1 − σ(f))] for f ~ N(mean, sd²), each (m,)."""
    worst = float(sd.max()) if sd.numel() else 0.0
    if worst <= _LEVELS[-1][0]:
        return _binary(mean, sd, *rule(worst))
    edges = torch.tensor([_LEVELS[-1][0], 2.0, 8.0, 32.0], dtype=sd.dtype, device=sd.device)
    level = torch.bucketize(sd, edges)
    out = tuple(torch.empty_like(mean) for _ in range(3))
    for each in range(len(edges) + 1):
        at = (level == each).nonzero().squeeze(-1)
        if len(at):
            some = sd[at]
            for whole, part in zip(out, _binary(mean[at], some, *rule(float(some.max()))), strict=True):
                whole[at] = part
    return out[0], out[1], out[2]


def _binary(
    mean: Tensor, sd: Tensor, nodes: tuple[float, ...], weights: tuple[float, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    softplus, low, square = (torch.zeros_like(mean) for _ in range(3))
    far = float((mean.abs() + nodes[-1] * sd).max()) > 600.0 if len(mean) else False
    for node, weight in zip(nodes, weights, strict=True):
        f = torch.add(mean, sd, alpha=node)
        if far:  # e^f would overflow
            softplus.add_((f - 600.0).clamp_min(0.0), alpha=weight)
            f.clamp_(-600.0, 600.0)
        e = f.exp_().add_(1.0)
        softplus.add_(e.log(), alpha=weight)
        inverse = e.reciprocal_()  # 1 − σ(f)
        low.add_(inverse, alpha=weight)
        square.addcmul_(inverse, inverse, value=weight)
    return softplus, 1 - low, low - square


@lru_cache(maxsize=64)
def normal_nodes(dimensions: int, sd: float = math.inf) -> tuple[Tensor, Tensor]:
    """Nodes (Q, K) and weights (Q,) for an expectation under N(0, I) of K dimensions.

    Args:
        dimensions: K.
        sd: of the linear predictors they are for; small ones need fewer nodes.
    """
    if dimensions <= 2:
        number = next((nodes for largest, nodes in _LEVELS if sd <= largest), 24)
        x, w = (np.array(v) for v in gauss_hermite(number))
        grid = np.stack([g.ravel() for g in np.meshgrid(*[x] * dimensions, indexing="ij")], -1)
        weight = np.prod(np.stack([g.ravel() for g in np.meshgrid(*[w] * dimensions, indexing="ij")], -1), -1)
        keep = weight > 1e-12
        return torch.as_tensor(grid[keep]), torch.as_tensor(weight[keep] / weight[keep].sum())
    if sd <= _SMALL and dimensions <= 8:
        return _degree_five(dimensions)
    engine = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=7)
    half = 64 if dimensions <= 32 else 2 ** math.ceil(math.log2(2 * dimensions))
    u = engine.draw(half, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
    x = torch.special.ndtri(u)
    x = torch.cat([x, -x])
    root = torch.linalg.cholesky(x.mT @ x / len(x))
    x = torch.linalg.solve_triangular(root, x.mT, upper=False).mT
    return x.contiguous(), torch.full((len(x),), 1 / len(x), dtype=torch.float64)


_SMALL = 0.2


def _degree_five(K: int) -> tuple[Tensor, Tensor]:
    """2K² + 1 nodes, exact for polynomials of degree five (McNamee & Stenger 1967, Numer. Math. 10)."""
    eye = torch.eye(K, dtype=torch.float64)
    axes = math.sqrt(K + 2) * torch.cat([eye, -eye])
    i, j = torch.triu_indices(K, K, 1)
    pairs = math.sqrt((K + 2) / 2) * torch.cat([s * eye[i] + t * eye[j] for s in (1, -1) for t in (1, -1)])
    weights = [2 / (K + 2)], [(4 - K) / (2 * (K + 2) ** 2)] * len(axes), [1 / (K + 2) ** 2] * len(pairs)
    nodes = torch.cat([torch.zeros(1, K, dtype=torch.float64), axes, pairs])
    return nodes, torch.tensor(sum(weights, []), dtype=torch.float64)


def softmax_moments(mean: Tensor, cov: Tensor, contrasts: Tensor) -> Moments:
    """Moments of the log normaliser log Σ_c exp logit_c of logits A φ, φ ~ N(mean, cov), of each row.

    Args:
        mean: of φ, (m, K).
        cov: of φ, (m, K, K).
        contrasts: A (C, K).
    """
    worst = float(cov.diagonal(dim1=-1, dim2=-2).max()) ** 0.5 if len(cov) else 0.0
    level = next((largest for largest, _ in _LEVELS if worst <= largest), math.inf)
    x, w = (v.to(mean) for v in normal_nodes(mean.shape[-1], level))
    (m, K), C, Q = mean.shape, len(contrasts), len(w)
    root = safe_cholesky(cov)
    if C > MANY:
        return _many(mean, root, contrasts, x, w)
    phi = torch.stack([root[:, j, : j + 1] @ x.mT[: j + 1] for j in range(K)])  # (K, m, Q)
    phi += mean.mT.unsqueeze(-1)
    p = (contrasts @ phi.view(K, m * Q)).view(C, m, Q)  # the logits, then the probabilities
    top = p.amax(0)
    p = p.sub_(top).exp_()
    total = p.sum(0)
    log_normaliser = total.log().add_(top) @ w
    p /= total
    average = (p @ w).mT  # (m, C)
    g = (contrasts.mT @ p.view(C, m * Q)).view(K, m, Q)  # the gradient at each node
    curvature = torch.einsum("nc,ca,cb->nab", average, contrasts, contrasts)
    for a in range(K):
        weighed = g[a] * w
        for b in range(a + 1):
            product = (weighed * g[b]).sum(-1)
            curvature[:, a, b] -= product
            if a != b:
                curvature[:, b, a] -= product
    return Moments(log_normaliser, average @ contrasts, curvature)


MANY = 5
"""Classes beyond which products are taken row by row, all classes at once, rather than class by class."""


def _many(mean: Tensor, root: Tensor, A: Tensor, x: Tensor, w: Tensor) -> Moments:
    """`softmax_moments` of many classes, from the Cholesky factors (m, K, K) and nodes x (Q, K), w (Q,)."""
    (m, K), C = mean.shape, len(A)
    p = ((A @ root).view(m * C, K) @ x.mT).view(m, C, -1)  # the logits, then the probabilities, (m, C, Q)
    p += (mean @ A.mT).unsqueeze(-1)
    top = p.amax(1, keepdim=True)
    p = p.sub_(top).exp_()
    total = p.sum(1, keepdim=True)
    log_normaliser = (total.log() + top).squeeze(1) @ w
    p /= total
    average = p @ w  # (m, C)
    second = torch.bmm(p.mul_(w.sqrt()), p.mT)  # E[p pᵀ], (m, C, C)
    curvature = A.mT @ (torch.diag_embed(average) - second) @ A
    return Moments(log_normaliser, average @ A, curvature)


def safe_cholesky(cov: Tensor) -> Tensor:
    """The Cholesky factor of covariances that may be singular up to rounding: (..., K, K)."""
    if cov.shape[-1] == 1:
        return cov.clamp_min(0.0).sqrt()
    floor = cov.diagonal(dim1=-1, dim2=-2).amax(-1).clamp_min(1e-300) * 1e-13
    eye = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device)
    root, info = torch.linalg.cholesky_ex(cov + floor[..., None, None] * eye)
    if bool((info > 0).any()):
        value, vector = torch.linalg.eigh(cov)
        root = torch.linalg.qr((vector * value.clamp_min(0.0).sqrt().unsqueeze(-2)).mT).R.mT
    return root
