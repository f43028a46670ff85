"""Student-t columns: like Gaussian ones, but an outlier hardly moves the mean; heavy tails are learned.

    x | u ~ N(μ, 1/(u τ)),  u ~ Gamma(ν/2, ν/2)    or    p(x) = t_ν(x; μ, 1/√τ)

The normal is scaled by a latent u of each cell (Andrews & Mallows 1974, Scale mixtures of normal
distributions, J. R. Statist. Soc. B 36), given which everything is conjugate. For mixtures: Peel & McLachlan
(2000, Robust mixture modelling using the t distribution, Statistics and Computing 10,
https://doi.org/10.1023/A:1008981510081); by variational Bayes: Svensén & Bishop (2005, Robust Bayesian
mixture modelling, Neurocomputing 64, https://doi.org/10.1016/j.neucom.2004.11.018).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from ppl_models.annotations import Positive
from ppl_models.data.schema import Column, Kind
from ppl_models.families.base import EPSILON
from ppl_models.families.columns import AugmentedEmission
from ppl_models.families.family import Conjugate, Family, Group, Network
from ppl_models.families.likelihood import FLOOR, Likelihood
from ppl_models.families.normal_prior import (
    LOG_2PI,
    Field,
    NormalFactor,
    NormalGamma,
    NormalPrior,
    NormalSizes,
    Size,
    centres,
)
from ppl_models.importing import lazy
from ppl_models.inference.factors import Support, nonnegative

if TYPE_CHECKING:
    import pyro.distributions as dist
    import torch
    from torch import Tensor

    from ppl_models.families.log_scale import LogScale
    from ppl_models.inference.factors import Site, Theta
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")

MEDIAN, LOG_SD = 10.0, 1.0
"""Of the log-normal prior of ν: 95 % between 1.4 and 71, from next to no mean to next to a Gaussian.

Juárez & Steel's (2010, Model-based clustering of non-Gaussian panel data based on skew-t distributions,
J. Business & Economic Statistics 28) Gamma(2, 0.1) has 95 % between 2.4 and 56.
"""


@dataclass(frozen=True)
class StudentPrior(NormalSizes):
    """The fields of the prior of Student-t columns."""

    student_t_dof: Annotated[
        float | None,
        "degrees of freedom of Student-t columns; learned for each column and state if not given",
        Positive(),
    ] = None
    student_t_variance: Annotated[
        Size | None,
        "prior scale of the squared scale of a Student-t column, of all or of each; learned if not given",
        Positive(),
    ] = None
    student_t_mean_precision: Annotated[
        Size | None,
        "prior weight of the overall mean on that of a Student-t column, in rows; mean_precision if none",
        Positive(),
    ] = None


class DofTerms(NamedTuple):
    """The posterior of degrees of freedom ν given sums over the scales u of n cells.

        log q(v) = n (ν/2 log ν/2 − log Γ(ν/2)) − ν/2 Σ(u − log u) − (v − log m)²/(2σ²) + const,  v = log ν

    It is concave in v: ν/2 (log ν/2 − ψ(ν/2)) falls, and Σ(u − log u) ≥ n.

    Attributes:
        n: cells.
        excess: Σ(u − log u).
    """

    n: Tensor
    excess: Tensor

    def log_density(self, u: Tensor) -> Tensor:
        """Log q(v) without the constant."""
        from ppl_models.families.log_scale import matched

        n, excess = matched(u, self.n, self.excess)
        return (
            n * log_constant(u.exp()) - 0.5 * u.exp() * excess - 0.5 * ((u - math.log(MEDIAN)) / LOG_SD) ** 2
        )

    def derivatives(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """In v."""
        half, prior = 0.5 * u.exp(), 1 / LOG_SD**2
        first = half * (self.n * (half.log() + 1 - torch.digamma(half)) - self.excess)
        second = self.n * (half - half**2 * torch.polygamma(1, half))
        return first - prior * (u - math.log(MEDIAN)), first + second - prior


def log_constant(dof: Tensor) -> Tensor:
    """ν/2 log ν/2 − log Γ(ν/2), of the density of u."""
    return 0.5 * dof * (0.5 * dof).log() - torch.lgamma(0.5 * dof)


class StudentT(NormalFactor, AugmentedEmission):
    """x_d | k ~ t_ν(μ_kd, 1/√τ_kd), τ_kd ~ Gamma(ν₀/2, ν₀ s²/2), μ_kd | τ_kd ~ N(0, 1/(κ₀ τ_kd)).

    log ν_kd ~ N(log 10, 1), unless it is given. Of cells with their scales u,

        t = (1, u, u x, u x², log u),                                               h(u) = u^{−1/2}
        η = (½ log τ − ½ log 2π + ν/2 log ν/2 − log Γ(ν/2), −½ τ μ² − ν/2, τ μ, −½ τ, ν/2)

    and as η is a sum of a term in (μ, τ) and one in ν, so is log q(θ | S): a `NormalGamma` with cells that
    weigh u, and `DofTerms`, one quadrature for each cell of the statistics. A cell has, with a = η₅ + ½ and
    β(x) = −(η₂ + η₃ x + η₄ x²), that is (ν + 1)/2 and (ν + τ (x − μ)²)/2 at a point,

        log p(x | η) = η₁ + log Γ(a) − a log β,    q(u) = Gamma(a, β)
    """

    name = "student_t"
    terms = 4
    heavy_tails = True
    variance_field = "student_t_variance"
    precision_field = "student_t_mean_precision"

    def __init__(
        self,
        columns: tuple[int, ...],
        states: int,
        centre: Tensor,
        scale: Tensor,
        prior: NormalPrior,
        dof: float | None = None,
    ) -> None:
        super().__init__(columns, states, centre, scale)
        self.prior, self.dof = prior, dof
        self._fixed = math.nan if dof is None else dof

    @property
    def free_parameters(self) -> int:
        """Mean, scale and, unless they are given, degrees of freedom of each cell."""
        return self.states * len(self.columns) * (3 if self.dof is None else 2)

    def possible(self, statistics: Tensor) -> Tensor:
        """Counts and sums of squares about the mean are not negative, nor is Σ(u − 1 − log u)."""
        n, u, ux, uxx, log_u = statistics.unbind(-1)
        scatter = uxx - ux * centres(u, ux)
        excess = u - log_u - n + 1e-9 * (1 + n)
        return nonnegative(n) & nonnegative(u) & nonnegative(scatter) & nonnegative(excess)

    def cell_base(self, x: Tensor) -> Tensor:
        """The change of units."""
        return x * 0.0 - self.scale.to(x).log()

    def start(self, number: int, device: torch.device | str = "cpu") -> Tensor:
        """Scales u of the prior, by which all cells are far out, and in every other start as at the mean.

        The first gives narrow states with tails that are too heavy, which leave outliers alone, the second
        states as wide as all that is in them.
        """
        eta = super().start(number, device).clone()
        eta[1::2, ..., 1], eta[1::2, ..., 2:4] = -eta[1::2, ..., 4], 0.0
        return eta

    def _scales(self, x: Tensor, eta: Tensor) -> tuple[Tensor, Tensor]:
        """The shape a and the rate β(x) of q(u)."""
        _, one, two, three, log = eta.unbind(-1)
        return log + 0.5, -torch.addcmul(one, torch.addcmul(two, three, x), x)

    def cell_density(self, d: int, x: Tensor, eta: Tensor) -> Tensor:
        """As in the class docstring."""
        a, b = self._scales(x, eta)
        return eta[..., 0] + torch.lgamma(a) - a * b.log_()

    def cell_statistics(self, d: int, x: Tensor, eta: Tensor, gamma: Tensor) -> Tensor:
        """E[u] = a/β, E[log u] = ψ(a) − log β."""
        a, b = self._scales(x, eta)
        count = gamma.sum(1)
        log_u = torch.digamma(a[:, 0]) * count - (gamma * b.log()).sum(1)
        powers = torch.cat([torch.ones_like(x), x, x * x], 1)
        sums = (gamma * a / b).transpose(1, 2) @ powers
        return torch.cat([count.unsqueeze(-1), sums, log_u.unsqueeze(-1)], -1)

    def _posterior(self, S: Tensor) -> tuple[NormalGamma, LogScale | None]:
        n, u, ux, uxx, log_u = S.unbind(-1)
        normal = NormalGamma.of(self.prior, n, u, ux, uxx)
        if self.dof is not None:
            return normal, None
        from ppl_models.families.log_scale import LogScale

        return normal, LogScale(DofTerms(n, torch.maximum(u - log_u, n)), n)

    def sizes(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """s² and κ₀, (R, D) each."""
        normal = self._posterior(statistics)[0]
        return normal.variance[:, 0], normal.weight[:, 0]

    def _log_z(self, S: Tensor, normal: NormalGamma, dof: LogScale | None) -> Tensor:
        """That of the normal with weights, times that of ν."""
        n, u, log_u = S[..., 0], S[..., 1], S[..., 4]
        if dof is None:
            nu = n.new_tensor(self._fixed)
            own = n * log_constant(nu) - 0.5 * nu * (u - log_u)
        else:
            own = dof.log_z - 0.5 * LOG_2PI - math.log(LOG_SD)
        return normal.log_z(self.prior, n) + own.sum((-1, -2))

    def _natural(self, normal: NormalGamma, dof: LogScale | None) -> Tensor:
        """E[η] as in the class docstring."""
        log_tau, square, linear, tau = normal.moments()
        if dof is None:
            nu = torch.full_like(tau, self._fixed)
            constant = log_constant(nu)
        else:
            nodes = dof.u.exp()
            nu, constant = dof.expect(nodes), dof.expect(log_constant(nodes))
        zero = 0.5 * (log_tau - LOG_2PI) + constant
        return torch.stack([zero, -0.5 * (square + nu), linear, -0.5 * tau, 0.5 * nu], -1)

    @property
    def supports(self) -> Mapping[str, Support]:
        """Precisions and degrees of freedom are positive."""
        return {"mean": Support.REAL, "precision": Support.POSITIVE, "dof": Support.POSITIVE}

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`precision`, `mean` given it, and `dof`, which is no site where it is given."""
        normal, dof = self._posterior(statistics)
        theta = normal.sites(site)
        nu = torch.full_like(theta["mean"], self._fixed) if dof is None else site("dof", dof)
        return theta | {"dof": nu}

    def natural(self, theta: Theta) -> Tensor:
        """η as in the class docstring."""
        mean, tau, nu = theta["mean"], theta["precision"], theta["dof"]
        zero = 0.5 * (tau.log() - LOG_2PI) + log_constant(nu)
        return torch.stack([zero, -0.5 * (tau * mean**2 + nu), tau * mean, -0.5 * tau, 0.5 * nu], -1)

    def local(self, theta: Theta) -> dist.TorchDistribution:
        """Independent Student-t in the user's units."""
        mean, scale = theta["mean"], self.scale.to(theta["mean"])
        loc, spread = self.centre.to(mean) + scale * mean, scale * theta["precision"].rsqrt()
        return dist.StudentT(theta["dof"], loc, spread, validate_args=False).to_event(1)

    def order_key(self, statistics: Tensor) -> Tensor:
        """The mean of the first column."""
        return statistics[..., 0, 2] / (statistics[..., 0, 1] + EPSILON)

    def user(self, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """`mean` (the centre, if ν ≤ 1), `scale` (the sd is scale √(ν/(ν − 2)), if ν > 2) and `dof`, ν."""
        t = self.local(theta).base_dist
        own = {"mean": t.loc, "scale": t.scale, "dof": theta["dof"]}
        return {name: (value, ("column",)) for name, value in own.items()}


def _emission(group: Group, states: int, fields: StudentPrior) -> StudentT:
    D, given = len(group.index), fields.student_t_mean_precision
    prior = fields.normal_prior(
        group,
        states,
        Field("student_t_variance", fields.student_t_variance, D),
        Field("student_t_mean_precision", fields.mean_precision if given is None else given, D),
    )
    mean, sd = group.constants("mean"), group.constants("sd")
    return StudentT(group.index, states, mean, sd, prior, fields.student_t_dof)


class StudentTLikelihood(Likelihood):
    """u_j = (x_j − x̄_j)/s_j ~ t_{ν_j}(o_j, σ_j), ν_j = 1 + e^{λ_j} and σ_j learned for each column.

    There is a mean, as ν > 1; λ is kept from −5 to 7, beyond which the density does not change. σ has the
    floor of a Gaussian's.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__("student_t", [c.mean for c in columns], [c.sd for c in columns], dense=True)
        self.log_scale = self._learned(math.log(0.5))
        self.log_dof = self._learned(math.log(MEDIAN - 1))

    @property
    def sigma(self) -> Tensor:
        """σ, (D,), in standard deviations of the column."""
        return (FLOOR**2 + (2 * self.log_scale).exp()).sqrt()

    @property
    def dof(self) -> Tensor:
        """ν, (D,)."""
        return 1 + self.log_dof.clamp(-5.0, 7.0).exp()

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """The density of Student's t."""
        sigma, dof = self.sigma, self.dof
        constant = torch.lgamma(0.5 * (dof + 1)) - torch.lgamma(0.5 * dof) - 0.5 * (math.pi * dof).log()
        return constant - sigma.log() - 0.5 * (dof + 1) * (((u - out) / sigma) ** 2 / dof).log1p()

    def expect(self, out: Tensor) -> Tensor:
        """The mean o."""
        return self.back(out)

    def sample(self, out: Tensor) -> Tensor:
        """The mean and noise."""
        noise = dist.StudentT(self.dof.double().expand(out.shape), validate_args=False).sample()
        return self.back(out + self.sigma * noise)

    def distribution(self, out: Tensor) -> Any:
        """A Student-t in the user's units."""
        return dist.StudentT(self.dof.double(), self.back(out), self.sigma.double() * self.scale)


STUDENT_T = Family(
    "student_t",
    conjugate=Conjugate(
        density="Student's t: `mean`, `scale`, `dof`",
        prior="normal–gamma, log-normal on the degrees of freedom",
        kinds=(Kind.CONTINUOUS, Kind.COUNT),
        build=_emission,
    ),
    network=Network(
        density="Student's t around o with a scale and degrees of freedom for each column, learned",
        kinds=(Kind.CONTINUOUS, Kind.COUNT),
        build=lambda columns, image: StudentTLikelihood(columns),
    ),
    fields=StudentPrior,
)
