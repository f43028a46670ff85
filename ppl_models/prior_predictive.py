"""What data a prior expects, beside the data that there is: prior predictive checks.

    θ_s ~ p(θ),   x_s ~ p(x | θ_s),   s = 1 … S;     T(x) of the data within {T(x_1), …, T(x_S)}?

A statistic T that lies outside of the range of all but one in a thousand of the data sets is one that the
prior does not expect: it pulls against the data, or a unit is another than was meant. Data sets whose cells
range over a hundred times what those of the data do are from a prior that takes for possible what nobody
does (Box 1980, Sampling and Bayes' inference in scientific modelling and robustness, JRSS A 143; Gabry,
Simpson, Vehtari, Betancourt & Gelman 2019, Visualization in Bayesian workflow, JRSS A 182,
https://arxiv.org/abs/1709.01449).

Sizes of a prior that the fit learned (`Bound.open_fields`) are those that it learned.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.capabilities import Fitted
from ppl_models.data.excerpt import excerpt
from ppl_models.draws import variable_names
from ppl_models.prior import prior_groups_of

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 2_000
"""S: so many data sets that their range is about a 99.9 % interval."""

TAILS = 0.0005, 0.9995
"""The ends of that interval."""

CELLS = 10_000
"""Cells of one data set, about: of more rows an excerpt is looked at."""

WIDE = 100.0
"""Times the range of the data from which a prior predictive range is called too wide."""

RANGE = 0.05, 0.95
"""Quantiles of the cells that a range is between."""

RARE = 0.01
"""Share of zeros that the prior expects, from which whole numbers without a zero have theirs looked at."""

LEVELS = 15
"""Levels of a column whose shares are looked at, at most: the most frequent."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """A column, or an observed site, beside what the prior expects of it.

    Attributes:
        name: of the column or site.
        seen: (n,) cells without those that are missing; codes of labels.
        drawn: (S, n) the same in S data sets of the prior, ±∞ where they are beyond all numbers.
        levels: of labels; () of numbers.
        whole: whether cells are whole numbers.
    """

    name: str
    seen: np.ndarray
    drawn: np.ndarray
    levels: tuple[str, ...] = ()
    whole: bool = False

    @property
    def width(self) -> float:
        """Range of all cells that the prior draws over the range of the data; NaN of labels and constants."""
        own = float(np.subtract(*np.quantile(self.seen, RANGE[::-1]))) or float(np.ptp(self.seen))
        if self.levels or not own > 0:
            return float("nan")
        low, high = np.quantile(self.drawn, RANGE, method="nearest")
        return float(high - low) / own


def predicted(fit: Fitted, draws: int = DRAWS) -> list[Predicted]:
    """What the prior predicts of each column that the model draws.

    Args:
        fit: the fit; its posterior is not looked at.
        draws: S.

    Raises:
        Unsupported: it has no prior that can be drawn from, or the rows of the fit are not there.
    """
    data, bound = fit.data, fit.bound
    if data.values.size > CELLS and not data.arrays:
        rows = int(np.clip(CELLS // max(len(data.names), 1), 100, data.rows))
        data = excerpt(data, rows, ordered=not bound.exchangeable, seed=fit.settings.seed)
    groups = prior_groups_of(fit, draws, data)
    columns = dict(zip(variable_names(data.names), data.schema.columns, strict=True))
    found = []
    for name, value in groups["prior_predictive"].data_vars.items():
        if name not in groups["observed_data"]:
            continue
        x = groups["observed_data"][name].to_numpy().reshape(-1).astype(float)
        drawn = value.to_numpy().reshape(-1, len(x)).astype(float)
        use = np.isfinite(x)
        if use.any() and (drawn := drawn[:, use]).size:
            column = columns.get(str(name))
            levels = tuple(column.levels) if column is not None and column.labelled else ()
            whole = bool((x[use] == np.rint(x[use])).all())
            found.append(Predicted(str(name), x[use], np.nan_to_num(drawn, nan=np.inf), levels, whole))
    return found


def prior_predictive(fit: Fitted) -> "pd.DataFrame":
    """A row for each statistic of each column: what the data has, and what data sets of the prior have.

    `column`, `statistic` (mean, sd, smallest, largest, share of zeros of whole numbers, shares of labels),
    `data`, `median`, `lower` and `upper` of the prior's 99.9 % interval, and what it `says`: that the data is
    outside, or that the prior is over `WIDE` times as wide as the data.

    Raises:
        Unsupported: it has no prior that can be drawn from, or the rows of the fit are not there.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for each in predicted(fit):
        width = each.width
        for i, (statistic, own, drawn) in enumerate(_statistics(each)):
            lower, median, upper = np.quantile(drawn, (TAILS[0], 0.5, TAILS[1]), method="nearest")
            says = []
            if not lower <= own <= upper:
                says.append("outside of what the prior expects")
            if i == 0 and width > WIDE:
                says.append(f"the prior is {width:.1g} times as wide as the data")
            rows.append(
                {
                    "column": each.name, "statistic": statistic, "data": own, "median": median,
                    "lower": lower, "upper": upper, "says": "; ".join(says),
                }
            )  # fmt: skip
    names = ["column", "statistic", "data", "median", "lower", "upper", "says"]
    return pd.DataFrame(rows, columns=names)


def _statistics(p: Predicted) -> Iterator[tuple[str, float, np.ndarray]]:
    """Each statistic: its name, of the data, and (S,) of the data sets."""
    if p.levels:
        often = np.bincount(p.seen.astype(int), minlength=len(p.levels))
        for code in np.sort(np.argsort(-often, kind="stable")[:LEVELS]):
            yield f"share of {p.levels[code]}", float((p.seen == code).mean()), (p.drawn == code).mean(1)
        return
    with np.errstate(invalid="ignore", over="ignore"):
        yield "mean", float(p.seen.mean()), _numbers(p.drawn.mean(1))
        if len(p.seen) > 1:
            yield "sd", float(p.seen.std(ddof=1)), _numbers(p.drawn.std(1, ddof=1))
            yield "smallest", float(p.seen.min()), p.drawn.min(1)
            yield "largest", float(p.seen.max()), p.drawn.max(1)
    if p.whole and ((p.seen == 0).any() or (p.drawn == 0).mean() > RARE):
        yield "share of zeros", float((p.seen == 0).mean()), (p.drawn == 0).mean(1)


def _numbers(values: np.ndarray) -> np.ndarray:
    """∞ where cells that are beyond all numbers have no mean or sd."""
    return np.nan_to_num(values, nan=np.inf, posinf=np.inf, neginf=-np.inf)
