"""Slope and offset of log odds, learned on rows that were not used.

    p(1 | x) = E_q[σ(a g(f) + b)],   g of `hinge.log_odds`

(Platt 1999, Probabilistic outputs for support vector machines, Advances in Large Margin Classifiers). Some
folds of the rows are each left out of a fit with the kernel as it is; a and b are those of the largest
likelihood of what was left out, with log a ~ N(0, 1) and b ~ N(0, 1).
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.regression.newton import fit_glm
from ppl_models.regression.quadrature import gauss_hermite
from ppl_models.regression.responses.hinge import OneAgainstRest, log_odds
from ppl_models.regression.rows import Batch

FOLDS, LARGE = 3, 6_000
"""Folds of small data; of more than so many rows one split, with this many at most on each side."""


@dataclass(frozen=True, eq=False)
class Slope:
    """a and b of each output, (K,), and the log loss of held-out rows in nats.

    Attributes:
        slope: a.
        offset: b.
        before: log loss with a = 1 and b = 0.
        after: with a and b.
        base: by the shares of the classes.
    """

    slope: Tensor
    offset: Tensor
    before: float = float("nan")
    after: float = float("nan")
    base: float = float("nan")

    @classmethod
    def none(cls, outputs: int) -> Self:
        """The log odds as they are."""
        return cls(torch.ones(outputs).double(), torch.zeros(outputs).double())

    @classmethod
    def of(cls, stored: Tensor) -> Self:
        """From `stored`."""
        return cls(stored[0], stored[1], *stored[2:5, 0].tolist())

    @property
    def stored(self) -> Tensor:
        """(5, K): slope, offset and the three losses."""
        losses = torch.tensor([self.before, self.after, self.base], dtype=torch.float64)
        return torch.cat([self.slope[None], self.offset[None], losses[:, None].expand(3, len(self.slope))])

    def probabilities(self, f: Tensor) -> Tensor:
        """(..., C) of f (..., K)."""
        p = torch.sigmoid(self.slope * log_odds(f) + self.offset)
        if p.shape[-1] == 1:
            return torch.cat([1 - p, p], -1)
        return p / p.sum(-1, keepdim=True).clamp_min(1e-300)


def learn_slope(bound, data: Dataset, seed: int) -> Slope:
    """Slope and offset of a machine whose kernel was learned.

    Args:
        bound: the machine.
        data: the rows of the fit.
        seed: of the folds.
    """
    batch: Batch = bound.dataset_batch(data)
    order = np.random.default_rng(seed).permutation(len(batch))
    if len(batch) > LARGE:
        half = min(LARGE, len(batch) // 2)
        folds = [(order[:half], order[half : 2 * half])]
    else:
        parts = np.array_split(order, FOLDS)
        folds = [(np.concatenate([p for j, p in enumerate(parts) if j != i]), parts[i]) for i in range(FOLDS)]
    response: OneAgainstRest = bound.response
    nodes, weights = (torch.tensor(v, dtype=torch.float64) for v in gauss_hermite(15))
    values, codes, counts = [], [], []
    for inside, outside in folds:
        fit_to, test = (replace(batch, index=np.sort(batch.index[i]), _kept={}) for i in (inside, outside))
        rows, outputs = test.whole(), []
        for part in response.parts:
            found = fit_glm(bound.glm.at(part, bound.glm.prior), fit_to, 60, 1e-4)
            mean, root = rows.Z @ found.loc, rows.Z @ found.scale_tril
            outputs.append(mean + nodes[:, None] * (root**2).sum(1).sqrt())
        values.append(torch.stack(outputs, -1))  # (Q, m, K)
        codes.append(rows.y)
        counts.append(rows.weight)
    f, y, w = torch.cat(values, 1), torch.cat(codes), torch.cat(counts)
    odds = log_odds(f)
    signs = torch.stack([part.sign(y) for part in response.parts], -1)

    def loss(free: Tensor) -> Tensor:
        a, b = free[0].exp(), free[1]
        p = torch.einsum("q,qmk->mk", weights, torch.sigmoid(signs * (a * odds + b)))
        return -(w @ p.clamp_min(1e-12).log()).sum() + 0.5 * (free**2).sum()

    free = torch.zeros(2, response.outputs, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        search = torch.optim.LBFGS([free], max_iter=60, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            search.zero_grad()
            value = loss(free)
            value.backward()
            return value

        search.step(closure)
    best = free.detach()

    def held_out(slope: Slope) -> float:
        p = torch.einsum("q,qmc->mc", weights, slope.probabilities(f))
        return -float(w @ p[torch.arange(len(y)), y].clamp_min(1e-12).log() / w.sum())

    share = torch.bincount(y, w, response.classes) / w.sum()
    base = -float((share * share.clamp_min(1e-12).log()).sum())
    found = Slope(best[0].exp(), best[1])
    return replace(found, before=held_out(Slope.none(response.outputs)), after=held_out(found), base=base)
