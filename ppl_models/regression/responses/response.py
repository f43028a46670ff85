"""What a regression asks of the distribution of its target.

Given K linear predictors φ_n of a row (K = 1 for numbers) and ψ, q numbers that all rows share (a scale, a
dispersion, cutpoints), a response has the density p(y_n | φ_n, ψ), and under φ_n ~ N(m, V)

    E[log p],   ∇_m E[log p] = E[∇ log p],   −∇²_m E[log p] = E[−∇² log p]

(Bonnet 1964; Price 1958), in closed form where there is one, else by quadrature in one dimension. ψ is
unconstrained; its prior is with respect to it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from ppl_models.errors import DataError
from ppl_models.regression.quadrature import rule


class RowTerms(NamedTuple):
    """Of each row: E[log p(y_n)] (m,), E[∇] (m, K), E[−∇²] (m, K, K)."""

    value: Tensor
    gradient: Tensor
    curvature: Tensor


class Response(ABC):
    """The distribution of a target given its linear predictors.

    Attributes:
        outputs: K.
    """

    outputs: int = 1

    @property
    def width(self) -> int:
        """Numbers that a row takes while it is worked on, about."""
        return max(self.outputs, 1)

    def alone(self, y: Tensor) -> "list[tuple[Response, Tensor]]":
        """Responses with one output each, and their targets, that are much like this one."""
        return [(self, y)]

    @abstractmethod
    def row_terms(
        self, y: Tensor, mean: Tensor, cov: Tensor | None, trials: Tensor | None = None
    ) -> RowTerms:
        """Expectations of each row, without weights.

        Args:
            y: (m,).
            mean: of the linear predictors, (m, K).
            cov: covariances of these, (m, K, K), or None where they are known exactly.
            trials: (m,), of a binomial.
        """

    @abstractmethod
    def log_prob(
        self, phi: Tensor, y: Tensor, psi: Tensor | None = None, trials: Tensor | None = None
    ) -> Tensor:
        """Log p(y | φ, ψ), (...), for φ (..., K), and y and trials that broadcast against (...).

        Args:
            phi: linear predictors.
            y: targets.
            psi: (S, q), where φ is (S, m, K); the response's own if not given.
            trials: of a binomial.
        """

    def of_rows(
        self,
        B: Tensor,
        Z: Tensor,
        y: Tensor,
        psi: Tensor | None = None,
        offset: Tensor | None = None,
        trials: Tensor | None = None,
    ) -> Tensor:
        """Log p(y_n | φ_n), (S, m), for coefficients B (S, p + 1, K) of rows [1, Z] (m, p + 1).

        Args:
            B: coefficients, intercept first.
            Z: rows.
            y: targets (m,).
            psi: (S, q); the response's own if not given.
            offset: (m,) of the linear predictors.
            trials: (m,), of a binomial.
        """
        phi = torch.stack([B[..., k] @ Z.mT for k in range(self.outputs)], -1)
        return self.log_prob(phi if offset is None else phi + offset[:, None], y, psi, trials)

    @abstractmethod
    def start(self, y: Tensor, weight: Tensor, trials: Tensor | None = None) -> Tensor:
        """Intercepts (K,) from which to look for the mode."""


@dataclass(frozen=True, eq=False)
class NumberResponse(Response):
    """A number with one linear predictor f.

    Attributes:
        link: of the mean.
        psi: (q,).
        shift: what is taken from the target before it is divided by `unit`: identity links only.
        unit: sd of the target where the link is the identity, else 1.
    """

    name: ClassVar[str]
    links: ClassVar[tuple[str, ...]]
    """The first is the default."""
    hyper: ClassVar[tuple[str, ...]] = ()
    """What ψ is to the user: names of `user`'s."""

    link: str
    psi: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    shift: float = 0.0
    unit: float = 1.0

    @classmethod
    def of(cls, link: str, y: Tensor, levels: int = 0) -> Self:
        """The response of a target whose values are `y` (n,): ψ at a start, shift and unit.

        Args:
            link: of the mean.
            y: targets that are there.
            levels: how many there are of an ordered label.
        """
        return cls(link)

    @classmethod
    def check(cls, y: Tensor, where: str, trials: Tensor | None = None) -> None:
        """Whether such a target can be of the family.

        Raises:
            DataError: a value is outside of the support.
        """

    def at(self, psi: Tensor) -> Self:
        """The same with another ψ."""
        return replace(self, psi=psi)

    @property
    def parameters(self) -> int:
        """Q."""
        return len(self.psi)

    @property
    def spread(self) -> float:
        """How far f must move for the density to change: what the steps of a quadrature are measured by."""
        return 1.0

    def log_prior(self, psi: Tensor) -> Tensor:
        """Log density of ψ (S, q), (S,)."""
        return psi.new_zeros(len(psi))

    def widened(self, psi: Tensor, factor: float) -> Tensor:
        """ψ (S, q) where the distribution is so many times as wide; as it is, where ψ has no say in that."""
        return psi

    def user(self, psi: Tensor) -> Mapping[str, Tensor]:
        """ψ (S, q) as the user knows it, by name, (S, ...)."""
        return {}

    @abstractmethod
    def density(self, f: Tensor, y: Tensor, psi: tuple[Tensor, ...], trials: Tensor | None) -> Tensor:
        """Log p(y | f, ψ) in standardised units, element by element; differentiable in f and ψ."""

    @abstractmethod
    def mean(self, f: Tensor, psi: Tensor) -> Tensor:
        """E[y | f, ψ] in the user's units, (S, m), for f (S, m) and ψ (S, q); of one trial."""

    @abstractmethod
    def sample(self, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """Draws of y given f (S, m) and ψ (S, q), in the user's units, by torch's global generator."""

    @abstractmethod
    def cdf(self, y: Tensor, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """P(new ≤ y | f, ψ), (S, m), for y in the user's units that broadcasts, f (S, m) and ψ (S, q)."""

    discrete: ClassVar[bool] = False
    """Whether it is of whole numbers."""
    work: ClassVar[float] = 1.0
    """What its density costs, in those of a normal."""

    @property
    def linear_normal(self) -> bool:
        """Whether it is normal with a linear mean, so that sums over the rows are all that counts."""
        return False

    def standardised(self, y: Tensor) -> Tensor:
        """Targets as the density takes them."""
        return y if self.unit == 1.0 and self.shift == 0.0 else (y - self.shift) / self.unit

    def expected(
        self, y: Tensor, mean: Tensor, variance: Tensor, psi: tuple[Tensor, ...], trials: Tensor | None
    ) -> Tensor:
        """E[log p(y | f, ψ)], (m,), f ~ N(mean, variance); differentiable in mean and ψ."""
        sd = variance.sqrt()
        worst = float(sd.detach().max()) / self.spread if len(sd) else 0.0
        nodes, weights = (torch.tensor(v, dtype=mean.dtype) for v in rule(worst))
        f = mean + nodes[:, None] * sd
        more = None if trials is None else trials.expand_as(f)
        return weights @ self.density(f, y.expand_as(f), psi, more)

    def row_terms(
        self, y: Tensor, mean: Tensor, cov: Tensor | None, trials: Tensor | None = None
    ) -> RowTerms:
        """By `expected` and automatic differentiation."""
        f, psi = mean[:, 0], tuple(self.psi)
        with torch.enable_grad():
            x = f.detach().requires_grad_()
            if cov is None:
                value = self.density(x, y, psi, trials)
            else:
                value = self.expected(y, x, cov[:, 0, 0].clamp_min(0.0), psi, trials)
            (g,) = torch.autograd.grad(value.sum(), x, create_graph=True)
            (h,) = torch.autograd.grad(g.sum(), x)
        return RowTerms(value.detach(), g.detach()[:, None], -h[:, None, None])

    def log_prob(
        self, phi: Tensor, y: Tensor, psi: Tensor | None = None, trials: Tensor | None = None
    ) -> Tensor:
        """Log p(y | φ, ψ) in standardised units."""
        numbers = tuple(self.psi) if psi is None else columns(psi, phi.dim() - 1)
        return self.density(phi[..., 0], y, numbers, trials)


def columns(psi: Tensor, dims: int) -> tuple[Tensor, ...]:
    """ψ (S, q) as q tensors (S, 1, …) of `dims` dimensions."""
    return tuple(c.reshape(-1, *[1] * (dims - 1)) for c in psi.unbind(-1))


def whole(y: Tensor, where: str, family: str, least: float = 0.0) -> None:
    """Refuse targets that are no counts.

    Args:
        y: targets.
        where: what has them, for the message.
        family: which is of whole numbers.
        least: the smallest that may be.

    Raises:
        DataError: one is negative or has a fraction.
    """
    bad = (y < least) | (y != y.round())
    if bool(bad.any()):
        raise DataError(
            f"{where} has {float(y[bad][0]):g}, and {family} is of whole numbers from {least:g}; "
            "use --family normal or gamma"
        )
