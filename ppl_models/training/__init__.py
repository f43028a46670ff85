"""Training: how each kind of model gets from data to what it learned, through one loop."""

from ppl_models.data import Dataset
from ppl_models.kinds import KINDS
from ppl_models.models.bound import Bound
from ppl_models.training.loop import (
    FROM_START,
    Course,
    Progress,
    Restarts,
    Settings,
    Status,
    Trained,
    resolve_device,
)

__all__ = ["Course", "Progress", "Restarts", "Settings", "Status", "Trained", "resolve_device", "train"]


def train(bound: Bound, data: Dataset, settings: Settings, course: Course = FROM_START) -> Trained:
    """Train a model that has been bound to the columns of the data."""
    return KINDS[bound.kind].part("training").train(bound, data, settings, course)
