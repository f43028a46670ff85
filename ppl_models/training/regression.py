"""Training of regressions: the Gaussian rule, or expectation propagation under a horseshoe."""

from ppl_models.data import Dataset
from ppl_models.inference.gaussian import GaussianRule
from ppl_models.regression.bound import Regression
from ppl_models.regression.fitting import fit_regression
from ppl_models.training.loop import FROM_START, Course, Log, Settings, Status, Trained, why


def train(bound: Regression, data: Dataset, settings: Settings, course: Course = FROM_START) -> Trained:
    """Fit, and say how it went in the terms of every training."""
    log = Log(bound.parameters, course.progress)
    tolerance = min(settings.tolerance, 1e-6)
    found = fit_regression(bound, data, device=settings.device, steps=settings.most(), tolerance=tolerance)
    report = log.phase("all rows")
    for step, line in enumerate(found.history, 1):
        report(step, line["elbo"], 1.0, line.get("left", 0.0))
    status = Status.CONVERGED if found.converged else Status.MAX_STEPS
    rule = "expectation propagation" if bound.model.prior == "horseshoe" else GaussianRule.name
    return Trained(
        found.params, found.elbo, status, found.steps, found.seconds, tuple(log.history), None,
        why(status, settings), rule, found.notes, found.separated,
    )  # fmt: skip
