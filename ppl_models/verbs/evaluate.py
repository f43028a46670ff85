"""How good predictions are on rows whose target is known."""

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Unpack

from ppl_models.annotations import count
from ppl_models.capabilities import Conditional, OfSequences, Regresses
from ppl_models.data import Later
from ppl_models.errors import DataError
from ppl_models.verbs.base import Needs, verb

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ppl_models.record import Record

TINY = 1e-300
"""What a probability is taken for at least, in its logarithm."""

MOST = 20
"""Classes up to which pairs that never occurred are in the confusion matrix."""


class Known(NamedTuple):
    """Rows whose target is known and was predicted.

    Attributes:
        labels: of the C classes.
        y: (n,) classes.
        p: (n, C) their probabilities given the predictors.
        weight: (n,) how many rows each is; ones without weights.
        predicted: (n,) the classes that `predict` gives.
    """

    labels: tuple[str, ...]
    y: "np.ndarray"
    p: "np.ndarray"
    weight: "np.ndarray"
    predicted: "np.ndarray"


@verb("ppl evaluate latest test.csv", needs=(Conditional, Regresses))
def evaluate(
    fit: "Record",
    data: Any = None,
    *,
    threshold: Annotated[
        float | None,
        "Probability from which the second class is predicted; 0.5 if not given.",
        Needs((Conditional,)),
    ] = None,
    bins: Annotated[int, "Bins of the calibration table, of equal width."] = 10,
    **reading: Unpack[Later],
) -> "pd.DataFrame":
    """How good predictions are where the target is known: accuracy, log loss, calibration and more.

    Of probabilities p_nc = p(y_n = c | x_n), averaged over the posterior, and averages over rows (weighted,
    of data with weights):

        accuracy           share of rows whose predicted class is theirs
        log_loss           −log p(y_n | x_n), nats
        brier              (p_n2 − y_n)² of two classes, Σ_c (p_nc − [y_n = c])² of more
        auc                of two classes, P(p of a row of the second > p of one of the first) + half of ties
        calibration_error  Σ_bins share of rows · |observed share − mean probability|

    and of a target that is a number, with F_n the distribution of a new observation,

        rmse, mae          root mean square, and mean, of y_n − E[y_n | x_n]
        log_loss           −log p(y_n | x_n), nats, in the target's units
        crps               ∫ (F_n(y) − [y ≥ y_n])² dy, in the target's units
        coverage_50, _90   share of rows inside of equal-tailed intervals of new observations
        calibration        of each bin of F_n(y_n) the upper end as `probability`, the share below as `value`

    (Gneiting & Raftery 2007, JASA 102; Brier 1950, Monthly Weather Review 78; Hanley & McNeil 1982, Radiology
    143; Naeini, Cooper & Hauskrecht 2015, Obtaining well calibrated probabilities using Bayesian binning,
    AAAI 29.) On the rows of the fit,
    without data, they flatter.

    Args:
        fit: the fit.
        data: rows with their target; those of the fit if None.
        threshold: for two classes, the probability of the second from which it is predicted.
        bins: of the calibration table.
        **reading: options of `ppl_models.data.read`.

    Returns:
        By figure: `value`, its `standard_error` where it is a mean over rows, and the `rows` it is of. Then
        the tables in the same form. `confusion`, a row for each `class` and `predicted` class: the number of
        `rows`, and their share of the class as `value`. `calibration`, a row for each bin that is not empty,
        of the probability of the second class, or of the predicted one of several: its mean as `probability`,
        the share of rows that were of that class as `value`. `not_evaluated`: rows without a target or
        prediction. Of a target of whole sequences, as of a hidden Markov model's, rows are sequences.

    Raises:
        DataError: no row has its target, or none can be predicted.
        UsageError: an option cannot be meant.
    """
    import pandas as pd

    count("bins", bins)
    if isinstance(fit.bound, Conditional):
        known, rows = known_rows(fit, data, threshold, reading)
        used = len(known.y)
        table = pd.DataFrame([*_figures(known, bins), *_confusion(known), *_calibration(known, bins)])
    else:
        found, used, rows = _numbers(fit, data, bins, reading)
        table = pd.DataFrame(found)
    if rows > used:
        left = {"figure": "not_evaluated", "value": float(rows - used), "rows": float(rows)}
        table = pd.concat([table, pd.DataFrame([left])], ignore_index=True)
    order = ["figure", "class", "predicted", "probability", "rows", "value", "standard_error"]
    return table.reindex(columns=order).set_index("figure")


def known_rows(fit: "Record", data: Any, threshold: float | None, reading: Any) -> tuple[Known, int]:
    """The rows that can be evaluated, and how many there are in all.

    Args:
        fit: whose predictions.
        data: rows with their target; those of the fit if None.
        threshold: for two classes, the probability of the second from which it is predicted.
        reading: options of `ppl_models.data.read`.
    """
    import numpy as np
    import torch

    from ppl_models.later import later
    from ppl_models.tables import seeded, some_draws
    from ppl_models.verbs.predict import ASSIGN, check_threshold, classes_of

    dataset, bound = later(fit, data, reading), fit.bound
    labels = bound.labels()
    check_threshold(threshold, labels)
    target = dataset.schema.target or ""
    y = dataset.column(target)
    if np.isnan(y).all():
        raise DataError(f"{dataset.source}: no row has its target {target!r}, to compare predictions with")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, None, 11))
        p = bound.predictive(bound.rows(dataset, fit.settings.device), some_draws(fit, dataset, *ASSIGN))
    use = ~np.isnan(y) & ~np.isnan(p[:, 0])
    weight = np.ones(len(y)) if dataset.weight is None else dataset.weight
    if isinstance(bound, OfSequences):  # each counts once, however long
        y = np.repeat(bound.label_of_sequences(dataset), dataset.lengths)
        weight = np.zeros(len(y))
        weight[dataset.offsets[:-1]] = 1.0
        use = ~np.isnan(y)
    use &= weight > 0
    rows = int((weight > 0).sum())
    if not use.any():
        raise DataError(f"{dataset.source}: no row has both its target {target!r} and every predictor")
    p = p[use]
    return Known(labels, y[use].astype(int), p, weight[use], classes_of(p, threshold)), rows


def _numbers(fit: "Record", data: Any, bins: int, reading: Any) -> tuple[list[dict[str, Any]], int, int]:
    """Figures of a target that is a number; the rows that they are of, and how many there are in all."""
    import numpy as np
    import torch

    from ppl_models.later import later
    from ppl_models.tables import seeded, some_draws
    from ppl_models.verbs.predict import SPREAD

    dataset, bound = later(fit, data, reading), fit.bound
    target = dataset.schema.target or ""
    y = dataset.column(target)
    if np.isnan(y).all():
        raise DataError(f"{dataset.source}: no row has its target {target!r}, to compare predictions with")
    weight = np.ones(len(y)) if dataset.weight is None else dataset.weight
    index, columns = [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, None, 11))
        rows = bound.rows(dataset, fit.settings.device)
        for part in bound.predicted(rows, some_draws(fit, dataset, *SPREAD)):
            own = torch.from_numpy(y[part.index])
            known = own.isnan().logical_not()
            value = own.nan_to_num(0.0)
            drawn = part.new.sample().double().sort(0).values
            S = len(drawn)
            order = (2 * torch.arange(1, S + 1, dtype=drawn.dtype) - S - 1)[:, None]
            crps = (drawn - value).abs().mean(0) - (order * drawn).sum(0) / S**2
            log_p = part.new.log_prob(value).double().logsumexp(0) - np.log(S)
            below = part.new.cdf(value).double().mean(0)
            if part.discrete:  # anywhere in the step, which makes it uniform
                before = part.new.cdf(value - 1).double().mean(0)
                below = before + torch.rand_like(below) * (below - before)
            mean = part.new.mean.double().mean(0)
            index.append(part.index[known.numpy()])
            columns.append(torch.stack([mean, log_p, crps, below])[:, known].numpy())
    at = np.concatenate(index) if index else np.zeros(0, int)
    use = weight[at] > 0
    at, total = at[use], int((weight > 0).sum())
    if not len(at):
        raise DataError(f"{dataset.source}: no row has both its target {target!r} and every predictor")
    mean, log_p, crps, below = np.concatenate(columns, 1)[:, use]
    w, off = weight[at], y[at] - mean
    square = _mean("rmse", off**2, w)
    root = float(np.sqrt(square["value"]))
    square |= {"value": root, "standard_error": square["standard_error"] / max(2 * root, TINY)}
    found = [square, _mean("mae", np.abs(off), w), _mean("log_loss", -log_p, w), _mean("crps", crps, w)]
    for level in (50, 90):
        inside = np.abs(below - 0.5) <= level / 200
        found.append(_mean(f"coverage_{level}", inside.astype(float), w))
    for k in range(1, bins):
        row = _mean("calibration", (below <= k / bins).astype(float), w)
        found.append(row | {"probability": k / bins})
    return found, len(at), total


def _mean(figure: str, x: "np.ndarray", weight: "np.ndarray") -> dict[str, Any]:
    """A mean over rows, with its standard error."""
    import numpy as np

    total = weight.sum()
    mean = float(weight @ x / total)
    error = float(np.sqrt(weight @ (x - mean) ** 2) / total)
    return {"figure": figure, "rows": float(total), "value": mean, "standard_error": error}


def _figures(known: Known, bins: int) -> list[dict[str, Any]]:
    import numpy as np

    labels, y, p, w, predicted = known
    own = p[np.arange(len(y)), y]
    square = ((p - np.eye(len(labels))[y]) ** 2).sum(1)
    found = [
        _mean("accuracy", (predicted == y).astype(float), w),
        _mean("log_loss", -np.log(np.maximum(own, TINY)), w),
        _mean("brier", square / 2 if len(labels) == 2 else square, w),
    ]
    if len(labels) == 2 and len(np.unique(y)) == 2:
        found.append({"figure": "auc", "rows": float(w.sum()), "value": auc(p[:, 1], y == 1, w)})
    table = _calibration(known, bins)
    error = sum(each["rows"] * abs(each["value"] - each["probability"]) for each in table) / w.sum()
    found.append({"figure": "calibration_error", "rows": float(w.sum()), "value": float(error)})
    return found


def auc(score: "np.ndarray", positive: "np.ndarray", weight: "np.ndarray") -> float:
    """P(score of a positive row > score of a negative one), half of ties: by the weight below each value.

    Args:
        score: (n,).
        positive: (n,) bool, both of them there.
        weight: (n,).

    Example:
        >>> import numpy as np
        >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]), np.ones(4))
        0.875
    """
    import numpy as np

    values, which = np.unique(score, return_inverse=True)
    negative = np.bincount(which, weight * ~positive, len(values))
    below = np.cumsum(negative) - negative / 2
    w = weight * positive
    return float(w @ below[which] / (w.sum() * negative.sum()))


def _confusion(known: Known) -> list[dict[str, Any]]:
    """The pairs of classes: all where there are few classes, else those that occurred."""
    import numpy as np

    C = len(known.labels)
    pairs = np.bincount(known.y * C + known.predicted, known.weight, C * C).reshape(C, C)
    of_class = pairs.sum(1)
    return [
        {
            "figure": "confusion", "class": known.labels[a], "predicted": known.labels[b],
            "rows": float(pairs[a, b]), "value": float(pairs[a, b] / of_class[a]) if of_class[a] else np.nan,
        }
        for a in range(C)
        for b in range(C)
        if C <= MOST or pairs[a, b]
    ]  # fmt: skip


def _calibration(known: Known, bins: int) -> list[dict[str, Any]]:
    """Observed shares by bins of the probability of the second class, or of the predicted one of several."""
    import numpy as np

    labels, y, p, w, _ = known
    if len(labels) == 2:
        name, given, right = labels[1], p[:, 1], (y == 1).astype(float)
    else:
        best = p.argmax(1)
        name, given, right = "the predicted", p[np.arange(len(y)), best], (best == y).astype(float)
    at = np.minimum((given * bins).astype(int), bins - 1)
    found = []
    for each in np.unique(at):
        own = at == each
        row = _mean("calibration", right[own], w[own])
        found.append(row | {"class": name, "probability": float(w[own] @ given[own] / w[own].sum())})
    return found
