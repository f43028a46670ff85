"""What is looked at of a network beside its posterior: held-out rows, calibration, distances, importance.

- log p(y | x) of the rows that training saw against that of those held out.
- Calibration of the held-out rows before and after the temperature T was chosen by them: of classes the
  expected calibration error over 15 bins (Naeini, Cooper & Hauskrecht 2015, AAAI), of numbers the share of
  90 % intervals that hold their row.
- How far held-out rows are from the training rows in the space of the features, against these themselves.
- What a column is worth: the fall of the log probability of held-out rows when its cells are permuted
  (Breiman 2001, Random forests, Machine Learning 45, https://doi.org/10.1023/A:1010933404324).
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Conditional
from ppl_models.checks import Check, Level
from ppl_models.data import Dataset
from ppl_models.draws import number_of, select_draws
from ppl_models.neural.rows import Rows

Neural = Any
"""`ppl_models.neural.bound.Neural`, which is above this module."""

ROWS, DRAWS = 2_000, 100
"""Rows and draws that are looked at, at most."""

COLUMNS = 100
"""Columns up to which each is permuted."""

SHOWN = 12
"""Rows of the summary that are shown with a fit."""

WORSE = 0.1
"""Nats a row up to which held-out rows may be worse than those of the training."""

OFF = 0.05
"""Calibration error up to which probabilities are called calibrated."""

FAR, SHARE = 0.99, 0.1
"""Quantile of the distances of training rows, and the share of held-out rows that may lie beyond it."""


def whitening(Z: Tensor) -> Tensor:
    """W (d, k) such that features z W of the training are uncorrelated with variance one."""
    z = Z[:, 1:]
    value, vector = torch.linalg.eigh(z.mT @ z / max(len(z), 1))
    keep = value > 1e-6 * value.max().clamp_min(1e-12)
    return vector[:, keep] / value[keep].sqrt()


def distance(Z: Tensor, whiten: Tensor) -> Tensor:
    """Root mean square of decorrelated features, (n,)."""
    return (Z[:, 1:] @ whiten).square().mean(1).sqrt()


def _of_classes(bound: Neural) -> bool:
    return isinstance(bound, Conditional)


def _looked_at(bound: Neural, fitted: Any) -> tuple[Any, Rows, Tensor, Tensor]:
    """Draws, the units of the fit, and positions of training and held-out ones among them."""
    draws = select_draws(fitted.draws, slice(0, min(DRAWS, number_of(fitted.draws))))
    rows = bound.unit_rows(fitted.data)
    index, _, _ = bound.used(fitted.data)
    train, held = (index[part] for part in bound.split(fitted.data, int(bound.known("seed"))))
    rng = np.random.default_rng(fitted.settings.seed)
    train = train[torch.from_numpy(np.sort(rng.permutation(len(train))[:ROWS]))]
    held = held[torch.from_numpy(np.sort(rng.permutation(len(held))[:ROWS]))]
    return draws, rows, train, held


def _log_p(bound: Neural, rows: Rows, draws: Any) -> np.ndarray:
    """Log (1/S) Σ_s p(y_n | x_n, θ_s)."""
    found = np.full(len(rows.y), np.nan)
    for index, new in bound.predictives(rows, draws):
        each = new.log_prob(rows.y[torch.from_numpy(index)]).double()
        found[index] = (each.logsumexp(0) - np.log(len(each))).numpy()
    return found


def _calibration(bound: Neural, rows: Rows, draws: Any, temperature: float) -> float:
    """The calibration error of classes, or the coverage of the 90 % intervals of a number."""
    if _of_classes(bound):
        p = np.zeros((len(rows.y), bound.head.outputs))
        for index, new in bound.predictives(rows, draws, temperature):
            p[index] = new.probs.double().mean(0).numpy()
        right = p.argmax(1) == rows.y.numpy()
        sure = p.max(1)
        bins = np.minimum((sure * 15).astype(int), 14)
        return float(sum(abs((sure - right)[bins == b].sum()) for b in range(15)) / len(right))
    inside = np.zeros(len(rows.y))
    for index, new in bound.predictives(rows, draws, temperature):
        y = rows.y[torch.from_numpy(index)]
        u = new.cdf(y).double().mean(0).numpy()
        if bound.head.discrete:  # the share of P(new < y) to P(new ≤ y) that is within: a randomised quantile
            low = new.cdf(y - 1).double().mean(0).numpy()
            within = np.clip(u, 0.05, 0.95) - np.clip(low, 0.05, 0.95)
            inside[index] = within / np.maximum(u - low, 1e-300)
        else:
            inside[index] = (u > 0.05) & (u < 0.95)
    return float(inside.mean())


def checks(bound: Neural, fitted: Any) -> list[Check]:
    """Everything beside convergence and the posterior."""
    draws, rows, train, held = _looked_at(bound, fitted)
    if not len(held):
        reason = f"none of {len(train)} rows were held out: nothing says how it does on others"
        return [Check("held-out rows", None, "warn", reason)]
    seen, unseen = (_log_p(bound, rows.at(part), draws) for part in (train, held))
    gap = float(seen.mean() - unseen.mean())
    error = float(np.hypot(seen.std() / len(seen) ** 0.5, unseen.std() / len(unseen) ** 0.5))
    said = (
        f"log probability a row {seen.mean():.3f} of training rows, {unseen.mean():.3f} of "
        f"{len(unseen)} held-out rows"
    )
    level: Level = "ok"
    if gap > max(3 * error, WORSE):
        level = "warn"
        said += ": it fits the rows more than what they share; use a smaller network or more --dropout"
    found = [Check("held-out rows", gap, level, said)]
    own, T = rows.at(held), bound.temperature
    before, after = (_calibration(bound, own, draws, t) for t in (1.0, T))
    if _of_classes(bound):
        level = "ok" if after <= OFF + 1 / len(held) ** 0.5 else "warn"
        said = f"error of {len(held)} held-out probabilities {before:.3f}, {after:.3f} at temperature {T:.2f}"
    else:
        level = "ok" if abs(after - 0.9) <= OFF + 0.6 / len(held) ** 0.5 else "warn"
        said = (
            f"{100 * before:.0f} % of {len(held)} held-out rows in their 90 % intervals, "
            f"{100 * after:.0f} % with sds × {T:.2f}"
        )
    found.append(Check("calibration", after, level, said))
    whiten = bound.known("feature.whiten")
    edge = float(distance(rows.Z[train], whiten).quantile(FAR))
    far = float((distance(rows.Z[held], whiten) > edge).double().mean())
    said = f"{100 * far:.1f} % of held-out rows are further out than 99 % of training rows"
    level = "ok" if far <= SHARE else "warn"
    return [*found, Check("distance", far, level, said)]


def summarise(bound: Neural, fitted: Any, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
    """Figures with their standard errors: held-out rows, temperature, prior scale, importance of columns.

    A row `log_probability` of held-out rows, nats; `accuracy` (classes) or `rmse` (numbers) of them;
    `temperature`; of a head `prior_scale` and, of a number, `sigma`; and of each column
    `importance[COLUMN]`, the nats a row that held-out rows lose when its cells are permuted. `hdi_5.5%`
    and `hdi_94.5%` are of a normal with this mean and sd. Of a run without its rows what needs none of them.
    """
    table: dict[str, dict[str, Any]] = {}
    if fitted.data.rows:
        table |= _scores(bound, fitted, tails)
    table["temperature"] = _normal(bound.temperature, 0.0, tails)
    state = bound.state or {}
    if "head.scale" in state:
        table["prior_scale"] = _normal(float(state["head.scale"].flatten()[0]), 0.0, tails)
    if fitted.bayesian:
        for name, (dims, values) in bound.variables(fitted.draws)[0].items():
            if not dims:  # σ as predictions have it
                factor = bound.temperature if name == "sigma" else 1.0
                table[name] = _normal((values * factor).mean(), (values * factor).std(), tails)
    table["features"] = _normal(float(bound.head.features), 0.0, tails)
    table["weights"] = _normal(float(bound.size), 0.0, tails)
    if not fitted.data.rows:
        return table
    draws, rows, train, held = _looked_at(bound, fitted)
    index = held if len(held) else train
    base = _log_p(bound, rows.at(index), draws)
    return table | importance(bound, fitted.data, index, draws, base, tails, fitted.settings.seed)


def _scores(bound: Neural, fitted: Any, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
    """Of held-out rows."""
    draws, rows, train, held = _looked_at(bound, fitted)
    index = held if len(held) else train
    own = rows.at(index)
    base = _log_p(bound, own, draws)
    table: dict[str, dict[str, Any]] = {"log_probability": _moments(base, tails)}
    if _of_classes(bound):
        right = np.zeros(len(base))
        for at, new in bound.predictives(own, draws):
            best = new.probs.double().mean(0).argmax(1)
            right[at] = (best == own.y[torch.from_numpy(at)]).double().numpy()
        table["accuracy"] = _moments(right, tails)
    else:
        square = np.zeros(len(base))
        for at, new in bound.predictives(own, draws):
            square[at] = (new.mean.double().mean(0) - own.y[torch.from_numpy(at)]).square().numpy()
        root, error = square.mean() ** 0.5, square.std() / max(len(square), 1) ** 0.5
        table["rmse"] = _normal(root, error / max(2 * root, 1e-12), tails)
    return table


def importance(
    bound: Neural,
    data: Dataset,
    index: Tensor,
    draws: Any,
    base: np.ndarray,
    tails: tuple[float, float],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """The fall of the log probability of some units when a column's cells are permuted, largest first.

    Args:
        bound: the network.
        data: the rows of the fit.
        index: positions of the units.
        draws: of θ.
        base: their log probabilities as they are.
        tails: the probabilities of the interval's ends.
        seed: of the permutations.
    """
    if len(bound.predictors) > COLUMNS:
        return {}
    part, at = bound.part(data, index)
    rng = np.random.default_rng(seed + 8)
    found = {}
    for j in bound.predictors:
        values = np.array(part.values)
        values[:, j] = values[rng.permutation(len(values)), j]
        fall = base - _log_p(bound, bound.unit_rows(replace(part, values=values)).at(at), draws)
        found[f"importance[{bound.schema.names[j]}]"] = _moments(fall, tails)
    return dict(sorted(found.items(), key=lambda each: -each[1]["mean"]))


def _moments(each: np.ndarray, tails: tuple[float, float]) -> dict[str, float]:
    return _normal(each.mean(), each.std() / max(len(each), 1) ** 0.5, tails)


def _normal(mean: float, sd: float, tails: tuple[float, float]) -> dict[str, float]:
    z = torch.special.ndtri(torch.tensor(tails, dtype=torch.float64)).tolist()
    return {
        "mean": float(mean),
        "sd": float(sd),
        **{f"hdi_{100 * p:.10g}%": float(mean + each * sd) for p, each in zip(tails, z, strict=True)},
    }
