"""Calibration of user-defined models: the guide that was trained, its draws moved where weights fail."""

import torch

from ppl_models.data import Dataset
from ppl_models.inference.calibration import Calibrated, Learned, number_of_draws, restored_guide, weigh
from ppl_models.models.program.moving import movable, moved
from ppl_models.models.program.program import Program


def calibrate(bound: Program, learned: Learned, data: Dataset, seed: int) -> Calibrated:
    """As it was trained, unless weights will not do and the data is small.

    Args:
        bound: the model.
        learned: the guide that training left.
        data: the rows of the fit.
        seed: of the fit; torch's global generator is left as it was.

    Returns:
        `Gaussian` or `guide` as it was trained, or `moved`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 3)
        good = weigh(bound, bound.density, learned, number_of_draws(bound, data), seed).good
        gaussian = "precision" in learned.params  # another guide was asked for: its draws stay its own
        parts = moved(bound, learned.params) if gaussian and not good and movable(bound) else {}
    method = "moved" if parts else "Gaussian" if gaussian else "guide"
    return restored_guide(bound, method, learned.params, parts)
