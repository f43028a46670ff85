"""Posterior predictive checks: cells against what the model says of them, by quantities that are pivotal.

Given a draw of the parameters and of all latents from their joint posterior, a cell has a distribution F.
Its residual Φ⁻¹(F(x)), with F(x) drawn between P(X < x) and P(X ≤ x) where x is discrete (Dunn & Smyth 1996,
Randomized quantile residuals, J. Comput. Graph. Stat. 5), is standard normal, and residuals are independent,
if the model is right: for every single draw, whatever the data, the family and the size (Johnson 2007,
Bayesian model assessment using pivotal quantities, Bayesian Analysis 2,
https://doi.org/10.1214/07-BA229). So p-values need no simulated data and no refits, and are exact:

    statistic         of residuals r (m of them), u = Φ(r)           under the model
    dispersion        Σ r²                                           χ²_m
    skewness, tails   √(7/m) Σ P₃(2u − 1), √(9/m) Σ P₄(2u − 1)       N(0, 1): Legendre polynomials (Neyman)
    extremes          max |r|                                        1 − (1 − p)^m
    zeros             Σ [x = 0] − Σ P(X = 0)                         Poisson–binomial; normal
    autocorrelation   Σ r_t r_{t+1} / √Σ r_t² r_{t+1}²               N(0, 1), within a sequence
    dependence        Σ r_i r_j / √Σ r_i² r_j² of two columns        N(0, 1), if independent given the states

Each is looked at under `DRAWS` draws, whose p-values are combined by twice their median, which holds however
they depend on one another (Rüger 1978, Metrika 25), and then over all columns and statistics by Holm (1979,
Scand. J. Statist. 6): of data from the model itself at most `ALARM` of the fits are called misfits. Some
`ROWS` rows are looked at, so that what is called a misfit is one that shows in so many rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import erfc
from typing import Any, NamedTuple

import numpy as np

from ppl_models.checks import Check
from ppl_models.data.marginals import marginal

DRAWS, ROWS = 8, 1_000
"""Draws of parameters and latents, and rows that are looked at (at most twice as many)."""

ALARM = 0.01
"""The share of fits of the right model in which any column is called a misfit, at most."""

SHOWN = 5
"""Columns that have a check of their own, if they are wrong."""

NAME = "model against data"

ADVICE = "give the site a wider distribution"
"""What is suggested where nothing better is known."""

FOLLOWED = 10
"""Predictors that residuals may follow, at most."""

PAIRED = 20
"""Columns whose pairs are looked at, at most."""

LEAST = 20
"""Observed cells of a column from which it is looked at."""

DICKEY_FULLER = -2.86
"""5 % point of the t-value of a unit root, with a constant (Dickey & Fuller 1979, JASA 74)."""


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one column, and what B draws say of them.

    Attributes:
        name: of the column.
        family: what the model calls their distribution.
        values: (n,) x, NaN where missing.
        below: (B, n) P(X < x).
        upto: (B, n) P(X ≤ x).
        above: (B, n) P(X > x).
        mean: (B, n) of the distribution.
        variance: (B, n).
        zero: (B, n) P(X = 0), of counts.
        labelled: whether values are codes, of which only the autocorrelation is looked at.
        instead: what is to be done about `dispersion`, `underdispersion`, `zeros`, `tails`, `skewness`,
            `dependence`.
        block: columns of one block have a distribution together; those of different ones are independent
            given the states.
    """

    name: str
    family: str
    values: np.ndarray
    below: np.ndarray
    upto: np.ndarray
    above: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    zero: np.ndarray | None = None
    labelled: bool = False
    instead: Mapping[str, str] = field(default_factory=dict)
    block: str = ""


def joined(parts: Sequence[Cells]) -> Cells:
    """The cells of one column from those of blocks of rows."""
    first = parts[0]

    def one(name: str, axis: int) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values, axis)

    wide = {name: one(name, 1) for name in ("below", "upto", "above", "mean", "variance", "zero")}
    return replace(first, values=one("values", 0), **wide)


class Found(NamedTuple):
    """One statistic of one column: p-value, observed and expected figure, and how it is said."""

    column: str
    statistic: str
    p: float
    said: str
    advice: str = ""


def residuals(cells: Cells, rng: np.random.Generator) -> np.ndarray:
    """Φ⁻¹(F(x)) of the observed cells, (B, m)."""
    from scipy.special import ndtri

    seen = ~np.isnan(cells.values)
    below, upto, above = (part[:, seen] for part in (cells.below, cells.upto, cells.above))
    v = rng.random(below.shape)
    lower = below + v * (upto - below)
    upper = above + (1 - v) * (upto - below)
    tiny = np.finfo(float).tiny
    return np.where(lower < 0.5, ndtri(np.maximum(lower, tiny)), -ndtri(np.maximum(upper, tiny)))


def combined(p: np.ndarray) -> float:
    """The p-value of several draws: twice their median."""
    return float(min(1.0, 2 * np.median(p)))


def two_sided(z: np.ndarray | float) -> np.ndarray:
    """P(|N(0, 1)| > |z|)."""
    return np.array([erfc(abs(each) / 2**0.5) for each in np.atleast_1d(z)])


def of_column(cells: Cells, starts: np.ndarray | None, rng: np.random.Generator, within: str) -> list[Found]:
    """The statistics of one column.

    Args:
        cells: of the column.
        starts: (n,) whether a row begins a sequence; None where the order of rows means nothing.
        rng: breaks ties of discrete cells.
        within: what residuals are within: ` within states`.
    """
    seen = ~np.isnan(cells.values)
    m = int(seen.sum())
    if m < LEAST:
        return []
    r = residuals(cells, rng)
    found: list[Found] = []
    if starts is not None:
        found += _autocorrelation(cells, r, seen, starts, within)
    return found if cells.labelled else found + _shape(cells, r, seen, within)


def _autocorrelation(
    cells: Cells, r: np.ndarray, seen: np.ndarray, starts: np.ndarray, within: str
) -> list[Found]:
    at = np.flatnonzero(seen)
    pairs = (np.diff(at) == 1) & ~starts[at[1:]]
    if pairs.sum() < LEAST:
        return []
    product = (r[:, :-1] * r[:, 1:])[:, pairs]
    z = product.sum(1) / np.maximum(np.sqrt((product**2).sum(1)), 1e-300)
    correlation = float(np.median(product.sum(1) / np.maximum((r**2).mean(1) * pairs.sum(), 1e-300)))
    said = f"neighbouring rows correlate by {correlation:.2f}{within}, 0 is expected"
    advice = "fit differences of it, or more states" if correlation > 0 else "fit its sums, or more states"
    return [Found(cells.name, "autocorrelation", combined(two_sided(z)), said, advice)]


def _shape(cells: Cells, r: np.ndarray, seen: np.ndarray, within: str) -> list[Found]:
    from scipy.special import ndtr

    name, m, x = cells.name, r.shape[1], cells.values[seen]
    mean, variance = cells.mean[:, seen], cells.variance[:, seen]
    own = cells.instead.get

    # χ² to the normal (Wilson & Hilferty 1931, PNAS 17)
    width = 2 / (9 * m)
    z = (((r**2).mean(1)) ** (1 / 3) - 1 + width) / np.sqrt(width)
    with np.errstate(invalid="ignore", divide="ignore"):
        pearson = (x - mean) ** 2 / variance
    ratio = float(np.median(np.where(np.isfinite(pearson), pearson, np.nan_to_num(r**2)).mean(1)))
    over = float(np.median(z)) > 0
    said = f"its variance{within} is {ratio:.2g} times what {cells.family} says"
    advice = own("dispersion" if over else "underdispersion", "")
    found = [Found(name, "dispersion", combined(two_sided(z)), said, advice)]

    t = 2 * ndtr(r) - 1
    skew = 7**0.5 * (0.5 * (5 * t**3 - 3 * t)).sum(1) / m**0.5
    heavy = 9**0.5 * (0.125 * (35 * t**4 - 30 * t**2 + 3)).sum(1) / m**0.5
    third = float(np.median((r**3).mean(1)))
    side = "right" if third > 0 else "left"
    said = f"its cells{within} lean to the {side}: skewness {third:.2f} of residuals, 0 is expected"
    found.append(Found(name, "skewness", combined(two_sided(skew)), said, own("skewness", "")))
    far = float(np.median((np.abs(r) > 2.5).mean(1)))
    many = float(np.median(heavy)) > 0
    said = f"{100 * far:.1f} % of its cells are beyond 2.5 sds{within}, 1.2 % are expected"
    advice = own("tails", "") if many else ""
    found.append(Found(name, "tails", combined(two_sided(heavy)), said, advice))

    most = np.abs(r).max(1)
    p = -np.expm1(m * np.log1p(-np.minimum(two_sided(most), 1 - 1e-16)))
    worst = int(np.abs(r).mean(0).argmax())
    far = float(np.median(most))
    said = f"the cell {x[worst]:.6g} is {far:.1f} sds out{within}, {_expected_most(m):.1f} is to be expected"
    found.append(Found(name, "extremes", combined(p), said, own("tails", "")))

    if cells.zero is not None:
        zero = cells.zero[:, seen]
        count, expected = int((x == 0).sum()), zero.sum(1)
        spread = np.sqrt(np.maximum((zero * (1 - zero)).sum(1), 0.0))
        # half off as counts are discrete, and their skewness (Cornish & Fisher): few zeros raise no alarm
        gap = np.sign(count - expected) * np.maximum(np.abs(count - expected) - 0.5, 0.0)
        z = gap / np.maximum(spread, 0.5)
        third = (zero * (1 - zero) * (1 - 2 * zero)).sum(1) / np.maximum(spread, 0.5) ** 3
        z = z - third * (z**2 - 1) / 6 * (np.abs(z) > 1)
        share, usual = 100 * count / m, 100 * float(np.median(expected)) / m
        said = f"{share:.1f} % of its cells are 0, {usual:.1f} % are expected"
        advice = own("zeros", "") if share > usual else own("underdispersion", "")
        found.append(Found(name, "zeros", combined(two_sided(z)), said, advice))
    return found


def _expected_most(m: int) -> float:
    """The median of the largest |r| of m."""
    from scipy.special import ndtri

    return float(-ndtri(0.5 * (1 - 0.5 ** (1 / m))))


def holm(found: Sequence[Found], level: float = ALARM) -> list[Found]:
    """Those that are significant beside one another (Holm 1979), the smallest p-value first."""
    order = sorted(found, key=lambda each: each.p)
    for i, each in enumerate(order):
        if each.p > level / (len(order) - i):
            return order[:i]
    return order


def misfits(
    cells: Sequence[Cells], starts: np.ndarray | None = None, seed: int = 0, within: str = ""
) -> list[Found]:
    """What the model gets wrong about its cells, at a false-alarm rate of `ALARM` for all together.

    Args:
        cells: of the columns.
        starts: (n,) whether a row begins a sequence; None where the order of rows means nothing.
        seed: of what breaks ties.
        within: what residuals are within, such as ` within states`.
    """
    rng = np.random.default_rng(seed)
    found = [each for column in cells for each in of_column(column, starts, rng, within)]
    return holm([*found, *_dependence(cells, rng, within)])


def _dependence(cells: Sequence[Cells], rng: np.random.Generator, within: str) -> list[Found]:
    """Whether columns that are independent given the states hang together."""
    of_rows = [each for each in cells if not each.labelled][:PAIRED]
    if len({each.block for each in of_rows}) < 2:
        return []
    wide = []
    for each in of_rows:
        r = np.full((len(each.below), len(each.values)), np.nan)
        r[:, ~np.isnan(each.values)] = residuals(each, rng)
        wide.append(r)
    found = []
    for j, second in enumerate(of_rows):
        for i, first in enumerate(of_rows[:j]):
            product = wide[i] * wide[j]
            product = product[:, ~np.isnan(product[0])]
            if first.block == second.block or product.shape[1] < LEAST:
                continue
            z = product.sum(1) / np.maximum(np.sqrt((product**2).sum(1)), 1e-300)
            correlation = float(np.median(product.mean(1)))
            said = f"it and {first.name!r} correlate by {correlation:.2f}{within}, 0 is expected"
            advice = second.instead.get("dependence", "more states can let columns hang together")
            found.append(Found(second.name, "dependence", combined(two_sided(z)), said, advice))
    return found


def unit_root(values: np.ndarray, starts: np.ndarray) -> float:
    """The t-value of ρ in Δx_t = a + ρ x_{t−1} + b Δx_{t−1} + e_t, over all sequences (Said & Dickey 1984).

    Above `DICKEY_FULLER` a unit root is not rejected: the series wanders, or trends. NaN if it is too short.

    Args:
        values: (n,) a column, NaN where missing.
        starts: (n,) whether a row begins a sequence.
    """
    sequence = np.cumsum(starts)
    known = np.isfinite(values)
    total = np.bincount(sequence, np.where(known, values, 0.0))
    x = values - (total / np.maximum(np.bincount(sequence, known), 1))[sequence]
    step = np.diff(x)
    inside = ~starts[1:]
    use = inside[1:] & inside[:-1] & np.isfinite(step[1:] + step[:-1])
    if use.sum() < LEAST:
        return float("nan")
    now, before, level = step[1:][use], step[:-1][use], x[1:-1][use]
    X = np.column_stack([level, np.ones(len(now)), before])
    coefficient, _, rank, _ = np.linalg.lstsq(X, now, rcond=None)
    if rank < 3:
        return float("nan")
    error = now - X @ coefficient
    variance = error @ error / max(len(now) - 3, 1)
    return float(coefficient[0] / np.sqrt(variance * np.linalg.inv(X.T @ X)[0, 0]))


def wanders(values: np.ndarray, starts: np.ndarray) -> bool:
    """Whether a column trends, or wanders like a random walk: its steps are small against where it goes.

    A unit root is not rejected, and the variance of steps is less than a tenth of that of the levels.

    Args:
        values: (n,), NaN where missing.
        starts: (n,) whether a row begins a sequence.
    """
    step = np.diff(values)[~starts[1:]]
    step = step[np.isfinite(step)]
    if len(step) < LEAST:
        return False
    t, scale = unit_root(values, starts), np.nanvar(values)
    return bool(np.isfinite(t) and t > DICKEY_FULLER and scale > 0 and step.var() < 0.1 * scale)


def apart(found: Sequence[Found], cells: Sequence[Cells]) -> dict[str, str]:
    """What to say of columns with a value that many rows have, which no family of numbers gives.

    Args:
        found: what is significant; other columns, and counts, which have families of their own, are not
            looked at.
        cells: of the columns.
    """
    wrong, said = {each.column for each in found}, {}
    for each in cells:
        if each.name not in wrong or each.labelled or each.zero is not None:
            continue
        own = marginal(each.values, "auto")
        if own is not None and own.spikes:
            share, value = max(zip(own.shares[1:], own.spikes, strict=True))
            digits = 4 - int(np.floor(np.log10(np.nanstd(each.values))))  # some come through float32
            said[each.name] = (
                f"{100 * share:.0f} % of its cells are {round(value, digits) + 0.0:g}: try --marginals=auto"
            )
    return said


def checks(
    found: Sequence[Found],
    looked: int,
    rows: int,
    wandering: Sequence[str] = (),
    better: Mapping[str, str] | None = None,
) -> list[Check]:
    """A check for each column that the model gets wrong, or one that says it gets none wrong.

    Args:
        found: what is significant.
        looked: how many columns were looked at.
        rows: how many of their rows.
        wandering: columns that trend or wander.
        better: what another family would gain, by column.
    """
    better = better or {}
    wrong = list(dict.fromkeys([*(each.column for each in found), *better]))
    checks = []
    for column in wrong[:SHOWN]:
        own = [each for each in found if each.column == column]
        advice = better.get(column) or next((each.advice for each in own if each.advice), "")
        parts = [each.said for each in own[:2]]
        if column in wandering:
            parts.insert(0, "it trends, or wanders like a random walk (a unit root is not rejected)")
            advice = "model its differences, or returns"
        reason = f"column {column!r}: " + "; ".join([*parts, *([advice] if advice else [])])
        value = {each.statistic: each.p for each in own}
        checks.append(Check(NAME, value, "warn", reason, "both"))
    if len(wrong) > SHOWN:
        more = wrong[SHOWN:]
        reason = f"{len(more)} further columns are not like the model either: {', '.join(more[:20])}"
        checks.append(Check(NAME, more, "warn", reason + (", …" if len(more) > 20 else ""), "both"))
    if checks or not looked:
        return checks
    some = f"{looked} columns" if looked > 1 else "the column"
    reason = f"{rows:,} rows of {some} look like rows of the model (false alarms {ALARM:.0%})"
    return [Check(NAME, {}, "ok", reason, "both")]


def replicated(
    seen: Mapping[str, np.ndarray],
    drawn: Mapping[str, np.ndarray],
    given: Mapping[str, np.ndarray] | None = None,
) -> list[Found]:
    """What replicated data sets say of the one that was seen, where there are no distributions of cells.

    Each cell is put beside the mean and sd that it has in all S + 1 tables: r = (x − m)/s. The mean of r²,
    of r³, the largest |r| and the share of zeros of counts, and with predictors whether r or |r| follows one
    of them (by Legendre polynomials of its ranks), and how far means of r over rows of equal predictors
    spread (lack of fit; Fisher 1922), are standardised over all tables, and the
    largest of all is compared with the largest that a replicate has of all (Westfall & Young 1993,
    Resampling-based multiple testing): the rank of the observed one among them is the p-value of all
    statistics together. As parameters were fitted to the same rows, it raises fewer alarms than it says.

    Args:
        seen: (n,) observed cells by name.
        drawn: (S, n) replicates of the same.
        given: (n,) predictors by name, without missing cells.
    """
    given = given or {}
    names: list[tuple[str, str]] = []
    figures: list[np.ndarray] = []
    for name, x in seen.items():
        y = np.concatenate([x[None], drawn[name]])[:, ~np.isnan(x)]
        if y.shape[1] < LEAST or not np.isfinite(y).all():
            continue
        mean, sd = y.mean(0), y.std(0)  # of all alike, so that no table is told apart by its place
        r = (y - mean) / np.where(sd > 0, sd, 1.0)
        whole = bool((y == np.rint(y)).all() and (y >= 0).all())
        if whole and y.max() <= 1:
            continue
        names += [(name, "dispersion"), (name, "skewness"), (name, "extremes")]
        figures += [np.log((r**2).mean(1) + 1e-12), np.cbrt((r**3).mean(1)), np.log(np.abs(r).max(1) + 1e-12)]
        if whole:
            names.append((name, "zeros"))
            figures.append((y == 0).mean(1))
        for statistic, figure in _followed(
            r, {other: x[~np.isnan(seen[name])] for other, x in given.items()}
        ):
            names.append((name, statistic))
            figures.append(figure)
    if not figures:
        return []
    each = np.stack(figures, 1)  # (1 + S, statistics)
    z = (each - each.mean(0)) / np.maximum(each.std(0), 1e-9)
    limit = np.sort(np.abs(z[1:]).max(1))[-1]
    usual, p = each[1:].mean(0), 1 / len(each)
    words = {
        "dispersion": lambda a, b: f"its variance is {np.exp(a - b):.2g} times what the model draws",
        "skewness": lambda a, b: f"skewness {a**3:.2g} of its residuals, {b**3:.2g} is drawn",
        "extremes": lambda a, b: f"a cell is {np.exp(a):.1f} sds out, {np.exp(b):.1f} is drawn",
        "zeros": lambda a, b: f"{100 * a:.1f} % of its cells are 0, {100 * b:.1f} % are drawn",
        "curvature": lambda a, b: "its mean bends",
        "spread": lambda a, b: "its spread changes",
        "lack of fit": lambda a, b: (
            "rows of equal predictors are alike beyond what these say: a group that is left out"
        ),
    }
    return [
        Found(name, statistic, p, _told(words, statistic, each[0, i], usual[i]), ADVICE)
        for i, (name, statistic) in enumerate(names)
        if abs(z[0, i]) > limit
    ]


def _told(words: Mapping[str, Any], statistic: str, seen: float, usual: float) -> str:
    """What a statistic is in words; those of a predictor name it behind a bar."""
    kind, _, other = statistic.partition("|")
    return words[kind](seen, usual) + (f" with {other!r}" if other else "")


def _followed(r: np.ndarray, given: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Figures (1 + S,) by which residuals (1 + S, m) follow predictors."""
    found, size = [], np.abs(r) - np.abs(r).mean(1, keepdims=True)
    for other, x in list(given.items())[:FOLLOWED]:
        values, at, count = np.unique(x, return_inverse=True, return_counts=True)
        if len(values) < 5:
            continue
        t = 2 * ((np.cumsum(count) - 0.5 * (count + 1))[at] + 0.5) / len(x) - 1  # ranks, ties at their middle
        found.append((f"curvature|{other}", (r * (1.5 * t**2 - 0.5)).mean(1)))
        found.append((f"spread|{other}", (size * t).mean(1)))
    if given:
        _, at, count = np.unique(
            np.stack(list(given.values()), 1), axis=0, return_inverse=True, return_counts=True
        )
        if len(count) <= len(at) / 2:
            sums = np.stack([np.bincount(at.ravel(), each) for each in r])
            found.append(("lack of fit", np.log((sums**2 / count).sum(1) + 1e-12)))
    return found
