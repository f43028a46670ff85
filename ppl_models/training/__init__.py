"""Training: how each kind of model gets from data to what it learned, through one loop."""

from functools import singledispatch

from ppl_models.data import Dataset
from ppl_models.errors import Unsupported
from ppl_models.models.bound import Bound
from ppl_models.models.joint import Joint
from ppl_models.regression.bound import Regression
from ppl_models.training.latent import train_latent
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
from ppl_models.training.regression import train_regression

__all__ = ["Course", "Progress", "Restarts", "Settings", "Status", "Trained", "resolve_device", "train"]


@singledispatch
def train(bound: Bound, data: Dataset, settings: Settings, course: Course = FROM_START) -> Trained:
    """Train a model that has been bound to the columns of the data."""
    raise Unsupported(f"{type(bound).__name__} has no update rule")


train.register(Joint)(train_latent)
train.register(Regression)(train_regression)
