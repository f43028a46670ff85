"""What a row is: its class, its hidden state, or what a program says of it."""

from typing import TYPE_CHECKING, Annotated, Any, Unpack

from ppl_models.annotations import count
from ppl_models.capabilities import Assigns, Conditional, Importance, Observes, Uncertain
from ppl_models.data import Later
from ppl_models.errors import Unsupported, UsageError
from ppl_models.verbs.base import Needs, Seed, verb

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ppl_models.data import Dataset
    from ppl_models.draws import Draws
    from ppl_models.record import Record

    Cells = list[tuple[str, Any]]

ASSIGN = 40_000_000, 5
"""Draws × numbers a draw that probabilities are averaged over, about, and the least draws."""

SPREAD = 400_000_000, 100
"""The same where there are intervals."""


@verb("ppl predict latest new.csv -o states.csv", needs=(Conditional, Assigns, Observes))
def predict(
    fit: "Record",
    data: Any = None,
    *,
    level: Annotated[
        float | None,
        "Probability of the intervals; 0.9 if not given.",
        Needs((Uncertain, Observes)),
    ] = None,
    threshold: Annotated[
        float | None,
        "Probability from which the second class is predicted; 0.5 if not given.",
        Needs((Conditional,)),
    ] = None,
    draws: Annotated[
        int | None,
        "Draws for p(y | x) by importance; the classifier if not given.",
        Needs((Importance,)),
    ] = None,
    seed: Annotated[Seed, Needs((Importance, Observes))] = None,
    **reading: Unpack[Later],
) -> "pd.DataFrame":
    """The state, component or class of each row, with probabilities.

    Args:
        fit: the fit.
        data: new data, with or without the target, or None for the data of the fit.
        level: probability of the intervals.
        threshold: for two classes, the probability of the second from which it is chosen.
        draws: of latents for each class, by which p(y | x) ∝ p(y) p(x | y) is estimated.
        seed: of draws; the fit's if not given.
        **reading: options of `ppl_models.data.read`.

    Returns:
        A row for each row of the data, averaged over the posterior of the parameters.
        With a target: `class`, the most probable one, and `probability_LABEL` = p(y_n | x_n), the row's own
        label not being looked at; of a regression with equal-tailed intervals in `_lower` and `_upper`, and
        empty cells where a predictor is missing.
        Of a mixture: `component`, the most probable one, and `probability_k` = p(z_n = k | x_n).
        Of a chain: `state`, the most probable path (Viterbi); `smoothed_k` = p(z_t = k | all rows) and
        `filtered_k` = p(z_t = k | rows up to t).
        Of a user-defined model: of each observed site that has one number for every row, given θ and not the
        row's own value, `NAME_mean`, `_sd`, `_lower` and `_upper`, or of labels `NAME` and the probability of
        each; of each enumerated latent, given what was observed, `NAME` and `NAME_probability_k`.

    Raises:
        UsageError: a threshold for more than two classes, or one that is no probability.
        Unsupported: no site of a user-defined model has a value for every row.
    """
    import torch

    from ppl_models.tables import by_row, check_level, later, seeded

    tails = check_level(0.9 if level is None else level)
    dataset, bound = later(fit, data, reading), fit.bound
    if isinstance(bound, Importance) and draws is not None:
        bound = bound.with_particles(count("draws", draws))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, seed, 11))
        if isinstance(bound, Conditional):
            cells = _classes(fit, bound, dataset, tails, threshold)
        elif isinstance(bound, Assigns):
            cells = _latents(fit, bound, dataset)
        else:
            cells = _sites(fit, bound, dataset, tails)
    result = by_row(dataset)
    for name, values in cells:
        result.add(name, values)
    return result.frame()


def _classes(
    fit: "Record", bound: Any, data: "Dataset", tails: tuple[float, float], threshold: float | None
) -> "Cells":
    """The class of each row, and the probabilities of all with intervals where there are some."""
    import numpy as np

    from ppl_models.data.came import decode
    from ppl_models.tables import some_draws

    labels = bound.labels()
    if threshold is not None and (len(labels) > 2 or not 0 <= threshold <= 1):
        what = f"there are {len(labels)} classes" if len(labels) > 2 else f"got {threshold}"
        raise UsageError(f"threshold must be a probability between 0 and 1 for two classes; {what}")
    rows = bound.rows(data, fit.settings.device)
    if isinstance(bound, Uncertain):
        mean, ends = _intervals(bound, rows, data, some_draws(fit, data, *SPREAD), tails)
    else:
        mean, ends = bound.predictive(rows, some_draws(fit, data, *ASSIGN)), ()
    known = ~np.isnan(mean[:, 0])
    best = np.full(data.rows, np.nan)
    code = mean[known].argmax(1)
    if len(labels) == 2:
        code = (mean[known, 1] >= (0.5 if threshold is None else threshold)).astype(int)
    best[known] = code
    schema = data.schema
    target = schema.columns[schema.names.index(str(schema.target))]
    cells: Cells = [("class", decode(best, target))]
    for c, name in enumerate(labels):
        for suffix, values in zip(("", "_lower", "_upper"), (mean, *ends), strict=False):
            cells.append((f"probability_{name}{suffix}", values[:, c]))
    return cells


def _intervals(
    bound: Uncertain, rows: Any, data: "Dataset", theta: "Draws", tails: tuple[float, float]
) -> "tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]":
    """Means and equal-tailed intervals of probabilities, (n, C)."""
    import numpy as np
    import torch

    found: np.ndarray | None = None
    for index, p in bound.probabilities(rows, theta):
        ends = torch.tensor(tails, dtype=p.dtype)
        if p.shape[-1] == 2:  # the quantiles of one probability are those of the other
            low, high = torch.quantile(p[..., 1].T.contiguous(), ends, 1)
            lower, upper = torch.stack([1 - high, low], 1), torch.stack([1 - low, high], 1)
        else:
            lower, upper = torch.quantile(p.permute(1, 2, 0).contiguous(), ends, -1)
        if found is None:
            found = np.full((3, data.rows, p.shape[-1]), np.nan)
        found[:, index] = torch.stack([p.mean(0), lower, upper]).numpy()
    if found is None:
        found = np.full((3, data.rows, len(bound.labels())), np.nan)  # type: ignore[attr-defined]
    return found[0], (found[1], found[2])


def _latents(fit: "Record", bound: Assigns, data: "Dataset") -> "Cells":
    """The discrete latent of each row."""
    from ppl_models.tables import some_draws

    rows = fit.bound.rows(data, fit.settings.device)
    found = bound.assign(rows, some_draws(fit, data, *ASSIGN), fit.params)
    cells: Cells = [(found.name, found.best)]
    for name, share in found.shares.items():
        cells += [(f"{name}_{k}", share[:, k]) for k in range(share.shape[1])]
    return cells


def _sites(fit: "Record", bound: Any, data: "Dataset", tails: tuple[float, float]) -> "Cells":
    """What the sites of a program say of each row."""
    import numpy as np

    from ppl_models.data.came import decode

    rows, theta = bound.rows(data, fit.settings.device), fit.draws
    cells: Cells = []
    for name, draws in bound.observed(rows, theta).items():
        column = next((c for c in data.schema.columns if c.name == name), None)
        if column is not None and column.labelled:
            share = np.stack([(np.rint(draws) == code).mean(0) for code in range(len(column.levels))])
            cells.append((name, decode(share.argmax(0).astype(float), column)))
            cells += [(f"{name}_probability_{v}", p) for v, p in zip(column.levels, share, strict=True)]
            continue
        lower, upper = np.quantile(draws, tails, axis=0)
        cells += [(f"{name}_mean", draws.mean(0)), (f"{name}_sd", draws.std(0))]
        cells += [(f"{name}_lower", lower), (f"{name}_upper", upper)]
    for name, p in bound.enumerated(rows, theta).items():
        cells.append((name, p.argmax(1)))
        cells += [(f"{name}_probability_{k}", p[:, k]) for k in range(p.shape[1])]
    if not cells:
        raise Unsupported(
            f"predict is of rows, and no site of {fit.name} has a value for each: it observes "
            f"{bound.shapes_observed()}; summary has its parameters"
        )
    return cells
