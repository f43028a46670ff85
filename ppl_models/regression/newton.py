"""Variational Gaussian posteriors of a GLM by natural gradients, with a full covariance.

    P ← (1 − ρ) P + ρ E_q[−∇² log p],    m ← m + ρ P⁻¹ E_q[∇ log p]

(Khan & Rue 2023, The Bayesian learning rule, JMLR 24, https://jmlr.org/papers/v24/22-0291.html.) Started at
the mode, a step that lowers the ELBO is taken back and halved.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ppl_models.inference.gaussian import Expectations
from ppl_models.regression.glm import GLM
from ppl_models.regression.rows import Batch

LEARN = 8
"""A first, rough posterior is found from one row in so many, where there are enough."""


class State(NamedTuple):
    """The Gaussian N(loc, P⁻¹), and the one it came from, to go back to.

    Attributes:
        loc: m, (d,).
        precision: P, (d, d).
        rho: ρ of the next step.
        best: the last state whose ELBO is known, with its expectations, and that ELBO.
    """

    loc: Tensor
    precision: Tensor
    rho: float = 1.0
    best: tuple[Tensor, Tensor, Expectations, float] | None = None


class Info(NamedTuple):
    """Of the state that was evaluated: its ELBO, whether it was kept, and nats that a step may still gain."""

    elbo: float
    accepted: bool
    left: float


def scale_tril(precision: Tensor) -> Tensor:
    """L with L Lᵀ = P⁻¹, lower triangular."""
    flipped = torch.linalg.cholesky(precision.flip(0, 1)).flip(0, 1)  # P = U Uᵀ, U upper triangular
    eye = torch.eye(len(precision), dtype=precision.dtype, device=precision.device)
    return torch.linalg.solve_triangular(flipped, eye, upper=True).mT


def entropy(precision_root: Tensor) -> float:
    """Of N(m, L Lᵀ) in nats, from L."""
    d = len(precision_root)
    return 0.5 * d * (1 + math.log(2 * math.pi)) + float(precision_root.diagonal().log().sum())


def step(state: State, found: Expectations, root: Tensor) -> tuple[State, Info]:
    """One natural-gradient step from expectations at `state`, whose L is `root`; taken back if it was bad.

    Args:
        state: m, P and ρ, and the best so far.
        found: E_q of log p, of its gradient (d,) and of minus its Hessian (d, d).
        root: L with L Lᵀ = P⁻¹, (d, d).
    """
    elbo = float(found.log_p) + entropy(root)
    loc, precision, rho = state.loc, state.precision, state.rho
    accepted = state.best is None or elbo >= state.best[3] - 1e-10 * abs(state.best[3])
    if not (accepted and math.isfinite(elbo)):
        assert state.best is not None
        loc, precision, found, elbo = state.best
        rho = rho / 2
    left = math.inf
    if accepted:
        direction = root @ (root.mT @ found.gradient)
        gap = root.mT @ (found.curvature - precision) @ root
        left = 0.5 * float(found.gradient @ direction) + 0.25 * float((gap**2).sum())
        rho = min(1.0, rho * 1.5)
    while True:
        new = (1 - rho) * precision + rho * found.curvature
        factor, bad = torch.linalg.cholesky_ex(new)
        if int(bad) == 0:
            break
        rho /= 2
    move = torch.cholesky_solve(found.gradient.unsqueeze(-1), factor).squeeze(-1)
    return State(loc + rho * move, new, rho, (loc, precision, found, elbo)), Info(elbo, accepted, left)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A Gaussian posterior N(loc, L Lᵀ) over Φ, its ELBO in nats, and how it came about."""

    loc: Tensor
    scale_tril: Tensor
    elbo: float
    converged: bool
    history: tuple[dict[str, float], ...]
    seconds: float


SHORTEST = 1e-2
"""A step this short that still goes down is given up: what is left is the error of the quadrature."""


def steps_from(
    glm: GLM, batch: Batch, state: State, limit: float, steps: int, history: list[dict[str, float]]
) -> tuple[State, bool]:
    """Steps until less than `limit` nats are left to gain; the state returned was evaluated.

    Args:
        glm: the density.
        batch: the rows.
        state: where to begin.
        limit: nats that may be left.
        steps: at most.
        history: is added to, a dict a step.
    """
    for _ in range(steps):
        root = scale_tril(state.precision)
        found = glm.expect(batch, state.loc, root)
        after, info = step(state, found, root)
        history.append({"rows": len(batch), "elbo": info.elbo, "left": info.left, "rho": state.rho})
        assert after.best is not None
        if info.left < limit or after.rho < SHORTEST:
            return State(after.best[0], after.best[1], 1.0, after.best), True
        state = after
    assert state.best is not None
    return State(state.best[0], state.best[1], 1.0, state.best), False


def excerpts(glm: GLM, batch: Batch) -> Iterator[tuple[Batch, float]]:
    """Some of the rows first, where they say enough; then all; with nats a parameter that may be left."""
    some = max(len(batch) // LEARN, 40 * glm.dimension, 4_000)
    some = min(some, 50_000)
    if 2 * some < len(batch):
        yield batch.some(some), 1e-2
    yield batch, 1e-6


def fit_glm(
    glm: GLM,
    batch: Batch,
    steps: int = 200,
    tolerance: float = 1e-6,
    start: tuple[Tensor, Tensor] | None = None,
) -> Fitted:
    """The Gaussian closest to the posterior, in KL(q‖p), by natural gradients.

    Args:
        glm: the density.
        batch: all rows.
        steps: at most, on all rows.
        tolerance: nats a parameter that may be left to gain.
        start: loc (d,) and precision (d, d) to start from; the posterior's mode if not given.
    """
    began = time.perf_counter()
    history: list[dict[str, float]] = []
    state, done = None, False
    for rows, limit in excerpts(glm, batch):
        if state is None:
            state = State(*(glm.map_start(rows) if start is None else start))
        limit = max(limit, tolerance)
        state, done = steps_from(glm, rows, state._replace(best=None), limit * glm.dimension, steps, history)
    assert state is not None
    assert state.best is not None
    root = scale_tril(state.precision)
    seconds = time.perf_counter() - began
    return Fitted(state.loc, root, state.best[3], done, tuple(history), seconds)
