"""Sequences: hidden states over the rows, what follows the last one, and how states follow one another."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ppl_models.capabilities import Assigns, Continues, Named
from ppl_models.data import Dataset
from ppl_models.draws import select_draws
from ppl_models.report.canvas import INK, MAIN, MUTED, colour, label
from ppl_models.report.picture import Line, Picture, Wish, kind
from ppl_models.report.shapes import binned

if TYPE_CHECKING:
    from ppl_models.record import Record
    from ppl_models.report.canvas import Canvas

ROWS = 20_000
"""Rows of a sequence that are looked at: its last ones."""

COLUMNS = 3
"""Columns that are drawn over one another, at most."""

STEPS = 20
"""Rows ahead, if not given."""


class Series(NamedTuple):
    """The end of one sequence.

    Attributes:
        data: it alone.
        t: (n,) what is along the axis.
        name: of that.
        more: how many other sequences there are.
    """

    data: Dataset
    t: np.ndarray
    name: str
    more: int


def the_series(wish: Wish) -> Series:
    """The longest sequence, at most its last `ROWS` rows, with its times where these are numbers."""
    data = wish.data
    which = int(np.argmax(data.lengths))
    lo, hi = int(data.offsets[which]), int(data.offsets[which + 1])
    first = max(lo, hi - ROWS)
    part = data.subset(np.arange(first, hi))
    t, name = np.arange(first - lo, hi - lo, dtype=float), "row"
    if isinstance(part.times, np.ndarray) and part.times.dtype.kind in "iuf":
        t, name = part.times.astype(float), label(data.schema.time or "time")
    elif part.times is not None:
        from ppl_models.data.dates import read_dates

        read = read_dates([str(each) for each in part.times])
        if not isinstance(read, int):
            t, name = (
                np.asarray(read.when).astype("datetime64[s]").astype(float),
                label(data.schema.time or "time"),
            )
            name += " (date)"
    return Series(part, t, name, len(data.lengths) - 1)


def dated(ax: Any, series: Series) -> None:
    """Dates on an axis whose numbers are seconds since 1970."""
    if not series.name.endswith(" (date)"):
        ax.set_xlabel(series.name)
        return
    low, high = ax.get_xlim()
    span = high - low
    form = "Y" if span > 4 * 31_557_600 else "M" if span > 90 * 86_400 else "D" if span > 2 * 86_400 else "m"
    at = np.linspace(low + 0.04 * span, high - 0.04 * span, 5)
    at = at.astype("int64").astype("datetime64[s]").astype(f"datetime64[{form}]").astype("datetime64[s]")
    at = np.unique(at)
    ax.set_xticks(at.astype("int64").astype(float), [str(a.astype(f"datetime64[{form}]")) for a in at])
    ax.set_xlim(low, high)
    ax.set_xlabel(series.name.removesuffix(" (date)"))


def thinned(t: np.ndarray, x: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where parts of a series begin, mean, smallest and largest of each; NaN where all are missing."""
    at = binned(len(t), most)
    known = np.isfinite(x)
    number = np.add.reduceat(known.astype(float), at)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.add.reduceat(np.where(known, x, 0.0), at) / number
    low = np.minimum.reduceat(np.where(known, x, np.inf), at)
    high = np.maximum.reduceat(np.where(known, x, -np.inf), at)
    none = number == 0
    return t[at], mean, np.where(none, np.nan, low), np.where(none, np.nan, high)


def _line(ax: Any, t: np.ndarray, x: np.ndarray, most: int) -> None:
    at, mean, low, high = thinned(t, x, most)
    if len(at) < len(t):
        ax.fill_between(at, low, high, color=MUTED, alpha=0.3, linewidth=0)
        ax.plot(at, mean, color=INK, linewidth=0.7)
    else:
        few = len(at) <= 150
        ax.plot(at, mean, color=INK, linewidth=0.8, marker="." if few else "", markersize=3)


class Fan(NamedTuple):
    """What follows a series.

    Attributes:
        t: (T,) where.
        draws: column -> (S, T).
        shares: (T, K) probabilities of the states; None where there are none.
    """

    t: np.ndarray
    draws: dict[int, np.ndarray]
    shares: np.ndarray | None


def fan(fit: "Record", series: Series, steps: int, seed: int | None) -> Fan:
    """The rows after the last one, and the states'.

    Args:
        fit: whose.
        series: what they follow.
        steps: how many.
        seed: of the walks; follows from the fit's if None.
    """
    import torch

    from ppl_models.tables import seeded, some_draws
    from ppl_models.verbs.forecast import BUDGET, LEAST

    part, bound = series.data, fit.bound
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, seed, 11))
        theta = some_draws(fit, part, BUDGET // max(1, steps // max(part.rows, 1)), LEAST)
        ahead = next(iter(bound.ahead(bound.rows(part, fit.settings.device), steps, theta)))
    gap = float(np.median(np.diff(series.t))) if len(series.t) > 1 else 1.0
    shares = next(iter(ahead.shares.values()), None)
    draws = {j: ahead.values[:, :, j] for j in range(ahead.values.shape[2])}
    return Fan(series.t[-1] + gap * np.arange(1, steps + 1), draws, shares)


def _columns(fit: "Record", wish: Wish) -> list[int]:
    names = [c.name for c in fit.data.schema.columns]
    wide = wish.columns is None and len(names) > COLUMNS
    chosen = wish.chosen(names, min(COLUMNS, max(wish.most - 1, 1)) if wide or wish.most < 4 else COLUMNS)
    return [names.index(name) for name in chosen]


def _bands(ax: Any, f: Fan, j: int, levels: tuple[float, float]) -> np.ndarray:
    ends = []
    for level, alpha in zip(levels, (0.45, 0.22), strict=True):
        low, high = np.quantile(f.draws[j], [(1 - level) / 2, (1 + level) / 2], axis=0)
        ax.fill_between(f.t, low, high, color=MAIN, alpha=alpha, linewidth=0)
        ends += [low, high]
    mean = f.draws[j].mean(0)
    ax.plot(f.t, mean, color=MAIN, linewidth=1.4)
    return np.array([*ends, mean])


def has_states(fit: "Record") -> bool:
    """Whether rows follow one another, and are in hidden states."""
    ordered = not fit.bound.exchangeable
    return ordered and isinstance(fit.bound, Assigns)


def _areas(ax: Any, t: np.ndarray, p: np.ndarray) -> None:
    below = np.zeros(len(t))
    for k in range(p.shape[1]):
        ax.fill_between(t, below, below + p[:, k], color=colour(k), alpha=0.75, linewidth=0, step="mid")
        below = below + p[:, k]


@kind(
    "states", "hidden states over the series, how sure they are, and what is ahead",
    section="predictions",
    has=has_states, telling=75, takes=("columns", "steps"),
)  # fmt: skip
def states(fit: "Record", wish: Wish) -> Picture:
    """The longest sequence with most probable states, probabilities, and a forecast fan."""
    import pandas as pd

    series = the_series(wish)
    part, bound = series.data, fit.bound
    theta = select_draws(fit.draws, slice(0, 50))
    assigned = bound.assign(bound.rows(part, fit.settings.device), theta, fit.params)
    p = next(iter(assigned.shares.values()))
    at = _columns(fit, wish)
    seen = part.rows <= 30 * STEPS  # else what is ahead is too narrow to be seen
    steps = wish.steps if wish.steps is not None else max(1, min(STEPS, part.rows // 5)) if seen else 0
    f = fan(fit, series, steps, wish.seed) if isinstance(bound, Continues) and steps else None
    most = 500 if wish.most > 2 else 250
    cuts = binned(part.rows, most)
    q = np.add.reduceat(p, cuts, axis=0) / np.diff(np.append(cuts, part.rows))[:, None]
    K = p.shape[1]
    best = assigned.best
    runs = np.flatnonzero(np.diff(best, prepend=best[0] - 1))
    table = pd.DataFrame(
        [
            {
                assigned.name: k, "share of rows": float(p[:, k].mean()),
                **{
                    f"{fit.data.schema.columns[j].name} mean": _weighted(part.values[:, j], p[:, k])
                    for j in at
                    if not fit.data.schema.columns[j].labelled
                },
                "visits": int((best[runs] == k).sum()),
            }
            for k in range(K)
        ]
    )  # fmt: skip
    sure = float((p.max(1) > 0.9).mean())

    def draw(canvas: "Canvas") -> None:
        rows = len(at) + 1
        axes = canvas.grid(rows, 1, sharex=True, height_ratios=[2.2] * len(at) + [1])
        gap = float(np.median(np.diff(series.t))) if part.rows > 1 else 1.0
        for ax, j in zip(axes, at, strict=False):
            x = np.asarray(part.values[:, j])
            column = fit.data.schema.columns[j]
            _line(ax, series.t, x, most)
            if not column.labelled and part.rows <= most:
                for k in range(K):
                    own = best == k
                    ax.plot(series.t[own], x[own], "o", color=colour(k), markersize=2.8, markeredgewidth=0)
            if f is not None and not column.labelled:
                _bands(ax, f, j, (0.5, wish.level))
            ax.set_ylabel(label(column.name, 18))
            if column.labelled and len(column.levels) <= 8:
                ax.set_yticks(range(len(column.levels)), [label(v, 10) for v in column.levels])
        ax = axes[-1]
        if len(axes) == rows:
            _areas(ax, series.t[cuts], q)
            if f is not None and f.shares is not None:
                _areas(ax, f.t, f.shares)
                for each in axes:
                    each.axvline(series.t[-1] + gap / 2, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
            ax.set(ylim=(0, 1), yticks=[0, 1], ylabel=f"p({assigned.name})")
        end = f.t[-1] if f is not None else series.t[-1]
        ax.set_xlim(series.t[0] - gap / 2, end + gap / 2)
        dated(ax, series)
        for k in range(K):
            axes[0].plot([], [], "s", color=colour(k), markersize=5, label=f"{assigned.name} {k}")
        axes[0].legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(K, 6), handletextpad=0.1, columnspacing=1
        )

    more = f" The longest of {series.more + 1} sequences is shown." if series.more else ""
    thin = (
        f" Of each part of {part.rows // len(cuts)} rows the range is shaded."
        if len(cuts) < part.rows
        else ""
    )
    ahead = (
        f" To the right of the dashed line, {steps} rows ahead: mean, 50 % and {wish.level:.0%}." if f else ""
    )
    reading = (
        f"Below, the probability of each {assigned.name} given all rows; in {sure:.0%} of the rows one of "
        "them has "
        f"over 90 %.{ahead}{thin}{more}"
    )
    at_, mean, _, _ = thinned(series.t, np.asarray(part.values[:, at[0]]), 120)
    line = Line(fit.data.names[at[0]], at_, mean)
    path = Line(f"most probable {assigned.name}", series.t[cuts], q.argmax(1).astype(float))
    return Picture(
        f"{assigned.name.capitalize()}s over the series",
        reading,
        table,
        draw,
        (6.4, 1.7 + 1.5 * len(at)),
        (line, path),
    )


def _weighted(x: np.ndarray, w: np.ndarray) -> float:
    use = np.isfinite(x)
    return float(x[use] @ w[use] / max(w[use].sum(), 1e-300))


@kind(
    "forecast", "what follows the last row, with intervals",
    section="predictions",
    has=lambda fit: isinstance(fit.bound, Continues), telling=65, takes=("columns", "steps"),
    part_of="states",
)  # fmt: skip
def forecast(fit: "Record", wish: Wish) -> Picture:
    """The end of the longest sequence, and a fan of what follows it."""
    import pandas as pd

    series = the_series(wish)
    steps = STEPS if wish.steps is None else wish.steps
    f = fan(fit, series, steps, wish.seed)
    at = _columns(fit, wish)
    back = max(3 * steps, 30)
    t, columns = series.t[-back:], fit.data.schema.columns
    rows = []
    for j in at:
        tails = (1 - wish.level) / 2, (1 + wish.level) / 2
        for h in np.unique(np.linspace(0, steps - 1, min(steps, 10)).astype(int)):
            x = f.draws[j][:, h]
            if columns[j].labelled:
                share = np.bincount(x.astype(int), minlength=len(columns[j].levels)) / len(x)
                said = {"most probable": columns[j].levels[int(share.argmax())], "probability": share.max()}
            else:
                low, high = np.quantile(x, tails)
                said = {"mean": x.mean(), "lower": low, "upper": high}
            rows.append({"column": columns[j].name, "step": h + 1} | said)
    table = pd.DataFrame(rows)

    def draw(canvas: "Canvas") -> None:
        axes = canvas.grid(len(at), 1, sharex=True) if len(at) > 1 else canvas.grid(1)
        for ax, j in zip(axes, at, strict=True):
            x = np.asarray(series.data.values[-back:, j])
            column = columns[j]
            if column.labelled:
                share = np.array([(f.draws[j] == c).mean(0) for c in range(len(column.levels))]).T
                seen = np.eye(len(column.levels))[np.nan_to_num(x).astype(int)]
                seen[np.isnan(x)] = 0
                _areas(ax, np.concatenate([t, f.t]), np.concatenate([seen, share]))
                for c, level in enumerate(column.levels[:8]):
                    ax.plot([], [], "s", color=colour(c), label=label(level, 12))
                ax.set_ylim(0, 1)
                ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
            else:
                _line(ax, t, x, 400)
                _bands(ax, f, j, (0.5, wish.level))
            ax.axvline(0.5 * (t[-1] + f.t[0]), color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
            ax.set_ylabel(label(column.name, 18))
        dated(axes[-1], series)

    more = f" Of {series.more + 1} sequences the longest is shown." if series.more else ""
    reading = (
        f"Line: the last rows. Blue: mean of what follows, with intervals of 50 % and {wish.level:.0%} "
        "that hold the "
        f"uncertainty of parameters too.{more}"
    )
    at_, mean, _, _ = thinned(t, np.asarray(series.data.values[-back:, at[0]]), 100)
    sketch = (Line(fit.data.names[at[0]], at_, mean), Line("forecast", f.t, f.draws[at[0]].mean(0)))
    return Picture(f"Forecast, {steps} rows ahead", reading, table, draw, (6.0, 1.0 + 1.9 * len(at)), sketch)


def chain_of(fit: "Record") -> tuple[str, str, np.ndarray] | None:
    """The variable that says how one of K follows another, what these are called, and draws (S, K, K)."""
    if not (fit.bayesian and isinstance(fit.bound, Named)):
        return None
    for name, (dims, values) in fit.bound.variables(select_draws(fit.draws, slice(0, 500)))[0].items():
        if len(dims) == 2 and dims[1] == f"{dims[0]}_to" and values.shape[1] > 1:
            return name, dims[0], values
    return None


@kind(
    "transitions", "how states follow one another, as a graph and a heat map",
    has=lambda fit: chain_of(fit) is not None, telling=25, of_rows=False,
)  # fmt: skip
def transitions(fit: "Record", wish: Wish) -> Picture:
    """Posterior means of the transition probabilities; arrows are as wide as they are probable."""
    import pandas as pd

    from ppl_models.report.pictures.classes import heat

    found = chain_of(fit)
    assert found is not None
    _, noun, draws = found
    A = draws.mean(0)
    K = len(A)
    low, high = np.quantile(draws, [(1 - wish.level) / 2, (1 + wish.level) / 2], axis=0)
    table = pd.DataFrame(
        [
            {"from": i, "to": j, "probability": A[i, j], "lower": low[i, j], "upper": high[i, j]}
            for i in range(K)
            for j in range(K)
        ]
    )
    names = [str(k) for k in range(K)]

    def draw(canvas: "Canvas") -> None:
        if K > 10 or wish.most < 2:
            heat(canvas.one(), A, names, names, f"to {noun}", f"from {noun}")
            return
        graph, ax = canvas.grid(2)
        heat(ax, A, names, names, f"to {noun}", f"from {noun}")
        _graph(graph, A)

    reading = (
        "Each row of the heat map adds up to 1. In the graph, arrows are as wide as their probability "
        "(those under "
        "2 % are left out), rings are as thick as the probability of staying."
    )
    return Picture("Transitions", reading, table, draw, (6.4, 3.0))


def _graph(ax: Any, A: np.ndarray) -> None:
    """States on a circle, arrows between them."""
    from matplotlib.patches import Circle, FancyArrowPatch

    K = len(A)
    angle = np.pi / 2 + 2 * np.pi * np.arange(K) / K if K > 2 else np.pi * np.arange(K)
    place = np.column_stack([np.cos(angle), np.sin(angle)])
    size = 0.26 if K <= 5 else 0.18
    rings = []
    for k in range(K):
        ax.add_patch(Circle(place[k], size, facecolor=colour(k), alpha=0.2, linewidth=0))
        ring = Circle(place[k], size, fill=False, edgecolor=colour(k), linewidth=0.8 + 4 * A[k, k])
        rings.append(ax.add_patch(ring))
        ax.text(*place[k], f"{k}\n{A[k, k]:.2f}", ha="center", va="center", fontsize=8)
    for i in range(K):
        for j in range(K):
            if i != j and A[i, j] >= 0.02:
                head = 2.5 + 5 * A[i, j]
                ax.add_patch(
                    FancyArrowPatch(
                        place[i],
                        place[j],
                        connectionstyle="arc3,rad=0.22",
                        mutation_scale=1,
                        arrowstyle=f"-|>,head_width={head},head_length={2 * head}",
                        patchA=rings[i],
                        patchB=rings[j],
                        linewidth=0.6 + 5 * A[i, j],
                        color=colour(i),
                        shrinkA=2,
                        shrinkB=2,
                    )  # fmt: skip
                )
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.45, 1.45))
    ax.set_aspect("equal")
    ax.axis("off")
