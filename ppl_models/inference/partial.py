"""Rows of probabilities some of which are zero beforehand: a Dirichlet over those that are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ppl_models.importing import lazy
from ppl_models.inference.factors import Factor, Site, Support, Theta, nonnegative

if TYPE_CHECKING:
    import pyro.distributions as dist
    import torch
    from torch import Tensor
else:
    dist, torch = lazy("pyro.distributions"), lazy("torch")

FORBIDDEN = -1e30
"""Log probability of what cannot be, whose exponential is exactly zero."""


class PartialDirichlet(Factor):
    """Groups g of entries of an array, each with a Dirichlet of its own; the other entries are zero.

        p_g ~ Dirichlet(α_g),    p_i = w_g p_gi for an entry i of group g,  0 for one of no group

    so that η_i = log w_g + log p_gi, and with S the counts of the entries

        log Z(S) = Σ_g log B(α_g + S_g) − log B(α_g) + Σ_i S_i log w_g(i)

    A group of a single entry has the probability w_g. Counts of entries of no group must be zero.

    Args:
        name: of the array; groups of J entries are the site `NAME_J`.
        concentration: α of every entry, of the array's shape.
        group: (…) which group each entry belongs to, −1 for none.
        weight: w of each group by number; 1 of those that are not in it.
    """

    def __init__(
        self, name: str, concentration: Tensor, group: np.ndarray, weight: Mapping[int, float] | None = None
    ) -> None:
        self.name, self.group = name, group
        self.allowed = torch.as_tensor(group >= 0)
        flat, given = group.ravel(), {} if weight is None else weight
        members = [(g, np.flatnonzero(flat == g)) for g in np.unique(flat[flat >= 0])]
        self.blocks: list[tuple[Tensor, Tensor, Tensor]] = []  # entries (G, J), α (G, J), log w (G, 1)
        for size in sorted({len(index) for _, index in members}):
            own = [(g, index) for g, index in members if len(index) == size]
            index = torch.as_tensor(np.stack([index for _, index in own]))
            log_w = torch.tensor([given.get(int(g), 1.0) for g, _ in own], dtype=torch.float64).log()
            self.blocks.append((index, concentration.flatten()[index], log_w[:, None]))
        self.log_weight = torch.zeros(self.shape, dtype=torch.float64).flatten()
        for index, _, log_w in self.blocks:
            self.log_weight[index] = log_w.expand(index.shape)
        self.log_weight = self.log_weight.reshape(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """As the array's."""
        return tuple(self.group.shape)

    @property
    def free_parameters(self) -> int:
        """One entry of each group is given by the others."""
        return sum(index.shape[0] * (index.shape[1] - 1) for index, _, _ in self.blocks)

    @property
    def supports(self) -> Mapping[str, Support]:
        """Probabilities of the groups, and of the array, of which some are given."""
        return {
            self.name: Support.PROBABILITY,
            **{
                f"{self.name}_{index.shape[1]}": Support.SIMPLEX
                for index, _, _ in self.blocks
                if index.shape[1] > 1
            },
        }

    def possible(self, statistics: Tensor) -> Tensor:
        """Counts are not negative."""
        return nonnegative(statistics)

    def log_normalizer(self, statistics: Tensor) -> Tensor:
        """Log ratios of multivariate beta functions, and the counts of given weights."""
        flat = statistics.flatten(1)
        total = flat @ self.log_weight.flatten().to(flat)
        for index, alpha, _ in self.blocks:
            total = total + (_log_beta(alpha.to(flat) + flat[:, index]) - _log_beta(alpha.to(flat))).sum(-1)
        return total

    def expected_natural(self, statistics: Tensor) -> Tensor:
        """E[log p] by digamma functions, next to −∞ where nothing is allowed."""
        flat = statistics.flatten(1)
        parts = []
        for index, alpha, log_w in self.blocks:
            a = alpha.to(flat) + flat[:, index]
            parts.append(torch.digamma(a) - torch.digamma(a.sum(-1, keepdim=True)) + log_w.to(flat))
        return self._whole(parts, FORBIDDEN, statistics.shape[0])

    def sites(self, statistics: Tensor, site: Site) -> Theta:
        """A site for the groups of each size above one, then the array that follows from them."""
        flat, found, parts = statistics.flatten(1), dict[str, "Tensor"](), []
        for index, alpha, log_w in self.blocks:
            if index.shape[1] == 1:
                parts.append(log_w.to(flat).exp().expand(len(flat), *index.shape))
                continue
            name = f"{self.name}_{index.shape[1]}"
            found[name] = site(name, dist.Dirichlet(alpha.to(flat) + flat[:, index], validate_args=False))
            parts.append(found[name] * log_w.to(flat).exp())
        return found | {self.name: self._whole(parts, 0.0, max(map(len, parts)))}

    def natural(self, theta: Theta) -> Tensor:
        """Log p, with probabilities that underflowed to zero at the smallest normal number."""
        p = theta[self.name]
        log_p = p.clamp_min(torch.finfo(torch.float64).tiny).log()
        return torch.where(self.allowed.to(p.device), log_p, FORBIDDEN)

    def masked(self, statistics: Tensor) -> Tensor:
        """Counts with those of what cannot be left out."""
        return statistics * self.allowed.to(statistics)

    def _whole(self, parts: list[Tensor], rest: float, number: int) -> Tensor:
        """The array (R, …) from the values of its groups, `rest` elsewhere."""
        found = parts[0].new_full((number, self.allowed.numel()), rest)
        for (index, _, _), part in zip(self.blocks, parts, strict=True):
            at = index.flatten().to(found.device).expand(number, -1)
            found = found.scatter(1, at, part.expand(number, *part.shape[1:]).reshape(number, -1))
        return found.reshape(number, *self.shape)


def _log_beta(a: Tensor) -> Tensor:
    return torch.lgamma(a).sum(-1) - torch.lgamma(a.sum(-1))
