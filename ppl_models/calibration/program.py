"""Calibration of models of one's own: the guide that was trained, its draws moved where weights fail."""

import torch

from ppl_models.calibration.base import Calibrated, number_of_draws, restored, weigh
from ppl_models.data import Dataset
from ppl_models.models.bound import Learned
from ppl_models.programs.bound import Program
from ppl_models.programs.moving import movable, moved

__all__ = ["calibrate", "restored"]


def calibrate(learned: Learned, data: Dataset, device: str, seed: int) -> Calibrated:
    """As it was trained, unless weights will not do and the data is small."""
    bound = learned.bound
    assert isinstance(bound, Program)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 3)
        good = weigh(bound, bound.density, learned, number_of_draws(bound, data), seed).good
        parts = {} if good or not movable(bound) else moved(bound, learned.params)
    method = "moved" if parts else "Gaussian" if "precision" in learned.params else "guide"
    return restored(bound, method, learned.params, parts)
