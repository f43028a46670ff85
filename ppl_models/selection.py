"""select(): the same model with several values of a field, by evidence or by how well it predicts."""

from collections.abc import Mapping
from dataclasses import fields, replace
from math import log
from typing import Any, Literal

import numpy as np
import torch

from ppl_models.capabilities import Selectable
from ppl_models.comparison.compare import compare
from ppl_models.comparison.entries import Own
from ppl_models.data import Dataset
from ppl_models.data.excerpt import excerpt
from ppl_models.engine import fitted, read_for, settings_for
from ppl_models.errors import Unsupported, UsageError
from ppl_models.forming import formed
from ppl_models.inference.loop import Course, Progress, Status
from ppl_models.inference.psis import smooth
from ppl_models.model import Model
from ppl_models.record import Record
from ppl_models.threads import threads_for

HELD_OUT = 0.2
"""Share of the rows, or of the sequences, that are held out."""

DRAWS, ROWS = 400, 2_000
"""Draws of θ and rows that the predictive figures are made of, at most."""


def select(
    model: Model,
    data: Any,
    values: Mapping[str, Any],
    settings: Mapping[str, Any],
    reading: Mapping[str, Any],
    progress: Progress | None = None,
    by: Literal["evidence", "held_out"] | None = None,
    folds: int = 5,
) -> Record:
    """Fit a model for each value of one field, and keep the best.

    By evidence, of models that have one (mixtures and chains), the one with the highest is kept; by held-out
    rows, of any model, the one with the lowest loss in `compare`, fitted to all rows.

    Side by side, in `candidates`, of evidence:

    - `evidence`: the ELBO, with log K! added for the K! orders of the states, all equally good, of which
      the guide covers one (Bishop 2006, PRML, §10.2.4), where the density does not tell them apart. It
      decides. A model with states that no row is in is only chosen where all have some: it says no more
      than the smaller one.
    - `held_out` ± `held_out_se`: mean log density of rows (of sequences, a step) that a second fit did not
      see, where there are rows that are independent of one another.
    - `loo` ± `loo_se`: the same of every row given all others, by PSIS (Vehtari, Gelman & Gabry 2017,
      Statistics and Computing 27), where rows are independent.

    and of held-out rows: the loss (`log_loss`; `crps`; `negative_log_density` without a target) and its
    `difference` to the best, each ± its corrected standard error in `_se`, `against_best`, and other figures.

    Args:
        model: the other fields.
        data: as for `fit`; read once.
        values: the field and its values, `{"states": range(1, 7)}`.
        settings: how to train, by name.
        reading: options of `ppl_models.data.read`.
        progress: called after every step.
        by: `evidence` where the model has one, else `held_out`, if None.
        folds: parts of the rows, by held-out rows.

    Raises:
        UsageError: there is nothing to select from, or the model has no evidence.
    """
    ((name, tried),) = values.items()
    tried = list(tried)
    if not tried:
        raise UsageError(f"no values of {name} to select from")
    if not hasattr(model, name):
        raise UsageError(f"{model.name} has no field {name!r} to select")
    evident = all(issubclass(bound, Selectable) for bound in type(model).bounds())
    if by == "evidence" and not evident:
        raise UsageError(
            f"{model.name} has no evidence by which its sizes could be compared; say by held_out"
        )
    if by == "held_out" or not evident:
        return _by_held_out(model, data, name, tried, settings, reading, progress, folds)
    how = settings_for(model, settings)
    dataset = read_for(model, data, reading)
    fits, rows = [], []
    with formed(how.workers if dataset.cluster is None else 1):  # the same processes for all
        for value in tried:
            candidate = replace(model, **{name: value})
            each = fitted(candidate, dataset, how, Course(progress))
            fits.append(each)
            with threads_for(each.bound.numbers(each.data)):
                rows.append({name: value} | _figures(each))
            if each.status is Status.INTERRUPTED:
                break
    best = max(range(len(fits)), key=lambda i: (rows[i]["empty"] == 0, rows[i]["evidence"]))
    return replace(fits[best], candidates=tuple(rows))


def _by_held_out(
    model: Model,
    data: Any,
    name: str,
    tried: list[Any],
    settings: Mapping[str, Any],
    reading: Mapping[str, Any],
    progress: Progress | None,
    folds: int,
) -> Record:
    """The value with the lowest loss on held-out rows, fitted to all rows."""
    how = settings_for(model, settings)
    dataset = read_for(model, data, reading)
    given = {each.name: getattr(how, each.name) for each in fields(how)}
    models = {str(i): Own(replace(model, **{name: value}), given) for i, value in enumerate(tried)}
    done = iter(range(1, 1 + len(tried) * folds))

    def say(text: str) -> None:
        if progress is not None:
            progress("held out", next(done), float("nan"), float("nan"))

    found = compare(dataset, models, folds=folds, checks=False, seed=how.seed, progress=say)
    table, loss = found.table, found.loss
    error = {each: table.loc[each, "standard_error"] for each in table.index}
    rows = [
        {
            name: value,
            loss: table.loc[str(i), loss],
            "difference": table.loc[str(i), "difference"],
            "difference_se": error[str(i)],
            "against_best": table.loc[str(i), "against_best"] or table.loc[str(i), "failed"],
            **{f: table.loc[str(i), f] for f in ("accuracy", "rmse") if table[f].notna().to_numpy().any()},
            "seconds": round(float(table.loc[str(i), "seconds"]), 3),
        }
        for i, value in enumerate(tried)
    ]
    rows = [{key: _plain(value) for key, value in row.items()} for row in rows]
    best = replace(model, **{name: tried[int(found.best)]})
    return replace(fitted(best, dataset, how, Course(progress)), candidates=tuple(rows))


def _plain(value: Any) -> Any:
    """A number as Python's own; None for one that is not known."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and value != value else value


def _figures(each: Record) -> dict[str, Any]:
    """A row of the table."""
    bound, data = each.bound, each.data
    own = bound.evidence(each.batch, each.params)
    found: dict[str, Any] = {"evidence": each.elbo + own.orders, "log_likelihood": own.log_likelihood}
    found |= _held_out(each) | _loo(each)
    return found | {
        "empty": own.empty,
        "parameters": bound.parameters,
        "bic": bound.parameters * log(max(data.rows, 1)) - 2 * own.log_likelihood,
        "status": str(each.status),
        "seconds": round(each.trained.seconds, 3),
    }


def _theta(each: Record) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(each.settings.seed + 4)
        return each.bound.draw({k: v.cpu() for k, v in each.params.items()}, DRAWS)


def _log_mean(x: np.ndarray) -> np.ndarray:
    top = x.max(0)
    return np.log(np.exp(x - top).mean(0)) + top


def _held_out(each: Record) -> dict[str, Any]:
    """A second fit on a part, scored on the rest."""
    data, exchangeable = each.data, each.bound.exchangeable
    units = data.rows if exchangeable else len(data.lengths)
    if units < 10 or each.status is Status.INTERRUPTED or data.arrays:  # arrays cannot be cut into rows
        return {}
    out = np.zeros(units, dtype=bool)
    out[np.random.default_rng(each.settings.seed).permutation(units)[: max(1, int(HELD_OUT * units))]] = True
    by_row = out if exchangeable else np.repeat(out, data.lengths)
    part = fitted(each.model, data.subset(~by_row), each.settings, Course())
    rest = data.subset(by_row)
    if exchangeable:
        rest = excerpt(rest, ROWS, ordered=False, seed=0)
    try:
        found = part.bound.log_likelihood(rest, _theta(part), each.settings.device)
    except Unsupported:  # a latent of each row says nothing of others
        return {}
    density = _log_mean(found.numpy())
    if not exchangeable:
        density = density / rest.lengths
    return {"held_out": float(density.mean()), "held_out_se": float(density.std() / len(density) ** 0.5)}


def _loo(each: Record) -> dict[str, Any]:
    """Log p(x_n | all others) by importance weights 1/p(x_n | θ), smoothed, row by row."""
    if not each.bound.exchangeable or (each.data.arrays and each.data.rows > ROWS):
        return {}
    some: Dataset = excerpt(each.data, ROWS, ordered=False, seed=each.settings.seed)
    if some.rows > ROWS:
        some = some.subset(np.arange(ROWS) * some.rows // ROWS)
    log_x = each.bound.log_likelihood(some, _theta(each), each.settings.device).numpy()
    density = np.array([_log_sum(smooth(-column).log_weight + column) for column in log_x.T])
    return {"loo": float(density.mean()), "loo_se": float(density.std() / len(density) ** 0.5)}


def _log_sum(x: np.ndarray) -> float:
    return float(np.log(np.exp(x - x.max()).sum()) + x.max())
