"""How surprising rows and cells are to a joint density, given the rows before them.

Under draws θ_s of the parameters the next row is a mixture over draws and states, with weights w and
densities f that do not depend on the rows before other than by w:

    p(x_t | x_{1:t−1}) = Σ_sk w_tsk f_sk(x_t),    w_tsk = p(z_t = k | x_{1:t−1}, θ_s) / S

In a mixture w_tsk = π_sk / S for all rows. What follows from it is exact but for the draws:

    of a row     P(p(X) ≤ p(x_t)), X from the same mixture: the mass of what is no more probable than the row
    of a cell    log p(x_j | x_−j) = log Σ w f(x) − log Σ w f(x_−j), and log p(x_j) = log Σ w f(x_j)

with f(x_−j) the density of the other cells, x_j being integrated out. The first is found by draws of X, the
same for all rows, weighed anew for each: Σ_sk w_tsk (share of the draws of f_sk that are no more probable).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Explained
from ppl_models.data import Dataset
from ppl_models.draws import Draws, groups, number_of, select_draws
from ppl_models.kernels.rows import Rows

if TYPE_CHECKING:
    from ppl_models.latent.joint import Joint

DRAWS = 8
"""Draws of θ that the mixture is over, at most."""

COARSE, LOW = 4_000, 0.02
"""Draws of new rows that all rows are first compared with; those in less of a tail with all draws."""

NUMBERS = 2**22
"""Numbers held at once."""

SAME = 1e-9
"""Log densities so far apart, relative to one, are the same: of labels and counts many are."""


class Mixture(NamedTuple):
    """The predictive mixture of each row.

    Attributes:
        theta: S draws.
        weight: (n, S, K), or (1, S, K) where all rows have the same.
    """

    theta: Draws
    weight: Tensor


def mixture(joint: "Joint", data: Dataset, draws: Draws) -> Mixture:
    """The predictive mixture of each row of a data set given the rows before it."""
    theta = select_draws(draws, slice(0, min(DRAWS, number_of(draws))))
    S, K = number_of(theta), joint.states
    own = joint.structure_theta(theta)
    if joint.exchangeable:
        return Mixture(theta, own["weight"].reshape(1, S, K) / S)
    batch, natural = joint.dataset_batch(data), joint.natural(theta)
    parts = []
    for at in groups(S, data.rows * K):
        some = {name: value[at] for name, value in natural.items()}
        filtered = joint.structure.marginals(joint.density(batch, some), some, batch.rows).filtered
        site = {name: value[at] for name, value in own.items()}
        parts.append(joint.structure.entered(filtered, site, batch.rows))
    return Mixture(theta, torch.cat(parts).transpose(0, 1) / S)


def log_densities(joint: "Joint", values: Tensor, theta: Draws) -> Tensor:
    """Log f_sk(x_n) of rows (n, C), NaN where missing, (n, S · K)."""
    n, S, K = len(values), number_of(theta), joint.states
    natural = joint.natural(theta)
    out = values.new_empty(n, S, K)
    size = max(1, NUMBERS // (S * K))
    for lo in range(0, n, size):
        part = values[lo : lo + size]
        batch = joint.batch(part, Rows(np.array([len(part)])), keep=False)
        found = values.new_empty(S, len(part), K)
        joint.density(batch, natural)(slice(0, len(part)), found)
        out[lo : lo + size] = (found + joint.log_base(part)[:, None]).transpose(0, 1)
    return out.flatten(1)


def tails(joint: "Joint", data: Dataset, draws: Draws, number: int) -> np.ndarray:
    """P(p(X_t | x_{1:t−1}) ≤ p(x_t | x_{1:t−1})) of each row, (n,), at least 1 / (number + 1).

    Args:
        joint: the model.
        data: the rows; of one with missing cells X lacks the same.
        draws: of θ, of which some are taken.
        number: draws of X, about, by torch's global generator; each counts by its weight.
    """
    found = np.ones(data.rows)
    theta, weight = mixture(joint, data, draws)
    values = torch.as_tensor(data.values)
    missing = torch.isnan(values)
    patterns, owner = missing.unique(dim=0, return_inverse=True)
    for points, among in ((COARSE, 1.1), (number, LOW)):
        each = max(1, points // (number_of(theta) * joint.states))
        drawn = _new_rows(joint, theta, each)
        for p, pattern in enumerate(patterns):
            rows = (owner == p).nonzero().squeeze(-1)
            rows = rows[torch.as_tensor(found[rows.numpy()] < among)]
            if len(rows) and not bool(pattern.all()):
                cells = torch.where(pattern, torch.nan, drawn)
                f_new, f = (log_densities(joint, x, theta) for x in (cells, values[rows]))
                w = weight.flatten(1)[rows] if len(weight) > 1 else weight.flatten(1)
                found[rows.numpy()] = _share_below(f, f_new, w, each).numpy()
    return found


def _new_rows(joint: "Joint", theta: Draws, each: int) -> Tensor:
    """Draws of every f_sk, (S · K · each, C), in the order of s, k."""
    state = torch.arange(joint.states).repeat_interleave(each).expand(number_of(theta), -1)
    return joint.emit(theta, state).flatten(0, 1)


def raised(own: Tensor) -> Tensor:
    """Log densities by as much as rounding may have taken from them; −∞ stays."""
    return torch.where(own.isneginf(), own, own + SAME * (1 + own.abs()))


def _share_below(f: Tensor, f_new: Tensor, weight: Tensor, each: int) -> Tensor:
    """The mass of new rows that are no more probable than each row, with one more that is the row itself.

    Args:
        f: (n, SK) log densities of the rows.
        f_new: (P, SK) those of P = SK · each new ones, sorted by what they were drawn from.
        weight: (n, SK), or (1, SK) for all rows.
        each: draws from each of the SK.
    """
    P = len(f_new)
    top = f_new.amax(1)
    scaled = (f_new - top[:, None]).exp()
    log_w = weight.log()
    own = (f + log_w).logsumexp(1)
    own = raised(own)
    if len(weight) == 1:  # the same for all rows: sorted once
        log_new, order = ((scaled @ weight[0]).log() + top).sort()
        mass = torch.cat([weight.new_zeros(1), (weight[0].repeat_interleave(each) / each)[order].cumsum(0)])
        below = mass[torch.searchsorted(log_new, own, right=True)]
    else:
        below = torch.empty_like(own)
        size = max(1, NUMBERS // P)
        for lo in range(0, len(f), size):
            w = weight[lo : lo + size]
            no_more = (w @ scaled.T).log() + top <= own[lo : lo + size, None]
            share = no_more.view(len(w), -1, each).to(w).mean(2)
            below[lo : lo + size] = (share * w).sum(1)
    return (P * below.clamp(0.0, 1.0) + 1) / (P + 1)


def explained(
    joint: "Joint", data: Dataset, index: np.ndarray, draws: Draws, number: int
) -> Iterator[Explained]:
    """What each cell of some rows says by itself, and given the others of its row and the rows before.

    Args:
        joint: the model.
        data: all rows.
        index: positions of those to be explained.
        draws: of θ, of which some are taken.
        number: draws of each cell given the others.
    """
    theta, weight = mixture(joint, data, draws)
    C = data.values.shape[1]
    size = max(1, NUMBERS // (number * C))
    for lo in range(0, len(index), size):
        at = index[lo : lo + size]
        w = weight[torch.as_tensor(at)] if len(weight) > 1 else weight
        yield _explained(joint, torch.as_tensor(data.values[at]), at, Mixture(theta, w), number)


def _explained(joint: "Joint", x: Tensor, at: np.ndarray, of: Mixture, number: int) -> Explained:
    n, C = x.shape
    theta, weight = of
    S, K = number_of(theta), joint.states
    log_w = weight.flatten(1).log()
    whole = (log_densities(joint, x, theta) + log_w).logsumexp(1)
    marginal, conditional = (torch.full((n, C), torch.nan, dtype=torch.float64) for _ in range(2))
    drawn = torch.empty(number, n, C, dtype=torch.float64)
    which = torch.arange(number) % S
    many = select_draws(theta, which)
    for j in range(C):
        others, alone = x.clone(), torch.full_like(x, torch.nan)
        others[:, j], alone[:, j] = torch.nan, x[:, j]
        f = log_densities(joint, others, theta) + log_w
        conditional[:, j] = f.logsumexp(1) - whole
        marginal[:, j] = -(log_densities(joint, alone, theta) + log_w).logsumexp(1)
        each = f.view(n, S, K)
        possible = each.amax(2, keepdim=True).isfinite()  # else the other cells are of no state
        each = torch.where(possible, each, log_w.view(-1, S, K))
        given = each.transpose(0, 1).softmax(2)[which]  # (number, n, K)
        state = torch.multinomial(given.flatten(0, 1), 1).view(number, n)
        drawn[..., j] = joint.emit(many, state, others)[..., j]
    seen = ~torch.isnan(x)
    empty = torch.tensor(torch.nan, dtype=torch.float64)
    return Explained(
        at,
        torch.where(seen, marginal, empty).numpy(),
        torch.where(seen, conditional, empty).numpy(),
        drawn.numpy(),
    )
