"""The Gaussian natural-gradient rule: q(θ) = N(m, P⁻¹) in unconstrained space.

    P ← (1 − ρ) P + ρ E_q[−∇² log p(x, θ)],    m ← m + ρ P⁻¹ E_q[∇ log p(x, θ)]

is a natural-gradient step of length ρ on the ELBO E_q[log p(x, θ)] + ½ log|2πe P⁻¹| (Khan & Rue 2023, The
Bayesian learning rule, JMLR 24, https://jmlr.org/papers/v24/22-0291.html); at a fixed point q has the right
average gradient, zero, and the right average curvature. Where the expected curvature is not positive
definite, P + ρG + ½ ρ² G P⁻¹ G with G = E_q[−∇² log p] − P, which always is, takes the place of the sum
(Lin, Schmidt & Khan 2020, ICML, https://arxiv.org/abs/2002.10060).

A model says what the two expectations are: by quadrature where it can (`GaussianTarget`), else by
`Sampled`, the average over draws that stay the same from step to step, which makes the ELBO deterministic
(Giordano, Ingram & Broderick 2024, Black box variational inference with a deterministic objective, JMLR 25,
https://jmlr.org/papers/v25/23-1015.html). A step whose ELBO is lower is taken back, and a shorter one
tried.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ppl_models.inference.conjugate import Info

LogDensity = Callable[[Float[Tensor, "s d"]], tuple[Float[Tensor, " s"], Float[Tensor, "s d"]]]
"""Log density of points (S, d) in unconstrained space, up to a constant, and its gradients."""

MOST_SOBOL = 21_201
"""Dimensions of which there are direction numbers."""

SHORTEST = 1e-3
"""A step this short that still fails is given up: the ELBO has no further way up that can be seen."""


class Expectations(NamedTuple):
    """Under q: log p(x, θ), its gradient (d,), and minus its Hessian (d, d)."""

    log_p: Tensor
    gradient: Tensor
    curvature: Tensor


class GaussianTarget(ABC):
    """What the rule asks of a model."""

    dimension: int

    @abstractmethod
    def expect(self, batch: Any, loc: Tensor, scale_tril: Tensor) -> Expectations:
        """The expectations under N(loc, scale_tril scale_trilᵀ), of a batch scaled to all rows.

        Args:
            batch: the rows.
            loc: m (d,).
            scale_tril: L (d, d), lower triangular.

        Returns:
            E_q of log p(x, θ) in nats, of its gradient and of minus its Hessian.
        """


class GaussianState(NamedTuple):
    """What is carried: where the next step evaluates the ELBO, and the best point so far, to go back to.

    Attributes:
        loc: m (d,).
        precision: P (d, d).
        step: steps taken.
        best: (1,) the ELBO of `kept`.
        rho: the length of the step that led here.
        kept: m, P and the expectations of the best point.
    """

    loc: Tensor
    precision: Tensor
    step: int
    best: Tensor
    rho: float = 1.0
    kept: tuple[Tensor, Tensor, Expectations] | None = None

    def select(self, keep: Tensor) -> "GaussianState":
        """The state: there is only one."""
        return self


@dataclass(frozen=True)
class GaussianRule:
    """Natural-gradient steps, each as long as it may be.

    Attributes:
        delay: τ of the step size (t + τ)^−κ on mini-batches.
        forgetting: κ of the same, in (0.5, 1].
    """

    delay: float = 1.0
    forgetting: float = 0.7

    name = "Gaussian natural gradient"

    def init(self, params: Mapping[str, Tensor]) -> GaussianState:
        """Start from `loc` (1, d) and `precision` (1, d, d)."""
        loc, precision = params["loc"][0], params["precision"][0]
        return GaussianState(loc, precision, 0, loc.new_full((1,), -torch.inf))

    def step(self, problem: GaussianTarget, state: GaussianState, batch: Any) -> tuple[GaussianState, Info]:
        """Evaluate the ELBO, and move on from here, or back and less far.

        A step whose ELBO on all rows is lower is taken back, and one a quarter as long is tried from the best
        point; after one that was right the next may be twice as long. On mini-batches all are taken.

        Args:
            problem: gives the expectations.
            state: where to evaluate.
            batch: the rows; what `scale` says of it is how many rows of all a row of it stands for.

        Returns:
            The state to go on from, and the ELBO and parameters of the best point so far.
        """
        scale = getattr(batch, "scale", 1.0)
        found = problem.expect(batch, state.loc, covariance_factor(state.precision))
        elbo = (found.log_p + entropy(state.precision)).reshape(1)
        stochastic = scale != 1.0
        rho = (state.step + self.delay) ** -self.forgetting if stochastic else min(1.0, 2 * state.rho)
        kept, best = (state.loc, state.precision, found), elbo
        sound = torch.isfinite(elbo) & (stochastic | (elbo >= state.best - 1e-9 * elbo.abs()))
        if not bool(sound) and state.kept is not None:
            kept, best, rho = state.kept, state.best, 0.25 * state.rho
        loc, precision, expected = kept
        info = Info(
            best, sound | (rho < SHORTEST), True, rho, {"loc": loc[None], "precision": precision[None]}
        )
        if rho < SHORTEST:
            rho = SHORTEST
        following = moved(precision, expected.curvature, rho)
        step = torch.cholesky_solve(expected.gradient[:, None], cholesky(following))[:, 0]
        return GaussianState(loc + rho * step, following, state.step + 1, best, rho, kept), info


def moved(precision: Tensor, curvature: Tensor, rho: float) -> Tensor:
    """The precision after a step, positive definite whatever the curvature.

    With G = E_q[−∇² log p] − P it is P + ρG, and P + ρG + ½ ρ² G P⁻¹ G where that has no Cholesky factor.

    Args:
        precision: P (d, d).
        curvature: E_q[−∇² log p] (d, d).
        rho: ρ in (0, 1].
    """
    plain = precision + rho * (curvature - precision)
    _, failed = torch.linalg.cholesky_ex(plain)
    if not bool(failed):
        return plain
    change = curvature - precision
    pull = torch.cholesky_solve(change, cholesky(precision))
    following = precision + rho * change + 0.5 * rho**2 * change @ pull
    return 0.5 * (following + following.mT)


SMALLEST = 1e-13
"""Eigenvalue, as a share of the largest, that a matrix with rounding errors is taken to have at least."""


def cholesky(matrix: Tensor) -> Tensor:
    """The Cholesky factor (d, d) of a matrix that is positive definite but for rounding.

    Where there is none, eigenvalues are raised to `SMALLEST` of the largest; of a matrix with values that are
    not finite it is all NaN, so that what is computed with it is not finite either, rather than an exception.
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not bool(failed):
        return factor
    if not bool(torch.isfinite(matrix).all()):
        return torch.full_like(matrix, torch.nan)
    value, vector = torch.linalg.eigh(0.5 * (matrix + matrix.mT))
    raised = value.clamp_min(SMALLEST * value[-1].clamp_min(1e-300))
    for _ in range(4):
        factor, failed = torch.linalg.cholesky_ex((vector * raised) @ vector.mT)
        if not bool(failed):
            return factor
        raised = raised.clamp_min(100 * raised.min())
    return torch.full_like(matrix, torch.nan)


def covariance_factor(precision: Tensor) -> Tensor:
    """L, lower triangular, with L Lᵀ = P⁻¹."""
    root = cholesky(precision)
    eye = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
    inverse = torch.linalg.solve_triangular(root, eye, upper=False)
    return cholesky(inverse.mT @ inverse)


def entropy(precision: Tensor) -> Tensor:
    """½ log|2πe P⁻¹|."""
    d = precision.shape[-1]
    half_log_det = cholesky(precision).diagonal().log().sum()
    return 0.5 * d * (1 + math.log(2 * math.pi)) - half_log_det


def sobol_points(number: int, dimension: int, seed: int) -> np.ndarray:
    """The first points of a scrambled Sobol sequence, (S, d) in [0, 1).

    Bit for bit `scipy.stats.qmc.Sobol(d, rng=seed)`, whose package takes half a second to import: direction
    numbers of Joe & Kuo (2008, SIAM J. Sci. Comput. 30), each digit multiplied by a random lower triangular
    matrix and shifted (Matoušek 1998, J. Complexity 14).

    Args:
        number: S.
        dimension: d, at most `MOST_SOBOL`.
        seed: of the scrambling.
    """
    bits = torch.quasirandom.SobolEngine.MAXBIT
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    place = 2 ** np.arange(bits, dtype=np.uint32)
    shift = rng.integers(0, 2, size=(dimension, bits), dtype=np.uint32) @ place
    mix = np.tril(rng.integers(0, 2, size=(dimension, bits, bits), dtype=np.uint32), -1)
    mix += np.eye(bits, dtype=np.uint32)
    plain = torch.quasirandom.SobolEngine(dimension).sobolstate.numpy().astype(np.uint32)  # (d, bits)
    digits = (
        plain[:, None, :] >> np.arange(bits, dtype=np.uint32)[::-1, None]
    ) & 1  # the first is worth most
    directions = ((mix @ digits % 2) * place[::-1, None]).sum(1, dtype=np.uint32)
    order = np.arange(max(number - 1, 0))
    changed = np.log2(~order & (order + 1)).astype(int)  # of the Gray code from one point to the next
    steps = np.concatenate([shift[None], directions.T[changed]])
    return np.bitwise_xor.accumulate(steps, axis=0) / 2.0**bits


def normal_points(number: int, dimension: int, seed: int = 0) -> Tensor:
    """An even number of points like standard normal draws, antithetic and whitened, (S, d).

    Scrambled Sobol points; where S > 2d their moments are exact: mean 0 and covariance I.

    Args:
        number: S; where it is odd, one fewer are made, and at least 2.
        dimension: d.
        seed: of the scrambling.
    """
    from scipy.special import ndtri

    half = max(number // 2, 1)
    if dimension <= MOST_SOBOL:
        uniform = sobol_points(half, dimension, seed)
        x = torch.from_numpy(ndtri(uniform.clip(1e-12, 1 - 1e-12)))
    else:
        x = torch.randn(half, dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    if half > dimension:
        factor = torch.linalg.cholesky(x.T @ x / half)
        x = torch.linalg.solve_triangular(factor, x.T, upper=False).T
    return torch.cat([x, -x])


class Sampled(GaussianTarget):
    """Expectations of any differentiable log density over fixed standard normal points ε, θ = m + Lε.

    The Hessian comes from gradients alone by Stein's identity, E_q[∇² log p] = E_q[∇ log p · (θ − m)ᵀ] P,
    applied to what the gradient differs by from the one of N(m, P⁻¹) itself, so that no noise is left once
    q is right.

    Args:
        log_density: values and gradients at points (S, d).
        dimension: d.
        points: S.
        seed: of the points.
    """

    def __init__(self, log_density: LogDensity, dimension: int, points: int, seed: int = 0) -> None:
        self.log_density, self.dimension = log_density, dimension
        self.points = normal_points(points, dimension, seed)

    def expect(self, batch: Any, loc: Tensor, scale_tril: Tensor) -> Expectations:
        """Averages over the points."""
        eps = self.points.to(loc)
        value, gradient = self.log_density(loc + eps @ scale_tril.T)
        inverse = torch.linalg.solve_triangular(scale_tril, torch.eye(len(loc), dtype=loc.dtype), upper=False)
        off = gradient + eps @ inverse  # the gradient of N(m, P⁻¹) is −L⁻ᵀ ε
        cross = (off.T @ eps / len(eps)) @ inverse
        curvature = inverse.T @ inverse - 0.5 * (cross + cross.T)
        return Expectations(value.mean(), gradient.mean(0), curvature)
