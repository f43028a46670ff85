"""Gaussian emissions around a linear function of the row before: regressions with the conjugate prior.

Hamilton (1989, A new approach to the economic analysis of nonstationary time series, Econometrica 57,
https://doi.org/10.2307/1912559) has such chains, with as many regressions as states. Prior and posterior are
those of Bayesian linear regression (Bishop 2006, PRML, §3.3; with several columns Rossi, Allenby & McCulloch
2005, Bayesian Statistics and Marketing, §2.8).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ppl_models.families.base import Features, LinearEmission, columns_of
from ppl_models.families.full_gaussian import scale_tril_of
from ppl_models.families.normal_prior import CLOSE, LOG_2PI, STEPS, NormalFactor, NormalPrior
from ppl_models.importing import lazy
from ppl_models.inference.factors import Support

if TYPE_CHECKING:
    import pyro.distributions as dist
    import torch
    from torch import Tensor

    from ppl_models.inference.factors import Site, Theta
    from ppl_models.kernels.workspace import Workspace
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")

FLATTEST = 1e-10
"""κ₀ at least: sums over fewer rows than a regression has coefficients are singular without it."""

UNIT = 1 / math.sqrt(2 * math.pi)
"""The standard deviation of a normal whose density at its mean is one: of a cell that is not there."""


class Posterior(NamedTuple):
    """The parameters of q(B, Λ | S), each (R, K, G, ...), or (R, 1, G) of the prior's sizes."""

    row: Tensor
    mean: Tensor
    dof: Tensor
    root: Tensor
    log_det: Tensor
    variance: Tensor
    weight: Tensor


class AutoregressiveGaussian(NormalFactor, LinearEmission):
    """x_t | k, x_{t−1} ~ N(B_kᵀ r_t, Λ_k⁻¹), r_t = (1, x_{t−1}), of standardised columns.

        Λ_k ~ Wishart(ν₀, (ν₀ s² I)⁻¹),    B_k | Λ_k ~ MN(0, (κ₀ I)⁻¹, Λ_k⁻¹)

    With the sums S = Σ (r, x)(r, x)ᵀ of n rows, P numbers in r and Q in x,

        L = κ₀ I + S_rr,   M = L⁻¹ S_rx,   ν = ν₀ + n,   W⁻¹ = ν₀ s² I + S_xx − Mᵀ L M
        Z = (κ₀^P / |L|)^{Q/2} · Z_W(ν, W)/Z_W(ν₀, (ν₀ s² I)⁻¹) · (2π)^{−nQ/2}

    Columns are in G groups: all in one with a full covariance, each regressed on all; each in its own with a
    diagonal one, regressed on itself. s² and κ₀, one for each group, are at the maximum of Z in them unless
    given.

    A group is regressed where all its cells of the row and of the row before are there. Elsewhere, as in the
    first row of a sequence, its cells are independent N(x̄, s_x²), with the mean and variance of the column,
    whatever the state.

    The features of a group are the upper triangle of (r, x)(r, x)ᵀ.
    """

    name = "gaussian"

    def __init__(
        self,
        columns: tuple[int, ...],
        states: int,
        centre: Tensor,
        scale: Tensor,
        prior: NormalPrior,
        full: bool,
        before: int,
    ) -> None:
        """`before` is the position of the first column of the rows before, which the others follow."""
        self.columns, self.states, self.prior = columns, states, prior
        self.centre, self.scale = centre, scale
        D = len(columns)
        self.before = tuple(range(before, before + D))
        self.groups, self.size = (1, D) if full else (D, 1)
        width = 1 + 2 * self.size
        self._row, self._column = torch.triu_indices(width, width)
        self._times = torch.where(self._row == self._column, 1.0, 2.0).double()

    @property
    def lagged(self) -> tuple[int, ...]:
        """All columns."""
        return self.columns

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, G, E), E entries of a triangle."""
        return (self.states, self.groups, len(self._row))

    @property
    def free_parameters(self) -> int:
        """Coefficients, and covariances."""
        Q = self.size
        return self.states * self.groups * ((1 + Q) * Q + Q * (Q + 1) // 2)

    # Rows

    def _grouped(self, values: Tensor, columns: tuple[int, ...]) -> Tensor:
        """Standardised cells of rows (..., C), (..., G, Q)."""
        x = columns_of(values.reshape(-1, values.shape[-1]), columns).reshape(*values.shape[:-1], -1)
        return self._standardised(x)

    def _standardised(self, x: Tensor) -> Tensor:
        return ((x - self.centre.to(x)) / self.scale.to(x)).unflatten(-1, (self.groups, self.size))

    def features(self, values: Tensor, take: Workspace, key: str, masked: bool | None = None) -> Features:
        """The products of each group's numbers, 0 where it is not regressed."""
        x, lag = self._grouped(values, self.columns), self._grouped(values, self.before)
        both = torch.cat([torch.ones_like(x[..., :1]), lag, x], -1)
        both = both.masked_fill(torch.isnan(both).any(-1, keepdim=True), 0.0)
        matrix = take.take(key, (len(values), self.groups * len(self._row)), values)
        products = matrix.view(len(values), self.groups, -1)
        torch.mul(both[..., self._row], both[..., self._column], out=products)
        return Features(matrix)

    def linear(self, natural: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """A group's constant is the weight of its count."""
        return natural.flatten(2), natural.new_zeros(natural.shape[:2])

    def collect(self, sums: Tensor, count: Tensor) -> Tensor:
        """Group by group."""
        return sums.unflatten(-1, (self.groups, -1))

    def log_base(self, values: Tensor) -> Tensor:
        """The change of units, and the density of cells that are not regressed."""
        x, lag = self._grouped(values, self.columns), self._grouped(values, self.before)
        alone = torch.isnan(x + lag).any(-1, keepdim=True)
        cells = torch.where(alone, -0.5 * (x.square() + LOG_2PI), 0.0).flatten(-2)
        seen = ~torch.isnan(x.flatten(-2))
        return torch.where(seen, cells - self.scale.to(x).log(), 0.0).sum(-1)

    # The conjugate factor

    def _matrix(self, S: Tensor) -> Tensor:
        """The triangle (..., E) as a symmetric matrix."""
        width = 1 + 2 * self.size
        full = S.new_zeros(*S.shape[:-1], width, width)
        full[..., self._row, self._column] = S
        full[..., self._column, self._row] = S
        return full

    def _parts(self, S: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """S_rr, S_rx and S_xx."""
        full, P = self._matrix(S), 1 + self.size
        return full[..., :P, :P], full[..., :P, P:], full[..., P:, P:]

    def possible(self, statistics: Tensor) -> Tensor:
        """The sums are those of a positive semidefinite matrix, but for what the prior adds."""
        rr, rx, xx = self._parts(statistics)
        eye = torch.eye(rr.shape[-1]).to(rr)
        row, failed = torch.linalg.cholesky_ex(rr + float(self.prior.lightest(rr).min()) * eye)
        whitened = torch.linalg.solve_triangular(row, rx, upper=False)
        least = self.prior.dof * float(self.prior.variances(xx).min())
        rest = xx - whitened.mT @ whitened + least * torch.eye(self.size).to(xx)
        _, beyond = torch.linalg.cholesky_ex(rest.nan_to_num(-1.0))
        return (statistics[..., 0] >= 0).flatten(1).all(-1) & ((failed + beyond) == 0).flatten(1).all(-1)

    def _posterior(self, S: Tensor) -> Posterior:
        p, (rr, rx, xx), n = self.prior, self._parts(S), S[..., 0]
        R, K, G, Q = *n.shape, self.size
        dof, eye = p.dof + n, torch.eye(1 + Q).to(S)
        weight = p.weights(S).expand(R, 1, G)
        for _ in range(STEPS):
            row = torch.linalg.cholesky(rr + weight[..., None, None] * eye)
            whitened = torch.linalg.solve_triangular(row, rx, upper=False)
            mean = torch.linalg.solve_triangular(row.mT, whitened, upper=True)
            size, turn = torch.linalg.eigh(xx - whitened.mT @ whitened)
            size = size.clamp_min(0.0)  # (R, K, G, Q), sums of squares along the axes of the scatter
            along = size.transpose(2, 3).reshape(R, K * Q, G)
            variance = p.scale(dof.repeat_interleave(Q, 1), along)
            inverse = p.dof * variance.unsqueeze(-1) + size
            if p.flattest is None:
                break
            rows = torch.linalg.solve_triangular(row, eye.expand_as(row), upper=False)
            gain = Q * (1 + Q - weight * rows.square().sum((-1, -2)))
            tilted = (mean @ turn).square().sum(-2) / inverse
            square = dof * tilted.sum(-1)
            better = p.weight(gain.sum(1, keepdim=True), square.sum(1, keepdim=True))
            if bool(((better / weight).log().abs() < CLOSE).all()):
                break
            weight = better
        root = torch.linalg.cholesky((turn * inverse.unsqueeze(-2)) @ turn.mT)
        return Posterior(row, mean, dof, root, inverse.log().sum(-1), variance, weight)

    def sizes(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """s² and κ₀, (R, G) each."""
        found = self._posterior(statistics)
        return found.variance[:, 0], found.weight[:, 0]

    def _log_z(self, S: Tensor, *posterior: Tensor) -> Tensor:
        """As in the class docstring."""
        q, Q, n = Posterior(*posterior), self.size, S[..., 0]
        v0 = torch.full_like(q.dof, self.prior.dof)
        log_det = 2 * q.row.diagonal(dim1=-1, dim2=-2).log().sum(-1)
        rows = 0.5 * Q * ((1 + Q) * q.weight.log() - log_det)
        before = 0.5 * v0 * Q * (self.prior.dof * q.variance).log()
        after = 0.5 * q.dof * q.log_det
        gammas = torch.mvlgamma(0.5 * q.dof, Q) - torch.mvlgamma(0.5 * v0, Q)
        return (rows + before - after + gammas - 0.5 * n * Q * math.log(math.pi)).flatten(1).sum(-1)

    def _triangle(self, log_det: Tensor, precision: Tensor, coefficient: Tensor, extra: Tensor) -> Tensor:
        """η: ½ log|Λ| − ½ Q log 2π and −½ (−Bᵀ, I)ᵀ Λ (−Bᵀ, I) − ½ `extra` in r."""
        cross = coefficient @ precision
        rr = cross @ coefficient.mT + extra
        top = torch.cat([rr, -cross], -1)
        full = -0.5 * torch.cat([top, torch.cat([-cross.mT, precision], -1)], -2)
        entries = full[..., self._row, self._column] * self._times.to(full)
        constant = 0.5 * (log_det - self.size * LOG_2PI)
        return torch.cat([(entries[..., 0] + constant).unsqueeze(-1), entries[..., 1:]], -1)

    def _natural(self, *posterior: Tensor) -> Tensor:
        """E[η]: E[Λ] = ν W, E[B Λ Bᵀ] = M ν W Mᵀ + Q L⁻¹."""
        q, Q = Posterior(*posterior), self.size
        steps = torch.arange(Q).to(q.dof)
        log_det = torch.digamma(0.5 * (q.dof.unsqueeze(-1) - steps)).sum(-1) + Q * math.log(2) - q.log_det
        precision = q.dof[..., None, None] * torch.cholesky_inverse(q.root)
        return self._triangle(log_det, precision, q.mean, Q * torch.cholesky_inverse(q.row))

    def natural(self, theta: Theta) -> Tensor:
        """η at θ."""
        precision, coefficient = theta["precision"], self._coefficient(theta)
        return self._triangle(
            torch.logdet(precision), precision, coefficient, precision.new_zeros(*coefficient.shape[:-1], 1)
        )

    @property
    def supports(self) -> Mapping[str, Support]:
        """Precisions are positive definite."""
        return {"coefficient": Support.REAL, "precision": Support.DEFINITE}

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`precision` (K, G, Q, Q), then `coefficient` (K, G, P Q) given it, B row by row."""
        q = self._posterior(statistics)
        inverse = q.root @ q.root.mT
        precision = site("precision", dist.Wishart(q.dof, precision_matrix=inverse, validate_args=False))
        rows, columns = scale_tril_of(q.row @ q.row.mT), scale_tril_of(precision)
        spread = rows[..., :, None, :, None] * columns[..., None, :, None, :]
        spread = spread.flatten(-2).flatten(-3, -2)  # the Kronecker product, lower triangular as they are
        normal = dist.MultivariateNormal(q.mean.flatten(-2), scale_tril=spread, validate_args=False)
        return {"precision": precision, "coefficient": site("coefficient", normal)}

    def _coefficient(self, theta: Theta) -> Tensor:
        """B (..., G, P, Q)."""
        return theta["coefficient"].unflatten(-1, (1 + self.size, self.size))

    # θ and rows

    def _given(self, theta: Theta, lag: Tensor, alone: Tensor) -> tuple[Tensor, Tensor]:
        """Means (..., G, Q) and covariances of standardised groups after rows (..., D).

        Args:
            theta: with as many leading dimensions as `lag`, or ones that they are broadcast against.
            lag: the rows before, in the user's units.
            alone: (..., G) groups that are not regressed.
        """
        u = self._standardised(lag).masked_fill(alone.unsqueeze(-1), 0.0)
        coefficient = self._coefficient(theta)
        mean = coefficient[..., 0, :] + (u.unsqueeze(-2) @ coefficient[..., 1:, :]).squeeze(-2)
        covariance = torch.linalg.inv(theta["precision"])
        mean = mean.masked_fill(alone.unsqueeze(-1), 0.0)
        return mean, torch.where(alone[..., None, None], torch.eye(self.size).to(mean), covariance)

    def _alone(self, lag: Tensor) -> Tensor:
        return torch.isnan(self._standardised(lag)).any(-1)

    def dense(self, theta: Theta) -> tuple[Tensor, Tensor, Tensor]:
        """Standardised rows u_t ~ N(a + u_{t−1} B, Σ): a (..., D), B (..., D, D) and Σ (..., D, D)."""
        coefficient, covariance = self._coefficient(theta), torch.linalg.inv(theta["precision"])
        intercept, slope = coefficient[..., 0, :].flatten(-2), coefficient[..., 1:, :]
        if self.groups == 1:
            return intercept, slope[..., 0, :, :], covariance[..., 0, :, :]
        return intercept, torch.diag_embed(slope[..., 0, 0]), torch.diag_embed(covariance[..., 0, 0])

    def regressed(self, rows: Tensor) -> Tensor:
        """(..., D) cells whose group is regressed, of rows (..., C) with the row before."""
        both = self._grouped(rows, self.columns) + self._grouped(rows, self.before)
        there = ~torch.isnan(both).any(-1, keepdim=True)
        return there.expand_as(both).flatten(-2)

    def walk(self, theta: Theta, x: Tensor, before: Tensor | None) -> Tensor:
        """Row after row."""
        lag = torch.full_like(x[:, 0], torch.nan) if before is None else before.to(x).expand_as(x[:, 0])
        drawn = []
        for t in range(x.shape[1]):
            now = {name: value[:, t] for name, value in theta.items()}
            mean, covariance = self._given(now, lag, self._alone(lag))
            u = dist.MultivariateNormal(mean, covariance, validate_args=False).sample().flatten(-2)
            row = self.centre.to(u) + self.scale.to(u) * u
            lag = torch.where(torch.isnan(x[:, t]), row, x[:, t])
            drawn.append(lag)
        return torch.stack(drawn, 1)

    def margins(self, theta: Theta, at: Callable[[Tensor], Tensor], rows: Tensor) -> dist.TorchDistribution:
        """Normals given the row before."""
        lag = rows[..., list(self.before)]
        alone = torch.isnan(self._grouped(rows, self.columns)).any(-1) | self._alone(lag)
        mean, covariance = self._given({name: at(value) for name, value in theta.items()}, lag, alone)
        sd = covariance.diagonal(dim1=-1, dim2=-2).sqrt().flatten(-2)
        scale = self.scale.to(sd)
        centre = self.centre.to(sd) + scale * mean.flatten(-2)
        return dist.Normal(centre, scale * sd, validate_args=False).to_event(1)

    def observe(self, theta: Theta, rows: Tensor) -> tuple[dist.TorchDistribution, Tensor]:
        """The density of the observed cells given the row before."""
        x, lag = rows[..., list(self.columns)], rows[..., list(self.before)]
        u = self._standardised(x)
        missing = torch.isnan(u)
        alone = missing.any(-1) | self._alone(lag)
        mean, covariance = self._given(theta, lag, alone)
        s = self.scale.to(x).unflatten(-1, (self.groups, self.size))
        sd = torch.where(missing, UNIT, s.expand_as(u))
        covariance = covariance * sd.unsqueeze(-1) * sd.unsqueeze(-2)
        value = torch.where(missing, 0.0, u * s)
        return dist.MultivariateNormal(mean * s, covariance, validate_args=False).to_event(1), value

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """Of rows with none before them: those of no state."""
        sd = self.scale.to(theta["precision"]).expand(*theta["precision"].shape[:-3], -1)
        return dist.Normal(self.centre.to(sd), sd, validate_args=False).to_event(1)

    def order_key(self, statistics: Tensor) -> Tensor:
        """`mean` of the first column."""
        return self._posterior(statistics).mean[..., 0, 0, 0]

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`mean` after a row at the overall means, `coefficient` of the row before, `sd`, `correlation`."""
        B, scale = self._coefficient(theta), self.scale.to(theta["coefficient"])
        mean = self.centre.to(scale) + scale * B[..., 0, :].flatten(-2)
        covariance = torch.linalg.inv(theta["precision"])
        own = covariance.diagonal(dim1=-1, dim2=-2).sqrt()
        found = {"mean": (mean, ("column",)), "sd": (scale * own.flatten(-2), ("column",))}
        if self.size == 1:
            return found | {"coefficient": (B[..., 1, 0], ("column",))}
        slope = B[..., 0, 1:, :].mT * scale.unsqueeze(-1) / scale
        correlation = (covariance / (own.unsqueeze(-1) * own.unsqueeze(-2)))[..., 0, :, :]
        return found | {
            "coefficient": (slope, ("column", "column_before")),
            "correlation": (correlation, ("column", "column_to")),
        }
