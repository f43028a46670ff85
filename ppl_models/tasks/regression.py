"""Verbs of a regression: classes of rows, how probable they are, and what its coefficients say."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_models.errors import UsageError
from ppl_models.models.bound import Draws
from ppl_models.tasks.common import check_level, index_frame, resolve, seeded, some_draws
from ppl_models.tasks.effects import average_effects

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.data import Dataset
    from ppl_models.fitting import Fit
    from ppl_models.regression.bound import Regression

CELLS = 4_000_000
"""Draws × rows × classes that are worked on at once."""

SHOWN = 40
"""Coefficients that are shown with a fit; `summary` has all."""


def _bound(fit: "Fit") -> "Regression":
    return fit.bound.learn(fit.data)


def _probabilities(bound: "Regression", theta: Draws, Z: np.ndarray) -> torch.Tensor:
    """p(class | x, θ), (S, m, C)."""
    f = bound.logits(theta, Z)
    return torch.cat([torch.zeros_like(f[..., :1]), f], -1).softmax(-1)


def _draws_and_blocks(fit: "Fit", dataset: "Dataset"):
    """Draws to use for a table, and the size of blocks of rows."""
    C = len(fit.bound.levels)
    theta = some_draws(fit, dataset.rows * C, budget=400_000_000, least=100)
    size = max(1, CELLS // (len(theta["regression"]["intercept"]) * C))
    return theta, size


def predict(
    fit: "Fit", data: Any = None, *, level: float = 0.9, threshold: float | None = None, **reading: Any
) -> "pd.DataFrame":
    """The class of every row, and its probabilities.

    Args:
        fit: the fit.
        data: new data, with or without the target, or None for the data of the fit.
        level: probability of the intervals.
        threshold: for two classes, the probability of the second from which it is chosen; 0.5 if not given.
        **reading: options of `ppl_models.data.read`.

    Returns:
        A row for each row of the data: `class`, the most probable one; for each level `probability_LEVEL`,
        the posterior mean of its probability, with equal-tailed intervals of that probability in `_lower` and
        `_upper`. Rows that lack a predictor have empty cells.

    Raises:
        UsageError: a threshold for more than two classes, or one that is no probability.
    """
    import pandas as pd

    tails = check_level(level)
    bound, dataset = _bound(fit), resolve(fit, data, reading)
    C = len(bound.levels)
    if threshold is not None and (C > 2 or not 0 <= threshold <= 1):
        what = f"there are {C} classes" if C > 2 else f"got {threshold}"
        raise UsageError(f"threshold must be a probability between 0 and 1 for two classes; {what}")
    theta, size = _draws_and_blocks(fit, dataset)
    found = np.full((3, dataset.rows, C), np.nan)  # mean, lower, upper
    for at, Z, known in bound.blocks(dataset, size):
        if not known.any():
            continue
        p = _probabilities(bound, theta, Z[known])
        index = np.flatnonzero(known) + at.start
        found[0, index] = p.mean(0).numpy()
        if C == 2:  # the quantiles of one probability are those of the other
            low, high = torch.quantile(
                p[..., 1].T.contiguous(), torch.tensor(tails, dtype=p.dtype), 1
            ).numpy()
            found[1, index], found[2, index] = np.stack([1 - high, low], 1), np.stack([1 - low, high], 1)
        else:
            quantiles = torch.quantile(
                p.permute(1, 2, 0).contiguous(), torch.tensor(tails, dtype=p.dtype), -1
            )
            found[1:, index] = quantiles.numpy()
    known = ~np.isnan(found[0, :, 0])
    best = np.full(dataset.rows, None, dtype=object)
    mean = found[0, known]
    code = mean.argmax(1) if C > 2 else (mean[:, 1] >= (0.5 if threshold is None else threshold)).astype(int)
    best[known] = np.array(bound.levels, dtype=object)[code]
    cells: dict[str, np.ndarray] = {"class": best}
    for c, name in enumerate(bound.levels):
        for column, values in zip(("", "_lower", "_upper"), found[:, :, c], strict=True):
            cells[f"probability_{name}{column}"] = values
    return pd.concat([index_frame(dataset), pd.DataFrame(cells)], axis=1)


def score(fit: "Fit", data: Any = None, **reading: Any) -> "pd.DataFrame":
    """Log posterior predictive probability of the observed class of every row, log (1/S) Σ_s p(y | x, θ_s).

    Args:
        fit: the fit.
        data: rows with the target, or None for the data of the fit.
        **reading: options of `ppl_models.data.read`.

    Returns:
        `log_probability`, in nats; empty where the target or a predictor is missing.
    """
    bound, dataset = _bound(fit), resolve(fit, data, reading)
    theta, size = _draws_and_blocks(fit, dataset)
    density = np.full(dataset.rows, np.nan)
    for at, Z, known in bound.blocks(dataset, size):
        codes = dataset.values[at, bound.design.target]
        use = known & ~np.isnan(codes)
        if use.any():
            f = bound.logits(theta, Z[use])
            log_p = torch.cat([torch.zeros_like(f[..., :1]), f], -1).log_softmax(-1)
            own = log_p[:, torch.arange(int(use.sum())), torch.from_numpy(codes[use].astype(np.int64))]
            density[np.flatnonzero(use) + at.start] = (own.logsumexp(0) - np.log(len(own))).numpy()
    table = index_frame(dataset)
    table["log_probability"] = density
    return table


def sample(fit: "Fit", data: Any = None, *, seed: int | None = None, **reading: Any) -> "pd.DataFrame":
    """The table with its target drawn anew, each row from its own draw of the coefficients.

    Args:
        fit: the fit.
        data: rows with the predictors, or None for those of the fit.
        seed: the fit's, if not given.
        **reading: options of `ppl_models.data.read`.
    """
    bound, dataset = _bound(fit), resolve(fit, data, reading)
    theta, size = _draws_and_blocks(fit, dataset)
    values = np.array(dataset.values)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, seed, 10))
        for at, Z, known in bound.blocks(dataset, size):
            drawn = np.full(len(Z), np.nan)
            if known.any():
                p = _probabilities(bound, theta, Z[known])
                which = torch.randint(len(p), (p.shape[1],))
                chosen = p[which, torch.arange(p.shape[1])]
                drawn[known] = torch.multinomial(chosen, 1)[:, 0].double().numpy()
            values[at, bound.design.target] = drawn
    return dataset.frame(values)


def transform(fit: "Fit", data: Any = None, **reading: Any) -> "pd.DataFrame":
    """The linear predictor of every row: posterior mean and standard deviation of its log odds.

    Returns:
        `linear_predictor` and `linear_predictor_sd` for two classes; for more, those of each class beyond the
        first, with its name. Empty where a predictor is missing.
    """
    import pandas as pd

    bound, dataset = _bound(fit), resolve(fit, data, reading)
    theta, size = _draws_and_blocks(fit, dataset)
    K = len(bound.levels) - 1
    found = np.full((2, dataset.rows, K), np.nan)
    for at, Z, known in bound.blocks(dataset, size):
        if known.any():
            f = bound.logits(theta, Z[known])
            found[:, np.flatnonzero(known) + at.start] = torch.stack([f.mean(0), f.std(0)]).numpy()
    cells: dict[str, np.ndarray] = {}
    for k in range(K):
        name = "linear_predictor" if K == 1 else f"linear_predictor_{bound.levels[k + 1]}"
        cells |= {name: found[0, :, k], f"{name}_sd": found[1, :, k]}
    return pd.concat([index_frame(dataset), pd.DataFrame(cells)], axis=1)


def summary(fit: "Fit", *, level: float = 0.89) -> "pd.DataFrame":
    """Coefficients in the user's units, as odds ratios, and as average effects on the probabilities.

    Args:
        fit: the fit.
        level: probability of the intervals, which have equal tails.

    Returns:
        A row for the intercept and each column of the design, `age` or `kind[long]`; with several classes one
        for each class beyond the first, `age → setosa`. `mean`, `sd`, `lower` and `upper` are of the log odds
        against the first class, a unit of the column; `odds_ratio` (posterior median) is its exponential, and
        `odds_ratio_sd` that of one standard deviation of the column, each with `_lower` and `_upper`.
        `effect`, with `_lower` and `_upper`, is an average over the rows: of the derivative of the class's
        probability with respect to a number, a unit, or of the change that a label makes against its first
        level. Effects of columns that enter a formula in other ways, and of the first class, have rows of
        their own.
    """
    import pandas as pd

    tails = check_level(level)
    bound = _bound(fit)
    theta = fit.posterior_draws.theta
    alpha, beta = bound.user(theta)  # (S, K), (S, p, K)
    binary = len(bound.levels) == 2
    effects = average_effects(fit, tails)
    rows: dict[str, dict[str, float]] = {}
    for k, level_name in enumerate(bound.levels[1:]):
        for j, name in enumerate(("intercept", *bound.names)):
            draws = alpha[:, k] if j == 0 else beta[:, j - 1, k]
            row = _moments(draws, tails)
            if j:
                row |= _odds("odds_ratio", draws, tails)
                row |= _odds("odds_ratio_sd", draws * bound.design.sd[j - 1], tails)
            key = name if binary else f"{name} → {level_name}"
            rows[key] = row | effects.pop((name, k + 1), {})
    for (name, c), effect in effects.items():
        if not (binary and c == 0):
            rows[name if binary else f"{name} → {bound.levels[c]}"] = effect
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "parameter"
    return table


def _moments(draws: np.ndarray, tails: tuple[float, float]) -> dict[str, float]:
    lower, upper = np.quantile(draws, tails)
    return {"mean": draws.mean(), "sd": draws.std(ddof=1), "lower": lower, "upper": upper}


def _odds(name: str, draws: np.ndarray, tails: tuple[float, float]) -> dict[str, float]:
    with np.errstate(over="ignore"):
        middle, lower, upper = np.exp(np.quantile(draws, [0.5, *tails]))
    return {name: middle, f"{name}_lower": lower, f"{name}_upper": upper}


def largest(fit: "Fit") -> "pd.DataFrame":
    """The coefficients to be shown with a fit: the summary of those furthest from zero in posterior sds."""
    table = summary(fit)
    shown = table.drop(columns=[name for name in table.columns if "odds_ratio_" in name])
    if len(shown) > SHOWN:
        order = (shown["mean"] / shown["sd"]).abs().argsort()[::-1][:SHOWN]
        shown = shown.iloc[sorted(order)]
    return shown.reset_index()
