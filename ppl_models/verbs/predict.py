"""What a row is: its class, the number that is its target, its hidden state, or what a program says of it."""

from typing import TYPE_CHECKING, Annotated, Any, Unpack

from ppl_models.annotations import count
from ppl_models.capabilities import (
    Assigns,
    Conditional,
    Importance,
    Observes,
    OfSequences,
    Predictive,
    Regresses,
    Uncertain,
)
from ppl_models.data import Later
from ppl_models.errors import Unsupported, UsageError
from ppl_models.threads import threads_for
from ppl_models.verbs.base import Needs, Seed, verb

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

    from ppl_models.data import Dataset
    from ppl_models.draws import Draws
    from ppl_models.record import Record

    Cells = list[tuple[str, Any]]

ASSIGN = 40_000_000, 5
"""Draws × numbers a draw that probabilities are averaged over, about, and the least draws."""

SPREAD = 100_000_000, 200
"""The same where there are intervals: the Monte Carlo error of their ends is about 2/√draws of an sd."""


QUANTILES = 400
"""Draws of θ at most that the distribution of a new observation is averaged over, for its quantiles."""


@verb(
    "ppl predict latest new.csv -o states.csv",
    needs=(Conditional, Regresses, Assigns, Observes),
    by_row=True,
)
def predict(
    fit: "Record",
    data: Any = None,
    *,
    level: Annotated[
        float | None,
        "Probability of the intervals; 0.9 if not given.",
        Needs((Uncertain, Regresses, Observes)),
    ] = None,
    quantiles: Annotated[
        tuple[float, ...] | None,
        "Probabilities of quantiles of a new observation, in columns of their own.",
        Needs((Regresses,)),
    ] = None,
    threshold: Annotated[
        float | None,
        "Probability from which the second class is predicted; 0.5 if not given.",
        Needs((Conditional,)),
    ] = None,
    draws: Annotated[
        int | None,
        "Draws of the parameters to average over, as many as the answer needs if not given; of a VAE draws "
        "for p(y | x) by importance, the classifier if not given.",
    ] = None,
    seed: Annotated[Seed, Needs((Importance, Observes))] = None,
    **reading: Unpack[Later],
) -> "pd.DataFrame":
    """The state, component, class or number of each row, with probabilities or intervals.

    Args:
        fit: the fit.
        data: new data, with or without the target, or None for the data of the fit.
        level: probability of the intervals.
        quantiles: probabilities, where the target is a number.
        threshold: for two classes, the probability of the second from which it is chosen.
        draws: of the parameters, of which there are as many as the fit has at most. If not given, as many as
            the answer needs: all of them on a few thousand rows, and on more rows such that a probability is
            within about 0.005 of their average. Of a VAE draws of latents for each class, by which
            p(y | x) ∝ p(y) p(x | y) is estimated.
        seed: of draws; the fit's if not given.
        **reading: options of `ppl_models.data.read`.

    Returns:
        A row for each row of the data, averaged over the posterior of the parameters.
        With a target: `class`, the most probable one, and `probability_LABEL` = p(y_n | x_n), the row's own
        label not being looked at; of a regression with equal-tailed intervals in `_lower` and `_upper`, and
        empty cells where a predictor is missing.
        With a target that is a number: `mean`, E[y_n | x_n]; `mean_lower` and `mean_upper`, the equal-tailed
        interval of that mean under the posterior of the parameters; `lower` and `upper`, that of a new
        observation; and `quantile_Q` of a new observation for each of `quantiles`. Of counts the smallest
        whole number whose probability of not being exceeded is at least that of the end or quantile.
        Where the target is of whole sequences, of a hidden Markov model, a row for each sequence instead.
        Of a mixture: `component`, the most probable one, and `probability_k` = p(z_n = k | x_n).
        Of a chain: `state`, the most probable path (Viterbi); `smoothed_k` = p(z_t = k | all rows) and
        `filtered_k` = p(z_t = k | rows up to t); states that have names by these.
        Of a user-defined model: of each observed site that has one number for every row, given θ and not the
        row's own value, `NAME_mean`, `_sd`, `_lower` and `_upper`, or of labels `NAME` and the probability of
        each; of each enumerated latent, given what was observed, `NAME` and `NAME_probability_k`.

    Raises:
        UsageError: a threshold for more than two classes, or a threshold or quantile that is no probability.
        Unsupported: no site of a user-defined model has a value for every row.
    """
    import torch

    from ppl_models.later import later
    from ppl_models.tables import averaging, by_row, by_sequence, check_level, seeded

    tails = check_level(0.9 if level is None else level)
    dataset, bound = later(fit, data, reading), fit.bound
    if isinstance(bound, Importance) and draws is not None:
        bound, draws = bound.with_particles(count("draws", draws)), None
    intervals = isinstance(bound, Uncertain | Regresses | Observes)
    bound, theta = averaging(fit, dataset, *(SPREAD if intervals else ASSIGN), draws, bound)
    with torch.random.fork_rng(devices=[]), threads_for(bound.numbers(dataset)):
        torch.manual_seed(seeded(fit, seed, 11))
        if isinstance(bound, Conditional):
            cells = _classes(fit, bound, dataset, theta, tails, threshold)
        elif isinstance(bound, Regresses):
            cells = _numbers(fit, bound, dataset, theta, tails, quantiles)
        elif isinstance(bound, Assigns):
            cells = _latents(fit, bound, dataset, theta)
        else:
            cells = _sites(fit, bound, dataset, theta if draws is not None else fit.draws, tails)
    if isinstance(bound, OfSequences):
        result = by_sequence(dataset)
        cells = [(name, values[dataset.offsets[:-1]]) for name, values in cells]
    else:
        result = by_row(dataset)
    for name, values in cells:
        result.add(name, values)
    return result.frame()


def _classes(
    fit: "Record",
    bound: Any,
    data: "Dataset",
    theta: "Draws",
    tails: tuple[float, float],
    threshold: float | None,
) -> "Cells":
    """The class of each row, and the probabilities of all with intervals where there are some."""
    import numpy as np

    from ppl_models.data.came import decode

    labels = bound.labels()
    check_threshold(threshold, labels)
    rows = bound.rows(data, fit.settings.device)
    if isinstance(bound, Uncertain):
        mean, ends = _intervals(bound, rows, data, theta, tails)
    else:
        mean, ends = bound.predictive(rows, theta), ()
    known = ~np.isnan(mean[:, 0])
    best = np.full(data.rows, np.nan)
    best[known] = classes_of(mean[known], threshold)
    schema = data.schema
    target = schema.columns[schema.names.index(str(schema.target))]
    cells: Cells = [("class", decode(best, target))]
    for c, name in enumerate(labels):
        for suffix, values in zip(("", "_lower", "_upper"), (mean, *ends), strict=False):
            cells.append((f"probability_{name}{suffix}", values[:, c]))
    return cells


def check_threshold(threshold: float | None, labels: tuple[str, ...]) -> None:
    """Refuse a threshold that is none.

    Raises:
        UsageError: it is for more than two classes, or no probability.
    """
    if threshold is not None and (len(labels) > 2 or not 0 <= threshold <= 1):
        what = f"there are {len(labels)} classes" if len(labels) > 2 else f"got {threshold}"
        raise UsageError(f"threshold must be a probability between 0 and 1 for two classes; {what}")


def classes_of(p: "np.ndarray", threshold: float | None) -> "np.ndarray":
    """The classes that are predicted from probabilities (m, C): the likeliest, or by a threshold of two."""
    if p.shape[1] == 2:
        return (p[:, 1] >= (0.5 if threshold is None else threshold)).astype(int)
    return p.argmax(1)


def _intervals(
    bound: Uncertain, rows: Any, data: "Dataset", theta: "Draws", tails: tuple[float, float]
) -> "tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]":
    """Means and equal-tailed intervals of probabilities, (n, C)."""
    import numpy as np
    import torch

    found: np.ndarray | None = None
    for index, p in bound.probabilities(rows, theta):
        if p.shape[-1] == 2:  # the quantiles of one probability are those of the other
            low, high = quantiles_of(p[..., 1], tails)
            lower, upper = torch.stack([1 - high, low], 1), torch.stack([1 - low, high], 1)
        else:
            lower, upper = quantiles_of(p, tails)
        if found is None:
            found = np.full((3, data.rows, p.shape[-1]), np.nan)
        mean = p.mean(0)
        # of a posterior so skewed that its mean is in a tail, an interval without it would contradict it
        found[:, index] = torch.stack([mean, torch.minimum(lower, mean), torch.maximum(upper, mean)]).numpy()
    if found is None:
        found = np.full((3, data.rows, len(bound.labels())), np.nan)  # type: ignore[attr-defined]
    return found[0], (found[1], found[2])


def quantiles_of(draws: "Tensor", tails: tuple[float, ...]) -> "Tensor":
    """Quantiles of draws (S, ...) for each row, by selection, which is several times as fast as sorting."""
    import numpy as np
    import torch

    cells = draws.movedim(0, -1).contiguous().numpy()
    return torch.from_numpy(np.quantile(cells, tails, axis=-1))


def _numbers(
    fit: "Record",
    bound: Any,
    data: "Dataset",
    theta: "Draws",
    tails: tuple[float, float],
    quantiles: tuple[float, ...] | None,
) -> "Cells":
    """The mean of each row's target, and intervals of it and of a new observation."""
    import numpy as np

    from ppl_models.draws import select_draws

    asked = tuple(quantiles or ())
    if any(not 0 < q < 1 for q in asked):
        raise UsageError(f"quantiles must be probabilities between 0 and 1, got {', '.join(map(str, asked))}")
    names = ["mean", "mean_lower", "mean_upper", "lower", "upper", *(f"quantile_{q:g}" for q in asked)]
    found = np.full((len(names), data.rows), np.nan)
    for part in bound.predicted(bound.rows(data, fit.settings.device), theta):
        mean = part.new.mean.double()
        found[0, part.index] = mean.mean(0)
        found[1:3, part.index] = quantiles_of(mean, tails)
    theta = select_draws(theta, slice(0, QUANTILES))
    for part in bound.predicted(bound.rows(data, fit.settings.device), theta):
        for i, p in enumerate((*tails, *asked), 3):
            found[i, part.index] = quantile(part.new, p, part.discrete)
    return list(zip(names, found, strict=True))


def quantile(new: Predictive, p: float, discrete: bool = False) -> "Tensor":
    """The quantile of a new observation with θ integrated out: the y at which (1/S) Σ_s P(new ≤ y) = p.

    Of a continuous one by the Illinois form of false position (Dowell & Jarratt 1971, BIT 11,
    https://doi.org/10.1007/BF01934364); of a whole number the smallest y with a probability of at least p.

    Args:
        new: of m rows under S draws.
        p: between 0 and 1.
        discrete: whether observations are whole numbers.

    Returns:
        (m,), in the user's units.
    """
    import torch

    def over(y: "Tensor") -> "Tensor":
        return new.cdf(y).double().mean(0) - p

    drawn = new.sample().double()
    middle = drawn.median(0).values  # there may be no mean
    reach = (drawn - middle).abs().amax(0).clamp_min(1.0 if discrete else 1e-12)
    ends = []
    for sign in (-1.0, 1.0):
        far = reach.clone()
        for _ in range(60):
            end = (middle + sign * far).floor() if discrete else middle + sign * far
            short = over(end) >= 0 if sign < 0 else over(end) < 0
            if not bool(short.any()):
                break
            far = torch.where(short, 2 * far, far)
        ends.append(end)
    low, high = ends
    if discrete:
        while bool((high - low > 1).any()):
            half = ((low + high) / 2).floor()
            enough = over(half) >= 0
            low, high = torch.where(enough, low, half), torch.where(enough, half, high)
        return high
    f_low, f_high = over(low), over(high)
    for _ in range(60):
        y = high - f_high * (high - low) / (f_high - f_low)
        y = torch.where(y.isfinite(), y, (low + high) / 2)
        f = over(y)
        if float(f.abs().max()) < 1e-9:
            return y
        same = f * f_high > 0  # the other end stays, and counts for half
        low, f_low = torch.where(same, low, high), torch.where(same, f_low / 2, f_high)
        high, f_high = y, f
    return high


def _latents(fit: "Record", bound: Assigns, data: "Dataset", theta: "Draws") -> "Cells":
    """The discrete latent of each row."""
    found = bound.assign(fit.bound.rows(data, fit.settings.device), theta, fit.params)
    cells: Cells = [(found.name, found.best)]
    for name, share in found.shares.items():
        values = found.values or range(share.shape[1])
        cells += [(f"{name}_{value}", share[:, k]) for k, value in enumerate(values)]
    return cells


def _sites(fit: "Record", bound: Any, data: "Dataset", theta: "Draws", tails: tuple[float, float]) -> "Cells":
    """What the sites of a program say of each row."""
    import numpy as np

    from ppl_models.data.came import decode

    rows = bound.rows(data, fit.settings.device)
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
