"""Gaussian emissions with full or tied covariance, with the conjugate prior, and any cells missing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ppl_models.families.base import EPSILON, Features, LinearEmission, columns_of, weighted_sums
from ppl_models.families.normal_prior import (
    CLOSE,
    LEAP,
    LOG_2PI,
    NOTHING,
    STEPS,
    NormalFactor,
    NormalPrior,
    Size,
    centres,
)
from ppl_models.families.normal_prior import root as root_of
from ppl_models.importing import lazy
from ppl_models.inference.factors import Site, Support, Theta
from ppl_models.kernels.workspace import Workspace
from ppl_models.threads import threads_for

if TYPE_CHECKING:
    import pyro.distributions as dist
else:
    dist = lazy("pyro.distributions")

ENOUGH = 5.0
"""Rows a column, in all states together, from which the shape of the prior is learned."""

ALIKE = 1e-7
"""Change of P that ends the search: log Z is off by its square."""

SETTLED = 0.1
"""Change of P from which κ₀ follows it: with P still wide it would settle where narrow states are wide."""

COMPILED = 12
"""Columns up to which the search is compiled: beyond, LAPACK is faster than loops are."""

FARTHEST = 30.0
"""The longest step in the logarithm of a size of P."""


def scale_tril_of(precision: Tensor) -> Tensor:
    """The Cholesky factor of the inverse of each matrix; not a number where there is none.

    That of the matrix with rows and columns turned round, turned back, is the inverse factor.
    """
    factor, failed = torch.linalg.cholesky_ex(precision.flip((-2, -1)))
    factor = torch.where(failed[..., None, None] > 0, torch.nan, factor).flip((-2, -1)).mT
    eye = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    return torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)


class FullGaussian(NormalFactor, LinearEmission):
    """x | k ~ N(μ_k, Λ_k⁻¹), Λ_k ~ Wishart(ν₀, W₀), W₀⁻¹ = ν₀ P, μ_k | Λ_k ~ N(0, (κ₀ Λ_k)⁻¹).

    P is the most probable of all, that is (Σ_k E[Λ_k]/K)⁻¹, not below the diagonal matrix of the least
    variances, where there are `ENOUGH` rows a column: a fixed shape would be too wide in the narrow
    directions of states whose covariance is close to singular. With fewer rows P_de = s_d C_de s_e, where C
    is the correlation of the data: states are thought to be shaped like all rows together, but smaller. So
    it is where s² is given. A matrix that is given is P.

    With S = (n, Σx, Σxxᵀ): κ = κ₀ + n, m = Σx/κ, ν = ν₀ + n, W⁻¹ = W₀⁻¹ + Σxxᵀ − κ m mᵀ, and
    Z = (κ₀/κ)^{D/2} · Z_W(ν, W)/Z_W(ν₀, W₀) · (2π)^{−nD/2}. (Bishop 2006, PRML, §10.2; Murphy 2007.)
    Tied: one Λ for all states, ν and W⁻¹ summed over them.

    Where s² and κ₀ are left to the data, log Z has its maximum in them where, for every column d (in P, for
    all entries of Σ_k E[Λ_k] P = K I),

        K = Σ_k (E[Λ_k] P)_dd,    κ₀ = K D / Σ_k E[μ_kᵀ Λ_k μ_k]

    Missing cells of a row are latent: q(x_missing | k) is the Gaussian ∝ exp E[log p(x | k)], integrated
    out for the state and completed for the statistics. Given θ rather than its expectation the same
    formulas are the exact marginal and conditional Gaussians.

    The features are x and the upper triangle of xxᵀ, with 0 in missing cells.
    """

    name = "gaussian"
    masks_cells = False

    def __init__(
        self,
        columns: tuple[int, ...],
        states: int,
        centre: Tensor,
        scale: Tensor,
        prior: NormalPrior,
        tied: bool = False,
        correlation: Tensor | None = None,
    ) -> None:
        self.columns, self.states = columns, states
        self.centre, self.scale = centre, scale
        self.prior, self.tied = prior, tied
        C = torch.eye(len(columns), dtype=torch.float64) if correlation is None else correlation
        self.correlation = C
        i, j = torch.triu_indices(len(columns), len(columns))
        self._entry = i * len(columns) + j  # of the upper triangle in the matrix, row by row
        self._place = torch.empty(len(columns) ** 2, dtype=torch.int64)  # of the matrix in the triangle
        self._place[self._entry] = self._place[j * len(columns) + i] = torch.arange(len(i))
        self._times = torch.where(i == j, 1.0, 2.0).double()  # that an entry of the triangle is in the matrix

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, 1 + D + D(D+1)/2)."""
        D = len(self.columns)
        return (self.states, 1 + D + D * (D + 1) // 2)

    @property
    def free_parameters(self) -> int:
        """Means, and covariances of each state or of all."""
        D = len(self.columns)
        return self.states * D + (1 if self.tied else self.states) * D * (D + 1) // 2

    def possible(self, statistics: Tensor) -> Tensor:
        """Counts are not negative, and W⁻¹ is positive definite, at the least s² if that is learned."""
        positive = statistics[..., 0] >= 0
        _, _, _, within = self._sums(statistics)
        least = self._shape(self.prior.variances(within).log())
        _, info = torch.linalg.cholesky_ex(self.prior.dof * least + within)
        return positive.flatten(1).all(-1) & (info == 0).flatten(1).all(-1)

    # Between vectors of statistics or natural parameters and (scalar, vector, symmetric matrix).

    def _unpack(self, S: Tensor, halve: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """(…, 1 + D + D(D+1)/2) -> (…), (…, D), (…, D, D); `halve` spreads an entry over both places."""
        D = len(self.columns)
        entries = S[..., 1 + D :]
        if halve:
            entries = entries / self._times.to(S)
        matrix = entries.index_select(-1, self._place.to(S.device)).unflatten(-1, (D, D))
        return S[..., 0], S[..., 1 : 1 + D], matrix

    def _pack(self, zero: Tensor, one: Tensor, two: Tensor, double: bool = False) -> Tensor:
        entries = two.flatten(-2).index_select(-1, self._entry.to(one.device))
        if double:
            entries = entries * self._times.to(one)
        return torch.cat([zero.unsqueeze(-1), one, entries], -1)

    def features(self, values: Tensor, take: Workspace, key: str, masked: bool | None = None) -> Features:
        """x, and x_i x_j for i ≤ j, with the pattern of missing cells of each row."""
        x = columns_of(values, self.columns)
        n, D = x.shape
        matrix = take.take(key, (n, self.shape[1] - 1), values)
        torch.sub(x, self.centre.to(x), out=matrix[:, :D]).div_(self.scale.to(x))
        missing = torch.isnan(x)
        pattern = patterns = None
        if bool(missing.any()):
            matrix[:, :D].masked_fill_(missing, 0.0)
            observed = (~missing).cpu().numpy()
            packed = np.ascontiguousarray(np.packbits(observed, axis=1))
            _, first, pattern = np.unique(
                packed.view(f"V{packed.shape[1]}").ravel(), return_index=True, return_inverse=True
            )
            patterns = observed[first]
        at = D
        for i in range(D):
            torch.mul(matrix[:, i : i + 1], matrix[:, i:D], out=matrix[:, at : at + D - i])
            at += D - i
        return Features(matrix, pattern, patterns)

    def _parts(self, natural: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The scalar, Λμ and Λ of natural parameters."""
        zero, linear, matrix = self._unpack(natural, halve=True)
        return zero, linear, -2 * matrix

    def _by_pattern(self, features: Features):
        """Each pattern of missing cells with the rows that have it."""
        assert features.pattern is not None
        assert features.patterns is not None
        order = np.argsort(features.pattern, kind="stable")
        found, starts = np.unique(features.pattern[order], return_index=True)
        for p, rows in zip(found, np.split(order, starts[1:]), strict=True):
            device = features.matrix.device
            seen = torch.as_tensor(features.patterns[p], device=device)
            yield seen, torch.as_tensor(rows, device=device)

    def _regression(self, linear: Tensor, precision: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Missing cells given the observed: Cholesky factor of their precision, c and B of c + B x."""
        hidden = ~seen
        factor = torch.linalg.cholesky(precision[..., hidden, :][..., hidden])
        c = torch.cholesky_solve(linear[..., hidden].unsqueeze(-1), factor).squeeze(-1)
        B = -torch.cholesky_solve(precision[..., hidden, :][..., seen], factor)
        return factor, c, B

    def linear(self, natural: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """For complete rows."""
        return natural[..., 1:], natural[..., 0]

    def collect(self, sums: Tensor, count: Tensor) -> Tensor:
        """For complete rows."""
        return torch.cat([count.unsqueeze(-1), sums], -1)

    def log_density(self, features: Features, natural: Tensor, out: Tensor, add: bool) -> None:
        """Log ∫ exp⟨t(x), η⟩ dx_missing: one product for all rows, and a term for each pattern.

        With 0 in missing cells ⟨t(x), η⟩ is the part of the others. With h = (Λμ − Λx)_missing the integral
        adds

            ½ hᵀ Λ_missing⁻¹ h − ½ log|Λ_missing| + ½ m log 2π

        A row without any cell says nothing of the state, and nothing is said of it.
        """
        super().log_density(features, natural, out, add)
        if features.pattern is None:
            return
        zero, linear, precision = self._parts(natural)
        x = features.matrix[:, : len(self.columns)]
        with self._threads(features, natural):
            for seen, rows in self._by_pattern(features):
                if not bool(seen.any()):
                    out[:, rows] = out[:, rows] - zero.unsqueeze(1) if add else 0.0
                elif not bool(seen.all()):
                    missing = precision[..., ~seen, :]
                    factor = torch.linalg.cholesky(missing[..., ~seen])
                    h = linear[..., ~seen].unsqueeze(-1) - missing @ x[rows].mT
                    square = torch.linalg.solve_triangular(factor, h, upper=False).square().sum(-2)
                    size = factor.diagonal(dim1=-1, dim2=-2).log().sum(-1) - 0.5 * LOG_2PI * h.shape[-2]
                    out.index_add_(1, rows, (0.5 * square - size.unsqueeze(-1)).mT)

    def statistics(self, features: Features, gamma: Tensor, natural: Tensor) -> Tensor:
        """Weighted sums of the features, with missing cells completed state by state."""
        if features.pattern is None:
            return super().statistics(features, gamma, natural)
        total = gamma.new_zeros(gamma.shape[0], *self.shape)
        parts = self._parts(natural)
        with self._threads(features, natural):
            for seen, rows in self._by_pattern(features):
                if not bool(seen.any()):
                    continue
                weight = gamma[:, rows]
                S = self.collect(weighted_sums(weight, features.matrix[rows]), weight.sum(1))
                total += S if bool(seen.all()) else self._completed(S, *parts[1:], seen)
        return total

    def _threads(self, features: Features, natural: Tensor) -> AbstractContextManager[None]:
        """One thread where a pattern has few rows: its matrices are small, and there are many of them."""
        assert features.patterns is not None
        return threads_for(features.matrix.shape[0] // len(features.patterns) * natural.numel())

    def _completed(self, S: Tensor, linear: Tensor, precision: Tensor, seen: Tensor) -> Tensor:
        """Statistics of x = P x_observed + q + noise, where P and q fill in the missing cells."""
        n, sx, sxx = self._unpack(S)
        factor, c, B = self._regression(linear, precision, seen)
        D = len(self.columns)
        P = S.new_zeros(*n.shape, D, D)
        q = S.new_zeros(*n.shape, D)
        o, h = seen.nonzero().squeeze(-1), (~seen).nonzero().squeeze(-1)
        P[..., o, o] = 1.0
        P[..., h[:, None], o] = B
        q[..., h] = c
        moved = (P @ sx.unsqueeze(-1)).squeeze(-1)
        cross = moved.unsqueeze(-1) * q.unsqueeze(-2)
        two = P @ sxx @ P.mT + cross + cross.mT + n[..., None, None] * q.unsqueeze(-1) * q.unsqueeze(-2)
        two[..., h[:, None], h] += n[..., None, None] * torch.cholesky_inverse(factor)
        return self._pack(n, moved + n.unsqueeze(-1) * q, two)

    def _shape(self, log_variance: Tensor) -> Tensor:
        """P (..., 1, D, D) for log s² (..., D)."""
        half = (0.5 * log_variance).exp()
        sd = half.expand(*half.shape[:-1], len(self.columns))
        return (sd.unsqueeze(-1) * sd.unsqueeze(-2) * self.correlation.to(sd)).unsqueeze(-3)

    def _sums(self, S: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """N (R, K), means (R, K, D), and ν and the scatter about the means, (R, 1, ...) if tied."""
        n, sx, sxx = self._unpack(S)
        centre = centres(n.unsqueeze(-1), sx)
        within, count = sxx - sx.unsqueeze(-1) * centre.unsqueeze(-2), n
        if self.tied:
            count, within = n.sum(-1, keepdim=True), within.sum(-3, keepdim=True)
        return n, centre, self.prior.dof + count, within

    def sizes(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """s² (R, D), the diagonal of P, and κ₀ (R, 1)."""
        *_, log_variance, weight = self._posterior(statistics)
        return log_variance.exp(), weight

    def learned(self, statistics: Tensor) -> dict[str, Size]:
        """P or s², and κ₀, unless they were given."""
        found = super().learned(statistics)
        if self.prior.widest is not None and self._shaped(statistics):
            shape = self._posterior(statistics[:1])[4][0, 0] / self.prior.dof**0.5
            found[self.variance_field] = tuple(map(tuple, (shape @ shape.mT).tolist()))
        return found

    def _shaped(self, S: Tensor) -> bool:
        """Whether there are rows enough to learn the shape of the prior, and not its s² alone."""
        rows = S[..., 0].sum(-1)
        return bool((rows >= ENOUGH * len(self.columns)).all())

    def _posterior(self, S: Tensor) -> tuple[Tensor, ...]:
        """κ (R, K), m (R, K, D), ν and the factor of W⁻¹, (R, K) or (R, 1), that of W₀⁻¹, log s², κ₀.

        The last two are (R, D), or (R, 1) where one number was given, and (R, 1).
        """
        p, D = self.prior, len(self.columns)
        n, centre, dof, within = self._sums(S)
        R, K = dof.shape
        empty = not bool(n.any())  # every size is then as probable: the largest
        weight = (p.weights(S) if empty else p.lightest(S)).expand(R, 1)
        given = p.matrix(S)
        shaped = given is None and p.widest is not None and self._shaped(S)
        low = p.variances(S).log().expand(R, -1)
        high, log_variance = low, low
        root = None if given is None else torch.linalg.cholesky(given).expand(R, 1, D, D)
        if shaped:
            start = within.sum(1, keepdim=True) / n.sum(-1)[:, None, None, None]
            root = torch.linalg.cholesky(start + torch.diag_embed(low.exp()).unsqueeze(1))
        elif p.widest is not None:
            low = low.expand(R, D)
            high = torch.full_like(low, math.log(p.widest))
            each = (dof - p.dof).unsqueeze(-1) / within.diagonal(dim1=-1, dim2=-2).clamp_min(NOTHING)
            log_variance = (K / each.sum(1).clamp_min(NOTHING)).log().clamp(low, high)
        with threads_for(within.numel()):
            for step in range(STEPS):
                gain = n / (weight + n)
                mean = gain.unsqueeze(-1) * centre
                between = (weight * gain)[..., None, None] * centre.unsqueeze(-1) * centre.unsqueeze(-2)
                shape = self._shape(log_variance) if root is None else root @ root.mT
                if self.tied:
                    between = between.sum(-3, keepdim=True)
                factor = torch.linalg.cholesky(p.dof * shape + within + between)
                if empty or (p.widest is None and p.flattest is None):
                    break
                moved, better, heavier, turned = S.new_zeros(()), log_variance, weight, root
                if shaped:
                    turned, moved = self._turn(root, factor, dof, low)
                elif p.widest is not None:
                    inverse = torch.cholesky_inverse(factor)
                    leap = self._leap(inverse, shape, dof, log_variance, low, high, LEAP * 0.93**step)
                    better = (log_variance + leap).clamp(low, high)
                    moved = (better - log_variance).abs().max()
                if p.flattest is not None and bool(moved < SETTLED):
                    scaled = torch.linalg.solve_triangular(factor, mean.unsqueeze(-1), upper=False)
                    square = dof * scaled.square().sum((-1, -2))
                    heavier = p.weight(D * gain.sum(1, keepdim=True), square.sum(1, keepdim=True))
                    moved = moved + (heavier / weight).log().abs().max()
                if bool(moved < (ALIKE if shaped else CLOSE)):
                    break
                log_variance, weight, root = better, heavier, turned
        if root is None:
            root = torch.linalg.cholesky(shape)
        if shaped:
            log_variance = root.square().sum(-1)[:, 0].log()
        return weight + n, mean, dof, factor, p.dof**0.5 * root, log_variance, weight

    def _trained(self, S: Tensor) -> tuple[Tensor, ...]:
        """As `_posterior`. Where the shape of few columns is learned, without derivatives, it is compiled.

        Training loads the compiler anyway; predictions, which ask once, are to do without it.
        """
        few = len(self.columns) <= COMPILED and S.device.type == "cpu" and S.dtype == torch.float64
        wanted = torch.is_grad_enabled() and S.requires_grad
        found = None
        if few and not wanted and self.prior.widest is not None and self._shaped(S):
            found = self._compiled(S)
        return self._posterior(S) if found is None else found

    def _compiled(self, S: Tensor) -> tuple[Tensor, ...] | None:
        """As `_posterior`, whose search for P and κ₀ is compiled; None where some matrix has no factor."""
        from ppl_models.kernels import prior_shape

        n, centre, dof, within = self._sums(S)
        p, (R, D) = self.prior, (len(n), len(self.columns))
        low = p.variances(n).expand(D)
        start = within.sum(1) / n.sum(-1)[:, None, None] + torch.diag(low)
        root, failed = torch.linalg.cholesky_ex(start)
        if bool((failed > 0).any()):
            return None
        root, lightest, weight = root.contiguous(), float(p.lightest(n)), p.lightest(n).repeat(R)
        mean, factor = n.new_empty(centre.shape), n.new_empty(within.shape)
        given = (each.contiguous().numpy() for each in (n, centre, dof, within, root, low.sqrt(), weight))
        done = prior_shape.search(
            *given, float(p.dof), lightest, float(p.weights(n)), p.flattest is not None, SETTLED, ALIKE,
            FARTHEST, STEPS, CLOSE, prior_shape.SWEEPS, prior_shape.EPSILON, mean.numpy(), factor.numpy(),
        )  # fmt: skip
        if not done:
            return None
        log_variance = root.square().sum(-1).log()
        found = p.dof**0.5 * root.unsqueeze(1)
        return weight.unsqueeze(1) + n, mean, dof, factor, found, log_variance, weight.unsqueeze(1)

    def _turn(self, root: Tensor, factor: Tensor, dof: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        """One step towards the most probable P ≥ diag(low), where K P⁻¹ = Σ_k E[Λ_k].

        log Z is concave in P along geodesics, so that there is one maximum. In the directions in which the
        slope is diagonal, relative to the P at hand, P is multiplied by what were right if the scatter of
        every state were diagonal in them, too. Products of Λ itself would lose the wide directions to
        rounding.

        Args:
            root: the Cholesky factor of P, (R, 1, D, D).
            factor: that of W_k⁻¹, (R, K, D, D).
            dof: ν_k.
            low: log of the floor (R, D).

        Returns:
            The factor of the next P and how far it is from this one.
        """
        eye, v0 = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device), self.prior.dof
        T = torch.linalg.solve_triangular(factor, root.expand_as(factor), upper=False)
        _, U = torch.linalg.eigh((dof[..., None, None] * (T.mT @ T)).sum(1, keepdim=True))
        share = (v0 * (T @ U).square().sum(-2)).clamp_max(1.0)  # of the prior in W_k⁻¹, (R, K, D)
        weight, rest = dof.unsqueeze(-1), 1 - share

        def slope(log_size: Tensor) -> Tensor:
            return (v0 - weight * share / (share + rest * (-log_size).exp())).sum(1, keepdim=True)

        end = torch.full_like(share[:, :1], FARTHEST)
        half = 0.5 * root_of(slope, -end, end, 0 * end).squeeze(1)
        turned, least = root @ (U * half.exp()[:, None, None]), (0.5 * low).exp()[:, None, :, None]
        scaled = turned / least
        _, outside = torch.linalg.cholesky_ex(scaled @ scaled.mT - eye)
        if bool((outside > 0).any()):
            U, size, _ = torch.linalg.svd(scaled)
            turned = least * U * size.clamp_min(1.0).unsqueeze(-2)
        turned = torch.linalg.qr(turned.mT, mode="reduced").R.mT
        turned = turned * turned.diagonal(dim1=-1, dim2=-2).sign().unsqueeze(-2)
        ratio = torch.linalg.solve_triangular(root, turned, upper=False)
        return turned, (ratio @ ratio.mT - eye).abs().max()

    def _leap(
        self, A: Tensor, P: Tensor, dof: Tensor, at: Tensor, low: Tensor, high: Tensor, most: float
    ) -> Tensor:
        """Newton's step in log s², (R, D), towards the root of Σ_k [ν₀ − ν_k ν₀ (A_k P)_dd], A_k = W_k.

        Columns at an end of their interval that would leave it stay where they are.
        """
        v0 = self.prior.dof
        AP = A @ P
        diagonal = AP.diagonal(dim1=-1, dim2=-2)
        slope = (v0 - v0 * dof.unsqueeze(-1) * diagonal).sum(1)
        bend = A * P + torch.diag_embed(diagonal) - v0 * (A * (P @ AP) + AP * AP.mT)
        bend = 0.5 * v0 * (dof[..., None, None] * bend).sum(1)
        free = ~(((at <= low) & (slope < 0)) | ((at >= high) & (slope > 0)))
        slope = torch.where(free, slope, 0.0)
        both = free.unsqueeze(-1) & free.unsqueeze(-2)
        stiff = bend.diagonal(dim1=-1, dim2=-2).abs().clamp_min(1e-12 * v0)
        bend = torch.where(both, bend, 0.0) + torch.diag_embed(torch.where(free, 1e-12 * stiff, 1.0))
        factor, failed = torch.linalg.cholesky_ex(bend)
        step = torch.cholesky_solve(slope.unsqueeze(-1), factor).squeeze(-1)
        step = torch.where(failed.unsqueeze(-1) > 0, slope / stiff, step)
        return step.nan_to_num(0.0).clamp(-most, most)

    def _log_z(self, S: Tensor, *posterior: Tensor) -> Tensor:
        """Log Z as in the class docstring."""
        (kappa, _, dof, factor, root, _, weight), D = posterior, len(self.columns)
        prior_dof = torch.full_like(dof, self.prior.dof)
        normal = 0.5 * D * (weight.log() - kappa.log() - LOG_2PI * S[..., 0])

        def log_z(dof: Tensor, log_det_inverse: Tensor) -> Tensor:
            return 0.5 * dof * (D * math.log(2) - log_det_inverse) + torch.mvlgamma(0.5 * dof, D)

        log_det, before = (2 * each.diagonal(dim1=-1, dim2=-2).log().sum(-1) for each in (factor, root))
        wishart = log_z(dof, log_det) - log_z(prior_dof, before)
        return normal.sum(-1) + wishart.sum(-1)

    def _natural(self, *posterior: Tensor) -> Tensor:
        """E[½ log|Λ| − ½ μᵀΛμ], E[Λμ] = ν W m, −½ E[Λ] = −½ ν W."""
        (kappa, mean, dof, factor, *_), D = posterior, len(self.columns)
        precision = dof[..., None, None] * torch.cholesky_inverse(factor)
        steps = torch.arange(D, dtype=dof.dtype, device=dof.device)
        log_det = torch.digamma(0.5 * (dof.unsqueeze(-1) - steps)).sum(-1) + D * math.log(2)
        log_det = log_det - 2 * factor.diagonal(dim1=-1, dim2=-2).log().sum(-1)
        linear = (precision @ mean.unsqueeze(-1)).squeeze(-1)
        zero = 0.5 * (log_det - D * LOG_2PI - D / kappa - (mean * linear).sum(-1))
        return self._pack(zero, linear, -0.5 * precision.expand(*kappa.shape, D, D), double=True)

    @property
    def supports(self) -> Mapping[str, Support]:
        """Precisions are positive definite."""
        return {"mean": Support.REAL, "precision": Support.DEFINITE}

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`precision`, then `mean` given it."""
        kappa, mean, dof, factor, *_ = self._posterior(statistics)
        inverse = factor @ factor.mT
        precision = site("precision", dist.Wishart(dof, precision_matrix=inverse, validate_args=False))
        spread = kappa[..., None, None] * precision
        normal = dist.MultivariateNormal(mean, scale_tril=scale_tril_of(spread), validate_args=False)
        return {"precision": precision, "mean": site("mean", normal)}

    def natural(self, theta: Theta) -> Tensor:
        """(½ log|Λ| − ½ μᵀΛμ − D/2 log 2π, Λμ, −½ Λ)."""
        mean, D = theta["mean"], len(self.columns)
        precision = theta["precision"].expand(*mean.shape, D)
        linear = (precision @ mean.unsqueeze(-1)).squeeze(-1)
        zero = 0.5 * (torch.logdet(precision) - D * LOG_2PI - (mean * linear).sum(-1))
        return self._pack(zero, linear, -0.5 * precision, double=True)

    def log_base(self, values: Tensor) -> Tensor:
        """The change of units of the observed cells."""
        x, log_scale = columns_of(values, self.columns), self.scale.to(values).log()
        if not bool(x.sum().isnan()):
            return x.new_full((x.shape[0],), -float(log_scale.sum()))
        return -((~torch.isnan(x)).to(values) @ log_scale)

    def derived(self, theta: Theta) -> Theta:
        """With the covariance in the user's units, and its factor."""
        covariance = self._moments(theta)[1]
        return {**theta, "covariance": covariance, "scale_tril": torch.linalg.cholesky(covariance)}

    def _moments(self, theta: Theta) -> tuple[Tensor, Tensor]:
        mean, scale = theta["mean"], self.scale.to(theta["mean"])
        if "covariance" in theta:
            return self.centre.to(mean) + scale * mean, theta["covariance"]
        covariance = torch.cholesky_inverse(torch.linalg.cholesky(theta["precision"]))
        covariance = (covariance * scale * scale.unsqueeze(-1)).expand(*mean.shape, mean.shape[-1])
        return self.centre.to(mean) + scale * mean, covariance

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """A multivariate normal in the user's units."""
        return dist.MultivariateNormal(*self._moments(theta), validate_args=False)

    def margins(self, theta: Theta, at: Callable[[Tensor], Tensor], rows: Tensor) -> dist.TorchDistribution:
        """Normals: a covariance for every row would not fit."""
        mean, covariance = self._moments(theta)
        variance = covariance.diagonal(dim1=-1, dim2=-2)
        return dist.Normal(at(mean), at(variance).sqrt(), validate_args=False).to_event(1)

    def observe(self, theta: Theta, rows: Tensor) -> tuple[dist.TorchDistribution, Tensor]:
        """The marginal normal of the observed cells."""
        x = rows[..., list(self.columns)]
        seen = ~torch.isnan(x.reshape(-1, x.shape[-1])[0])
        mean, covariance = self._moments(theta)
        if not bool(seen.any()):
            return dist.Delta(mean.new_zeros(mean.shape[:-1])), mean.new_zeros(x.shape[:-1])
        marginal = dist.MultivariateNormal(
            mean[..., seen], covariance[..., seen, :][..., seen], validate_args=False
        )
        return marginal, x[..., seen]

    def complete(self, theta: Theta, x: Tensor) -> Tensor:
        """Draw from the conditional normal: add to a joint draw what observed cells are off by (Matheron)."""
        theta = theta if "scale_tril" in theta else self.derived(theta)
        mean, covariance = self._moments(theta)
        drawn = dist.MultivariateNormal(mean, scale_tril=theta["scale_tril"], validate_args=False).sample()
        if bool(torch.isnan(x).all()):
            return drawn
        off = torch.where(torch.isnan(x), torch.zeros_like(x), x - drawn)
        seen = (~torch.isnan(x)).to(x)
        inner = covariance * seen.unsqueeze(-1) * seen.unsqueeze(-2) + torch.diag_embed(1 - seen)
        gain = torch.linalg.solve(inner, off.unsqueeze(-1))
        return torch.where(torch.isnan(x), drawn + (covariance @ gain).squeeze(-1), x)

    def order_key(self, statistics: Tensor) -> Tensor:
        """The mean of the first column."""
        return statistics[..., 1] / (statistics[..., 0] + EPSILON)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`mean`, `sd` and `correlation` of each state."""
        mean, covariance = self._moments(theta)
        sd = covariance.diagonal(dim1=-1, dim2=-2).sqrt()
        correlation = covariance / (sd.unsqueeze(-1) * sd.unsqueeze(-2))
        return {
            "mean": (mean, ("column",)),
            "sd": (sd, ("column",)),
            "correlation": (correlation, ("column", "column_to")),
        }
