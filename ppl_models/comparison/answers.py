"""What a fit says of rows that it was not fitted to."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ppl_models.capabilities import Conditional, Regresses, Scores
from ppl_models.comparison.folds import filled
from ppl_models.data import Dataset
from ppl_models.errors import Unsupported

if TYPE_CHECKING:
    from ppl_models.record import Record


@dataclass(frozen=True)
class Answer:
    """Predictions of n rows; each is None where the model has none of its kind.

    Attributes:
        p: (n, C) probabilities of the classes.
        mean: (n,) E[y_n | x_n] of a number.
        log_p: (n,) its log density, NaN where there is only a point.
        crps: (n,) its continuous ranked probability score; of a point the absolute error.
        log_density: (n,) log p of all columns of the row, of a joint model.
    """

    p: np.ndarray | None = None
    mean: np.ndarray | None = None
    log_p: np.ndarray | None = None
    crps: np.ndarray | None = None
    log_density: np.ndarray | None = None


def answer(fit: "Record", test: Dataset, density: bool = True) -> Answer:
    """The predictive distributions of a fit, averaged over its posterior.

    Rows that it cannot predict for want of a predictor are asked for once more with the cells filled in by
    means and most frequent levels of the training rows: what somebody does who has only this model.

    Args:
        fit: the fit.
        test: rows with the columns of the fit, and the target to be compared with.
        density: whether the density of all columns is wanted.
    """
    bound = fit.bound
    found = Answer()
    if test.schema.target is not None and isinstance(bound, Conditional):
        p = _classes(fit, test)
        holes = np.isnan(p[:, 0])
        if holes.any():
            p[holes] = _classes(fit, filled(test, fit.data))[holes]
        C = p.shape[1]
        found = replace(found, p=np.where(np.isnan(p), 1 / C, p))
    elif test.schema.target is not None and isinstance(bound, Regresses):
        x = _numbers(fit, test)
        holes = np.isnan(x[0])
        if holes.any():
            x[:, holes] = _numbers(fit, filled(test, fit.data))[:, holes]
        found = replace(found, mean=x[0], log_p=x[1], crps=x[2])
    if density and isinstance(bound, Scores):
        from ppl_models.verbs.score import score

        try:
            table = score(fit, test)
        except Unsupported:
            return found
        if len(table) == test.rows:
            found = replace(found, log_density=table["log_density"].to_numpy(float))
    return found


def _classes(fit: "Record", test: Dataset) -> np.ndarray:
    """p(y_n = c | x_n), (n, C)."""
    import torch

    from ppl_models.tables import seeded, some_draws
    from ppl_models.threads import threads_for
    from ppl_models.verbs.predict import ASSIGN

    bound = fit.bound
    with torch.random.fork_rng(devices=[]), threads_for(bound.numbers(test)):
        torch.manual_seed(seeded(fit, None, 11))
        p = bound.predictive(bound.rows(test, fit.settings.device), some_draws(fit, test, *ASSIGN))
    return np.array(p, float)


def _numbers(fit: "Record", test: Dataset) -> np.ndarray:
    """Mean, log density and CRPS of each row's target, (3, n).

    The CRPS is E|Y − y| − E|Y − Y'| / 2 over draws Y of the predictive distribution.
    """
    import torch

    from ppl_models.tables import seeded, some_draws
    from ppl_models.verbs.predict import SPREAD

    bound = cast(Any, fit.bound)
    y = np.array(test.column(str(test.schema.target)), float)
    found = np.full((3, test.rows), np.nan)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, None, 11))
        for part in bound.predicted(bound.rows(test, fit.settings.device), some_draws(fit, test, *SPREAD)):
            own = torch.from_numpy(y[part.index])
            value = torch.where(own.isnan(), part.new.mean.double().mean(0), own)
            drawn = part.new.sample().double().sort(0).values  # (S, m)
            S = len(drawn)
            order = (2 * torch.arange(1, S + 1, dtype=drawn.dtype) - S - 1)[:, None]
            crps = (drawn - value).abs().mean(0) - (order * drawn).sum(0) / S**2
            log_p = part.new.log_prob(value).double().logsumexp(0) - np.log(S)
            found[:, part.index] = torch.stack([part.new.mean.double().mean(0), log_p, crps]).numpy()
    return found
