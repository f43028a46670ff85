"""Ordered levels 0 … C − 1: P(y ≤ k) = F(c_k − f), F the logistic (logit) or normal (probit) distribution.

The intercept of f stands for the first cutpoint, c_0 = 0, and ψ (C − 2) for the logarithms of the gaps
between the others, each N(0, 1) (McCullagh 1980, Regression models for ordinal data, JRSS B 42,
https://doi.org/10.1111/j.2517-6161.1980.tb01109.x).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ppl_models.regression.responses.response import NumberResponse

_FAR = 1e3
"""A cutpoint that stands for infinity."""


@dataclass(frozen=True, eq=False)
class Ordinal(NumberResponse):
    """Ordered levels, by their codes."""

    name: ClassVar[str] = "ordinal"
    work: ClassVar[float] = 5.0
    links: ClassVar[tuple[str, ...]] = ("logit", "probit")
    hyper: ClassVar[tuple[str, ...]] = ("cutpoint",)
    discrete: ClassVar[bool] = True

    @classmethod
    def of(cls, link: str, y: Tensor, levels: int = 0) -> Self:
        """Cutpoints at the shares of the levels."""
        cuts = _inverse(link, _shares(y, torch.ones_like(y), levels).cumsum(0)[:-1])
        return cls(link, (cuts[1:] - cuts[:-1]).clamp_min(1e-2).log())

    def log_prior(self, psi: Tensor) -> Tensor:
        """Logarithms of gaps are N(0, 1)."""
        return -0.5 * (psi**2 + 1.8378770664093453).sum(1)

    def cutpoints(self, psi: tuple[Tensor, ...] | Tensor) -> Tensor:
        """c_0 … c_{C−2} along a first dimension, (C − 1, ...)."""
        gaps = [p.exp() for p in psi]
        like = gaps[0] if gaps else torch.zeros((), dtype=torch.float64)
        cuts = [torch.zeros_like(like)]
        for gap in gaps:
            cuts.append(cuts[-1] + gap)
        return torch.stack(cuts)

    def user(self, psi: Tensor) -> Mapping[str, Tensor]:
        """Cutpoints (S, C − 1), the first 0, which the intercept stands for."""
        return {"cutpoint": self.cutpoints(psi.unbind(1)).mT if psi.shape[1] else psi.new_zeros(len(psi), 1)}

    def density(self, f: Tensor, y: Tensor, psi: tuple[Tensor, ...], trials: Tensor | None) -> Tensor:
        """Log of the difference of two distribution functions."""
        cuts = self.cutpoints(psi)
        ends = torch.cat([torch.full_like(cuts[:1], -_FAR), cuts, torch.full_like(cuts[:1], _FAR)])
        code = y.to(torch.int64)
        if ends.dim() == 1:
            low, high = ends[code], ends[code + 1]
        else:  # (C + 1, S, 1): one set of cutpoints a draw
            table = ends.movedim(0, -1).squeeze(-2)  # (S, C + 1)
            at = code.expand(f.shape)
            low, high = table.gather(1, at), table.gather(1, at + 1)
        return _log_between(self.link, low - f, high - f)

    def probabilities(self, f: Tensor, psi: Tensor) -> Tensor:
        """P(y = c), (S, m, C), for f (S, m) and ψ (S, q)."""
        levels = torch.arange(psi.shape[1] + 2).to(f)
        return torch.stack([self.log_prob(f[..., None], c, psi).exp() for c in levels], -1)

    def mean(self, f: Tensor, psi: Tensor) -> Tensor:
        """The mean of the codes."""
        p = self.probabilities(f, psi)
        return p @ torch.arange(p.shape[-1]).to(p)

    def sample(self, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """Codes."""
        p = self.probabilities(f, psi)
        return torch.multinomial(p.flatten(0, 1), 1).reshape(f.shape).to(f)

    def cdf(self, y: Tensor, f: Tensor, psi: Tensor, trials: Tensor | None = None) -> Tensor:
        """Of the codes."""
        p = self.probabilities(f, psi).cumsum(-1)
        code = y.floor().expand_as(f).to(torch.int64)
        found = p.gather(-1, code.clamp(0, p.shape[-1] - 1)[..., None])[..., 0]
        return torch.where(code < 0, 0.0, found)

    def start(self, y: Tensor, weight: Tensor, trials: Tensor | None = None) -> Tensor:
        """The intercept at which the first level has its share."""
        share = _shares(y, weight, self.parameters + 2)
        return -_inverse(self.link, share[:1])


def _shares(y: Tensor, weight: Tensor, levels: int) -> Tensor:
    count = 0.5 + torch.bincount(y.to(torch.int64), weight, levels)
    return count / count.sum()


def _inverse(link: str, p: Tensor) -> Tensor:
    p = p.to(torch.float64)
    return torch.logit(p) if link == "logit" else torch.special.ndtri(p)


def _log_between(link: str, low: Tensor, high: Tensor) -> Tensor:
    """log(F(high) − F(low)), from the side on which both are small."""
    flip = low + high > 0
    a, b = torch.where(flip, -high, low), torch.where(flip, -low, high)
    if link == "logit":
        upper, lower = logsigmoid(b), logsigmoid(a)
    else:
        upper, lower = torch.special.log_ndtr(b), torch.special.log_ndtr(a)
    return upper + torch.log1p(-(lower - upper).clamp_max(-1e-12).exp())
