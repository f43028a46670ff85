"""Gaussian emissions whose covariance is of low rank beside a diagonal: factor analysers, one for each state.

Ghahramani & Hinton (1996, The EM algorithm for mixtures of factor analyzers, CRG-TR-96-1,
https://www.cs.toronto.edu/~hinton/absps/tr96-1.pdf); by variational Bayes Ghahramani & Beal (2000,
Variational inference for Bayesian mixtures of factor analysers, NeurIPS 12). With equal variances it is
probabilistic principal component analysis (Tipping & Bishop 1999, Mixtures of probabilistic principal
component analysers, Neural Computation 11, https://doi.org/10.1162/089976699300016728).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ppl_models.families.base import EPSILON
from ppl_models.families.columns import CellEmission
from ppl_models.families.full_gaussian import scale_tril_of
from ppl_models.families.normal_prior import CLOSE, LOG_2PI, NOTHING, STEPS, NormalFactor, NormalPrior, Size
from ppl_models.importing import lazy
from ppl_models.inference.factors import Support

if TYPE_CHECKING:
    import pyro.distributions as dist
    import torch
    from torch import Tensor

    from ppl_models.families.base import Features
    from ppl_models.inference.factors import Site, Theta
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")

FLATTEST = 1e-10
"""κ₀ at least: sums over fewer rows than there are factors are singular without it."""

LIGHT, HEAVY = 1e-6, 1e6
"""Between which κ_W is learned."""

HELD = 2**20
"""Numbers of the factors of rows that are held at once."""


class Posterior(NamedTuple):
    """The parameters of q(w, τ | S): of each cell (R, K, D, ...), those of the prior (R, 1, D or 1).

    Attributes:
        root: the Cholesky factor of L, (R, K, D or 1, P, P); one for all columns where no cell is missing.
        mean: m, (R, K, D, P).
        a: the shape, (R, K, D).
        b: the rate, the same.
        variance: s², (R, 1, D).
        weight: κ₀ and, of each factor, κ_W, (R, P).
    """

    root: Tensor
    mean: Tensor
    a: Tensor
    b: Tensor
    variance: Tensor
    weight: Tensor


class Factors(NamedTuple):
    """What a row's observed cells say of its factors: q(z | x, k) = N(m, Q⁻¹), Q = I + Σ_d τ_d w_d w_dᵀ.

    Attributes:
        linear: Q m, (R, n, K, F).
        mean: m.
        spread: Q⁻¹, (R, n or 1, K, F, F).
        half_log_det: ½ log |Q|, (R, n or 1, K).
    """

    linear: Tensor
    mean: Tensor
    spread: Tensor
    half_log_det: Tensor


class LowRankGaussian(NormalFactor, CellEmission):
    """x | k ~ N(μ_k, W_k W_kᵀ + diag 1/τ_k) of standardised columns, W_k (D, F), by factors z of each row.

        z ~ N(0, I_F),   x_d | k, z ~ N(w_kdᵀ r, 1/τ_kd),   r = (1, z),   w_kd = (μ_kd, row d of W_k)
        τ_kd ~ Gamma(ν₀/2, ν₀ s²/2),   w_kd | τ_kd ~ N(0, (κ τ_kd)⁻¹),   κ = diag(κ₀, κ_W, …, κ_W)

    Given z each column is a regression on r with the conjugate prior. With S = Σ (r, x_d)(r, x_d)ᵀ over its n
    observed cells,

        L = κ + S_rr,  m = L⁻¹ S_rx,  a = (ν₀ + n)/2,  b = (ν₀ s² + S_xx − mᵀ L m)/2
        Z = |κ|^½ |L|^{−½} · b₀^a₀/b^a · Γ(a)/Γ(a₀) · (2π)^{−n/2}

    s², one for each column, κ₀, and κ_W, one for all, are at the maximum of Z in them unless given. A flat
    prior in their stead would say that loadings are large, and the more the more columns there are: W has a
    volume of size^(D F). The factors
    are integrated out of the density: log p(x | η) = log ∫ N(z; 0, I) exp ⟨t(x, z), η⟩ dz, a Gaussian
    integral. In training η is E_q[η], by which q(z | x, k) is the best there is, and the ELBO never falls; at
    a point θ it is the exact marginal density of the observed cells, since columns are independent given z.

    W_k is determined up to a rotation of its factors: what is said of it, `communality`, is the share of a
    column's variance that the factors account for.

    The features are x, and where a cell is missing what is observed before it.
    """

    name = "gaussian"
    terms = 1
    masks_cells = False
    rotates = True

    def __init__(
        self,
        columns: tuple[int, ...],
        states: int,
        centre: Tensor,
        scale: Tensor,
        prior: NormalPrior,
        rank: int,
        loading: float | None = None,
    ) -> None:
        super().__init__(columns, states, centre, scale)
        self.prior, self.rank, self.loading = prior, rank, loading
        self._row, self._column = torch.triu_indices(rank + 2, rank + 2)
        self._times = torch.where(self._row == self._column, 1.0, 2.0).double()

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, D, E), E entries of the triangle of a symmetric matrix over (r, x)."""
        return (self.states, len(self.columns), len(self._row))

    @property
    def free_parameters(self) -> int:
        """Means, variances, and loadings up to a rotation."""
        D, F = len(self.columns), self.rank
        return self.states * (2 * D + D * F - F * (F - 1) // 2)

    def transform(self, x: Tensor, out: list[Tensor]) -> None:
        """The cell itself."""

    def cell_base(self, x: Tensor) -> Tensor:
        """The change of units."""
        return x * 0.0 - self.scale.to(x).log()

    # Rows

    def _parts(self, eta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """⟨t, η⟩ of a cell = c + g x + h x² + zᵀ(e x + o) − ½ zᵀ A z: c, g, h, e, o and A."""
        M, P = self._matrix(eta / self._times.to(eta)), 1 + self.rank
        c, g, h = M[..., 0, 0], 2 * M[..., 0, P], M[..., P, P]
        return c, g, h, 2 * M[..., 1:P, P], 2 * M[..., 0, 1:P], -2 * M[..., 1:P, 1:P]

    def _blocks(self, features: Features, natural: Tensor) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """Rows some at a time: their cells (n, D), and which were seen (n, D) if some were not."""
        D, n = len(self.columns), len(features.matrix)
        masked, F = self._masked(features.matrix.shape[1]), self.rank + 1
        size = max(64, HELD // (natural.shape[0] * self.states * F * (F if masked else 1)))
        for lo in range(0, n, size):
            some = features.matrix[lo : lo + size]
            yield slice(lo, lo + size), some[:, -D:], some[:, :D] if masked else None

    def _factors(self, x: Tensor, seen: Tensor | None, e: Tensor, o: Tensor, A: Tensor) -> Factors:
        """As rows whose observed cells are of the same columns have one Q, it is worked out once for them."""
        eye, at = torch.eye(self.rank).to(x), None
        linear = torch.einsum("nd,rkdf->rnkf", x, e)
        if seen is None:
            linear, precision = linear + o.sum(2).unsqueeze(1), (eye + A.sum(2)).unsqueeze(1)
        else:
            linear = linear + torch.einsum("nd,rkdf->rnkf", seen, o)
            patterns, at = seen.unique(dim=0, return_inverse=True)
            precision = eye + torch.einsum("pd,rkdfg->rpkfg", patterns, A)
        root = torch.linalg.cholesky(precision)
        spread, half = torch.cholesky_inverse(root), root.diagonal(dim1=-1, dim2=-2).log().sum(-1)
        if at is None:
            mean = (linear.transpose(1, 2) @ spread[:, 0]).transpose(1, 2)
            return Factors(linear, mean, spread, half)
        spread, half = spread[:, at], half[:, at]
        return Factors(linear, (spread * linear.unsqueeze(-2)).sum(-1), spread, half)

    def log_density(self, features: Features, natural: Tensor, out: Tensor, add: bool) -> None:
        """As in the class docstring."""
        c, g, h, e, o, A = self._parts(natural)
        for at, x, seen in self._blocks(features, natural):
            q = self._factors(x, seen, e, o, A)
            value = x @ g.mT + (x * x) @ h.mT + 0.5 * (q.linear * q.mean).sum(-1)
            value = value + (c.sum(-1).unsqueeze(1) if seen is None else seen @ c.mT)
            value -= q.half_log_det
            (out[:, at].add_ if add else out[:, at].copy_)(value)

    def statistics(self, features: Features, gamma: Tensor, natural: Tensor) -> Tensor:
        """Sums of E[(r, x)(r, x)ᵀ] over q(z | x, k)."""
        *_, e, o, A = self._parts(natural)
        P, i, j = 1 + self.rank, self._row, self._column
        total = gamma.new_zeros(gamma.shape[0], *self.shape)
        for at, x, seen in self._blocks(features, natural):
            q, weight = self._factors(x, seen, e, o, A), gamma[:, at].transpose(1, 2)  # (R, K, n)
            spread = q.spread.transpose(1, 2)  # (R, K, n or 1, F, F)
            r = torch.nn.functional.pad(q.mean, (1, 0), value=1.0).transpose(1, 2)  # (R, K, n, P)
            weighted = weight.unsqueeze(-1) * r
            if seen is None:
                rr = weighted.mT @ r
                rr[..., 1:, 1:] += weight.sum(-1)[..., None, None] * spread.squeeze(2)
                rr = rr.unsqueeze(2).expand(*total.shape[:3], P, P)
            else:
                both = weighted.unsqueeze(-1) * r.unsqueeze(-2)
                both[..., 1:, 1:] += weight[..., None, None] * spread
                rr = (seen.T @ both.flatten(-2)).unflatten(-1, (P, P))
            rx, xx = x.T @ weighted, weight @ (x * x)
            part = rr.new_empty(*total.shape[:3], P + 1, P + 1)
            part[..., :P, :P], part[..., :P, P], part[..., P, P] = rr, rx, xx
            total += part[..., i, j]
        return total

    # The conjugate factor

    def _matrix(self, S: Tensor) -> Tensor:
        """The triangle (..., E) as a symmetric matrix."""
        full = S.new_zeros(*S.shape[:-1], self.rank + 2, self.rank + 2)
        full[..., self._row, self._column] = S
        full[..., self._column, self._row] = S
        return full

    def possible(self, statistics: Tensor) -> Tensor:
        """Counts are not negative, and the sums those of a positive definite matrix, with the prior's."""
        S = self._matrix(statistics)
        least = self._lightest(S)
        beside = self.prior.dof * self.prior.variances(S).expand(len(self.columns))
        own = torch.cat([least.expand(len(self.columns), -1), beside.unsqueeze(-1)], -1)
        _, failed = torch.linalg.cholesky_ex((S + torch.diag_embed(own)).nan_to_num(-1.0))
        return (statistics[..., 0] >= 0).flatten(1).all(-1) & (failed == 0).flatten(1).all(-1)

    def _lightest(self, like: Tensor) -> Tensor:
        """κ₀ and κ_W, or the least they may be, (P,)."""
        own = like.new_full((self.rank,), LIGHT if self.loading is None else self.loading)
        return torch.cat([self.prior.lightest(like), own])

    def _posterior(self, S: Tensor) -> Posterior:
        p, P, n = self.prior, 1 + self.rank, S[..., 0]
        full = self._matrix(S)
        rr, rx, xx = full[..., :P, :P], full[..., :P, P], full[..., P, P]
        if not S.requires_grad and bool((rr == rr[:, :, :1]).all()):  # a slope is of each column's own sums
            rr = rr[:, :, :1]
        each = len(self.columns) // rr.shape[2]  # columns that share L
        dof, weight = p.dof + n, self._lightest(S).expand(len(S), P)
        learns = self.rank > 0 and self.loading is None
        if learns and not bool(n.any()):  # without rows every size is as probable
            learns, weight = False, torch.cat([weight[:, :1], torch.ones_like(weight[:, 1:])], 1)
        for _ in range(STEPS):
            root = torch.linalg.cholesky(rr + torch.diag_embed(weight)[:, None, None])
            inverse = torch.cholesky_inverse(root)
            mean = (inverse @ rx.unsqueeze(-1)).squeeze(-1)
            scatter = (xx - (rx * mean).sum(-1)).clamp_min(0.0)
            variance = p.scale(dof, scatter)
            a, b = 0.5 * dof, 0.5 * (p.dof * variance + scatter)
            if p.flattest is None and not learns:
                break
            share = weight[:, None, None] * inverse.diagonal(dim1=-1, dim2=-2)
            gain = each * (1 - share).clamp_min(0.0).sum((1, 2))  # (R, P)
            square = (mean.square() * (a / b).unsqueeze(-1)).sum((1, 2))
            better = weight.clone()
            if p.flattest is not None:
                better[:, :1] = p.weight(gain[:, :1], square[:, :1])
            if learns:
                ratio = gain[:, 1:].sum(1) / square[:, 1:].sum(1).clamp_min(NOTHING)
                better[:, 1:] = ratio.clamp(LIGHT, HEAVY).unsqueeze(1)
            if bool(((better / weight).log().abs() < CLOSE).all()):
                break
            weight = better
        return Posterior(root, mean, a, b, variance, weight)

    def sizes(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """s² (R, D) and κ₀ (R, 1)."""
        q = self._posterior(statistics)
        return q.variance[:, 0], q.weight[:, :1]

    def learned(self, statistics: Tensor) -> dict[str, Size]:
        """s², κ₀ and κ_W, unless they were given."""
        found = super().learned(statistics)
        if self.rank and self.loading is None:
            found["loading_precision"] = float(self._posterior(statistics[:1]).weight[0, 1])
        return found

    def fixed(self, learned: Mapping[str, Any]) -> Self:
        """The same with s², κ₀ and κ_W given."""
        other = super().fixed(learned)
        other.loading = learned.get("loading_precision", self.loading)
        return other

    def _log_z(self, S: Tensor, *posterior: Tensor) -> Tensor:
        """As in the class docstring."""
        q, a0 = Posterior(*posterior), 0.5 * self.prior.dof
        rows = 0.5 * q.weight.log().sum(-1)[:, None, None] - q.root.diagonal(dim1=-1, dim2=-2).log().sum(-1)
        before = a0 * (a0 * q.variance).log() - math.lgamma(a0)
        after = q.a * q.b.log() - torch.lgamma(q.a)
        return (rows + before - after - 0.5 * LOG_2PI * S[..., 0]).sum((1, 2))

    def _triangle(self, log_tau: Tensor, tau: Tensor, w: Tensor, extra: Tensor) -> Tensor:
        """η: ½ log τ − ½ log 2π and −½ τ (−w, 1)(−w, 1)ᵀ − ½ `extra` in r."""
        both = torch.cat([-w, torch.ones_like(w[..., :1])], -1)
        full = tau[..., None, None] * both.unsqueeze(-1) * both.unsqueeze(-2)
        full[..., :-1, :-1] += extra
        eta = -0.5 * full[..., self._row, self._column] * self._times.to(full)
        eta[..., 0] += 0.5 * (log_tau - LOG_2PI)
        return eta

    def _natural(self, *posterior: Tensor) -> Tensor:
        """E[η]: E[τ] = a/b, E[τ w wᵀ] = m mᵀ a/b + L⁻¹."""
        q = Posterior(*posterior)
        inverse = torch.cholesky_inverse(q.root)
        return self._triangle(torch.digamma(q.a) - q.b.log(), q.a / q.b, q.mean, inverse)

    def natural(self, theta: Theta) -> Tensor:
        """η at θ."""
        tau, w = theta["precision"], theta["coefficient"]
        return self._triangle(tau.log(), tau, w, w.new_zeros(*w.shape, 1))

    def start(self, number: int, device: torch.device | str = "cpu") -> Tensor:
        """Loadings at random: without any, factors would have nothing to begin from, and stay without."""
        D, rng = len(self.columns), torch.Generator().manual_seed(0)
        w = torch.randn(number, self.states, D, 1 + self.rank, generator=rng, dtype=torch.float64) / D**0.5
        w[..., 0] = 0.0
        return self.natural({"precision": torch.ones_like(w[..., 0]), "coefficient": w}).to(device)

    @property
    def supports(self) -> Mapping[str, Support]:
        """Precisions are positive."""
        return {"coefficient": Support.REAL, "precision": Support.POSITIVE}

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`precision` (K, D), then `coefficient` (K, D, P) given it: the mean, and loadings."""
        q = self._posterior(statistics)
        tau = site("precision", dist.Gamma(q.a, q.b, validate_args=False))
        root = scale_tril_of(q.root @ q.root.mT)
        root = root * tau.rsqrt()[..., None, None]
        normal = dist.MultivariateNormal(q.mean, scale_tril=root, validate_args=False)
        return {"precision": tau, "coefficient": site("coefficient", normal)}

    # Rotations

    def aligned(self, theta: Theta, like: Theta) -> Theta:
        """W R with the orthogonal R of every state that brings it closest to another W (Procrustes)."""
        w, to = theta["coefficient"], like["coefficient"]
        left, _, right = torch.linalg.svd(w[..., 1:].mT @ to[..., 1:])
        turned = torch.cat([w[..., :1], w[..., 1:] @ (left @ right)], -1)
        return {**theta, "coefficient": turned}

    def tangents(self, theta: Theta) -> dict[str, Tensor]:
        """W A, A antisymmetric: of each state and pair of factors one."""
        w = theta["coefficient"][0]
        pairs = torch.combinations(torch.arange(1, self.rank + 1))
        found = w.new_zeros(self.states, len(pairs), *w.shape)
        for k in range(self.states):
            for m, (f, g) in enumerate(pairs.tolist()):
                found[k, m, k, :, f], found[k, m, k, :, g] = w[k, :, g], -w[k, :, f]
        return {"coefficient": found.flatten(0, 1)}

    # θ and rows

    def _moments(self, theta: Theta) -> tuple[Tensor, Tensor, Tensor]:
        """Means (..., D), loadings (..., D, F) and unique variances (..., D) in the user's units."""
        w, scale = theta["coefficient"], self.scale.to(theta["coefficient"])
        mean = self.centre.to(w) + scale * w[..., 0]
        return mean, scale.unsqueeze(-1) * w[..., 1:], scale.square() / theta["precision"]

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """A multivariate normal in the user's units."""
        return dist.LowRankMultivariateNormal(*self._moments(theta), validate_args=False)

    def margins(self, theta: Theta, at: Callable[[Tensor], Tensor], rows: Tensor) -> dist.TorchDistribution:
        """Normals: loadings for every row would not fit."""
        mean, loadings, unique = self._moments(theta)
        variance = unique + loadings.square().sum(-1)
        return dist.Normal(at(mean), at(variance).sqrt(), validate_args=False).to_event(1)

    def observe(self, theta: Theta, rows: Tensor) -> tuple[dist.TorchDistribution, Tensor]:
        """The marginal normal of the observed cells."""
        x = rows[..., list(self.columns)]
        seen = ~torch.isnan(x.reshape(-1, x.shape[-1])[0])
        mean, loadings, unique = self._moments(theta)
        if not bool(seen.any()):
            return dist.Delta(mean.new_zeros(mean.shape[:-1])), mean.new_zeros(x.shape[:-1])
        normal = dist.LowRankMultivariateNormal(
            mean[..., seen], loadings[..., seen, :], unique[..., seen], validate_args=False
        )
        return normal, x[..., seen]

    def complete(self, theta: Theta, x: Tensor) -> Tensor:
        """Draw factors given the observed cells, then the missing ones given these."""
        mean, loadings, unique = self._moments(theta)
        seen = ~torch.isnan(x)
        pull = loadings * (seen / unique).unsqueeze(-1)  # (..., D, F)
        precision = torch.eye(self.rank).to(x) + pull.mT @ loadings
        off = torch.where(seen, x - mean, 0.0).unsqueeze(-1)
        root = torch.linalg.cholesky(precision)
        z = torch.cholesky_solve(pull.mT @ off, root)
        z = z + torch.linalg.solve_triangular(root.mT, torch.randn_like(z), upper=True)
        drawn = mean + (loadings @ z).squeeze(-1) + unique.sqrt() * torch.randn_like(mean)
        return torch.where(seen, x, drawn)

    def order_key(self, statistics: Tensor) -> Tensor:
        """The mean of the first column."""
        return statistics[..., 0, self.rank + 1] / (statistics[..., 0, 0] + EPSILON)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`mean`, `sd` and `communality` of each column."""
        mean, loadings, unique = self._moments(theta)
        shared = loadings.square().sum(-1)
        own = {"mean": mean, "sd": (shared + unique).sqrt(), "communality": shared / (shared + unique)}
        return {name: (value, ("column",)) for name, value in own.items()}
