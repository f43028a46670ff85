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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch

from ppl_models.data import Dataset
from ppl_models.inference.starts import seeds
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

LEAST = 1e-5
"""Inducing points are left out whose f the others know up to this share of its variance."""


class KernelCoding:
    """Features of a kernel, (m, M), from the predictors of another design.

    Args:
        base: the design of the predictors.
        kernel: a name in `KERNELS`.
        places: U, as `places` gives them, (M₀, p).
        length_scale: ℓ.
        chosen: which M of these are used; all if not given.
    """

    def __init__(
        self,
        base: Design,
        kernel: str,
        places: np.ndarray,
        length_scale: float,
        chosen: Sequence[int] | None = None,
    ) -> None:
        self.base, self.kernel, self.places, self.length_scale = base, kernel, places, length_scale
        self.points = places if chosen is None else places[list(chosen)]
        self.names = tuple(f"{kernel}[{i + 1}]" for i in range(len(self.points)))
        self.within = base.coding
        self.used = base.coding.used
        self.origins = (self.used,) * len(self.points)
        self.categories = base.coding.categories

    @cached_property
    def _root(self) -> np.ndarray:
        inside = self._of(between(self.points, self.points))
        return np.linalg.cholesky(inside + JITTER * np.eye(len(inside)))

    def _of(self, distances: np.ndarray) -> np.ndarray:
        """Kernel of distances that `between` gives."""
        return KERNELS[self.kernel](distances / self.length_scale)

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """(m, C) cells of the table to Φ, (m, M); NaN in rows with a missing predictor."""
        return whitened(self._root, self._of(between(places(self.base, values), self.points)))

    def at(self, length_scale: float, chosen: Sequence[int] | None = None) -> "KernelCoding":
        """The same with another length scale and choice of points."""
        return KernelCoding(self.base, self.kernel, self.places, length_scale, chosen)

    def spanning(self) -> tuple[int, ...]:
        """The points in the order in which they add most, until all others add less than `LEAST`."""
        return tuple(pivots(self._of(between(self.places, self.places)))[0].tolist())

    def by_length(self, values: np.ndarray, most: int) -> Callable[[float], np.ndarray]:
        """ℓ -> [1, Φ] of rows, (m, M + 1), through the first `most` points; distances are taken once."""
        U = self.places[:most]
        inside, across = between(U, U), between(places(self.base, values), U)
        k = KERNELS[self.kernel]

        def features(length_scale: float) -> np.ndarray:
            chosen, root = pivots(k(inside / length_scale))
            Phi = whitened(root, k(across[:, chosen] / length_scale))
            return np.concatenate([np.ones((len(Phi), 1)), Phi], 1)

        return features


def between(Z: np.ndarray, U: np.ndarray) -> np.ndarray:
    """Distances |z − u| / √p, (m, M)."""
    square = (Z**2).sum(1)[:, None] + (U**2).sum(1) - 2 * Z @ U.T
    return np.sqrt(np.maximum(square, 0.0) / max(U.shape[1], 1))


def whitened(root: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Φ = L⁻¹ k(U, x) for rows, (m, M), from L (M, M) and k(x, U) (m, M)."""
    L, k = torch.from_numpy(root), torch.from_numpy(across)
    return torch.linalg.solve_triangular(L, k.mT, upper=False).mT.numpy()


def pivots(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which points span k(U, U) up to `LEAST`, and L of these, by Cholesky's method with pivots.

    (Fine & Scheinberg 2001, Efficient SVM training using low-rank kernel representations, JMLR 2,
    https://www.jmlr.org/papers/v2/fine01a.html.)
    """
    from scipy.linalg import get_lapack_funcs

    (pstrf,) = get_lapack_funcs(("pstrf",), (inside,))
    root, order, rank, _ = pstrf(inside, tol=LEAST, lower=1)
    return order[:rank] - 1, np.tril(root[:rank, :rank])


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
        chosen: which inducing points are used; all if there are none.
    """

    length_scale: float
    amplitude: float
    chosen: tuple[int, ...] = ()

    @classmethod
    def of(cls, stored: Sequence[float]) -> Self:
        """From `stored`."""
        return cls(stored[0], stored[1], tuple(map(int, stored[2:])))

    @property
    def stored(self) -> tuple[float, ...]:
        """ℓ, a and the points."""
        return (self.length_scale, self.amplitude, *self.chosen)


def with_kernel(design: Design, data: Dataset, kernel: str, inducing: int, length_scale: float) -> Design:
    """The design whose columns are features of a kernel over those of another.

    Args:
        design: of the predictors.
        data: the rows of the fit.
        kernel: a name in `KERNELS`.
        inducing: M at most.
        length_scale: ℓ.
    """
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(design.rows)
    if len(rows) > ROWS:
        rows = np.sort(rng.choice(rows, ROWS, replace=False))
    Z = np.unique(places(design, data.values[rows]), axis=0)
    Z = Z[rng.permutation(len(Z))]
    points = Z if len(Z) <= inducing else seeds(Z, inducing, rng)
    return _coded(design, KernelCoding(design, kernel, points, length_scale))


def spanned(design: Design, tuned: Tuned) -> Tuned:
    """With only the inducing points that add something at its length scale."""
    if not isinstance(design.coding, KernelCoding):
        return tuned
    return replace(tuned, chosen=design.coding.at(tuned.length_scale).spanning())


def retuned(design: Design, tuned: Tuned) -> Design:
    """A design of a kernel with what was learned."""
    if not isinstance(design.coding, KernelCoding):
        return design  # a linear kernel
    return _coded(design, design.coding.at(tuned.length_scale, tuned.chosen or None))


def _coded(design: Design, coding: KernelCoding) -> Design:
    M = len(coding.points)
    ones = np.ones(M)
    return replace(design, coding=coding, mean=0 * ones, sd=ones, unit=ones, groups=(), constant=())
