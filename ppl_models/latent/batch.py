"""Rows that a joint density is asked of."""

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.families.base import Emission
from ppl_models.families.full_gaussian import FullGaussian
from ppl_models.families.gaussian import DiagonalGaussian
from ppl_models.kernels.backend import Backend
from ppl_models.kernels.fused_rows import Standardised
from ppl_models.kernels.rows import Rows


@dataclass(eq=False)
class Batch:
    """Rows on a device.

    Attributes:
        values: (n, C) in the user's units, NaN where missing.
        rows: the sequences and weights.
        scale: N/B.
        base: Σ_n w_n log h(x_n): the part of the log density that no latent touches; (R,) where
            parameter sets weigh rows differently.
        backend: the E step, with what is worth keeping between its calls.
        bins: the rows at several places of the bins that their rounded cells stand for, and log h(x_n) there
            less that of `values`, (n,); none where no cell stands for a bin, or in training.
    """

    values: Tensor
    rows: Rows
    scale: float
    base: Tensor | float
    backend: Backend
    bins: list[tuple[Backend, Tensor]] = field(default_factory=list)


def all_rows(data: Dataset) -> Rows:
    """The sequences and weights of a data set."""
    return Rows(np.asarray(data.lengths, np.int64), weight=data.weight)


def standardised(emissions: tuple[Emission, ...], columns: int) -> Standardised | None:
    """The features of an only Gaussian family over all columns, which a compiled pass makes by itself."""
    only = emissions[0]
    if len(emissions) > 1 or only.columns != tuple(range(columns)):
        return None
    if isinstance(only, FullGaussian):
        return Standardised(only.centre, only.scale, pairs=True)
    return Standardised(only.centre, only.scale, pairs=False) if isinstance(only, DiagonalGaussian) else None
