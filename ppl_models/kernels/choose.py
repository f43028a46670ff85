"""Which backend serves a batch: the one place where that is decided.

The rules are those of docs/adr/0018-one-backend.md, with the measurements that they come from.
"""

from collections.abc import Sequence

from torch import Tensor

from ppl_models.kernels.backend import CACHE, Backend, Emission, Problem, missing_in, width
from ppl_models.kernels.fused_rows import FusedRows, Standardised
from ppl_models.kernels.generic import Generic
from ppl_models.kernels.latents import Latents
from ppl_models.kernels.rows import Rows

ROWS = 32
"""Independent rows from which the compiled pass is used. Up to some hundred rows it takes as long as the
generic way, half a millisecond, a fifth more or less; with a thousand half of it."""

CHAIN = 2_048
"""Rows of sequences from which blocks are used. They take about half the time from 256 rows on, but below
this bound a step takes about a millisecond either way: not worth compiling a second set of kernels."""


def choose(
    emissions: Sequence[Emission],
    latents: Latents,
    values: Tensor,
    rows: Rows,
    keep: bool = True,
    standardised: Standardised | None = None,
) -> Backend:
    """The fastest backend that can serve these rows.

    Args:
        emissions: the families.
        latents: how the rows' latents depend on one another.
        values: (n, C), NaN where missing.
        rows: the sequences and weights.
        keep: whether the batch is asked more than once, so that features are worth keeping.
        standardised: the features of the only emission, where a compiled pass can make them.
    """
    n = values.shape[0]
    small = 8 * width(emissions) * n <= CACHE
    compiled = values.device.type == "cpu" and n >= (ROWS if latents.exchangeable else CHAIN)
    if compiled and not latents.exchangeable:
        # Blocks know no weights, nor sequences that are entered in the middle: mini-batches have both. And
        # what is asked once is not worth laying out.
        compiled = keep and latents.blocks and rows.weight is None and rows.entered is None
    if compiled and all(linear(e, values) for e in emissions):
        if latents.exchangeable:
            return FusedRows(Problem(emissions, latents, values, rows, keep and small), standardised)
        from ppl_models.kernels.blocked_chain import BlockedChain  # with Numba, which takes half a second

        return BlockedChain(Problem(emissions, latents, values, rows, keep=False), keep=small)
    return Generic(Problem(emissions, latents, values, rows, keep and small))


def linear(emission: Emission, values: Tensor) -> bool:
    """Whether the emission's log density is linear in features of these rows.

    A family says `linear_density = False` if it never is, `masks_cells = False` if gaps spoil it.
    """
    return emission.linear_density and (emission.masks_cells or not missing_in(emission, values))
