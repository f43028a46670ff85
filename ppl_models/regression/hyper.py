"""ψ, the numbers that all rows share, integrated out: scales, dispersions, cutpoints, sds of groups.

Given ψ the posterior of Φ is the Gaussian q(Φ | ψ) = N(m(ψ), S(ψ)) of `newton`, and its ELBO a bound of
log p(y | ψ), so that q(ψ) ∝ p(ψ) exp ELBO(ψ) (Rue, Martino & Chopin 2009, Approximate Bayesian inference for
latent Gaussian models by using integrated nested Laplace approximations, JRSS B 71,
https://doi.org/10.1111/j.1467-9868.2008.00700.x, with a variational Gaussian in place of Laplace's).

The mode ψ* is found by quasi-Newton steps: by the envelope theorem the gradient of the ELBO is
E_q[∂ log p(y, Φ | ψ)/∂ψ]. In coordinates z of ψ = ψ* + A z, A Aᵀ = H⁻¹, q(ψ) is visited at nodes z_g: a
lattice out to where it no longer matters for q ≤ 2, else quasi-random normal points. What comes out is

    q(Φ, ψ) = Σ_g w_g N(ψ; ψ_g, h² H⁻¹) N(Φ; m_g + J_g (ψ − ψ_g), S_g)

with J = ∂m/∂ψ from a quadratic through all nodes: a density that can be drawn from and scored, so that
importance weights can correct what is left.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_models.inference.gaussian import normal_points
from ppl_models.regression.forms import Form, Full, Mixture
from ppl_models.regression.glm import GLM
from ppl_models.regression.newton import State, fit_glm, scale_tril, steps_from
from ppl_models.regression.quadrature import safe_cholesky
from ppl_models.regression.rows import Batch

STEPS = {1: 0.75, 2: 1.0}
"""Distance of a lattice's nodes, in sds, for so many numbers."""

IGNORE = 5.0
"""Nodes so many nats below the best are where a lattice ends."""

NODES = 64
"""Of more than two numbers."""

NUMBERS = 20_000_000
"""Nodes × d² that covariances may take; else only the mode is a node."""

Density = Callable[[Tensor], Tensor]
"""Log density of ψ (S, q), (S,)."""


class Solved(NamedTuple):
    """q(Φ | ψ) at one ψ.

    Attributes:
        psi: (q,).
        loc: (d,).
        precision: (d, d).
        value: ELBO(ψ) + log p(ψ).
        gradient: of it, (q,).
    """

    psi: Tensor
    loc: Tensor
    precision: Tensor
    value: float
    gradient: Tensor


@dataclass(eq=False)
class Surface:
    """ELBO(ψ) + log p(ψ), each time from where the last one ended.

    Attributes:
        at: the density given ψ.
        expected: (batch, loc, covariance, ψ) -> E_q[log p(y, Φ | ψ)], differentiable in ψ, up to a constant.
        log_prior: of ψ.
        batch: all rows.
        tolerance: nats a parameter that may be left to gain.
        history: a dict a step.
    """

    at: Callable[[Tensor], GLM]
    expected: Callable[[Batch, Tensor, Tensor, Tensor], Tensor]
    log_prior: Density
    batch: Batch
    tolerance: float
    history: list[dict[str, float]]
    last: Solved | None = None

    def __call__(self, psi: Tensor) -> Solved:
        """Solve at one ψ."""
        glm = self.at(psi)
        if self.last is None:
            found = fit_glm(glm, self.batch, tolerance=self.tolerance)
            loc, elbo = found.loc, found.elbo
            self.history += found.history
            precision = torch.cholesky_inverse(found.scale_tril)
            root = found.scale_tril
        else:
            start = State(self.last.loc, self.last.precision)
            limit = self.tolerance * glm.dimension
            state, _ = steps_from(glm, self.batch, start, limit, 60, self.history)
            assert state.best is not None
            loc, precision, elbo = state.loc, state.precision, state.best[3]
            root = scale_tril(precision)
        with torch.enable_grad():
            x = psi.detach().clone().requires_grad_()
            value = self.expected(self.batch, loc, root @ root.mT, x) + self.log_prior(x[None])[0]
            (gradient,) = torch.autograd.grad(value, x)
        total = elbo + float(self.log_prior(psi[None])[0])
        solved = Solved(psi, loc, precision, total, gradient)
        if math.isfinite(total):
            self.last = solved
        return solved


def integrate(surface: Surface, start: Tensor) -> tuple[Form, float]:
    """The posterior over (Φ, ψ), and the log evidence with ψ integrated out.

    Args:
        surface: ELBO(ψ) + log p(ψ).
        start: ψ to begin with, (q,).
    """
    top = _mode(surface, start)
    q, d = len(start), len(top.loc)
    A, sides = _axes(surface, top)
    log_det = float(torch.linalg.slogdet(A).logabsdet)
    if d * d * (NODES if q > 2 else 8**q) > NUMBERS:
        J = torch.stack([(b.loc - a.loc) / (2 * h) for a, b, h in sides], 1)
        return _part(top, A, J, 1.0), top.value + log_det + 0.5 * q * math.log(2 * math.pi)
    if q in STEPS:
        z, solved, volume = _lattice(surface, top, A, STEPS[q])
        log_w = torch.tensor([s.value for s in solved], dtype=torch.float64)
        evidence, h = float(log_w.logsumexp(0)) + volume + log_det, 0.6 * STEPS[q]
    else:
        z = 1.1 * normal_points(NODES, q, seed=5)
        order = z.norm(dim=1).argsort()
        z, solved = z[order], []
        for each in z:
            surface.last = top
            solved.append(surface(top.psi + A @ each))
        log_n = -0.5 * ((z / 1.1) ** 2).sum(1) - q * (math.log(1.1) + 0.5 * math.log(2 * math.pi))
        log_w = torch.tensor([s.value for s in solved], dtype=torch.float64) - log_n
        evidence, h = float(log_w.logsumexp(0)) - math.log(len(z)) + log_det, 0.6
    log_w = torch.where(log_w.isfinite(), log_w, torch.full_like(log_w, -torch.inf))
    keep = (log_w > log_w.max() - IGNORE - 3).nonzero()[:, 0].tolist()
    z, solved, log_w = z[keep], [solved[i] for i in keep], log_w[keep]
    slopes = _slopes(z, torch.stack([s.loc for s in solved]), log_w)
    inverse = torch.linalg.inv(A)
    parts = tuple(_part(s, A, J @ inverse, h) for s, J in zip(solved, slopes, strict=True))
    return Mixture(log_w - log_w.logsumexp(0), parts, {}), evidence


def peak(value: Callable[[Tensor], float], start: Tensor, near: float = 0.1) -> Full:
    """N(ψ*, H⁻¹) at the top of a surface whose gradient is not known, each value of which is dear.

    One quadratic through the three points on each axis after another, until none moves by `near` of its sd.

    Args:
        value: log density up to a constant.
        start: ψ (q,) to begin with.
        near: the share of an sd.
    """
    psi, h = start.clone(), torch.full_like(start, 0.5)
    middle = value(psi)
    for _ in range(12):
        moved = 0.0
        for i in range(len(psi)):
            step = torch.zeros_like(psi)
            step[i] = h[i]
            up, down = value(psi + step), value(psi - step)
            curved = (2 * middle - up - down) / h[i] ** 2
            sd = float(curved.clamp_min(0.1) ** -0.5) if math.isfinite(float(curved)) else 0.5
            go = float((up - down) / (2 * h[i])) * sd**2
            go = max(-2 * float(h[i]), min(2 * float(h[i]), go))
            moved = max(moved, abs(go) / sd)
            step[i] = go
            there = value(psi + step)
            h[i] = sd
            if there > middle:
                psi, middle = psi + step, there
        if moved < near:
            break
    return Full(psi, torch.diag(h))


def _mode(surface: Surface, start: Tensor) -> Solved:
    from scipy.optimize import minimize

    best: list[Solved] = []

    def negative(x: np.ndarray) -> tuple[float, np.ndarray]:
        found = surface(torch.from_numpy(x.copy()))
        if not math.isfinite(found.value):
            return 1e300, np.zeros_like(x)
        if not best or found.value > best[0].value:
            best[:] = [found]
        return -found.value, -found.gradient.numpy()

    bounds = [(float(v) - 12.0, float(v) + 12.0) for v in start]
    options = {"maxiter": 60, "ftol": 1e-9, "gtol": 1e-3}
    minimize(negative, start.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    surface.last = best[0]
    return best[0]


def _axes(surface: Surface, top: Solved) -> tuple[Tensor, list[tuple[Solved, Solved, float]]]:
    """A with A Aᵀ = H⁻¹, H by central differences of the gradient, and the pairs that these took."""
    q = len(top.psi)
    H, sides = torch.zeros(q, q, dtype=torch.float64), []
    for i in range(q):
        h = 0.05
        for _ in range(6):  # until the difference is about a nat
            step = torch.zeros(q, dtype=torch.float64)
            step[i] = h
            surface.last = top
            up = surface(top.psi + step)
            surface.last = top
            down = surface(top.psi - step)
            drop = top.value - 0.5 * (up.value + down.value)
            if not drop > 2.0:
                if drop > 0.1 or h > 0.5:
                    break
                h *= 2.5
            else:
                h /= 3
        H[i] = (down.gradient - up.gradient) / (2 * h)
        sides.append((down, up, h))
    surface.last = top
    value, vector = torch.linalg.eigh(0.5 * (H + H.mT))
    return vector / value.clamp_min(0.05).sqrt(), sides


def _lattice(surface: Surface, top: Solved, A: Tensor, step: float) -> tuple[Tensor, list[Solved], float]:
    """Nodes z, from the mode outwards, with what was solved there, and log of the volume of a cell."""
    q = len(top.psi)
    found: dict[tuple[int, ...], Solved] = {(0,) * q: top}
    front, best = [(0,) * q], top.value
    while front and len(found) < 25**q:
        at = front.pop(0)
        if found[at].value < best - IGNORE:
            continue
        for i in range(q):
            for sign in (1, -1):
                there = tuple(v + sign * (j == i) for j, v in enumerate(at))
                if there in found or max(map(abs, there)) > 12:
                    continue
                surface.last = found[at]
                found[there] = surface(top.psi + A @ (step * torch.tensor(there, dtype=torch.float64)))
                best = max(best, found[there].value)
                front.append(there)
    z = step * torch.tensor(list(found), dtype=torch.float64)
    return z, list(found.values()), q * math.log(step)


def _slopes(z: Tensor, loc: Tensor, log_w: Tensor) -> Tensor:
    """∂m/∂z at each node, (G, d, q), of a quadratic through the means by weighted least squares."""
    G, q = z.shape
    pairs = [(i, j) for i in range(q) for j in range(i, q)]
    if G < 2 * (1 + q + len(pairs)):
        pairs = []
    features = torch.cat(
        [torch.ones(G, 1).to(z), z, *(z[:, i : i + 1] * z[:, j : j + 1] for i, j in pairs)], 1
    )
    w = (0.5 * (log_w - log_w.max())).exp().clamp_min(1e-2)[:, None]
    if G <= q:
        return torch.zeros(G, loc.shape[1], q).to(loc)
    C = torch.linalg.lstsq(w * features, w * loc).solution  # (F, d)
    J = C[1 : 1 + q].expand(G, q, -1).clone()
    for row, (i, j) in enumerate(pairs):
        J[:, i] += z[:, j, None] * C[1 + q + row]
        J[:, j] += z[:, i, None] * C[1 + q + row]
    return J.mT.float().to(loc)  # least squares differ in the last bits from run to run


def _part(solved: Solved, A: Tensor, J: Tensor, h: float) -> Full:
    """N over (Φ, ψ): ψ ~ N(ψ_g, h² A Aᵀ), Φ | ψ ~ N(m + J (ψ − ψ_g), S)."""
    root, own = scale_tril(solved.precision), h * A @ A.mT * h
    cross = J @ own
    covariance = torch.cat(
        [torch.cat([root @ root.mT + cross @ J.mT, cross], 1), torch.cat([cross.mT, own], 1)]
    )
    return Full(torch.cat([solved.loc, solved.psi]), safe_cholesky(covariance))
