"""Averages over the posterior of θ of what rows say, by as few draws as the answer needs.

Where all draws are cheap, they are all taken. On more rows there is a short cut, as much is then known of θ.
In unconstrained space (`ppl_models.inference.unconstrained`) let ū be the mean of the draws, and

    δ_i = (u_2i − u_2i+1) / √2,    m_i = (f(ū + δ_i) + f(ū − δ_i)) / 2,

pairs on either side of ū that are as wide as the posterior (antithetic variates, Hammersley & Morton 1956,
https://doi.org/10.1017/S0305004100031455). In their means the slope of f cancels, which is nearly all of the
Monte Carlo error of plain draws, and the curvature stays, which is all that E f(u) and f(ū) differ by.

Independent rows: where the spread of f about its centre, the root of its mean square over the rows, is more
than `KNOWN`, too little is known of θ for short cuts, and as many plain draws are taken as are affordable.
Else, where every |m_i − f(ū)| is at most `CLOSE`, and the row's own spread at most `WIDE`, so that two pairs
are no chance, their mean is the answer; the other rows are averaged over plain draws, as many as bring the
standard error to `ERROR` by the spread that the pairs have shown, if so many are affordable.

Chains: all rows at once, and pairs are added until the standard error of their mean, the root of its mean
square over the rows, is at most `CHAIN`, or no more are affordable.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ppl_models.draws import Draws, groups, number_of, select_draws
from ppl_models.families.full_gaussian import FullGaussian
from ppl_models.kernels.rows import Rows

if TYPE_CHECKING:
    from ppl_models.latent.joint import Batch, Joint

Of = Callable[["Batch", Draws], Tensor]
"""What rows say under each draw, (S, n, ...)."""

ALL = 8_000_000
"""Draws × `effort` up to which all draws are taken."""

PLAIN, LEAST = 40_000_000, 20
"""The same up to which fewer are, and the least of plain draws."""

PAIRS = 2
"""Pairs on either side of the centre to begin with."""

CENTRE = 1_000
"""Draws that the centre is the mean of, at most."""

KNOWN, CLOSE, WIDE, ERROR, CHAIN = 0.03, 0.005, 0.05, 0.005, 0.01
"""In probability, or nats: see above."""

PATTERN = 60
"""Complete rows that a pattern of missing cells costs as much as, where columns have a covariance."""

NUMBERS = 2**23
"""Numbers that are held at once."""


def probabilities(joint: "Joint", batch: "Batch", draws: Draws, of: Of, spare: bool) -> Tensor:
    """The mean over the draws of `of`, probabilities (S, n, C), as (n, C).

    Args:
        joint: the model.
        batch: the rows.
        draws: of θ, S of them.
        of: what is averaged.
        spare: whether the short cut may be taken.
    """
    return _averaged(joint, batch, draws, of, spare, lambda f: f.mean(0), lambda sums, S: sums / S, _add)


def log_densities(joint: "Joint", batch: "Batch", draws: Draws, of: Of, spare: bool) -> Tensor:
    """Log (1/S) Σ_s exp of `of`, log densities (S, n), as (n,); of rows that are independent given θ.

    Args:
        joint: the model.
        batch: the rows.
        draws: of θ, S of them.
        of: what is averaged.
        spare: whether the short cut may be taken.
    """

    def mean(f: Tensor) -> Tensor:
        return f.logsumexp(0) - np.log(len(f))

    return _averaged(joint, batch, draws, of, spare, mean, lambda sums, S: sums - np.log(S), _log_add)


def _add(total: Tensor | None, f: Tensor) -> Tensor:
    return f.sum(0) if total is None else total + f.sum(0)


def _log_add(total: Tensor | None, f: Tensor) -> Tensor:
    return f.logsumexp(0) if total is None else torch.logaddexp(total, f.logsumexp(0))


def _averaged(
    joint: "Joint",
    batch: "Batch",
    draws: Draws,
    of: Of,
    spare: bool,
    mean: Callable[[Tensor], Tensor],
    finish: Callable[[Tensor, int], Tensor],
    add: Callable[[Tensor | None, Tensor], Tensor],
) -> Tensor:
    """Independent rows a block at a time, others all at once."""

    def plain(rows: "Batch", some: Draws) -> Tensor:
        total: Tensor | None = None
        for at in groups(number_of(some), 2 * rows.rows.steps * joint.states, NUMBERS):
            total = add(total, of(rows, select_draws(some, at)))
        assert total is not None
        return finish(total, number_of(some)).cpu()

    S, n, each = number_of(draws), batch.rows.steps, effort(joint, batch)
    near = around(joint, draws, PAIRS) if spare and S * each > ALL else None
    if near is None:
        return plain(batch, affordable(draws, each) if spare else draws)
    if not joint.exchangeable:
        return _chain(joint, batch, draws, of, mean)
    size = max(1_024, NUMBERS // ((2 * PAIRS + 1) * joint.states))
    if n <= size:
        return _near(joint, batch, draws, of, mean, plain, near)
    parts = (_rows(joint, batch, slice(lo, lo + size)) for lo in range(0, n, size))
    return torch.cat([_near(joint, part, draws, of, mean, plain, near) for part in parts])


def _near(
    joint: "Joint",
    batch: "Batch",
    draws: Draws,
    of: Of,
    mean: Callable[[Tensor], Tensor],
    plain: Callable[["Batch", Draws], Tensor],
    near: Draws,
) -> Tensor:
    """Independent rows: by pairs about the centre where these are close to it, by plain draws elsewhere."""
    found = of(batch, near).cpu()  # (1 + 2 PAIRS, n, ...)
    centre, pairs = found[0], found[1:].unflatten(0, (PAIRS, 2))
    off = _by_row(torch.stack([(mean(pair) - centre).abs() for pair in pairs]).amax(0))
    result = mean(found[1:])
    sd = _by_row((found[1:] - centre).square().mean(0).sqrt())
    if not bool(sd.square().mean() <= KNOWN**2):
        return plain(batch, affordable(draws, effort(joint, batch)))
    far = (~((off <= CLOSE) & (sd <= WIDE))).nonzero().squeeze(-1)  # also what is not a number
    sd = sd[far]
    need = 3 * (sd / ERROR).square().nan_to_num(nan=torch.inf)  # the spread of few points is not well known
    least = 0.0
    for most in (50, 200, 800, number_of(draws)):
        index = far[(need > least) & ((need <= most) | (most == number_of(draws)))]
        if len(index):
            some = _rows(joint, batch, index)
            result[index] = plain(some, affordable(draws, effort(joint, some), most))
        least = most
    return result


def _chain(joint: "Joint", batch: "Batch", draws: Draws, of: Of, mean: Callable[[Tensor], Tensor]) -> Tensor:
    """Rows of chains: by pairs until their means agree."""
    most = int(np.clip(PLAIN // (2 * effort(joint, batch)), PAIRS, number_of(draws) // 2))
    near, found = around(joint, draws, most), []
    assert near is not None
    while True:
        for i in range(len(found), min(max(PAIRS, 2 * len(found)), most)):
            found.append(mean(of(batch, select_draws(near, slice(1 + 2 * i, 3 + 2 * i))).cpu()))
        each = torch.stack(found)
        error = _by_row(each.std(0)).square().mean().sqrt() / len(found) ** 0.5
        if len(found) == most or bool(error <= CHAIN):
            return mean(each)


def effort(joint: "Joint", batch: "Batch") -> int:
    """Rows × states that one draw costs as much as: a pattern of missing cells is an integral of its own."""
    rows = batch.rows.steps
    for e in joint.emissions:
        if isinstance(e, FullGaussian):
            missing = batch.values[:, list(e.columns)].isnan()
            rows += PATTERN * len(missing[missing.any(1)].unique(dim=0))
    return rows * joint.states


def _by_row(values: Tensor) -> Tensor:
    """The largest of each row, (n,)."""
    return values if values.dim() == 1 else values.flatten(1).amax(1)


def affordable(draws: Draws, each: int, most: int | None = None) -> Draws:
    """As many of the draws, which are in no order, as are affordable at `each` numbers; at most `most`."""
    S = min(number_of(draws), most or number_of(draws))
    return select_draws(draws, slice(0, int(np.clip(PLAIN // max(each, 1), min(LEAST, S), S))))


def around(joint: "Joint", draws: Draws, pairs: int) -> Draws | None:
    """The centre of the draws, and pairs on either side of it: 1 + 2 `pairs` draws.

    None where there are too few draws, or where some cannot be told in unconstrained space.
    """
    from ppl_models.latent.unconstrained import ExactPosterior

    if number_of(draws) < 4 * PAIRS:
        return None
    space = ExactPosterior.space_of(joint)
    try:
        u = space.point(select_draws(draws, slice(0, max(CENTRE, 2 * pairs))))
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
        return None
    centre = u.mean(0)
    delta = (u[0 : 2 * pairs : 2] - u[1 : 2 * pairs : 2]) / 2**0.5
    points = torch.stack([centre + delta, centre - delta], 1).flatten(0, 1)
    points = torch.cat([centre[None], points])
    return space.theta(points)[0] if bool(torch.isfinite(points).all()) else None


def _rows(joint: "Joint", batch: "Batch", at: slice | Tensor) -> "Batch":
    """Some rows of a batch of independent ones."""
    values = batch.values[at]
    return joint.asked(values, Rows(np.array([len(values)])), values.device, keep=False)
