"""The verbs: one task a file, written once over the capabilities of `ppl_models.capabilities`.

Each is a function of a fit that gives a table; `Fit` has them as methods, and the command line as commands,
whose options are the parameters. A further verb is a further file and a line here.
"""

from collections.abc import Sequence

from ppl_models.verbs.anomalies import anomalies
from ppl_models.verbs.augment import augment
from ppl_models.verbs.backtest import backtest
from ppl_models.verbs.base import extent
from ppl_models.verbs.evaluate import evaluate
from ppl_models.verbs.forecast import forecast
from ppl_models.verbs.impute import impute
from ppl_models.verbs.predict import predict
from ppl_models.verbs.reconstruct import reconstruct
from ppl_models.verbs.sample import sample
from ppl_models.verbs.score import score
from ppl_models.verbs.summary import summary
from ppl_models.verbs.transform import transform


class Verbs:
    """The verbs as methods, in the order in which they are listed."""

    predict = predict
    score = score
    evaluate = evaluate
    sample = sample
    forecast = forecast
    impute = impute
    transform = transform
    reconstruct = reconstruct
    backtest = backtest
    anomalies = anomalies
    augment = augment
    summary = summary


VERBS = {name: verb for name, verb in vars(Verbs).items() if hasattr(verb, "needs")}
"""Name -> the function."""


def extents(bounds: Sequence[type]) -> dict[str, float]:
    """Verb -> the share of the forms in which a model may be bound that have it; `check` every model has."""
    return {name: extent(verb, bounds) for name, verb in VERBS.items()} | {"check": 1.0}
