"""The regularised horseshoe prior, with its local scales integrated out.

    b_j | λ_j, τ, c ~ N(0, τ² λ̃_j² I_K),   λ̃_j² = c² λ_j² / (c² + τ² λ_j²)
    λ_j ~ C⁺(0, 1),   τ ~ C⁺(0, τ₀),   c² ~ InvGamma(df/2, df · slab²/2)

(Piironen & Vehtari 2017, Sparsity information and regularization in the horseshoe and other shrinkage
priors, Electronic Journal of Statistics 11, https://doi.org/10.1214/17-EJS1337SI.) log λ_j has a density
2/π · λ/(1 + λ²) that is analytic and has exponential tails, so that a trapezoid rule in log λ turns
p(b_j | τ, c) into a mixture of normals with known weights: exact to 1e-4 with 37 of them.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

NODES = 37
SLAB_STEP = 0.9
_REACH = 9.0


def local_scales() -> tuple[Tensor, Tensor]:
    """Log λ at the nodes, and the log weights of the nodes."""
    t = torch.linspace(-_REACH, _REACH, NODES, dtype=torch.float64)
    log_weight = t - torch.nn.functional.softplus(2 * t)
    return t, log_weight - log_weight.logsumexp(0)


class Tilted(NamedTuple):
    """A cavity times the prior: log normaliser (p,), mean (p, K), covariance (p, K, K)."""

    log_normaliser: Tensor
    mean: Tensor
    cov: Tensor


@dataclass(frozen=True, eq=False)
class Cell:
    """The prior of a coefficient given τ and the slab's variance c², in units where column j has `scale_j`.

    Attributes:
        tau: τ.
        slab: c².
        scale: (p,) factor of τ and c for each column: 1 for standardised ones.
    """

    tau: float
    slab: float
    scale: Tensor

    @cached_property
    def log_variance(self) -> Tensor:
        """Log τ² λ̃² at the nodes, (nodes,)."""
        log_square = 2 * (math.log(self.tau) + local_scales()[0])
        return -torch.logaddexp(-log_square, torch.full_like(log_square, -math.log(self.slab)))

    def tilt(self, mean: Tensor, cov: Tensor) -> Tilted:
        """Moments of N(b; mean_j, cov_j) p(b_j | τ, c): mean (p, K), cov (p, K, K) positive definite."""
        value, vector = torch.linalg.eigh(cov) if cov.shape[-1] > 1 else (cov[..., 0], torch.ones_like(cov))
        m = (vector.mT @ mean.unsqueeze(-1)).squeeze(-1)  # (p, K), in the axes of the covariance
        s = (self.log_variance + 2 * self.scale.log()[:, None]).exp().unsqueeze(-1)  # (p, nodes, 1)
        v, m = value.unsqueeze(1), m.unsqueeze(1)  # (p, 1, K)
        total = v + s
        log_w = local_scales()[1] - 0.5 * (m**2 / total + total.log() + math.log(2 * math.pi)).sum(-1)
        log_normaliser = log_w.logsumexp(-1)
        w = (log_w - log_normaliser[:, None]).exp().unsqueeze(-1)  # (p, nodes, 1)
        each = m * s / total
        first = (w * each).sum(1)
        spread = (w * (v * s / total)).sum(1)
        gap = each - first.unsqueeze(1)
        second = torch.diag_embed(spread) + (w * gap).mT @ gap
        back = (vector @ first.unsqueeze(-1)).squeeze(-1)
        return Tilted(log_normaliser, back, vector @ second @ vector.mT)

    def log_density(self, square: Tensor, K: int) -> Tensor:
        """Log p(b | τ, c) for |b|² (...) of a column with scale 1."""
        log_s = self.log_variance
        log_w = local_scales()[1] - 0.5 * K * (log_s + math.log(2 * math.pi))
        return (log_w - 0.5 * square.unsqueeze(-1) * (-log_s).exp()).logsumexp(-1)


@dataclass(frozen=True, eq=False)
class Horseshoe:
    """The prior of p columns; `scale` (p,) is 1 for standardised columns.

    Attributes:
        scale: (p,).
        global_scale: τ₀.
        slab_scale: the slab is a t_df(0, slab_scale²).
        slab_df: df.
    """

    scale: Tensor
    global_scale: float
    slab_scale: float
    slab_df: float = 4.0

    def slabs(self) -> tuple[list[float], list[float]]:
        """Values of c², equidistant in its logarithm, and the logs of their prior weights."""
        a, rate = self.slab_df / 2, self.slab_df * self.slab_scale**2 / 2
        log_c = [math.log(rate / a) + step * SLAB_STEP for step in range(-1, 4)]
        value = [a * math.log(rate) - math.lgamma(a) - a * x - rate * math.exp(-x) for x in log_c]
        top = math.log(sum(math.exp(v) for v in value))
        return [math.exp(x) for x in log_c], [v - top for v in value]

    def log_tau_density(self, log_tau: float) -> float:
        """Log density of log τ."""
        x = log_tau - math.log(self.global_scale)
        return math.log(2 / math.pi) + x - math.log1p(math.exp(2 * x)) if x < 300 else -x

    def log_prob(self, b: Tensor, log_tau: Tensor, slab: Tensor, log_weight: Tensor) -> Tensor:
        """Log p(b) for b (S, p, K), with (τ, c²) integrated over cells of prior weights (G,).

        p(b_j | τ, c) depends on |b_j| alone: it is interpolated in log |b_j| from 3,000 values a cell,
        to about 1e-5 nats a column.

        Args:
            b: coefficients, in the units of `scale`.
            log_tau: log τ of each cell, (G,).
            slab: c² of each cell, (G,).
            log_weight: log prior weights of the cells, (G,).
        """
        K = b.shape[-1]
        norm = (b / self.scale[:, None]).norm(dim=-1).clamp(1e-12, 1e12)
        low, high, size = math.log(1e-12), math.log(1e12), 3_000
        grid = torch.linspace(low, high, size, dtype=torch.float64)
        place = (norm.log() - low) * ((size - 1) / (high - low))
        at = place.long().clamp(0, size - 2)
        part = place - at
        total = []
        for t, c in zip(log_tau.tolist(), slab.tolist(), strict=True):
            table = Cell(math.exp(t), c, self.scale).log_density((2 * grid).exp(), K)
            total.append(torch.lerp(table[at], table[at + 1], part).sum(-1))
        jacobian = K * self.scale.log().sum()
        return torch.logsumexp(torch.stack(total) + log_weight[:, None], 0) - jacobian


def global_scale(columns: int, rows: float, expected: float | None) -> float:
    """τ₀ = p₀/(p − p₀) · 2/√n for p₀ expected nonzero coefficients (2 is the pseudo-sd of a binary response).

    Without an expectation p₀ = max(1, √p), at most p/2: more than one where there are many columns, and still
    sparse. (Piironen & Vehtari 2017, §3.3.)
    """
    p0 = min(max(1.0, math.sqrt(columns)), columns / 2) if expected is None else min(expected, columns - 0.5)
    return max(p0, 1e-3) / max(columns - p0, 0.5) * 2 / math.sqrt(max(rows, 1.0))
