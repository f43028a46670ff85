"""A categorical regression as a log density with Gaussian expectations.

    log p(y, φ) = Σ_n w_n [ x_nᵀ-th logits: ℓ_{n y_n} − log Σ_c exp ℓ_nc ] + log p(φ),   ℓ_n = A Φᵀ z̃_n

with z̃_n = (1, z_n) of p + 1 entries, Φ (p + 1, K) and A the contrasts of `priors`. The parameter vector
is Φ row by row, d = (p + 1) K. Under q = N(m, Σ) each φ_n = Φᵀ z̃_n is a Gaussian of K dimensions, so that
E_q[log p], E_q[∇ log p] and E_q[−∇² log p] need K-dimensional quadrature only, and the ELBO is deterministic.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ppl_models.draws import groups
from ppl_models.inference.gaussian import Expectations, GaussianTarget
from ppl_models.regression.priors import WithIntercept, contrasts
from ppl_models.regression.quadrature import Moments, binary_moments, softmax_moments
from ppl_models.regression.rows import Batch, Block
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


@dataclass(frozen=True, eq=False)
class GLM(GaussianTarget):
    """The likelihood of C classes and a prior that is independent over predictors.

    Attributes:
        classes: C.
        width: p + 1.
        prior: of Φ.
        adjust: where the likelihood is taken instead of at Φ, with weights that are not counts, if anywhere.
    """

    classes: int
    width: int
    prior: WithIntercept
    adjust: Adjustment | None = None

    @property
    def outputs(self) -> int:
        """K = C − 1."""
        return self.classes - 1

    @property
    def dimension(self) -> int:
        """D = (p + 1) K."""
        return self.width * self.outputs

    @cached_property
    def A(self) -> Tensor:
        """The contrasts, (C, K)."""
        return contrasts(self.classes)

    def moments(self, mean: Tensor, cov: Tensor | None) -> Moments:
        """Of linear predictors (m, K) with covariances (m, K, K), or known exactly (None)."""
        if self.outputs == 1:
            f = mean[:, 0]
            sd = torch.zeros_like(f) if cov is None else cov[:, 0, 0].clamp_min(0.0).sqrt()
            if cov is None:
                p = torch.sigmoid(f)
                normaliser, slope = torch.logaddexp(f, torch.zeros_like(f)), p * (1 - p)
            else:
                normaliser, p, slope = binary_moments(f, sd)
            # the log normaliser of logits (−φ/2, φ/2) is log(1 + e^φ) − φ/2
            return Moments(normaliser - f / 2, p[:, None] - 0.5, slope[:, None, None])
        A = self.A.to(mean)
        if cov is not None:
            return softmax_moments(mean, cov, A)
        logits = mean @ A.mT
        normaliser = logits.logsumexp(-1)
        p = (logits - normaliser[:, None]).exp()
        g = p @ A
        curvature = torch.einsum("nc,ca,cb->nab", p, A, A) - g.unsqueeze(-1) * g.unsqueeze(-2)
        return Moments(normaliser, g, curvature)

    def row_terms(self, block: Block, mean: Tensor, cov: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Of each row: E[log p(y_n)] (m,), E[∇] (m, K), E[−∇²] (m, K, K); without weights.

        Args:
            block: the rows, of which the classes count.
            mean: of their linear predictors, (m, K).
            cov: covariances of these, (m, K, K), or None where they are known exactly.
        """
        found = self.moments(mean, cov)
        own = self.A.to(mean)[block.y]  # the contrasts of the observed classes, (m, K)
        return (own * mean).sum(-1) - found.log_normaliser, own - found.mean, found.curvature

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

    def _likelihood(self, batch: Batch, B: Tensor, sigma: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """E[log p(y | φ)], E[∇] (p + 1, K) and E[−∇²] (p + 1, K, p + 1, K) of the likelihood, scaled up."""
        if self.adjust is not None:
            B, sigma = self.adjust.points(B), None if sigma is None else self.adjust.covariance(sigma)
        if self.width <= NARROW:
            found = spread(lambda which: self._sum(batch, which, B, sigma), shares(batch.count))
        else:
            found = [self._sum(batch, range(batch.count), B, sigma)]
        log_p, gradient, curvature = found[0]
        for more in found[1:]:
            log_p, gradient, curvature = log_p + more[0], gradient + more[1], curvature + more[2]
        for a in range(self.outputs):
            for b in range(a):
                curvature[:, b, :, a] = curvature[:, a, :, b]
        if self.adjust is not None:
            gradient, curvature = self.adjust.back(gradient, curvature)
        return log_p * batch.scale, gradient * batch.scale, curvature * batch.scale

    def _sum(
        self, batch: Batch, which: range, B: Tensor, sigma: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The sums over some blocks; of the curvature the lower triangle of classes."""
        p1, K = self.width, self.outputs
        log_p = B.new_zeros(())
        gradient, curvature = B.new_zeros(p1, K), B.new_zeros(p1, K, p1, K)
        products = Products(p1, K) if K > 2 and p1 <= PAIRED else None
        packed = None if products is None else products.pack(sigma)
        summed = None if products is None else products.nothing(B)
        for block in self._parts(batch, which):
            Z = block.Z
            pairs = None if products is None else products.of(Z)
            if sigma is None:
                cov = None
            elif pairs is None or packed is None or products is None:
                cov = self._spread(Z, sigma)
            else:
                cov = products.spread(pairs, packed)
            value, g, H = self.row_terms(block, Z @ B, cov)
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

    def _parts(self, batch: Batch, which: range) -> Iterator[Block]:
        """Blocks, cut further where many classes make a row take more room."""
        limit = max(64, 2**19 // max(self.width, 128 * self.classes if self.outputs > 1 else 1))
        for block in batch.blocks(which):
            for lo in range(0, len(block.y), limit):
                at = slice(lo, lo + limit)
                yield Block(block.Z[at], block.y[at], None if block.weight is None else block.weight[at])

    def _spread(self, Z: Tensor, sigma: Tensor) -> Tensor:
        """Covariances of the linear predictors, (m, K, K)."""
        K = self.outputs
        cov = Z.new_empty(len(Z), K, K)
        for a in range(K):
            for b in range(a + 1):
                cov[:, a, b] = cov[:, b, a] = ((Z @ sigma[:, a, :, b]) * Z).sum(-1)
        return cov

    def log_joint(self, batch: Batch, B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log p(y, φ) at one φ (p + 1, K), its gradient (p + 1, K), and −∇² of the likelihood (d, d)."""
        log_p, gradient, curvature = self._likelihood(batch, B, None)
        mean = self.prior.expect(B, torch.zeros(self.width, self.outputs, self.outputs).to(B))
        d = self.dimension
        return log_p + mean.log_prior, gradient + mean.gradient, curvature.reshape(d, d)

    def start(self, batch: Batch) -> Tensor:
        """Intercepts at the log odds of the classes, all else zero: (p + 1, K)."""
        count = torch.full((self.classes,), 0.5, dtype=torch.float64)
        for block in batch.blocks():
            weight = torch.ones_like(block.y, dtype=torch.float64) if block.weight is None else block.weight
            count += torch.bincount(block.y, weight, self.classes)
        logit = count.log() - count.log().mean()
        B = torch.zeros(self.width, self.outputs, dtype=torch.float64)
        B[0] = 2 * self.A.mT @ logit  # Aᵀ A = I/2
        return B

    def map_start(self, batch: Batch, steps: int = 100) -> tuple[Tensor, Tensor]:
        """The posterior's mode by Newton's method, and its precision there.

        Steps use the likelihood's Hessian and a Gaussian bound of the prior, so that every one is uphill;
        one that overshoots is halved.

        Returns:
            loc (d,) and precision (d, d), positive definite.
        """
        B = self.start(batch)
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
            within = self._spread(
                block.Z, inverse.reshape(p1, K, p1, K)
            )  # of the linear predictors, (m, K, K)
            leverage = (w / number) * torch.einsum("nab,nba->n", H, within) / K
            factor = w / number.sqrt() / (1 - leverage.clamp(0.0, 0.9))
            score = (block.Z.unsqueeze(-1) * (g * factor[:, None]).unsqueeze(1)).reshape(-1, d)
            J += score.mT @ score
        return J

    def log_probability(self, phi: Tensor, y: Tensor) -> Tensor:
        """Log p(y | φ), (...), for φ (..., K) and classes y that broadcast against (...)."""
        if self.outputs == 1:
            return torch.nn.functional.logsigmoid(torch.where(y == 1, phi[..., 0], -phi[..., 0]))
        # classes first: a reduction over a last dimension of three is ten times slower
        logits = (self.A.to(phi) @ phi.reshape(-1, self.outputs).mT).view(self.classes, *phi.shape[:-1])
        own = logits.gather(0, y.expand(logits.shape[1:]).unsqueeze(0))[0]
        return own - logits.logsumexp(0)

    def log_likelihood(self, B: Tensor, Z: Tensor, y: Tensor) -> Tensor:
        """Log p(y_n | φ), (S, m), for draws B (S, p + 1, K).

        Args:
            B: coefficients, intercept first.
            Z: standardised predictors with a first column of ones, (m, p + 1).
            y: classes, (m,).
        """
        if self.outputs == 1:
            return torch.nn.functional.logsigmoid(B[..., 0] @ torch.where(y[:, None] == 1, Z, -Z).mT)
        coefficient = self.A.to(B) @ B.mT  # of every class: (S, C, p + 1)
        logits = (coefficient.flatten(0, 1) @ Z.mT).view(len(B), self.classes, len(Z))
        own = logits.gather(1, y.expand(len(B), 1, len(Z)))[:, 0]
        top = logits.detach().amax(1, keepdim=True)
        return own - top[:, 0] - (logits - top).exp().sum(1).log()

    def log_evidence(self, batch: Batch, B: Tensor) -> Tensor:
        """Log p(y | φ) of all rows with their weights, scaled up, (S,), for draws B (S, p + 1, K)."""
        B = B if self.adjust is None else self.adjust.points(B)

        def some(which: range) -> Tensor:
            total = B.new_zeros(len(B))
            for block in batch.blocks(which):
                for s in groups(len(B), len(block.y) * self.classes, TOGETHER):
                    found = self.log_likelihood(B[s], block.Z, block.y)
                    total[s] += found.sum(1) if block.weight is None else found @ block.weight
            return total

        if self.width > NARROW:
            return some(range(batch.count)) * batch.scale
        return torch.stack(spread(some, shares(batch.count))).sum(0) * batch.scale
