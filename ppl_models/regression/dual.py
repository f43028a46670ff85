"""Gaussians whose precision is a diagonal and a sum over rows, through the smaller of two matrices.

`Dual`, for many coefficients and few rows, works with n K × n K matrices: with
P = diag(D) ⊗ I_K + Σ_n z̃_n z̃_nᵀ ⊗ H_n, G = Z̃ D⁻¹ Z̃ᵀ and H = R Rᵀ (block diagonal), Woodbury's
identity gives P⁻¹ = D⁻¹ − D⁻¹ Z̃ᵀ R (I + Rᵀ G R)⁻¹ Rᵀ Z̃ D⁻¹, exactly, in O(n² p). `Primal` works with P.
"""

from functools import cached_property

import torch
from torch import Tensor

from ppl_models.regression.forms import Full, Structured
from ppl_models.regression.quadrature import safe_cholesky


class Dual:
    """The Gaussian of precision P.

    Args:
        Z: [1, Z], (n, p + 1).
        diagonal: D, (p + 1,), the same for the K outputs.
        site: H, (n, K, K), positive semi-definite.
        gram: G, where it is known already.
    """

    def __init__(self, Z: Tensor, diagonal: Tensor, site: Tensor, gram: Tensor | None = None) -> None:
        self.Z, self.diagonal, self.site = Z, diagonal, site
        self.gram = Z @ (Z / diagonal).mT if gram is None else gram
        self.n, self.K = site.shape[:2]
        self._R = safe_cholesky(site)  # (n, K, K)

    @cached_property
    def _root(self) -> Tensor:
        """The Cholesky factor of I + Rᵀ (G ⊗ I) R, (n K, n K)."""
        size = self.n * self.K
        if self.K == 1:
            r = self._R[:, 0, 0]
            inner = self.gram * r * r[:, None]
        else:
            inner = torch.einsum("nca,mcb,nm->namb", self._R, self._R, self.gram).reshape(size, size)
        return safe_cholesky(inner + torch.eye(size, dtype=inner.dtype, device=inner.device))

    @property
    def half_log_det(self) -> Tensor:
        """½ log |P|."""
        return 0.5 * self.K * self.diagonal.log().sum() + self._root.diagonal().log().sum()

    def _whiten(self, X: Tensor) -> Tensor:
        """L⁻¹ Rᵀ (X ⊗ I): (n K, m, K) for X (n, m)."""
        size, m = self.n * self.K, X.shape[1]
        right = torch.einsum("nca,nm->namc", self._R, X).reshape(size, m * self.K)
        return torch.linalg.solve_triangular(self._root, right, upper=False).reshape(size, m, self.K)

    def solve(self, g: Tensor) -> Tensor:
        """P⁻¹ g for g (p + 1, K)."""
        y = g / self.diagonal[:, None]
        right = torch.einsum("nca,nc->na", self._R, self.Z @ y).reshape(-1, 1)
        inner = torch.cholesky_solve(right, self._root).reshape(self.n, self.K)
        back = self.Z.mT @ torch.einsum("nca,na->nc", self._R, inner)
        return y - back / self.diagonal[:, None]

    def predictors(self) -> Tensor:
        """Covariances of the linear predictors, (n, K, K)."""
        T = self._whiten(self.gram)
        eye = torch.eye(self.K, dtype=T.dtype, device=T.device)
        return self.gram.diagonal()[:, None, None] * eye - torch.einsum("rna,rnb->nab", T, T)

    def coefficients(self) -> Tensor:
        """Covariances of the coefficients of each predictor, (p + 1, K, K)."""
        T = self._whiten(self.Z)
        eye = torch.eye(self.K, dtype=T.dtype, device=T.device)
        D = self.diagonal[:, None, None]
        return eye / D - torch.einsum("rpa,rpb->pab", T, T) / D**2

    def discrepancy(self, change: Tensor) -> float:
        """¼ tr (P⁻¹ ΔP)² for sites that change by (n, K, K): nats between the two, to second order."""
        size = self.n * self.K
        T = self._whiten(self.gram).reshape(size, size)
        eye = torch.eye(self.K, dtype=T.dtype, device=T.device)
        cov = torch.kron(self.gram, eye) - T.mT @ T
        moved = (change @ cov.reshape(self.n, self.K, size)).reshape(size, size)
        return 0.25 * float((moved * moved.mT).sum())

    def form(self, loc: Tensor) -> Structured:
        """The posterior N(loc, P⁻¹), loc (p + 1, K)."""
        V = torch.einsum("np,nka->pkna", self.Z, self._R).reshape(loc.numel(), self.n * self.K)
        return Structured(loc.reshape(-1), self.diagonal.repeat_interleave(self.K), V)


class Primal:
    """The Gaussian of precision P = diag(D) ⊗ I_K + Σ_n z̃_n z̃_nᵀ ⊗ H_n + F, with P itself.

    Args:
        Z: [1, Z], (n, p + 1); n may be 0.
        diagonal: D, (p + 1,).
        site: H, (n, K, K).
        fixed: F, (d, d), or None.
    """

    def __init__(self, Z: Tensor, diagonal: Tensor, site: Tensor, fixed: Tensor | None = None) -> None:
        self.Z, (self.p1, self.K) = Z, (Z.shape[1], site.shape[-1])
        d = self.p1 * self.K
        P = torch.diag(diagonal.repeat_interleave(self.K)) if fixed is None else fixed.clone()
        if fixed is not None:
            P.diagonal().add_(diagonal.repeat_interleave(self.K))
        for a in range(self.K):
            for b in range(self.K):
                P[a :: self.K, b :: self.K] += Z.mT @ (Z * site[:, a, b, None])
        self._root = torch.linalg.cholesky(P)
        self._d = d

    @property
    def half_log_det(self) -> Tensor:
        """½ log |P|."""
        return self._root.diagonal().log().sum()

    @cached_property
    def _cov(self) -> Tensor:
        return torch.cholesky_inverse(self._root).reshape(self.p1, self.K, self.p1, self.K)

    def solve(self, g: Tensor) -> Tensor:
        """P⁻¹ g for g (p + 1, K)."""
        return torch.cholesky_solve(g.reshape(-1, 1), self._root).reshape(g.shape)

    def predictors(self) -> Tensor:
        """Covariances of the linear predictors, (n, K, K)."""
        cov = self.Z.new_empty(len(self.Z), self.K, self.K)
        for a in range(self.K):
            for b in range(self.K):
                cov[:, a, b] = ((self.Z @ self._cov[:, a, :, b]) * self.Z).sum(-1)
        return cov

    def coefficients(self) -> Tensor:
        """Covariances of the coefficients of each predictor, (p + 1, K, K)."""
        at = torch.arange(self.p1)
        return self._cov[at, :, at, :]

    def form(self, loc: Tensor) -> Full:
        """The posterior N(loc, P⁻¹), loc (p + 1, K)."""
        return Full(loc.reshape(-1), torch.linalg.cholesky(self._cov.reshape(self._d, self._d)))
