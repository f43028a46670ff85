"""The length scale and amplitude of a kernel, by ascent of the evidence lower bound.

The Gaussian of each output is held by its sites: λ_n = E[−∇² log p] and r_n = E[∇ log p] + λ_n m_n of each
row, so that for any hyperparameters θ it is

    q(w) = N(P⁻¹ Zᵀ r, P⁻¹),   P = D(θ) + Zᵀ diag(λ) Z,   Z = [1, Φ_θ]

The sites are what a natural-gradient step sets, and the ELBO with the sites kept is a bound of the evidence
that follows θ much further than with q kept (Adam, Chang, Khan & Solin 2021, Dual parameterization of sparse
variational Gaussian processes, NeurIPS 34, https://arxiv.org/abs/2111.03412). Steps of the sites and Newton
steps in θ take turns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ppl_models.regression.design import Block
from ppl_models.regression.responses.response import Response

DIFFERENCE = 0.1
"""What log ℓ, log a and ψ are moved by for differences."""

ROUNDS = 15

SPREAD = 1.5
"""Sd of the normal priors of log ℓ and log a."""


@dataclass(eq=False)
class Output:
    """One output of a response with its sites.

    Attributes:
        response: with one linear predictor.
        y: (n,).
        precision: λ, (n,).
        pull: r, (n,).
    """

    response: Response
    y: Tensor
    precision: Tensor
    pull: Tensor


@dataclass(eq=False)
class Tuner:
    """The ELBO as a function of θ = (log ℓ, log a, ψ), given sites.

    Attributes:
        features: ℓ -> Z, (n, p + 1).
        rows: targets, weights, offsets and trials; its Z is not looked at.
        at: (response, ψ) -> response.
        intercept_scale: sd of the intercept.
        log_prior: of θ.
        outputs: with their sites.
    """

    features: Callable[[float], Tensor]
    rows: Block
    at: Callable[[Response, Tensor], Response]
    intercept_scale: float
    log_prior: Callable[[Tensor], float]
    outputs: list[Output]

    def __post_init__(self) -> None:
        self._kept: dict[float, Tensor] = {}

    def _Z(self, log_length: float) -> Tensor:
        if log_length not in self._kept:
            self._kept = {log_length: self.features(math.exp(log_length))}
        return self._kept[log_length]

    def value(self, theta: Tensor) -> tuple[float, list[Output]]:
        """ELBO + log prior at θ with the sites as they are, and where a natural-gradient step sets them."""
        Z, w = self._Z(float(theta[0])), self.rows.weight
        D = torch.full((Z.shape[1],), math.exp(-2 * float(theta[1])), dtype=torch.float64)
        D[0] = self.intercept_scale**-2
        total, after = self.log_prior(theta), []
        for output in self.outputs:
            weight = torch.ones(len(Z), dtype=torch.float64) if w is None else w
            lam, r = weight * output.precision, weight * output.pull
            root, bad = torch.linalg.cholesky_ex(torch.diag(D) + Z.mT @ (Z * lam[:, None]))
            if int(bad):
                return -math.inf, self.outputs
            loc = torch.cholesky_solve((Z.mT @ r)[:, None], root)[:, 0]
            var = (torch.linalg.solve_triangular(root, Z.mT, upper=False) ** 2).sum(0)
            mean = Z @ loc
            f = mean if self.rows.offset is None else mean + self.rows.offset
            response = self.at(output.response, theta[2:])
            own = response.row_terms(output.y, f[:, None], var[:, None, None], self.rows.trials)
            log_det = 2 * root.diagonal().log().sum() - D.log().sum()
            kl = 0.5 * (D @ loc**2 - lam @ var + log_det)
            total += float(weight @ own.value - kl)
            H = own.curvature[:, 0, 0].clamp_min(1e-9)
            after.append(replace(output, precision=H, pull=own.gradient[:, 0] + H * mean))
        return total, after

    def settle(self, theta: Tensor, steps: int) -> float:
        """Move the sites by some steps, each no longer than is uphill; the value there."""
        best, after = self.value(theta)
        rho = 1.0
        for _ in range(steps):
            before = self.outputs
            self.outputs = [
                replace(
                    a,
                    precision=a.precision + rho * (b.precision - a.precision),
                    pull=a.pull + rho * (b.pull - a.pull),
                )
                for a, b in zip(before, after, strict=True)
            ]
            found, there = self.value(theta)
            if not found > best:
                self.outputs, rho = before, rho / 2
                continue
            gained, best, after = found - best, found, there
            if gained < 1e-2:
                break
        return best

    def climb(self, theta: Tensor, free: list[int]) -> Tensor:
        """θ of the largest bound, from `theta` on; only the entries `free` are moved."""
        best, size = self.settle(theta, 12), len(free)
        for _ in range(ROUNDS if free else 0):
            gradient, hessian = torch.zeros(size).double(), torch.zeros(size, size).double()
            steps = DIFFERENCE * torch.eye(len(theta)).double()[free]
            up, down = ([self.value(theta + sign * s)[0] for s in steps] for sign in (1, -1))
            for i in range(size):
                gradient[i] = (up[i] - down[i]) / (2 * DIFFERENCE)
                hessian[i, i] = (up[i] + down[i] - 2 * best) / DIFFERENCE**2
                for j in range(i):
                    both = self.value(theta + steps[i] + steps[j])[0]
                    hessian[i, j] = hessian[j, i] = (both - up[i] - up[j] + best) / DIFFERENCE**2
            if not bool(gradient.isfinite().all() and hessian.isfinite().all()):
                break
            curve, axes = torch.linalg.eigh(-hessian)
            step = axes @ ((axes.mT @ gradient) / curve.abs().clamp_min(0.1))
            step = step / max(1.0, float(step.abs().max()))
            for _ in range(5):
                there = theta.clone()
                there[free] += step
                if self.value(there)[0] > best:
                    theta = there
                    break
                step = step / 2
            moved = float(step.abs().max())
            best = self.settle(theta, 4)
            if moved < 0.03:
                break
        return theta


def starts(lengths: tuple[float, ...], amplitude: float, psi: Tensor) -> list[Tensor]:
    """θ from which to look: one for each length scale."""
    return [torch.cat([torch.tensor([math.log(v), math.log(amplitude)]).double(), psi]) for v in lengths]


def tune(tuner: Tuner, begin: list[Tensor], free: list[int]) -> Tensor:
    """The best θ, from the most promising of several starts."""
    from copy import copy

    tried = []
    for theta in begin:
        own = copy(tuner)
        tried.append((own.settle(theta, 4), len(tried), own))
    _, which, own = max(tried, key=lambda each: each[:2])
    return own.climb(begin[which], free)
