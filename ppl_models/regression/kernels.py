"""Kernels as columns of a design: f(x) = wᵀ Φ(x), w ~ N(0, a² I), Φ(x) = L⁻¹ k(U, x), L Lᵀ = k(U, U).

With inducing points U chosen among the rows by k-means++ (Arthur & Vassilvitskii 2007, SODA) Φᵀ Φ is
Nyström's approximation of k (Williams & Seeger 2001, NIPS 13, https://proceedings.neurips.cc/paper/2000),
so that a
regression on Φ is one of Gaussian processes, whatever the target. With r = |z − u| / (ℓ √p), z the p
predictors,

    rbf        exp(−r²/2)
    matern32   (1 + √3 r) exp(−√3 r)
    matern52   (1 + √5 r + 5r²/3) exp(−√5 r)

Numbers are standardised; dummies of labels stay 0 and 1, so that a rare label is not far from all others. ℓ
and a are those whose evidence lower bound is largest on some of the rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ppl_models.data import Dataset
from ppl_models.regression.design import Design

KERNELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rbf": lambda r: np.exp(-0.5 * r**2),
    "matern32": lambda r: (1 + math.sqrt(3) * r) * np.exp(-math.sqrt(3) * r),
    "matern52": lambda r: (1 + math.sqrt(5) * r + 5 / 3 * r**2) * np.exp(-math.sqrt(5) * r),
}
"""Of distances r ≥ 0; 1 at 0."""

ROWS = 10_000
"""Rows that inducing points are chosen among."""

JITTER = 1e-8
"""What is added to the diagonal of k(U, U)."""


class KernelCoding:
    """Features of a kernel, (m, M), from the predictors of another design.

    Args:
        base: the design of the predictors.
        kernel: a name in `KERNELS`.
        points: U, as `places` gives them, (M, p).
        length_scale: ℓ.
    """

    def __init__(self, base: Design, kernel: str, points: np.ndarray, length_scale: float) -> None:
        self.base, self.kernel, self.points, self.length_scale = base, kernel, points, length_scale
        self.names = tuple(f"{kernel}[{i + 1}]" for i in range(len(points)))
        self.within = base.coding
        self.used = base.coding.used
        self.origins = (self.used,) * len(points)
        self.categories = base.coding.categories
        inside = self._between(points) + JITTER * np.eye(len(points))
        self._root = np.linalg.cholesky(inside)

    def _between(self, Z: np.ndarray) -> np.ndarray:
        """k(z, u), (m, M)."""
        square = (Z**2).sum(1)[:, None] + (self.points**2).sum(1) - 2 * Z @ self.points.T
        r = np.sqrt(np.maximum(square, 0.0) / max(self.points.shape[1], 1)) / self.length_scale
        return KERNELS[self.kernel](r)

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """(m, C) cells of the table to Φ, (m, M); NaN in rows with a missing predictor."""
        from scipy.linalg import solve_triangular

        across = self._between(places(self.base, values))
        return solve_triangular(self._root, across.T, lower=True, check_finite=False).T

    def at(self, length_scale: float, inducing: int | None = None) -> "KernelCoding":
        """The same with another length scale, or the first points only."""
        return KernelCoding(self.base, self.kernel, self.points[:inducing], length_scale)


def places(design: Design, values: np.ndarray) -> np.ndarray:
    """Predictors between which distances are taken, (m, p): numbers standardised, dummies only centred."""
    Z, labels = design.standardised(values)[:, 1:], design.coding.categories
    dummies = [j for j, of in enumerate(design.coding.origins) if len(of) == 1 and of[0] in labels]
    Z[:, dummies] *= design.sd[dummies]
    return Z


@dataclass(frozen=True)
class Tuned:
    """What a kernel is after training.

    Attributes:
        length_scale: ℓ, of standardised predictors, times √p.
        amplitude: a, in units of the linear predictor.
    """

    length_scale: float
    amplitude: float


def with_kernel(design: Design, data: Dataset, kernel: str, inducing: int, length_scale: float) -> Design:
    """The design whose columns are features of a kernel over those of another.

    Args:
        design: of the predictors.
        data: the rows of the fit.
        kernel: a name in `KERNELS`.
        inducing: M at most.
        length_scale: ℓ.
    """
    from sklearn.cluster import kmeans_plusplus

    rng = np.random.default_rng(0)
    rows = np.flatnonzero(design.rows)
    if len(rows) > ROWS:
        rows = np.sort(rng.choice(rows, ROWS, replace=False))
    Z = np.unique(places(design, data.values[rows]), axis=0)
    Z = Z[rng.permutation(len(Z))]
    points = Z if len(Z) <= inducing else kmeans_plusplus(Z, inducing, random_state=0)[0]
    return at_length(replace(design, coding=KernelCoding(design, kernel, points, length_scale)), length_scale)


def at_length(design: Design, length_scale: float, inducing: int | None = None) -> Design:
    """A design of a kernel with another length scale, or fewer inducing points."""
    if not isinstance(design.coding, KernelCoding):
        return design  # a linear kernel
    coding = design.coding.at(length_scale, inducing)
    M = len(coding.points)
    ones = np.ones(M)
    return replace(design, coding=coding, mean=0 * ones, sd=ones, unit=ones, groups=(), constant=())
