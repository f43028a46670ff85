"""Draws under a horseshoe made exact: many short Markov chains, started from the EP posterior.

EP gets the scales right, but coefficients that may be either near zero or large are not Gaussian. Each chain
repeats, all of which leave p(φ, λ, τ, c | y) as it is,

    (τ, c) | φ        Metropolis steps on the grid, λ integrated out (a table in log |b_j|)
    λ_j | b_j, τ, c   its nodes have probabilities in closed form
    φ | λ, τ, c       elliptical slice sampling about N(m, P⁻¹), the Gaussian of the EP sites of the
                      likelihood: what is left of it is nearly constant, so that moves are nearly independent
    (τ, c) | φ/τλ̃, λ   drawn from the grid: coefficients move with their scales, without which τ would be held
                      where it is by many small coefficients

(Murray, Adams & MacKay 2010, Elliptical slice sampling, AISTATS 9,
https://proceedings.mlr.press/v9/murray10a.html; Nishihara, Murray & Adams 2014, Parallel MCMC with
generalized elliptical slice sampling, JMLR 15; Yu & Meng 2011, To center or not to center, JCGS 20;
Bhattacharya, Chakraborty & Mallick 2016, Biometrika 103, for Gaussian draws in O(n² p).)
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ppl_models.regression.design import Block
from ppl_models.regression.ep import STEP, Fixed, Sites
from ppl_models.regression.forms import CHAINS, Mixture
from ppl_models.regression.glm import GLM
from ppl_models.regression.horseshoe import Cell, Horseshoe, local_scales
from ppl_models.regression.quadrature import safe_cholesky

SWEEPS, FIRST, EVERY = 110, 14, 6
"""Sweeps of each chain, how many are left out, and how far apart the kept ones are: 128 × 16 draws."""

WORK = 20_000
"""Rows × coefficients up to which this takes seconds."""

_TABLE = 3_000
_LOW, _HIGH = math.log(1e-12), math.log(1e12)
_TRIES = 6


@dataclass(frozen=True, eq=False)
class ScaleGrid:
    """Values of (τ, c²) with their log prior weights, and log p(b | τ, c) tabulated for each."""

    prior: Horseshoe
    outputs: int

    @cached_property
    def log_tau(self) -> Tensor:
        """(T,)."""
        return math.log(self.prior.global_scale) + STEP * torch.arange(-10.0, 6.0, dtype=torch.float64)

    @cached_property
    def slab(self) -> Tensor:
        """(C,)."""
        return torch.tensor(self.prior.slabs()[0], dtype=torch.float64)

    @cached_property
    def log_weight(self) -> Tensor:
        """(T, C)."""
        tau = torch.tensor(
            [self.prior.log_tau_density(t) for t in self.log_tau.tolist()], dtype=torch.float64
        )
        return tau[:, None] + torch.tensor(self.prior.slabs()[1], dtype=torch.float64)

    def cell(self, tau: int, slab: int) -> Cell:
        """One of them, for a column with scale 1."""
        one = torch.ones(1, dtype=torch.float64)
        return Cell(math.exp(float(self.log_tau[tau])), float(self.slab[slab]), one)

    @cached_property
    def log_variance(self) -> Tensor:
        """Log τ² λ̃² at the nodes of λ, (T, C, nodes)."""
        T, C = self.log_weight.shape
        rows = [torch.stack([self.cell(t, c).log_variance for c in range(C)]) for t in range(T)]
        return torch.stack(rows)

    @cached_property
    def table(self) -> Tensor:
        """Log p(b | τ, c) at equidistant log |b|, (T, C, 3000)."""
        square = (2 * torch.linspace(_LOW, _HIGH, _TABLE, dtype=torch.float64)).exp()
        T, C = self.log_weight.shape
        rows = [
            torch.stack([self.cell(t, c).log_density(square, self.outputs) for c in range(C)])
            for t in range(T)
        ]
        return torch.stack(rows)

    def log_prob(self, b: Tensor, tau: Tensor, slab: Tensor) -> Tensor:
        """Log p(b_s | τ_s, c_s) + log prior of the cell, (S,): b (S, p, K), indices (S,).

        Args:
            b: coefficients, interpolated from `table`.
            tau: which τ of the grid.
            slab: which c of the grid.
        """
        norm = (b / self.prior.scale[:, None]).norm(dim=-1).clamp(1e-12, 0.99e12)
        place = (norm.log() - _LOW) * ((_TABLE - 1) / (_HIGH - _LOW))
        at = place.long().clamp(0, _TABLE - 2)
        own = self.table[tau, slab]  # (S, 3000)
        value = torch.lerp(own.gather(1, at), own.gather(1, at + 1), place - at)
        return value.sum(-1) + self.log_weight[tau, slab]


class Chains:
    """The Markov chains of one fit.

    Args:
        glm: the likelihood.
        rows: its rows, with the sites' Gaussian approximation; none where the likelihood is one factor.
        prior: the horseshoe.
        sites: of the rows.
        fixed: the likelihood as one Gaussian factor, which is then taken for exact.
    """

    def __init__(self, glm: GLM, rows: Block, prior: Horseshoe, sites: Sites, fixed: Fixed | None) -> None:
        self.glm, self.rows, self.prior, self.fixed = glm, rows, prior, fixed
        self.grid = ScaleGrid(prior, glm.outputs)
        eye = torch.eye(glm.outputs, dtype=torch.float64)
        self.H, self.r = sites.H + 1e-10 * eye, sites.r
        self.wide = fixed is None and len(rows.y) * glm.outputs < glm.dimension
        self.intercept = float(glm.prior.intercept.scale[0] ** -2)
        if self.wide:
            self.R = safe_cholesky(self.H)
            self.pseudo = torch.linalg.solve_triangular(self.R, self.r.unsqueeze(-1), upper=False).squeeze(-1)
        else:
            self.F, self.right = self._factor()

    def _factor(self) -> tuple[Tensor, Tensor]:
        """Σ z̃ z̃ᵀ ⊗ H (d, d) and Z̃ᵀ r (p + 1, K)."""
        if self.fixed is not None:
            return self.fixed.F, self.fixed.r
        Z, (p1, K) = self.rows.Z, (self.glm.width, self.glm.outputs)
        F = torch.zeros(p1, K, p1, K, dtype=torch.float64)
        for a in range(K):
            for b in range(K):
                F[:, a, :, b] = Z.mT @ (Z * self.H[:, a, b, None])
        return F.reshape(p1 * K, p1 * K), Z.mT @ self.r

    def run(self, start: Tensor, log_tau: Tensor, slab: Tensor) -> Tensor:
        """Draws (S, d) of chains that start at Φ (S, p + 1, K) in cells of the grid, by torch's generator.

        Args:
            start: Φ, intercept first.
            log_tau: log τ (S,), taken to the nearest of the grid.
            slab: c² (S,), likewise.

        Returns:
            The draws of sweeps that are kept, one chain after another.
        """
        phi = start
        tau = (self.grid.log_tau - log_tau[:, None]).abs().argmin(1)
        c = (self.grid.slab.log() - slab.log()[:, None]).abs().argmin(1)
        kept = []
        for sweep in range(SWEEPS):
            for _ in range(_TRIES):
                tau, c = self._move_scales(phi, tau, c)
            node = self._draw_local(phi, tau, c)
            phi = self._move_coefficients(phi, self._precision(node, tau, c))
            phi, tau, c = self._rescale(phi, node, tau, c)
            if sweep >= FIRST and (sweep - FIRST) % EVERY == EVERY - 1:
                kept.append(phi)
        return torch.stack(kept, 1).flatten(0, 1).flatten(1)

    def _move_scales(self, phi: Tensor, tau: Tensor, slab: Tensor) -> tuple[Tensor, Tensor]:
        S = len(phi)
        T, C = self.grid.log_weight.shape
        new_tau, new_slab = tau + torch.randint(-2, 3, (S,)), slab + torch.randint(-1, 2, (S,))
        inside = (new_tau >= 0) & (new_tau < T) & (new_slab >= 0) & (new_slab < C)
        new_tau, new_slab = new_tau.clamp(0, T - 1), new_slab.clamp(0, C - 1)
        gain = self.grid.log_prob(phi[:, 1:], new_tau, new_slab) - self.grid.log_prob(phi[:, 1:], tau, slab)
        taken = inside & (torch.rand(S, dtype=torch.float64).log() < gain)
        return torch.where(taken, new_tau, tau), torch.where(taken, new_slab, slab)

    def _draw_local(self, phi: Tensor, tau: Tensor, slab: Tensor) -> Tensor:
        """The node of every λ given its coefficient, (S, p)."""
        own = self.grid.log_variance[tau, slab].unsqueeze(1)  # (S, 1, nodes)
        b = phi[:, 1:] / self.prior.scale[:, None]
        square = (b**2).sum(-1, keepdim=True)
        log_w = local_scales()[1] - 0.5 * (b.shape[-1] * own + square * (-own).exp())
        share = log_w.softmax(-1).cumsum(-1)
        node = (torch.rand(*square.shape, dtype=torch.float64) > share).sum(-1)
        return node.clamp_max(share.shape[-1] - 1)

    def _sd(self, node: Tensor, tau: Tensor, slab: Tensor) -> Tensor:
        """The sd of every coefficient given its λ, (S, p)."""
        return (0.5 * self.grid.log_variance[tau, slab].gather(1, node)).exp() * self.prior.scale

    def _precision(self, node: Tensor, tau: Tensor, slab: Tensor) -> Tensor:
        """1/variance of the intercept and every coefficient, (S, p + 1)."""
        first = torch.full((len(node), 1), self.intercept, dtype=torch.float64)
        return torch.cat([first, self._sd(node, tau, slab) ** -2], 1)

    def _rescale(self, phi: Tensor, node: Tensor, tau: Tensor, slab: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A new τ, then a new c, that take the coefficients with them."""
        T, C = self.grid.log_weight.shape
        z = phi[:, 1:] / self._sd(node, tau, slab).unsqueeze(-1)
        for name, size in (("tau", T), ("slab", C)):
            found = []
            for i in range(size):
                each = torch.full_like(tau, i)
                there = (each, slab) if name == "tau" else (tau, each)
                b = torch.cat([phi[:, :1], z * self._sd(node, *there).unsqueeze(-1)], 1)
                found.append(self._log_likelihood(b) + self.grid.log_weight[there])
            chosen = torch.multinomial(torch.stack(found, 1).softmax(1), 1)[:, 0]
            tau, slab = (chosen, slab) if name == "tau" else (tau, chosen)
        return torch.cat([phi[:, :1], z * self._sd(node, tau, slab).unsqueeze(-1)], 1), tau, slab

    def _log_likelihood(self, phi: Tensor) -> Tensor:
        """(S,) for Φ (S, p + 1, K)."""
        if self.fixed is not None:
            flat = phi.flatten(1)
            return flat @ self.fixed.r.reshape(-1) - 0.5 * ((flat @ self.fixed.F) * flat).sum(-1)
        return self._rows(self.rows.Z @ phi)

    def _gaussian(self, D: Tensor) -> tuple[Tensor, Tensor]:
        """Means and centred draws of N(m, P⁻¹) of each chain, (S, p + 1, K) both: D (S, p + 1)."""
        S, p1 = D.shape
        K = self.glm.outputs
        if not self.wide:
            P = self.F + torch.diag_embed(D.repeat_interleave(K, 1))
            root = torch.linalg.cholesky(P)
            mean = torch.cholesky_solve(self.right.reshape(-1, 1).expand(S, -1, 1), root)
            e = torch.randn(S, p1 * K, 1, dtype=torch.float64)
            return mean.view(S, p1, K), torch.linalg.solve_triangular(root.mT, e, upper=True).view(S, p1, K)
        Z, n = self.rows.Z, len(self.rows.y)
        means, moves = [], []
        for lo in range(0, S, 16):
            d = D[lo : lo + 16]
            G = (Z / d.unsqueeze(1)) @ Z.mT  # (s, n, n)
            inner = torch.einsum("nca,mcb->namb", self.R, self.R)[None] * G[:, :, None, :, None]
            inner = inner.reshape(len(d), n * K, n * K) + torch.eye(n * K, dtype=torch.float64)
            root = torch.linalg.cholesky(inner)
            prior = torch.randn(len(d), p1, K, dtype=torch.float64) / d.sqrt().unsqueeze(-1)
            v = (self.R.mT @ (Z @ prior).unsqueeze(-1)).squeeze(-1) + torch.randn(
                len(d), n, K, dtype=torch.float64
            )
            both = torch.stack([self.pseudo.expand_as(v), -v], -1).reshape(len(d), n * K, 2)
            w = torch.cholesky_solve(both, root).view(len(d), n, K, 2)
            back = torch.einsum("nca,snaq->snqc", self.R, w).reshape(len(d), n, 2 * K)
            moved = (Z.mT @ back).view(len(d), p1, 2, K) / d[:, :, None, None]
            means.append(moved[:, :, 0])
            moves.append(prior + moved[:, :, 1])
        return torch.cat(means), torch.cat(moves)

    def _rows(self, f: Tensor) -> Tensor:
        """Log likelihood, (S,), of linear predictors (S, n, K)."""
        assert self.rows.weight is not None
        f = self.rows.predictor(f)
        return self.glm.response.log_prob(f, self.rows.y, None, self.rows.trials) @ self.rows.weight

    def _left_over(self, f: Tensor) -> Tensor:
        """Log likelihood less that of the Gaussian sites, (S,): f (S, n, K)."""
        sites = -0.5 * (f * (self.H @ f.unsqueeze(-1)).squeeze(-1)).sum((-1, -2)) + (f * self.r).sum((-1, -2))
        return self._rows(f) - sites

    def _move_coefficients(self, phi: Tensor, D: Tensor) -> Tensor:
        mean, move = self._gaussian(D)
        if self.fixed is not None:
            return mean + move
        Z, S = self.rows.Z, len(phi)
        off = phi - mean
        f_mean, f_off, f_move = Z @ mean, Z @ off, Z @ move
        level = self._left_over(f_mean + f_off) + torch.rand(S, dtype=torch.float64).log()
        angle = 2 * math.pi * torch.rand(S, dtype=torch.float64)
        low, high = angle - 2 * math.pi, angle.clone()
        active = torch.ones(S, dtype=torch.bool)
        for _ in range(60):
            f = f_mean + angle.cos()[:, None, None] * f_off + angle.sin()[:, None, None] * f_move
            active &= ~(self._left_over(f) > level)
            if not bool(active.any()):
                break
            low, high = (
                torch.where(active & (angle < 0), angle, low),
                torch.where(active & (angle >= 0), angle, high),
            )
            drawn = low + (high - low) * torch.rand(S, dtype=torch.float64)
            angle = torch.where(active, drawn, angle)
        angle = torch.where(active, torch.zeros_like(angle), angle)[:, None, None]
        return mean + angle.cos() * off + angle.sin() * move


def exact_draws(
    glm: GLM,
    rows: Block,
    prior: Horseshoe,
    posterior: Mixture,
    sites: Sites,
    fixed: Fixed | None,
    seed: int = 0,
) -> Tensor:
    """Draws Φ (S, d) from the posterior under a horseshoe, started from its EP approximation.

    Args:
        glm: the likelihood.
        rows: all rows; none where the likelihood is one factor.
        prior: the horseshoe.
        posterior: the EP approximation, labelled with `log_tau` and `slab`.
        sites: of the rows.
        fixed: the likelihood as one Gaussian factor, or None.
        seed: of all of it; torch's global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        start, which = posterior.draw_labelled(CHAINS)
        chains = Chains(glm, rows, prior, sites, fixed)
        labels = posterior.labels
        return chains.run(
            start.view(CHAINS, glm.width, glm.outputs), labels["log_tau"][which], labels["slab"][which]
        )
