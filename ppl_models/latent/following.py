"""How surprising rows are that follow the row before: one-step predictions of an autoregressive chain.

    p(x_t | x_{1:t−1}) = Σ_sk w_tsk f_sk(x_t | x_{t−1}),    w_tsk = p(z_t = k | x_{1:t−1}, θ_s) / S

as in `ppl_models.latent.surprise`, but that the densities f, too, differ from row to row. So new rows are
drawn for each row by itself. Nothing after a row is looked at, and nothing is assumed of missing cells: where
a row or the one before it lacks some, f is what the family has for a row that begins anew
(`ppl_models.families.autoregressive`), in the density of the row and in that of new ones alike. Cells are
those of Gaussians: with r = x − E[x], Λ the precision and Σ its inverse

    log p(x_j | x_−j) = ½ log Λ_jj/2π − ½ (Λ r)_j²/Λ_jj,    x_j ~ N(E[x_j], Σ_jj)

under one state and draw; over all of them they are averaged as in `ppl_models.latent.surprise`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Explained
from ppl_models.data import Dataset
from ppl_models.draws import Draws, number_of
from ppl_models.families.autoregressive import AutoregressiveGaussian
from ppl_models.families.base import Emission
from ppl_models.latent.surprise import LOW, NUMBERS, log_densities, mixture, raised

if TYPE_CHECKING:
    from ppl_models.inference.factors import Theta
    from ppl_models.latent.joint import Joint

COARSE = 200
"""Draws of new rows that a row is first compared with."""

HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))


def inside(joint: "Joint", data: Dataset) -> Tensor:
    """Rows with the cells of the row before in further columns, (n, C + L)."""
    return torch.as_tensor(joint.inside.dataset(data).values)


def tails(joint: "Joint", data: Dataset, draws: Draws, number: int) -> np.ndarray:
    """P(p(X_t | x_{1:t−1}) ≤ p(x_t | x_{1:t−1})) of each row, (n,), 1 where all cells are missing.

    Args:
        joint: the chain.
        data: the rows; of one with missing cells X lacks the same.
        draws: of θ, of which some are taken.
        number: draws of X, for rows in a tail; the others have `COARSE`.
    """
    theta, weight = mixture(joint, data, draws)
    rows, log_w = inside(joint, data), weight.flatten(1).log()
    own = (log_densities(joint, rows, theta) + log_w).logsumexp(1)
    own = raised(own)
    C = data.values.shape[1]
    found, there = torch.ones(len(rows), dtype=torch.float64), ~torch.isnan(rows[:, :C]).all(1)
    for points, among in ((min(COARSE, number), 1.1), (number, LOW)):
        size = max(1, NUMBERS // (points * log_w.shape[1]))
        for at in ((found < among) & there).nonzero().squeeze(-1).split(size):
            new = _new_rows(joint, theta, weight[at], rows[at], points)
            f = log_densities(joint, new.flatten(0, 1), theta).view(len(at), points, -1)
            f = (f + log_w[at, None]).logsumexp(2)
            found[at] = ((f <= own[at, None]).sum(1).double() + 1) / (points + 1)
    return found.numpy()


def _new_rows(joint: "Joint", theta: Draws, weight: Tensor, rows: Tensor, points: int) -> Tensor:
    """Draws (n, points, C + L) of p(x_t | x_{1:t−1}) in place of rows (n, C + L), lacking the same cells."""
    K = joint.states
    which = torch.multinomial(weight.flatten(1), points, replacement=True)  # (n, points)
    found = rows[:, None].repeat(1, points, 1)
    for e in joint.emissions:
        index = list(e.columns)
        local = {name: _picked(value, which, K) for name, value in theta[e.name].items()}
        before = None
        if isinstance(e, AutoregressiveGaussian):
            lag = torch.where(e.regressed(rows), rows[:, list(e.before)], torch.nan)
            before = lag[:, None].expand(-1, points, -1).flatten(0, 1)
        empty = torch.full((len(rows) * points, 1, len(index)), torch.nan, dtype=torch.float64)
        drawn = e.walk({n: v.flatten(0, 1).unsqueeze(1) for n, v in local.items()}, empty, before)
        found[..., index] = drawn.view(len(rows), points, -1)
    return torch.where(torch.isnan(rows)[:, None], torch.nan, found)


def _picked(value: Tensor, which: Tensor, states: int) -> Tensor:
    """A site (S, K or 1, …) at the draws and states s K + k of `which`."""
    draw, state = which // states, which % states
    return value[draw, torch.zeros_like(state) if value.shape[1] == 1 else state]


class Cells(NamedTuple):
    """Each cell of standardised rows under each draw and state, (n, S, K, D).

    Attributes:
        marginal: log p(x_j).
        conditional: log p(x_j | x_−j).
        centre, sd: of x_j given the others.
    """

    marginal: Tensor
    conditional: Tensor
    centre: Tensor
    sd: Tensor


def cells(e: AutoregressiveGaussian, theta: "Theta", rows: Tensor) -> Cells:
    """What the family says of each cell of rows (n, C + L)."""
    intercept, slope, covariance = e.dense(theta)  # (S, K, …)
    u, lag = ((rows[:, list(c)] - e.centre) / e.scale for c in (e.columns, e.before))
    there = e.regressed(rows)[:, None, None]
    mean = intercept + torch.einsum("nd,skdj->nskj", torch.where(there[:, 0, 0], lag, 0.0), slope)
    precision = torch.linalg.inv(covariance)
    wide, narrow = (torch.where(there, m.diagonal(dim1=-2, dim2=-1), 1.0) for m in (covariance, precision))
    mean = torch.where(there, mean, 0.0)
    off = u[:, None, None] - mean
    pull = torch.where(there, torch.einsum("nskd,skdj->nskj", off.nan_to_num(0.0), precision), off)
    units = HALF_LOG_2PI + e.scale.log()
    return Cells(
        -0.5 * (off.square() / wide + wide.log()) - units,
        -0.5 * (pull.square() / narrow - narrow.log()) - units,
        torch.where(torch.isnan(off), mean, u[:, None, None] - pull / narrow),
        narrow.rsqrt(),
    )


def explained(
    joint: "Joint", data: Dataset, index: np.ndarray, draws: Draws, number: int
) -> Iterator[Explained]:
    """What each cell of some rows says by itself, and given the others of its row and the rows before.

    Args:
        joint: the chain.
        data: all rows.
        index: positions of those to be explained.
        draws: of θ, of which some are taken.
        number: draws of each cell given the others.
    """
    theta, weight = mixture(joint, data, draws)
    rows, C = inside(joint, data), data.values.shape[1]
    size = max(1, NUMBERS // (number * rows.shape[1] * joint.states))
    for lo in range(0, len(index), size):
        at = index[lo : lo + size]
        some = torch.as_tensor(at)
        yield _explained(joint, rows[some], C, at, theta, weight[some], number)


def _explained(
    joint: "Joint", rows: Tensor, C: int, at: np.ndarray, theta: Draws, weight: Tensor, number: int
) -> Explained:
    n, S = len(rows), number_of(theta)
    log_w = weight.log()  # (n, S, K)
    f = log_densities(joint, rows, theta).view_as(log_w) + log_w
    whole = f.flatten(1).logsumexp(1)
    marginal, conditional = (torch.full((n, C), torch.nan, dtype=torch.float64) for _ in range(2))
    drawn = torch.empty(number, n, C, dtype=torch.float64)
    which = torch.arange(number) % S

    def states(others: Tensor) -> Tensor:
        """Positions s K + k of states drawn given the other cells, (n, number)."""
        K = joint.states
        given = others.softmax(2).transpose(0, 1)[which]
        state = torch.multinomial(given.flatten(0, 1), 1).view(number, n).T
        return which * K + state

    for e in joint.emissions:
        own = cells(e, theta[e.name], rows) if isinstance(e, AutoregressiveGaussian) else None
        for d, j in enumerate(e.columns):
            seen = ~torch.isnan(rows[:, j])
            if own is not None:
                others = f - torch.where(seen[:, None, None], own.conditional[..., d], 0.0)
                alone = own.marginal[..., d]
                picked = states(others)
                centre, sd = (v[..., d].flatten(1).gather(1, picked) for v in (own.centre, own.sd))
                value = e.centre[d] + e.scale[d] * (centre + sd * torch.randn_like(sd))
            else:
                others, alone = _without(joint, rows, theta, j)
                others = others.view_as(f) + log_w
                value = _cell(e, d, theta, rows, states(others), joint.states)
            conditional[:, j] = others.flatten(1).logsumexp(1) - whole
            marginal[:, j] = -(alone.reshape_as(f) + log_w).flatten(1).logsumexp(1)
            drawn[..., j] = value.T
    empty = torch.tensor(torch.nan, dtype=torch.float64)
    there = ~torch.isnan(rows[:, :C])
    return Explained(
        at,
        torch.where(there, marginal, empty).numpy(),
        torch.where(there, conditional, empty).numpy(),
        drawn.numpy(),
    )


def _without(joint: "Joint", rows: Tensor, theta: Draws, j: int) -> tuple[Tensor, Tensor]:
    """Log densities of rows without a cell, and of the cell alone, (n, S · K)."""
    others, alone = rows.clone(), torch.full_like(rows, torch.nan)
    others[:, j], alone[:, j] = torch.nan, rows[:, j]
    return log_densities(joint, others, theta), log_densities(joint, alone, theta)


def _cell(e: Emission, d: int, theta: Draws, rows: Tensor, picked: Tensor, states: int) -> Tensor:
    """Draws (n, number) of a cell of a family that does not look at the row before."""
    x = rows[:, None, list(e.columns)].repeat(1, picked.shape[1], 1)
    x[..., d] = torch.nan
    local = {name: _picked(value, picked, states) for name, value in theta[e.name].items()}
    return e.complete(local, x)[..., d]
