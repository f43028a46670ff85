"""How surprising rows or sequences are to a fit, and how rarely that happens: what `anomalies` asks of it."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ppl_models.annotations import count
from ppl_models.capabilities import Conditional, Criticises, Regresses, Samples, Scores, Sequences, Tails
from ppl_models.errors import DataError, Unsupported, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from ppl_models.data import Dataset
    from ppl_models.record import Record

MIXED, DRAWN = 50_000, 2_000
"""New rows that tails are found by, of models that know their tails by cheap ones, and of others."""

SPREAD = 50_000, 200
"""Draws × rows that the distribution of a number is averaged over, about, and the least draws."""


class Judged(NamedTuple):
    """How surprising units (rows or sequences) are.

    Attributes:
        surprise: (n,) the larger, the more surprising; NaN where nothing can be said.
        tail: (n,) how probable it is under the model to be no less surprising; None where it cannot say.
    """

    surprise: "np.ndarray"
    tail: "np.ndarray | None"


def judged(fit: "Record", data: "Dataset", draws: int | None, seed: int, units: bool) -> Judged:
    """Rows, or sequences: their surprise, and the model's own tail probabilities.

    Args:
        fit: the fit.
        data: the rows.
        draws: new rows that tails are found by; by the model if None.
        seed: of the draws of latents.
        units: whether sequences are judged, and not rows.
    """
    import numpy as np

    surprise = _surprise(fit, data, seed)
    tail = _tail(fit, data, surprise, draws, seed)
    if tail is not None:
        blank = np.isnan(data.values).all(1)
        surprise, tail = (np.where(blank, np.nan, each) for each in (surprise, tail))
    if not units:
        return Judged(surprise, tail)
    from scipy.stats import chi2

    assert tail is not None
    first, known = data.offsets[:-1], ~np.isnan(tail)
    fisher = -2 * np.add.reduceat(np.log(np.where(known, tail, 1.0)), first)
    steps = np.add.reduceat(known.astype(int), first)
    total = np.add.reduceat(np.nan_to_num(surprise), first)
    nothing = steps == 0
    return Judged(
        np.where(nothing, np.nan, total),
        np.where(nothing, np.nan, chi2.sf(fisher, 2 * np.maximum(steps, 1))),
    )


def _surprise(fit: "Record", data: "Dataset", seed: int) -> "np.ndarray":
    """−log p of each row, by what the model has of it."""
    from ppl_models.tables import some_draws
    from ppl_models.verbs.score import log_scores

    bound = fit.bound
    if not isinstance(bound, Scores | Conditional | Regresses):
        rows = bound.rows(data, fit.settings.device)
        return -bound.criticise(rows, some_draws(fit, data, 100_000_000, 10))
    found = log_scores(fit, data, None, seed)
    density = found.get("log_density", found.get("log_probability"))
    assert density is not None
    if len(density) != data.rows:
        raise Unsupported(f"{fit.name} has one density for all rows, of which none stands out by itself")
    return -density


def _tail(
    fit: "Record", data: "Dataset", surprise: "np.ndarray", draws: int | None, seed: int
) -> "np.ndarray | None":
    """P(as surprising, or more) of each row under the model; None where it cannot say."""
    import numpy as np

    bound: Any = fit.bound
    if isinstance(bound, Tails):
        return bound.tails(data, fit.draws, count("draws", MIXED if draws is None else draws))
    number = count("draws", DRAWN if draws is None else draws)
    if isinstance(bound, Samples) and isinstance(bound, Scores | Criticises) and fit.bound.exchangeable:
        return _simulated(fit, data, surprise, number, seed)
    if isinstance(bound, Scores):
        return None
    if isinstance(bound, Conditional):
        return _of_labels(fit, data)
    found = np.full(data.rows, np.nan)
    for at, value, new in new_numbers(fit, data):
        below, under = new.new.cdf(value).double().mean(0).numpy(), 0.0
        if new.discrete:
            under = new.new.cdf(value - 1).double().mean(0).numpy()
            found[at] = np.minimum(1.0, 2 * np.minimum(below, 1 - under))
        else:
            found[at] = 2 * np.minimum(below, 1 - below)
    found[np.isnan(surprise)] = np.nan
    return found


def _simulated(
    fit: "Record", data: "Dataset", surprise: "np.ndarray", number: int, seed: int
) -> "np.ndarray":
    """The share of new rows of the model that are as surprising, among rows that lack the same cells."""
    import numpy as np

    from ppl_models import conformal

    bound, found = fit.bound, np.full(data.rows, np.nan)
    patterns, owner = np.unique(np.isnan(data.values), axis=0, return_inverse=True)
    owner = owner.ravel()
    number = max(200, number // len(patterns))
    drawn = bound.sample(number, fit.draws, None).values
    for k, pattern in enumerate(patterns):
        cells = np.where(pattern, np.nan, drawn)
        new = replace(
            data, values=np.ascontiguousarray(cells), lengths=np.array([number]), sequence_ids=("",),
            times=None, weight=None, index=None, kept=None,
        )  # fmt: skip
        rows = owner == k
        found[rows] = (1 + conformal.above(surprise[rows], _surprise(fit, new, seed))) / (number + 1)
    return found


def _of_labels(fit: "Record", data: "Dataset") -> "np.ndarray":
    """Σ_c p_c [p_c ≤ p_y] of each row: how probable a label is that is no more probable than its own."""
    import numpy as np

    p, y = class_probabilities(fit, data), data.column(str(data.schema.target))
    known = ~np.isnan(y) & ~np.isnan(p[:, 0])
    own = np.where(known, p[np.arange(len(p)), np.nan_to_num(y).astype(int)], np.nan)
    tail = np.where(p <= own[:, None] * (1 + 1e-9), p, 0.0).sum(1)
    return np.where(known, np.minimum(tail, 1.0), np.nan)


def class_probabilities(fit: "Record", data: "Dataset") -> "np.ndarray":
    """Probabilities of the classes, (n, C)."""
    from ppl_models.tables import some_draws
    from ppl_models.verbs.predict import ASSIGN

    return fit.bound.predictive(fit.bound.rows(data, fit.settings.device), some_draws(fit, data, *ASSIGN))


def new_numbers(fit: "Record", data: "Dataset") -> "Iterator[tuple[np.ndarray, Any, Any]]":
    """Positions of rows, their targets, and the distributions of new ones."""
    import numpy as np
    import torch

    from ppl_models.tables import some_draws

    y = np.array(data.column(str(data.schema.target)))
    rows = fit.bound.rows(data, fit.settings.device)
    for part in fit.bound.predicted(rows, some_draws(fit, data, *SPREAD)):
        yield part.index, torch.from_numpy(y[part.index]).nan_to_num(0.0), part


def p_values(
    fit: "Record", data: "Dataset", found: Judged, calibration: Any, folds: int, draws: int | None,
    seed: int, units: bool, own: bool,
) -> "tuple[np.ndarray, str]":  # fmt: skip
    """P-values, and what they rest on.

    Args:
        fit: the fit.
        data: the rows.
        found: what it says of them.
        calibration: rows that it has not seen and that are normal, or None.
        folds: of the rows of the fit, which calibrate in turn; 0 for none.
        draws: as in `judged`.
        seed: as in `judged`.
        units: as in `judged`.
        own: whether the rows are those of the fit.
    """
    import numpy as np

    from ppl_models import conformal
    from ppl_models.later import later

    if calibration is not None:
        normal = later(fit, calibration, {})
        if normal.rows < 1:
            raise DataError(f"{normal.source}: no rows to calibrate with")
        normal_ones = judged(fit, normal, draws, seed, units)
        p = conformal.p_values([(_score(fit, found), _score(fit, normal_ones))])
        m, what = len(normal_ones.surprise), "sequences" if units else "rows"
        said = f"p-values are conformal, by {m} {what} of {normal.source}, none below {1 / (m + 1):.2g}"
        return p, f"{said}: they hold if normal {what} are exchangeable with these" + (
            ""
            if units or not isinstance(fit.bound, Sequences)
            else ", which steps of a series are nearly at best"
        )
    if folds:
        return _by_folds(fit, data, folds, draws, seed, units, own)
    if found.tail is None:
        return np.full(data.rows, np.nan), (
            f"{fit.name} does not know how rare its rows are: for p-values give --calibration, normal rows "
            "that it has not seen"
        )
    said = "p-values are the model's own, and hold where it does"
    return found.tail, f"{said}; --calibration and --folds give conformal ones, which hold for any model"


def _score(fit: "Record", found: Judged) -> "np.ndarray":
    """What conformal p-values compare: the surprise of rows, or how far out the model has those of chains."""
    import numpy as np

    if found.tail is None or not isinstance(fit.bound, Sequences):
        return found.surprise
    return -np.log(found.tail)


def _by_folds(
    fit: "Record", data: "Dataset", folds: int, draws: int | None, seed: int, units: bool, own: bool
) -> "tuple[np.ndarray, str]":
    """Each row of the fit is scored by a fit that has not seen its fold."""
    import numpy as np

    from ppl_models import conformal
    from ppl_models.engine import fitted

    whole = fit.data
    if fit.absent is not None:
        raise UsageError(f"{fit.path} was saved without the rows of the fit (--slim), which folds need")
    number = len(whole.lengths) if units else whole.rows
    if folds > number:
        raise UsageError(f"folds must be at most {number}, got {folds}")
    fold = np.random.default_rng(seed).permutation(np.arange(number) % folds)
    parts, p = [], np.full(number, np.nan)
    for k in range(folds):
        out = fold == k
        rows = np.repeat(out, whole.lengths) if units else out
        part = fitted(fit.model, whole.subset(~rows), fit.settings)
        held = _score(part, judged(part, whole.subset(rows), draws, seed, units))
        if own:
            p[out] = conformal.ranks(held)
        else:
            parts.append((_score(part, judged(part, data, draws, seed, units)), held))
    what = "sequences" if units else "rows"
    if own:
        return (
            p,
            f"p-values are the ranks of {what} among others of their fold: as many are small as anywhere",
        )
    said = f"p-values are cross-conformal, by the {number} {what} of the fit in {folds} folds"
    return conformal.p_values(
        parts
    ), f"{said}: they hold, nearly, if normal {what} are exchangeable with these"
