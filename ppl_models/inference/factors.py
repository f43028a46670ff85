"""Conjugate factors: the building blocks of the global part of a model and of its guide.

A factor is a prior p(θ) that is conjugate to a density p(x | θ) = h(x) exp ⟨t(x), η(θ)⟩. Given expected
sufficient statistics S = Σ_n E_q[t(x_n)], its variational factor is

    q(θ | S) = p(θ) exp ⟨S, η(θ)⟩ / Z(S),    Z(S) = ∫ p(θ) exp ⟨S, η(θ)⟩ dθ,

the prior being q(θ | 0). Natural parameters of q are the prior's plus S, so that S is all a fit has
to carry: a natural-gradient step is an average of statistics. Three things follow from log Z alone:
E_q[η(θ)] = ∇_S log Z, KL(q‖p) = ⟨S, E_q[η]⟩ − log Z(S), and the marginal likelihood of complete data.
(Hoffman, Blei, Wang & Paisley 2013, Stochastic variational inference, JMLR 14,
https://jmlr.org/papers/v14/hoffman13a.html.)
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING

from ppl_models.importing import lazy

if TYPE_CHECKING:
    import pyro.distributions as dist
    import torch
    from torch import Tensor
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")

Site = Callable[[str, "dist.TorchDistribution"], "Tensor"]
"""What is done at a latent site: sampled by Pyro, drawn, or scored."""

Theta = Mapping[str, "Tensor"]
"""Values of a factor's sites, each (..., K, ...) with the leading dimensions of the statistics."""


class Support(Enum):
    """Where the values of a site lie; found without Pyro, which reading a run does not wait for."""

    REAL = "a number"
    NONNEGATIVE = "not negative"
    POSITIVE = "positive"
    PROBABILITY = "between 0 and 1"
    SIMPLEX = "probabilities that sum to 1"
    DEFINITE = "a positive definite matrix"

    def holds(self, value: Tensor) -> bool:
        """Whether every value, finite as it must be, lies there."""
        if not value.isfinite().all():
            return False
        if self is Support.DEFINITE:
            return not bool(torch.linalg.cholesky_ex(value).info.any())
        if self is Support.REAL:
            return True
        if self is Support.POSITIVE:
            return bool((value > 0).all())
        if self is Support.SIMPLEX and ((value.sum(-1) - 1).abs() > 1e-6).any():
            return False
        return bool((value >= 0).all() and (self is Support.NONNEGATIVE or (value <= 1 + 1e-6).all()))


class Factor(ABC):
    """A conjugate prior and its variational factor. Statistics have one leading batch dimension."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of the statistics, without the batch dimension."""

    @abstractmethod
    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Log Z(S), (R,)."""

    @abstractmethod
    def expected_natural(self, statistics: Tensor) -> Tensor:
        """E_q[η(θ)], of the statistics' shape."""

    def evaluate(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """E_q[η(θ)] and KL(q(θ | S) ‖ p(θ)) = ⟨S, E_q[η]⟩ − log Z(S), (R,)."""
        expected = self.expected_natural(statistics)
        return expected, (statistics * expected).flatten(1).sum(-1) - self.log_normalizer(statistics)

    @abstractmethod
    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """Name q(θ | S) site by site, as a Pyro program would: `site(name, distribution)` gives the value.

        Values may have a longer first dimension than S, whose first is 1 then.
        """

    @abstractmethod
    def natural(self, theta: Theta) -> Tensor:
        """η(θ), of the statistics' shape."""

    @property
    def supports(self) -> Mapping[str, Support]:
        """Where the values lie that `sites` names, by name: stored draws are held against it."""
        return {}

    @abstractmethod
    def possible(self, statistics: Tensor) -> Tensor:
        """(R,) whether S lies where Z(S) is finite: extrapolated statistics may not."""

    def zeros(self, batch: int, device: torch.device | str = "cpu") -> Tensor:
        """Statistics of no data: q(θ | 0) is the prior."""
        return torch.zeros(batch, *self.shape, dtype=torch.float64, device=device)

    def draw(self, statistics: Tensor) -> Theta:
        """θ ~ q(θ | S), one draw for each batch entry, from torch's global generator."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Singular sample detected")  # torch then draws it again
            return self.sites(statistics, lambda _, distribution: distribution.sample())

    def log_prob(self, theta: Theta, statistics: Tensor) -> Tensor:
        """Log q(θ | S), (R,), of one S for all θ too; with zero statistics, the log prior."""
        number = next(iter(theta.values())).shape[0]
        total = statistics.new_zeros(number)

        def score(name: str, distribution: dist.TorchDistribution) -> Tensor:
            nonlocal total
            total = total + distribution.log_prob(theta[name]).reshape(number, -1).sum(-1)
            return theta[name]

        self.sites(statistics, score)
        return total


def nonnegative(statistics: Tensor) -> Tensor:
    """(R,) whether all entries are at least zero."""
    return (statistics >= 0).flatten(1).all(-1)


class Dirichlet(Factor):
    """Rows of probabilities: p_k ~ Dirichlet(α_k), log p(z | p_k) = ⟨onehot(z), log p_k⟩.

    Z(S) = Π_k B(α_k + S_k) / B(α_k), E[log p_kj] = ψ(α_kj + S_kj) − ψ(Σ_j α_kj + S_kj).

    Args:
        name: the name of the site.
        concentration: α, (..., J).
    """

    def __init__(self, name: str, concentration: Tensor) -> None:
        self.name = name
        self.concentration = concentration

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., J), as the concentration's."""
        return tuple(self.concentration.shape)

    @property
    def supports(self) -> Mapping[str, Support]:
        """Probabilities."""
        return {self.name: Support.SIMPLEX}

    def _posterior(self, statistics: Tensor) -> Tensor:
        return self.concentration.to(statistics) + statistics

    def possible(self, statistics: Tensor) -> Tensor:
        """Counts are not negative."""
        return nonnegative(statistics)

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Log ratio of the multivariate beta functions."""

        def log_beta(a: Tensor) -> Tensor:
            return torch.lgamma(a).sum(-1) - torch.lgamma(a.sum(-1))

        ratio = log_beta(self._posterior(statistics)) - log_beta(self.concentration.to(statistics))
        return ratio.reshape(statistics.shape[0], -1).sum(-1)

    def expected_natural(self, statistics: Tensor) -> Tensor:
        """E[log p] by digamma functions."""
        a = self._posterior(statistics)
        return torch.digamma(a) - torch.digamma(a.sum(-1, keepdim=True))

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """One Dirichlet site."""
        return {self.name: site(self.name, dist.Dirichlet(self._posterior(statistics), validate_args=False))}

    def natural(self, theta: Theta) -> Tensor:
        """Log p, with probabilities that underflowed to zero at the smallest normal number."""
        return theta[self.name].clamp_min(torch.finfo(torch.float64).tiny).log()


class Sticks(Factor):
    """Weights of a Dirichlet process cut off at K (Blei & Jordan 2006, Bayesian Analysis 1).

    v_k ~ Beta(1, α) for k < K, v_K = 1, π_k = v_k Π_{j<k} (1 − v_j), and log p(z | π) = ⟨onehot(z), log π⟩.
    With counts S: v_k ~ Beta(1 + S_k, α + Σ_{j>k} S_j), Z(S) the product of ratios of beta functions.

    Args:
        name: the name of the weights; the sites are `NAME_stick`.
        components: K.
        concentration: α.
    """

    def __init__(self, name: str, components: int, concentration: float) -> None:
        self.name, self.components, self.concentration = name, components, concentration

    @property
    def shape(self) -> tuple[int, ...]:
        """(K,)."""
        return (self.components,)

    @property
    def supports(self) -> Mapping[str, Support]:
        """Sticks, and weights."""
        return {f"{self.name}_stick": Support.PROBABILITY, self.name: Support.SIMPLEX}

    def _posterior(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        after = statistics.flip(-1).cumsum(-1).flip(-1) - statistics
        return 1.0 + statistics[..., :-1], self.concentration + after[..., :-1]

    def possible(self, statistics: Tensor) -> Tensor:
        """Counts are not negative."""
        return nonnegative(statistics)

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Σ_k log B(a_k, b_k) − log B(1, α)."""
        a, b = self._posterior(statistics)
        one = torch.ones((), dtype=a.dtype, device=a.device)

        def log_beta(a: Tensor, b: Tensor) -> Tensor:
            return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)

        return (log_beta(a, b) - log_beta(one, self.concentration * one)).sum(-1)

    def expected_natural(self, statistics: Tensor) -> Tensor:
        """E[log π_k] = E[log v_k] + Σ_{j<k} E[log(1 − v_j)]."""
        a, b = self._posterior(statistics)
        both = torch.digamma(a + b)
        return self._log_weight(torch.digamma(a) - both, torch.digamma(b) - both)

    def _log_weight(self, log_v: Tensor, log_rest: Tensor) -> Tensor:
        none = torch.zeros_like(log_v[..., :1])
        return torch.cat([log_v, none], -1) + torch.cat([none, log_rest.cumsum(-1)], -1)

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """`NAME_stick` (K − 1), and the weights that follow from them."""
        a, b = self._posterior(statistics)
        v = site(f"{self.name}_stick", dist.Beta(a, b, validate_args=False))
        return {f"{self.name}_stick": v, self.name: self._weight(v)}

    def _weight(self, v: Tensor) -> Tensor:
        v = v.clamp(torch.finfo(torch.float64).tiny, 1 - 1e-16)
        return self._log_weight(v.log(), torch.log1p(-v)).exp()

    def natural(self, theta: Theta) -> Tensor:
        """Log π from the sticks."""
        v = theta[f"{self.name}_stick"].clamp(torch.finfo(torch.float64).tiny, 1 - 1e-16)
        return self._log_weight(v.log(), torch.log1p(-v))
