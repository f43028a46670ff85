"""Posteriors by Markov chains that owe nothing to a guide: where they begin, how long they are, how they mix.

Chains begin apart, so that R-hat sees where they do not come together: several modes, or a long way.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_models.inference.gaussian import LogDensity
from ppl_models.inference.nuts import nuts

CHAINS, WARMUP, DRAWS = 4, 1_000, 1_000
"""Chains, iterations that they adapt in, and draws of each after that."""

PARAMETERS, NUMBERS = 300, 50_000
"""Parameters, and numbers of one evaluation of the density, at most: an hour or so."""

Parts = dict[str, Tensor]


class Mixing(NamedTuple):
    """How well chains mix, number by number, (n,) each.

    Attributes:
        r_hat: rank-normalised and split (Vehtari et al. 2021, Bayesian Analysis 16).
        ess: effective draws in the bulk, or in the tails if these are fewer.
    """

    r_hat: np.ndarray
    ess: np.ndarray


def too_large(parameters: int, numbers: int) -> str:
    """Why chains would take too long, as the end of a sentence; "" if they would not."""
    if parameters > PARAMETERS:
        return f"has {parameters:,} parameters, and chains are for {PARAMETERS} at most"
    if numbers > NUMBERS:
        return f"has {numbers:,} numbers to evaluate its density by, and chains are for {NUMBERS:,} at most"
    return ""


def sampled(
    log_density: LogDensity, points: Tensor, seed: int, back: Callable[[Tensor], Tensor] = lambda u: u
) -> Parts:
    """Draws of a density by NUTS, as `ppl_models.inference.calibration.restored_guide` takes them.

    Args:
        log_density: of points (C, d) values and gradients.
        points: where chains may begin, (≥ C, d): the first that have a density are taken.
        seed: of the chains; torch's global generator is left as it was.
        back: from the coordinates of the density to those of the model.

    Returns:
        `points` (C · T, d), chain after chain; `chains`, `divergent` and `deepest`, one number each.
    """
    value, _ = log_density(points)
    there = points[torch.isfinite(value)]
    start = there[torch.arange(CHAINS) % max(len(there), 1)] if len(there) else points[:CHAINS]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 3)
        found = nuts(log_density, start, draws=DRAWS, warmup=WARMUP)
    return {
        "points": back(found.points.flatten(0, 1)),
        "chains": torch.tensor([float(CHAINS)]),
        "divergent": found.divergent.sum().reshape(1).double(),
        "deepest": found.deepest.sum().reshape(1).double(),
    }


def mixing_of(draws: np.ndarray) -> Mixing:
    """R-hat and effective draws of chains.

    Args:
        draws: (C, T, n).
    """
    from warnings import catch_warnings, simplefilter

    with catch_warnings():
        simplefilter("ignore")
        import arviz as az

        each = [draws[..., i] for i in range(draws.shape[-1])]
        r_hat = [float(az.rhat(x)) for x in each]
        ess = [min(float(az.ess(x)), float(az.ess(x, method="tail"))) for x in each]
    constant = np.ptp(draws, axis=(0, 1)) == 0
    return Mixing(np.where(constant, 1.0, r_hat), np.where(constant, draws[..., 0].size, ess))
