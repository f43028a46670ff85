"""Fits that were not trained: for tests of what comes after training."""

from ppl_models.api import Fit
from ppl_models.data import Dataset
from ppl_models.inference.calibration import Calibrated, Learned
from ppl_models.inference.loop import Status, Trained
from ppl_models.model import Model


def by_hand(model: Model, data: Dataset, params, elbo: float = 0.0, **rest) -> Fit:
    """A fit with given parameters."""
    trained = Trained(params, elbo, Status.CONVERGED, 1, 0.0, (), None, **rest)
    settings = type(model).settings(device="cpu")
    return Fit(model, data, trained, settings, model.bind(data.schema).prepare(data))


def uncalibrated(fit: Fit) -> Fit:
    """The fit with the guide that training left, where nothing hangs on the widths of the posterior."""
    fit.__dict__["calibrated"] = Calibrated("mean field", Learned(fit.bound, fit.params))
    return fit
