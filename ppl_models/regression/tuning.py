"""The length scale and amplitude of a kernel, by ascent of the evidence lower bound.

The Gaussian of each output is held by its sites: λ_n = E[−∇² log p] and r_n = E[∇ log p] + λ_n m_n of each
row, so that for any hyperparameters θ it is

    q(w) = N(P⁻¹ Zᵀ r, P⁻¹),   P = D(θ) + Zᵀ diag(λ) Z,   Z = [1, Φ_θ]

The sites are what a natural-gradient step sets, and the ELBO with the sites kept is a bound of the evidence
that follows θ much further than with q kept (Adam, Chang, Khan & Solin 2021, Dual parameterization of sparse
variational Gaussian processes, NeurIPS 34, https://arxiv.org/abs/2111.03412). Steps of the sites and
quasi-Newton steps in θ take turns.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ppl_models.regression.design import Block
from ppl_models.regression.responses.response import Response

DIFFERENCE = 0.05
"""What log ℓ, log a and ψ are moved by for differences."""

ROUNDS = 15

SETTLED = 1e-2
"""Nats an output that a step of the sites must gain for another, at least,"""

SHARE = 0.05
"""and what share of the nats that the step in θ before promised."""

ENOUGH = 2e-2
"""Nats an output that a step in θ must promise to gain: twice what is left to a maximum."""

KEPT = 6
"""Length scales whose features are kept: those of the differences about one θ."""

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


Value = tuple[float, list[Output]]
"""A bound, and the outputs with the sites that a natural-gradient step sets from there."""


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
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[log_length] = self.features(math.exp(log_length))
        return self._kept[log_length]

    def value(self, theta: Tensor) -> Value:
        """ELBO + log prior at θ with the sites as they are, and where a natural-gradient step sets them."""
        Z, w = self._Z(float(theta[0])), self.rows.weight
        weight = torch.ones(len(Z), dtype=torch.float64) if w is None else w
        D = torch.full((Z.shape[1],), math.exp(-2 * float(theta[1])), dtype=torch.float64)
        D[0] = self.intercept_scale**-2
        total, after = self.log_prior(theta), []
        for output in self.outputs:
            lam, r = weight * output.precision, weight * output.pull
            P = Z.mT @ (Z * lam[:, None])
            P.diagonal().add_(D)
            root, bad = torch.linalg.cholesky_ex(P)
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

    def settle(self, theta: Tensor, steps: int, known: Value | None = None, least: float = 0.0) -> Value:
        """Move the sites by some steps, each no longer than is uphill; the value there.

        Args:
            theta: where.
            steps: at most.
            known: the value before the first.
            least: nats that a step must gain for another, or `SETTLED`.
        """
        best, after = self.value(theta) if known is None else known
        rho, least = 1.0, max(least, SETTLED * len(self.outputs))
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
            if gained < least:
                break
        return best, after

    def climb(self, theta: Tensor, free: list[int], known: Value) -> Tensor:
        """θ of the largest bound, from `theta` on, whose value is `known`; only `free` entries are moved.

        With sites kept the bound is more curved than with the best sites at each θ: its curvature is only
        what BFGS begins with, whose differences of gradients are between settled sites.
        """
        here = self.settle(theta, 8, known)
        steps = DIFFERENCE * torch.eye(len(theta)).double()[free]
        H = bent = gradient = torch.zeros(0)
        moved: Tensor | None = None
        enough = ENOUGH * len(self.outputs)
        doubt = True  # differences to one side, with the curvature that there was, will not do
        for _ in range(ROUNDS if free else 0):
            up, before = self._values(theta + steps) - here[0], gradient
            if doubt:
                down = self._values(theta - steps) - here[0]
                gradient, bent = (up - down) / (2 * DIFFERENCE), -(up + down) / DIFFERENCE**2
            else:
                gradient = up / DIFFERENCE + 0.5 * DIFFERENCE * bent
            if not bool(gradient.isfinite().all()):
                break
            if not len(H):
                H = self._curvature(theta, steps, here[0], up, bent)
            elif moved is not None:
                H = bfgs(H, moved, before - gradient)
            step, moved = torch.linalg.solve(H, gradient), None
            step = step / max(1.0, float(step.abs().max()))
            kept, gained = self.outputs, 0.0
            promised = float(gradient @ step)
            for _ in range(3 if promised > enough else 0):
                there = theta.clone()
                there[free] += step
                found = self.settle(there, 4, least=SHARE * promised)
                gained = found[0] - here[0]
                if gained > 0:
                    moved, theta, here = step, there, found
                    break
                step, self.outputs = step / 2, kept
            if gained < enough and doubt:
                break
            doubt = gained < enough
        return theta

    def _values(self, points: Tensor) -> Tensor:
        """The bound at each point, (m,), with the sites as they are."""
        return torch.tensor([self.value(theta)[0] for theta in points], dtype=torch.float64)

    def _curvature(self, theta: Tensor, steps: Tensor, middle: float, up: Tensor, bent: Tensor) -> Tensor:
        """−∇² of the bound with the sites kept, (q, q), by differences, made positive definite.

        Args:
            theta: where.
            steps: of each entry, (q, ·).
            middle: the bound at θ.
            up: by how much it is more a step up, (q,).
            bent: the diagonal, (q,).
        """
        H = torch.diag(bent)
        for i in range(len(up)):
            for j in range(i):
                both = self.value(theta + steps[i] + steps[j])[0] - middle
                H[i, j] = H[j, i] = (up[i] + up[j] - both) / DIFFERENCE**2
        curve, axes = torch.linalg.eigh(H.nan_to_num(0.0, 0.0, 0.0))
        return axes @ torch.diag(curve.abs().clamp_min(0.1)) @ axes.mT


def bfgs(H: Tensor, moved: Tensor, fallen: Tensor) -> Tensor:
    """Curvature H brought up to date by a step and how much the gradient fell over it, damped (Powell 1978).

    Args:
        H: positive definite, (q, q).
        moved: (q,).
        fallen: (q,).
    """
    Hs = H @ moved
    curve, expected = float(moved @ fallen), float(moved @ Hs)
    share = 1.0 if curve >= 0.2 * expected else 0.8 * expected / (expected - curve)
    y = share * fallen + (1 - share) * Hs
    return H + torch.outer(y, y) / (moved @ y) - torch.outer(Hs, Hs) / expected


def starts(lengths: tuple[float, ...], amplitude: float, psi: Tensor) -> list[Tensor]:
    """θ from which to look: one for each length scale."""
    return [torch.cat([torch.tensor([math.log(v), math.log(amplitude)]).double(), psi]) for v in lengths]


def tune(tuner: Tuner, begin: list[Tensor], free: list[int]) -> tuple[Tensor, list[Output]]:
    """The best θ, from the most promising of several starts, and the outputs with their sites there."""
    from copy import copy

    tried = []
    for theta in begin:
        own = copy(tuner)
        tried.append((own.settle(theta, 2), theta, own))
    known, theta, own = max(tried, key=lambda each: each[0][0])
    return own.climb(theta, free, known), own.outputs
