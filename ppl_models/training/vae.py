"""Training of variational autoencoders: the gradient rule on mini-batches, stopped by held-out rows."""

import torch

from ppl_models.data import Dataset
from ppl_models.neural.bound import VAEBound
from ppl_models.training.gradient import train_gradient
from ppl_models.training.loop import FROM_START, Course, Settings, Trained


def train(bound: VAEBound, data: Dataset, settings: Settings, course: Course = FROM_START) -> Trained:
    """Train new networks."""
    target = bound.target(data, seed=settings.seed, device=settings.device)
    if settings.compile:
        target.loss = torch.compile(target.loss)
    return train_gradient(target, settings, course)
