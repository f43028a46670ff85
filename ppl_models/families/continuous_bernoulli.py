"""Intensities in an interval, by a decoder: the continuous Bernoulli.

    p(u) = exp(o u − A(o)) on [0, 1],  A(o) = log((e^o − 1)/o)

It is the density for intensities whose cross-entropy has no normaliser (Loaiza-Ganem & Cunningham 2019, The
continuous Bernoulli: fixing a pervasive error in variational autoencoders, NeurIPS,
https://arxiv.org/abs/1907.06845); their C(λ) e^{log λ …} is exp(o u − A(o)) for λ = sigmoid(o).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ppl_models.data.schema import Column, Kind
from ppl_models.families.family import Family, Network
from ppl_models.families.likelihood import Likelihood
from ppl_models.families.unit import two_valued, unit_intervals
from ppl_models.importing import lazy

if TYPE_CHECKING:
    import pyro.distributions as dist
    import torch
    from torch import Tensor
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")

STEEPEST = 20.0
"""|o| at most, of a continuous Bernoulli: a pixel that is always black would have an infinite density."""


class ContinuousBernoulliLikelihood(Likelihood):
    """exp(o u − A(o)) on [0, 1], with o between −20 and 20."""

    def __init__(self, columns: Sequence[Column], image: bool) -> None:
        ends = unit_intervals(columns, image)
        shift, scale = [lo for lo, _ in ends], [hi - lo for lo, hi in ends]
        super().__init__("continuous_bernoulli", shift, scale, dense=True)
        self._constant("limits", torch.tensor(ends, dtype=torch.float64))

    def log_prob(self, out: Tensor, u: Tensor) -> Tensor:
        """O u − A(o)."""
        out = out.clamp(-STEEPEST, STEEPEST)
        return u * out - log_normaliser(out)

    def expect(self, out: Tensor) -> Tensor:
        """A′(o) = 1/2 + (coth(o/2) − 2/o)/2."""
        t = out.double().clamp(-STEEPEST, STEEPEST) / 2
        small = t.abs() < 0.02
        safe = torch.where(small, torch.ones_like(t), t)
        return self.back(0.5 + torch.where(small, t / 6, (1 / safe.tanh() - 1 / safe) / 2))

    def sample(self, out: Tensor) -> Tensor:
        """The inverse of F(u) = (e^{ou} − 1)/(e^o − 1), from its steep end."""
        o = out.double().clamp(-STEEPEST, STEEPEST)
        a = -o.abs()
        p = torch.rand_like(a)
        small = a > -1e-5
        safe = torch.where(small, torch.full_like(a, -1.0), a)
        u = torch.where(small, p, torch.log1p(p * torch.expm1(safe)) / safe).clamp(0.0, 1.0)
        return self.back(torch.where(o > 0, 1 - u, u))

    def distribution(self, out: Tensor) -> Any:
        """On the interval of the column."""
        from pyro.distributions.transforms import AffineTransform

        inner = dist.ContinuousBernoulli(logits=out.double().clamp(-STEEPEST, STEEPEST), validate_args=False)
        return dist.TransformedDistribution(
            inner, AffineTransform(self.shift, self.scale), validate_args=False
        )


def log_normaliser(out: Tensor) -> Tensor:
    """A(o) = log((e^o − 1)/o) = o/2 + log(sinh(t)/t), t = o/2, in any floating type, for any o.

    By its series near 0, where the quotient is 0/0, and without overflow far from it.
    """
    t = out.abs() / 2
    small = t < 0.3
    s = torch.where(small, t, torch.zeros_like(t)) ** 2
    far = torch.where(small, torch.ones_like(t), t)
    series = s / 6 - s**2 / 180 + s**3 / 2835
    return out / 2 + torch.where(small, series, far + torch.log(-torch.expm1(-2 * far) / (2 * far)))


CONTINUOUS_BERNOULLI = Family(
    "continuous_bernoulli",
    network=Network(
        density="exp(o u − A(o)) on [0, 1], o from −20 to 20 (Loaiza-Ganem & Cunningham 2019)",
        kinds=(Kind.CONTINUOUS, Kind.COUNT),
        build=ContinuousBernoulliLikelihood,
        pixels=lambda columns: not all(map(two_valued, columns)),
    ),
)
