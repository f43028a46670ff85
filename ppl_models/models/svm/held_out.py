"""Slope and offset of log odds, learned on what is said of each row by all others.

    p(1 | x) = E_q[σ(a g(f) + b)],   g of `hinge.log_odds`

(Platt 1999, Probabilistic outputs for support vector machines, Advances in Large Margin Classifiers). With
the site of row n taken out, q₋ₙ(f_n) is N(m₋, v₋), 1/v₋ = 1/v − λ_n and m₋ = v₋ (m/v − r_n), where λ and
r − λ m are its expected curvature and gradient (Opper & Winther 2000, Gaussian processes for
classification: mean-field
algorithms, Neural Computation 12, https://doi.org/10.1162/089976600300014881): nothing is fitted again. The
kernel stays as all rows have it. a and b are those of the largest likelihood, with log a and b ~ N(0, 1),
where a row of a class of n is so by (n + 1)/(n + 2), as Platt has it: of n rows that are all as expected the
next need not be.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.regression.bound import Regression
from ppl_models.regression.design import Block
from ppl_models.regression.forms import Blocks
from ppl_models.regression.quadrature import gauss_hermite
from ppl_models.regression.responses.hinge import OneAgainstRest, log_odds

ROWS = 6_000
"""Rows at most that are left out in turn."""

NEAREST = 0.05
"""1/v₋ over 1/v at least: of a row that all but decides f where it is, the others say little."""


@dataclass(frozen=True, eq=False)
class Slope:
    """a and b of each output, (K,), and the log loss of rows left out in turn, in nats.

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


def left_out(response: OneAgainstRest, form: Blocks, rows: Block) -> tuple[Tensor, Tensor]:
    """Mean and variance of f of each row by all others, (m, K) each.

    Args:
        response: the hinges.
        form: the posterior of all rows.
        rows: some of these, with the weights of the fit.
    """
    assert rows.weight is not None
    found = []
    for part, own in zip(response.parts, form.parts, strict=True):
        m = rows.Z @ own.loc
        v = ((rows.Z @ own.scale_tril) ** 2).sum(1).clamp_min(1e-12)
        terms = part.row_terms(rows.y, m[:, None], v[:, None, None])
        curvature = terms.curvature[:, 0, 0]
        variance = 1 / torch.maximum(1 / v - rows.weight * curvature, NEAREST / v)
        pull = terms.gradient[:, 0] + curvature * m
        found.append((variance * (m / v - rows.weight * pull), variance))
    means, variances = zip(*found, strict=True)
    return torch.stack(means, 1), torch.stack(variances, 1)


def learn_slope(bound: Regression, form: Blocks, data: Dataset) -> Slope:
    """Slope and offset of a machine that was fitted.

    Args:
        bound: the machine.
        form: its posterior.
        data: the rows of the fit.
    """
    batch = bound.dataset_batch(data)
    if len(batch) > ROWS:
        batch = replace(batch.some(ROWS), scale=1.0)
    response, rows = bound.response, batch.whole()
    assert isinstance(response, OneAgainstRest)
    assert rows.weight is not None
    nodes, weights = (torch.tensor(v, dtype=torch.float64) for v in gauss_hermite(15))
    mean, variance = left_out(response, form, rows)
    f, y, w = mean + nodes[:, None, None] * variance.sqrt(), rows.y, rows.weight
    odds = log_odds(f)
    signs = torch.stack([part.sign(y) for part in response.parts], -1)

    number = torch.where(signs > 0, w @ (signs > 0).double(), w @ (signs < 0).double())  # of its side
    share = (number + 1) / (number + 2)

    def loss(free: Tensor) -> Tensor:
        a, b = free[0].exp(), free[1]
        p = torch.einsum("q,qmk->mk", weights, torch.sigmoid(signs * (a * odds + b))).clamp(1e-12, 1 - 1e-12)
        return -(w @ (share * p.log() + (1 - share) * (1 - p).log())).sum() + 0.5 * (free**2).sum()

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
