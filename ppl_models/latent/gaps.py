"""Missing cells of an autoregressive chain, drawn by Gibbs sampling.

A fit takes a row that follows a gap for one that begins anew. To fill the gap that would be of no use: given
θ a missing cell is here what the chain says it is, a latent of the switching regression x_t ~ N(a_k +
x_{t−1} B_k, Σ_k), k = z_t, and its posterior given all other cells is drawn from in turn:

    z | x    the path, exactly: a chain whose densities are those of complete rows
    x | z    all missing cells between complete rows at once, exactly: filtered forward from the row before
             the gap, then drawn backward from the row after it (Carter & Kohn 1994, On Gibbs sampling for
             state space models, Biometrika 81, https://doi.org/10.1093/biomet/81.3.541)

There is no closed form: the number of Gaussians grows as K to the length of the gap. What is approximate is
that chains of draws stop after `SWEEPS` rounds, from cells on a line between their neighbours, and that θ
was learned without what the cells in gaps say.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Completed
from ppl_models.data import Dataset
from ppl_models.draws import Draws, groups, number_of, select_draws
from ppl_models.families.autoregressive import AutoregressiveGaussian

if TYPE_CHECKING:
    from ppl_models.latent.batch import Batch
    from ppl_models.latent.joint import Joint

SWEEPS = 20
"""Rounds of path and cells."""

WORK, LEAST = 100_000_000, 50
"""Rows × states × draws × sweeps × columns, about, and the least draws."""


class Regression(NamedTuple):
    """a (S, K, D), B (S, K, D, D) and Σ (S, K, D, D) of each draw and state, or of rows."""

    intercept: Tensor
    slope: Tensor
    covariance: Tensor

    def at(self, state: Tensor) -> "Regression":
        """Those of states (S, r)."""
        draw = torch.arange(len(state)).unsqueeze(-1)
        return Regression(*(value[draw, state] for value in self))


class Gaps(NamedTuple):
    """Stretches of rows that lack a cell, the longest first.

    Attributes:
        first: position of the first row of each, (R,).
        length: how many rows, (R,).
        seen: (n, D) cells that are there.
        begins: (n,) whether a row is the first of its sequence.
        ends: (n,) whether it is the last.
    """

    first: Tensor
    length: Tensor
    seen: Tensor
    begins: Tensor
    ends: Tensor

    @classmethod
    def of(cls, seen: np.ndarray, offsets: np.ndarray) -> "Gaps":
        """From the cells that are there (n, D), and where sequences begin, with the number of rows."""
        begins, lacks = np.zeros(len(seen), bool), ~seen.all(1)
        begins[offsets[:-1]] = True
        ends = np.append(begins[1:], True)
        opens = lacks & (begins | ~np.append(False, lacks[:-1]))
        closes = lacks & (ends | ~np.append(lacks[1:], False))
        first = np.flatnonzero(opens)
        length = np.flatnonzero(closes) - first + 1
        order = np.argsort(-length, kind="stable")
        parts = first[order], length[order], seen, begins, ends
        return cls(*map(torch.as_tensor, parts))


def complete(
    joint: "Joint", data: Dataset, holes: np.ndarray, number: int, draws: Draws
) -> Iterator[Completed]:
    """Rows with missing cells, drawn given all others: see `Completes.complete`.

    Args:
        joint: the chain.
        data: all rows.
        holes: positions of those that lack a cell.
        number: draws, each with a θ of its own where there are as many; fewer where the data is large.
        draws: of θ.
    """
    if not len(holes):
        return
    e = next(e for e in joint.emissions if isinstance(e, AutoregressiveGaussian))
    S, each = number_of(draws), data.rows * joint.states * len(e.columns)
    number = int(np.clip(WORK // max(each * SWEEPS, 1), min(LEAST, number), number))
    chosen = torch.randperm(S)[:number] if number <= S else torch.randint(S, (number,))
    theta, batch = select_draws(draws, chosen), joint.rows(data)
    u = (torch.as_tensor(data.values[:, list(e.columns)]) - e.centre) / e.scale
    found = Gaps.of(~np.isnan(u.numpy()), data.offsets)
    line = torch.as_tensor(_line(u.numpy(), data.offsets))
    given = torch.as_tensor(data.values[holes])
    parts = []
    for at in groups(number, each):
        some = select_draws(theta, at)
        path, x = _gibbs(joint, e, batch, some, line, found)
        rows = joint.emit(some, path[:, holes], given)
        own = given[:, list(e.columns)]
        rows[..., list(e.columns)] = torch.where(torch.isnan(own), e.centre + e.scale * x[:, holes], own)
        parts.append(rows)
    yield Completed(holes, torch.cat(parts).numpy(), {}, {})


def _line(u: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Missing cells on a line between their neighbours, beside none 0."""
    found = u.copy()
    for lo, hi in zip(offsets[:-1], offsets[1:], strict=True):
        for column in found[lo:hi].T:
            there = np.flatnonzero(~np.isnan(column))
            column[:] = np.interp(np.arange(hi - lo), there, column[there]) if len(there) else 0.0
    return found


def _gibbs(
    joint: "Joint", e: AutoregressiveGaussian, batch: "Batch", theta: Draws, line: Tensor, gaps: Gaps
) -> tuple[Tensor, Tensor]:
    """Paths (S, n) and standardised rows (S, n, D)."""
    natural, S = joint.natural(theta), number_of(theta)
    regression = Regression(*e.dense(theta[e.name]))
    n, everything = len(line), slice(0, len(line))
    beside = line.new_zeros(S, n, joint.states)
    for i, other in enumerate(joint.emissions):
        if other is not e:
            features = batch.backend.problem.features(i, everything)
            other.log_density(features, natural[other.name], beside, True)
    x = line.repeat(S, 1, 1)
    path = torch.zeros(S, n, dtype=torch.int64)
    for _ in range(SWEEPS):
        density = beside + _log_density(x, regression, gaps.begins)

        def write(at: slice, out: Tensor, density: Tensor = density) -> None:
            out.copy_(density[:, at])

        path = joint.structure.draw_paths(write, natural, batch.rows)
        x = _between(x, regression, path, gaps)
    return path, x


def _log_density(x: Tensor, of: Regression, begins: Tensor) -> Tensor:
    """Log p(x_t | z_t = k, x_{t−1}) of complete rows (S, n, D) but for a constant, (S, n, K)."""
    root = torch.linalg.cholesky(of.covariance)
    before = x.roll(1, 1)
    mean = of.intercept.unsqueeze(1) + torch.einsum("snd,skdj->snkj", before, of.slope)
    off = (x.unsqueeze(2) - mean).transpose(1, 2).mT  # (S, K, D, n)
    white = torch.linalg.solve_triangular(root, off, upper=False)
    log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    value = -0.5 * white.square().sum(-2) - log_det.unsqueeze(-1)
    return torch.where(begins[:, None], 0.0, value.mT)


def _between(x: Tensor, of: Regression, path: Tensor, gaps: Gaps) -> Tensor:
    """Rows (S, n, D) with their missing cells drawn given the path and all others."""
    kept, before = [], (x[:, :0], x[:, :0])
    for i in range(int(gaps.length.max()) if len(gaps.length) else 0):
        rows = gaps.first[gaps.length > i] + i
        own, seen = of.at(path[:, rows]), gaps.seen[rows]
        if i:
            mean, spread = (value[:, : len(rows)] for value in before)
            P = own.slope.mT @ spread @ own.slope + own.covariance
        else:
            mean, P = x[:, (rows - 1).clamp_min(0)], own.covariance
        mean = own.intercept + (mean.unsqueeze(-2) @ own.slope).squeeze(-2)
        begins = gaps.begins[rows, None]
        mean = torch.where(begins, 0.0, mean)
        P = torch.where(begins.unsqueeze(-1), torch.eye(x.shape[-1]).to(x), P)
        before = _known(mean, P, x[:, rows], seen)
        kept.append(before)
    x = x.clone()
    for i, (mean, P) in reversed([*enumerate(kept)]):
        rows = gaps.first[gaps.length > i] + i
        hidden, last = ~gaps.seen[rows], gaps.ends[rows]
        after = torch.where(last, rows, rows + 1)
        own = of.at(path[:, after])
        ahead = P @ own.slope  # covariance of this row and the next, but for the last of a sequence
        gain = torch.linalg.solve(own.slope.mT @ ahead + own.covariance, ahead.mT).mT
        off = x[:, after] - own.intercept - (mean.unsqueeze(-2) @ own.slope).squeeze(-2)
        mean = torch.where(last[:, None], mean, mean + (gain @ off.unsqueeze(-1)).squeeze(-1))
        P = torch.where(last[:, None, None], P, P - gain @ ahead.mT)
        both = (hidden.unsqueeze(-1) & hidden.unsqueeze(-2)).to(x)
        root = torch.linalg.cholesky(0.5 * (P + P.mT) * both + torch.diag_embed(1 - hidden.to(x)))
        drawn = mean + (root @ torch.randn_like(mean).unsqueeze(-1)).squeeze(-1)
        x[:, rows] = torch.where(hidden, drawn, x[:, rows])
    return x


def _known(mean: Tensor, P: Tensor, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of rows given those of their cells that are there."""
    own = seen.to(x)
    inner = P * own.unsqueeze(-1) * own.unsqueeze(-2) + torch.diag_embed(1 - own)
    gain = torch.linalg.solve(inner, P * own.unsqueeze(-1)).mT  # columns of cells that are not there are 0
    off = torch.where(seen, x - mean, 0.0)
    mean = mean + (gain @ off.unsqueeze(-1)).squeeze(-1)
    return torch.where(seen, x, mean), P - gain @ (P * own.unsqueeze(-1))
