"""Posterior under a horseshoe: expectation propagation given (τ, c), and a grid over (τ, c).

Given τ and c, the factors p(b_j | τ, c) and p(y_n | φ_n) are each replaced by a Gaussian site whose product
with the rest has the same mean and covariance as the factor's own (Minka 2001, Expectation propagation,
https://arxiv.org/abs/1301.2294; for sparse priors Hernández-Lobato, Hernández-Lobato & Suárez 2015, Machine
Learning 99, https://doi.org/10.1007/s10994-014-5475-7). All sites are updated in parallel with damping. The
posterior is Σ_g w_g N(m_g, P_g⁻¹) over cells g of the grid, with w_g the prior of the cell times the EP
estimate of its evidence, as in Rue, Martino & Chopin (2009, JRSS B 71, https://doi.org/10.1111/j.1467-9868.2008.00700.x).

With many rows the likelihood is one Gaussian factor, its expected gradient and curvature under the posterior.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_models.regression.design import Block
from ppl_models.regression.dual import Dual, Primal
from ppl_models.regression.forms import Mixture
from ppl_models.regression.glm import GLM
from ppl_models.regression.horseshoe import Cell, Horseshoe
from ppl_models.regression.quadrature import normal_nodes, safe_cholesky, trapezoid
from ppl_models.regression.responses import Categorical

STEP = 1.0
"""Distance of the grid's values of log τ."""

_IGNORE = 4.0  # cells this many nats below the best are where a search ends


@dataclass(frozen=True, eq=False)
class Sites:
    """Natural parameters of the Gaussian sites.

    Attributes:
        t: precisions of the prior's sites, (p,), times I_K.
        h: precision × mean of them, (p, K).
        H: precisions of the rows' sites, (n, K, K).
        r: precision × mean of them, (n, K).
    """

    t: Tensor
    h: Tensor
    H: Tensor
    r: Tensor


@dataclass(frozen=True, eq=False)
class Fixed:
    """A likelihood that is one Gaussian factor: −½ φᵀ F φ + φᵀ r, F (d, d), r (p + 1, K)."""

    F: Tensor
    r: Tensor


@dataclass(frozen=True, eq=False)
class Solved:
    """A cell of the grid: its sites, mean (p + 1, K), log evidence, and whether EP converged."""

    cell: Cell
    sites: Sites
    gaussian: Dual | Primal
    mean: Tensor
    evidence: float
    converged: bool


def likelihood_tilt(glm: GLM, rows: Block, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Moments of N(φ_n; mean, cov) p(y_n | φ_n)^w: log normaliser (n,), mean (n, K), covariance (n, K, K).

    Args:
        glm: p(y | φ).
        rows: n rows with their classes and weights w.
        mean: of the cavity, (n, K).
        cov: of the cavity, (n, K, K).
    """
    K = glm.outputs
    if K == 1:
        nodes, weights = trapezoid(60)
        x, w = torch.tensor(nodes).to(mean).unsqueeze(-1), torch.tensor(weights).to(mean)
    else:
        x, w = (v.to(mean) for v in normal_nodes(K))
    root = safe_cholesky(cov)
    phi = mean.unsqueeze(1) + x @ root.mT  # (n, Q, K)
    offset = 0.0 if rows.offset is None else rows.offset[:, None, None]
    trials = None if rows.trials is None else rows.trials[:, None]
    log_p = glm.response.log_prob(phi + offset, rows.y.unsqueeze(-1), None, trials)
    assert rows.weight is not None
    log_w = w.log() + log_p * rows.weight[:, None]
    log_normaliser = log_w.logsumexp(-1)
    tilted = (log_w - log_normaliser[:, None]).exp()
    first = tilted @ x
    square = (x.unsqueeze(-1) * x.unsqueeze(-2)).reshape(len(x), K * K)
    second = (tilted @ square).view(-1, K, K) - first.unsqueeze(-1) * first.unsqueeze(-2)
    return log_normaliser, mean + (root @ first.unsqueeze(-1)).squeeze(-1), root @ second @ root.mT


def _invert(matrix: Tensor) -> Tensor:
    return 1 / matrix if matrix.shape[-1] == 1 else torch.linalg.inv(matrix)


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _log_partition(h: Tensor, precision: Tensor) -> Tensor:
    """Σ log ∫ exp(hᵀx − ½ xᵀ P x) dx over a batch: h (m, K), P (m, K, K)."""
    root = precision.sqrt() if precision.shape[-1] == 1 else torch.linalg.cholesky_ex(precision)[0]
    z = torch.linalg.solve_triangular(root, h.unsqueeze(-1), upper=False)
    log_det = root.diagonal(dim1=-1, dim2=-2).log().sum()
    return 0.5 * (z**2).sum() - log_det + 0.5 * h.numel() * math.log(2 * math.pi)


def solve_cell(
    glm: GLM,
    rows: Block,
    cell: Cell,
    start: Sites,
    fixed: Fixed | None = None,
    steps: int = 150,
    tolerance: float = 1e-3,
    damping: float = 0.7,
) -> Solved:
    """EP for one (τ, c) from some sites, until no mean moves by `tolerance` posterior standard deviations.

    Args:
        glm: the likelihood, and the prior of the intercept.
        rows: all rows; none where the likelihood is one factor.
        cell: τ, c and the scales of the coefficients.
        start: sites to begin with.
        fixed: the likelihood as one Gaussian factor, or None.
        steps: at most.
        tolerance: as above.
        damping: the share of each update that is made; half of it after 60 steps.
    """
    K, p1 = glm.outputs, glm.width
    n = len(rows.y)
    Z = rows.Z
    intercept = glm.prior.intercept.majoriser(Z.new_zeros(1, K))
    eye = torch.eye(K, dtype=torch.float64)
    widest = 0.01 / (cell.log_variance.max().exp() * cell.scale**2)
    sites, before, evidence, converged = start, None, -math.inf, False
    kind = Dual if fixed is None and n * K < p1 * K else Primal
    gaussian, mean = None, Z.new_zeros(p1, K)
    for count in range(steps):
        D = torch.cat([intercept, sites.t])
        gaussian = Dual(Z, D, sites.H) if kind is Dual else Primal(Z, D, sites.H, fixed and fixed.F)
        right = torch.cat([Z.new_zeros(1, K), sites.h]) + Z.mT @ sites.r
        if fixed is not None:
            right = right + fixed.r
        mean = gaussian.solve(right)
        V = gaussian.coefficients()[1:]
        W = gaussian.predictors()
        f = Z @ mean
        # marginals, then cavities, in natural parameters
        P_b, P_f = _invert(V), _invert(W)
        n_b, n_f = _apply(P_b, mean[1:]), _apply(P_f, f)
        C_b, C_f = P_b - sites.t[:, None, None] * eye, P_f - sites.H
        ok_b = C_b.diagonal(dim1=-1, dim2=-2).amin(-1) > 1e-10 * P_b.diagonal(dim1=-1, dim2=-2).amax(-1)
        ok_f = C_f.diagonal(dim1=-1, dim2=-2).amin(-1) > 1e-10 * P_f.diagonal(dim1=-1, dim2=-2).amax(-1)
        C_b = torch.where(ok_b[:, None, None], C_b, P_b)
        C_f = torch.where(ok_f[:, None, None], C_f, P_f)
        c_b = torch.where(ok_b[:, None], n_b - sites.h, n_b)
        c_f = torch.where(ok_f[:, None], n_f - sites.r, n_f)
        V_b, V_f = _invert(C_b), _invert(C_f)
        prior = cell.tilt(_apply(V_b, c_b), V_b)
        log_Z, m_f, S_f = likelihood_tilt(glm, rows, _apply(V_f, c_f), V_f)
        evidence = (
            0.5 * float((right * mean).sum())
            - float(gaussian.half_log_det)
            + 0.5 * p1 * K * math.log(2 * math.pi)
            + 0.5 * K * float(intercept.log().sum() - math.log(2 * math.pi))
            + float(prior.log_normaliser.sum() + _log_partition(c_b, C_b) - _log_partition(n_b, P_b))
            + float(log_Z.sum() + _log_partition(c_f, C_f) - _log_partition(n_f, P_f))
        )
        spread = V.diagonal(dim1=-1, dim2=-2).sqrt()
        if before is not None and count > 2:
            moved = float(((mean[1:] - before).abs() / spread).max())
            if moved < tolerance * damping:
                converged = True
                break
        before = mean[1:]
        N_b, N_f = _invert(prior.cov), _invert(S_f)
        t = (N_b - C_b).diagonal(dim1=-1, dim2=-2).mean(-1)
        t = torch.maximum(t, widest)
        h = _apply(C_b + t[:, None, None] * eye, prior.mean) - c_b
        H, r = N_f - C_f, _apply(N_f, m_f) - c_f
        a = damping if count < 60 else 0.5 * damping
        use_b, use_f = a * ok_b.to(t.dtype), a * ok_f.to(t.dtype)
        sites = Sites(
            torch.lerp(sites.t, t, use_b),
            torch.lerp(sites.h, h, use_b[:, None]),
            torch.lerp(sites.H, 0.5 * (H + H.mT), use_f[:, None, None]),
            torch.lerp(sites.r, r, use_f[:, None]),
        )
    assert gaussian is not None
    return Solved(cell, sites, gaussian, mean, evidence, converged)


def first_sites(glm: GLM, rows: Block, scale: Tensor) -> Sites:
    """Sites of a normal prior with variance `scale`² and a likelihood that says little yet.

    Args:
        glm: the likelihood.
        rows: n rows with their classes and weights.
        scale: sds (p,).
    """
    n, K = len(rows.y), glm.outputs
    eye = torch.eye(K, dtype=torch.float64).expand(n, K, K)
    assert rows.weight is not None
    nothing = torch.zeros(len(scale), K, dtype=torch.float64)
    if n == 0 or isinstance(glm.response, Categorical):
        own = glm.row_terms(rows, torch.zeros(n, K, dtype=torch.float64), None)[1]
        site = 0.05 * rows.weight[:, None, None] * eye
        return Sites(scale**-2, nothing, site, 0.5 * own * rows.weight[:, None])
    f = glm.response.start(rows.y, rows.weight, rows.trials).expand(n, K)
    _, g, H = glm.row_terms(rows, f, None)
    H = (0.1 * rows.weight)[:, None, None] * H.clamp_min(1e-3)
    return Sites(scale**-2, nothing, H, 0.1 * rows.weight[:, None] * g + H[:, 0] * f)


def grid(
    glm: GLM,
    rows: Block,
    prior: Horseshoe,
    fixed: Fixed | None = None,
    progress: Callable[[Solved], None] | None = None,
) -> list[tuple[Solved, float]]:
    """Cells (τ, c) with the log of prior × evidence, out to where they no longer matter.

    Args:
        glm: the likelihood, and the prior of the intercept.
        rows: all rows; none where the likelihood is one factor.
        prior: the horseshoe.
        fixed: the likelihood as one Gaussian factor, or None.
        progress: told of each cell as it is solved.
    """
    found: list[tuple[Solved, float]] = []
    centre: float | None = None
    sites = first_sites(glm, rows, prior.scale * max(10 * prior.global_scale, 0.05))
    for slab, share in zip(*prior.slabs(), strict=True):
        log_tau = math.log(prior.global_scale) if centre is None else centre
        best, own = -math.inf, []

        def visit(at: float, start: Sites, slab: float = slab, share: float = share) -> tuple[Solved, float]:
            solved = solve_cell(glm, rows, Cell(math.exp(at), slab, prior.scale), start, fixed)
            if progress is not None:
                progress(solved)
            weight = prior.log_tau_density(at) + math.log(STEP) + share
            return solved, solved.evidence + weight

        middle = visit(log_tau, sites)
        own.append(middle)
        for direction in (1, -1):
            last, at, best = middle, log_tau, max(v for _, v in own)
            while True:
                at += direction * STEP
                last = visit(at, last[0].sites)
                own.append(last)
                best = max(best, last[1])
                if last[1] < best - _IGNORE or abs(at - math.log(prior.global_scale)) > 14:
                    break
        found += own
        top = max(own, key=lambda each: each[1])
        centre, sites = math.log(top[0].cell.tau), top[0].sites
    return found


def mixture(found: list[tuple[Solved, float]], keep: float = 1e-3) -> tuple[Mixture, float]:
    """The posterior over the grid, and the log evidence; cells with less than a share `keep` are left out."""
    value = torch.tensor([v for _, v in found], dtype=torch.float64)
    evidence = float(value.logsumexp(0))
    chosen = [i for i in range(len(found)) if value[i] > evidence + math.log(keep)]
    log_weight = value[chosen] - value[chosen].logsumexp(0)
    cells = [found[i][0] for i in chosen]
    labels = {
        "log_tau": torch.tensor([math.log(c.cell.tau) for c in cells], dtype=torch.float64),
        "slab": torch.tensor([c.cell.slab for c in cells], dtype=torch.float64),
    }
    return Mixture(log_weight, tuple(c.gaussian.form(c.mean) for c in cells), labels), evidence
