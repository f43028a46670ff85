"""A generalised linear model as a log density with Gaussian expectations.

    log p(y, φ) = Σ_n w_n log p(y_n | φ_n, ψ) + log p(φ | ψ),   φ_n = Φᵀ z̃_n + offset_n

with z̃_n = (1, z_n) of p + 1 entries, Φ (p + 1, K), and a `response` p(y | φ, ψ). The parameter vector is
Φ row by row, d = (p + 1) K; ψ is given. Under q = N(m, Σ) each φ_n is a Gaussian of K dimensions, so that
E_q[log p], E_q[∇ log p] and E_q[−∇² log p] need K-dimensional quadrature only, and the ELBO is deterministic.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ppl_models.draws import groups
from ppl_models.inference.gaussian import Expectations, GaussianTarget
from ppl_models.regression.design import Block
from ppl_models.regression.priors import WithIntercept
from ppl_models.regression.responses.normal import HALF_LOG_2PI
from ppl_models.regression.responses.response import NumberResponse, Response
from ppl_models.regression.rows import Batch
from ppl_models.regression.sandwich import Adjustment, adjustment
from ppl_models.regression.workers import shares, spread

NARROW = 256
"""Columns up to which threads share out the rows; products of wider blocks are worth several threads each."""

TOGETHER = 2**18
"""Draws × rows × classes that densities are computed of together: what a cache holds."""


PAIRED = 64
"""Columns up to which, with several classes, products z_i z_j are made once for all pairs of classes."""


class Products:
    """Sums over pairs of columns and pairs of classes as one product of matrices.

        cov_nab = Σ_ij z_ni z_nj σ_iajb,    F_iajb = Σ_n z_ni z_nj H_nab

    both symmetric in (i, j) and in (a, b), of which the lower triangles are held.

    Args:
        width: p + 1.
        outputs: K.
    """

    def __init__(self, width: int, outputs: int) -> None:
        self.i, self.j = torch.tril_indices(width, width)
        self.a, self.b = torch.tril_indices(outputs, outputs)
        self.outputs = outputs

    def of(self, Z: Tensor) -> Tensor:
        """z_i z_j, (m, P)."""
        return Z[:, self.i] * Z[:, self.j]

    def nothing(self, like: Tensor) -> Tensor:
        """Zeros for `weighed` to be added to."""
        return like.new_zeros(len(self.i), len(self.a))

    def pack(self, sigma: Tensor | None) -> Tensor | None:
        """σ (p + 1, K, p + 1, K) as (P, pairs of classes)."""
        if sigma is None:
            return None
        i, j, a, b = self.i[:, None], self.j[:, None], self.a, self.b
        return sigma[i, a, j, b] + torch.where(i == j, 0.0, 1.0) * sigma[j, a, i, b]

    def spread(self, pairs: Tensor, packed: Tensor) -> Tensor:
        """Covariances of the linear predictors, (m, K, K)."""
        found = pairs @ packed
        cov = found.new_empty(len(pairs), self.outputs, self.outputs)
        cov[:, self.a, self.b] = found
        cov[:, self.b, self.a] = found
        return cov

    def weighed(self, pairs: Tensor, H: Tensor) -> Tensor:
        """Σ_n z_i z_j H_ab, (P, pairs of classes)."""
        return pairs.mT @ H[:, self.a, self.b]

    def unpack(self, summed: Tensor, curvature: Tensor) -> None:
        """Write that into the lower triangle of classes of F (p + 1, K, p + 1, K)."""
        i, j = self.i[:, None], self.j[:, None]
        curvature[i, self.a, j, self.b] = summed
        curvature[j, self.a, i, self.b] = summed


EXACT = 1e-7
"""Sums of squares that are a smaller share of Σ w y² than this are not the difference of others."""


def squares(batch: Batch, b: Tensor, covariance: Tensor | None) -> Tensor | None:
    """E[Σ w (y − z̃ᵀb)²] from sums over the rows; None where rounding would be left of it.

    Args:
        batch: the rows.
        b: mean of the coefficients, (p + 1,).
        covariance: of them, or None where they are known.
    """
    gram = batch.gram
    square = gram.target - 2 * (b @ gram.cross) + b @ (gram.square @ b)
    if float(square) < EXACT * float(gram.target):
        return None
    return square if covariance is None else square + (gram.square * covariance).sum()


@dataclass(frozen=True, eq=False)
class GLM(GaussianTarget):
    """A likelihood and a prior that is independent over predictors.

    Attributes:
        response: p(y | φ), with its ψ.
        width: p + 1.
        prior: of Φ.
        adjust: where the likelihood is taken instead of at Φ, with weights that are not counts, if anywhere.
    """

    response: Response
    width: int
    prior: WithIntercept
    adjust: Adjustment | None = None

    @property
    def outputs(self) -> int:
        """K."""
        return self.response.outputs

    @property
    def dimension(self) -> int:
        """D = (p + 1) K."""
        return self.width * self.outputs

    def at(self, response: Response, prior: WithIntercept) -> Self:
        """The same with another ψ, in both."""
        return replace(self, response=response, prior=prior)

    def row_terms(self, block: Block, mean: Tensor, cov: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of each row: E[log p(y_n)] (m,), E[∇] (m, K), E[−∇²] (m, K, K); without weights.

        Args:
            block: the rows, of which the targets, offsets and trials count.
            mean: of Φᵀ z̃_n, (m, K).
            cov: covariances of these, (m, K, K), or None where they are known exactly.
        """
        return self.response.row_terms(block.y, block.predictor(mean), cov, block.trials)

    def expect(self, batch: Batch, loc: Tensor, scale_tril: Tensor) -> Expectations:
        """Expectations under N(loc, L Lᵀ); rows of the batch are scaled up to all rows.

        Args:
            batch: the rows.
            loc: (d,).
            scale_tril: L, (d, d) lower triangular.
        """
        p1, K = self.width, self.outputs
        B = loc.reshape(p1, K)
        sigma = (scale_tril @ scale_tril.mT).reshape(p1, K, p1, K)
        log_p, gradient, curvature = self._likelihood(batch, B, sigma)
        at = torch.arange(p1)
        prior = self.prior.expect(B, sigma[at, :, at, :])
        gradient += prior.gradient
        curvature[at, :, at, :] += prior.curvature
        d = self.dimension
        return Expectations(log_p + prior.log_prior, gradient.reshape(d), curvature.reshape(d, d))

    def _likelihood(
        self, batch: Batch, B: Tensor, sigma: Tensor | None, concave: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """E[log p(y | φ)], E[∇] (p + 1, K) and E[−∇²] (p + 1, K, p + 1, K) of the likelihood, scaled up."""
        normal = isinstance(self.response, NumberResponse) and self.response.linear_normal
        if normal and self.adjust is None:
            square = squares(batch, B[:, 0], None if sigma is None else sigma[:, 0, :, 0])
            if square is not None:
                return self._by_sums(batch, B, square)
        if self.adjust is not None:
            B, sigma = self.adjust.points(B), None if sigma is None else self.adjust.covariance(sigma)
        if batch.shares is None:
            log_p, gradient, curvature = self.sums(batch, B, sigma, concave)
        else:
            given = self._given | {"B": B} | ({} if sigma is None else {"sigma": sigma})
            found = batch.shares.sum("concave" if concave else "likelihood", given)
            log_p, gradient, curvature = (found[name] for name in ("log_p", "gradient", "curvature"))
        for a in range(self.outputs):
            for b in range(a):
                curvature[:, b, :, a] = curvature[:, a, :, b]
        if self.adjust is not None:
            gradient, curvature = self.adjust.back(gradient, curvature)
        return log_p * batch.scale, gradient * batch.scale, curvature * batch.scale

    @property
    def _given(self) -> dict[str, Tensor]:
        """ψ, for processes that have a part of the rows."""
        return {"psi": self.response.psi} if isinstance(self.response, NumberResponse) else {}

    def sums(
        self, batch: Batch, B: Tensor, sigma: Tensor | None, concave: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The sums over the rows that are here, by threads; of curvature the lower triangle of outputs."""
        if self.width <= NARROW:
            found = spread(lambda which: self._sum(batch, which, B, sigma, concave), shares(batch.count))
        else:
            found = [self._sum(batch, range(batch.count), B, sigma, concave)]
        log_p, gradient, curvature = found[0]
        for more in found[1:]:
            log_p, gradient, curvature = log_p + more[0], gradient + more[1], curvature + more[2]
        return log_p, gradient, curvature

    def _by_sums(self, batch: Batch, B: Tensor, square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of a normal target, from sums over the rows."""
        response, gram = self.response, batch.gram
        assert isinstance(response, NumberResponse)
        precision = (-2 * response.psi[0]).exp()
        log_p = -gram.count * (response.psi[0] + HALF_LOG_2PI) - 0.5 * precision * square
        gradient = precision * (gram.cross[:, None] - gram.square @ B)
        return log_p, gradient, (precision * gram.square)[:, None, :, None].clone()

    def _sum(
        self, batch: Batch, which: range, B: Tensor, sigma: Tensor | None, concave: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The sums over some blocks; of the curvature the lower triangle of outputs."""
        p1, K = self.width, self.outputs
        log_p = B.new_zeros(())
        gradient, curvature = B.new_zeros(p1, K), B.new_zeros(p1, K, p1, K)
        products = Products(p1, K) if K > 2 and p1 <= PAIRED else None
        packed = None if products is None else products.pack(sigma)
        summed = None if products is None else products.nothing(B)
        for block in self.parts(batch, which):
            Z = block.Z
            pairs = None if products is None else products.of(Z)
            if sigma is None:
                cov = None
            elif pairs is None or packed is None or products is None:
                cov = self.spread(Z, sigma)
            else:
                cov = products.spread(pairs, packed)
            value, g, H = self.row_terms(block, Z @ B, cov)
            if concave and K == 1:
                H = H.clamp_min(0.0)
            if block.weight is not None:
                w = block.weight
                value, g, H = value * w, g * w[:, None], H * w[:, None, None]
            log_p += value.sum()
            gradient += Z.mT @ g
            if products is not None and pairs is not None and summed is not None:
                summed += products.weighed(pairs, H)
                continue
            for a in range(K):
                for b in range(a + 1):
                    curvature[:, a, :, b] += (Z * H[:, a, b, None]).mT @ Z
        if products is not None and summed is not None:
            products.unpack(summed, curvature)
        return log_p, gradient, curvature

    def parts(self, batch: Batch, which: range | None = None) -> Iterator[Block]:
        """Blocks, cut further where many outputs make a row take more room."""
        limit = max(64, 2**19 // max(self.width, 128 * self.response.width if self.outputs > 1 else 1))
        for block in batch.blocks(which):
            if len(block.y) <= limit:
                yield block
                continue
            for lo in range(0, len(block.y), limit):
                yield block.part(slice(lo, lo + limit))

    def spread(self, Z: Tensor, sigma: Tensor) -> Tensor:
        """Covariances of the linear predictors, (m, K, K)."""
        K = self.outputs
        cov = Z.new_empty(len(Z), K, K)
        for a in range(K):
            for b in range(a + 1):
                cov[:, a, b] = cov[:, b, a] = ((Z @ sigma[:, a, :, b]) * Z).sum(-1)
        return cov

    def log_joint(self, batch: Batch, B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log p(y, φ) at one φ (p + 1, K), its gradient (p + 1, K), and −∇² of the likelihood (d, d).

        Of a row whose log density is not concave there, as of a t far out, the curvature counts as 0.
        """
        log_p, gradient, curvature = self._likelihood(batch, B, None, concave=True)
        mean = self.prior.expect(B, torch.zeros(self.width, self.outputs, self.outputs).to(B))
        d = self.dimension
        return log_p + mean.log_prior, gradient + mean.gradient, curvature.reshape(d, d)

    def start(self, batch: Batch) -> Tensor:
        """Intercepts at the mean of the target, all else zero: (p + 1, K)."""
        blocks = list(batch.blocks())
        y = torch.cat([block.y for block in blocks])
        weight = torch.cat(
            [torch.ones(len(b.y), dtype=torch.float64) if b.weight is None else b.weight for b in blocks]
        )
        trials = None if blocks[0].trials is None else torch.cat([b.trials for b in blocks])  # type: ignore[misc]
        B = torch.zeros(self.width, self.outputs, dtype=torch.float64)
        B[0] = self.response.start(y, weight, trials)
        if blocks[0].offset is not None:
            B[0] -= torch.cat([b.offset for b in blocks]).mean()  # type: ignore[misc]
        return B

    def map_start(self, batch: Batch, steps: int = 100, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The posterior's mode by Newton's method, and its precision there.

        Steps use the likelihood's Hessian and a Gaussian bound of the prior, so that every one is uphill;
        one that overshoots is halved.

        Args:
            batch: the rows.
            steps: at most.
            start: Φ (p + 1, K) to start from; `start` if not given.

        Returns:
            loc (d,) and precision (d, d), positive definite.
        """
        B = self.start(batch) if start is None else start
        value, gradient, curvature = self.log_joint(batch, B)
        for _ in range(steps):
            precision = curvature + self._bound(B)
            root = torch.linalg.cholesky(precision)
            step = torch.cholesky_solve(gradient.reshape(-1, 1), root).reshape_as(B)
            gain = float((gradient * step).sum())
            if gain < 1e-10 * self.dimension:
                break
            size = 1.0
            while True:
                there = B + size * step
                found = self.log_joint(batch, there)
                if float(found[0]) >= float(value) + 1e-4 * size * gain - 1e-12 * abs(float(value)):
                    break
                size /= 2
                if size < 1e-6:
                    return B.reshape(-1), precision
            B, (value, gradient, curvature) = there, found
        return B.reshape(-1), curvature + self._bound(B)

    def with_sites(self, batch: Batch, precision: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (d,) and precision (d, d) with exp(−½ λ_n f_n² + r_n f_n) in place of each row's likelihood.

        Args:
            batch: the rows; there is one linear predictor, and no offset.
            precision: λ, (n,).
            pull: r, (n,).
        """
        B, at = torch.zeros(self.width, 1, dtype=torch.float64), 0
        P, total = self._bound(B), torch.zeros(self.width, dtype=torch.float64)
        for block in batch.blocks():
            w, rows = block.weight, slice(at, at + len(block.y))
            lam, r = precision[rows], pull[rows]
            if w is not None:
                lam, r = w * lam, w * r
            P += block.Z.mT @ (block.Z * lam[:, None])
            total += block.Z.mT @ r
            at += len(block.y)
        return torch.cholesky_solve(total[:, None], torch.linalg.cholesky(P))[:, 0], P

    def _bound(self, B: Tensor) -> Tensor:
        return torch.diag(self.prior.majoriser(B).repeat_interleave(self.outputs))

    def adjusted(self, batch: Batch) -> "GLM":
        """The same for weights that are not counts: bent to the sandwich's curvature about the mode."""
        mode, precision = self.map_start(batch)
        B = mode.reshape(self.width, self.outputs)
        H = self.log_joint(batch, B)[2]
        prior = self._bound(B)
        J = self._gradient_variance(batch, B, torch.linalg.inv(H + prior))
        return replace(self, adjust=adjustment(mode, H, J, prior, batch.effective()))

    def _gradient_variance(self, batch: Batch, B: Tensor, inverse: Tensor) -> Tensor:
        """Σ_n (w_n² / m_n) g_n g_nᵀ / (1 − leverage)², (d, d): m_n the number of rows that a row is."""
        p1, K, d = self.width, self.outputs, self.dimension
        J = B.new_zeros(d, d)
        for block, number in zip(batch.blocks(), batch.numbers(), strict=True):
            w = torch.ones_like(block.Z[:, 0]) if block.weight is None else block.weight
            _, g, H = self.row_terms(block, block.Z @ B, None)
            within = self.spread(block.Z, inverse.reshape(p1, K, p1, K))  # (m, K, K)
            leverage = (w / number) * torch.einsum("nab,nba->n", H, within) / K
            factor = w / number.sqrt() / (1 - leverage.clamp(0.0, 0.9))
            score = (block.Z.unsqueeze(-1) * (g * factor[:, None]).unsqueeze(1)).reshape(-1, d)
            J += score.mT @ score
        return J

    def log_likelihood(self, B: Tensor, block: Block, psi: Tensor | None = None) -> Tensor:
        """Log p(y_n | φ), (S, m), for draws B (S, p + 1, K); without weights.

        Args:
            B: coefficients, intercept first.
            block: the rows.
            psi: (S, q), or None for the response's own.
        """
        return self.response.of_rows(B, block.Z, block.y, psi, block.offset, block.trials)

    def log_evidence(self, batch: Batch, B: Tensor, psi: Tensor | None = None) -> Tensor:
        """Log p(y | φ) of all rows with their weights, scaled up, (S,), for draws B (S, p + 1, K)."""
        B = B if self.adjust is None else self.adjust.points(B)
        if batch.shares is not None:
            given = self._given | {"B": B} | ({} if psi is None else {"psi": psi})
            return batch.shares.sum("evidence", given)["evidence"] * batch.scale

        def some(which: range) -> Tensor:
            total = B.new_zeros(len(B))
            for block in batch.blocks(which):
                for s in groups(len(B), len(block.y) * self.response.width, TOGETHER):
                    found = self.log_likelihood(B[s], block, None if psi is None else psi[s])
                    total[s] += found.sum(1) if block.weight is None else found @ block.weight
            return total

        if self.width > NARROW:
            return some(range(batch.count)) * batch.scale
        return torch.stack(spread(some, shares(batch.count))).sum(0) * batch.scale
