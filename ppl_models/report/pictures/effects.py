"""What predictions hang on: marginal effects of columns, and boundaries of classes in two of them."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ppl_models.capabilities import Conditional, Regresses, Uncertain
from ppl_models.data import Column, Dataset
from ppl_models.draws import Draws, number_of, select_draws
from ppl_models.report.canvas import INK, MAIN, PAPER, colour, label
from ppl_models.report.picture import Picture, Wish, kind

if TYPE_CHECKING:
    from ppl_models.record import Record
    from ppl_models.report.canvas import Canvas

GRID, ROWS, DRAWS = 15, 100, 200
"""Values of a column, rows that predictions are averaged over, and draws of θ."""

TRIED = 12
"""Columns whose effects are computed, at most: the first ones."""


class Effect(NamedTuple):
    """Mean predictions of rows with a column set to each of some values.

    Attributes:
        column: which.
        values: (G,) what it is set to.
        mean: (G, C).
        lower: (G, C) of the interval under the posterior; equal to the mean where there is none.
        upper: (G, C) the same.
    """

    column: Column
    values: np.ndarray
    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def expected(fit: "Record", rows: Dataset, theta: Draws) -> np.ndarray:
    """Predictions (S, n, C): probabilities of classes, or what is expected of a number; NaN without."""
    bound: Any = fit.bound
    encoded = bound.rows(rows, fit.settings.device)
    found: np.ndarray | None = None
    if isinstance(bound, Regresses):
        for part in bound.predicted(encoded, theta):
            value = part.new.mean.double().numpy()[..., None]
            found = np.full((len(value), rows.rows, 1), np.nan) if found is None else found
            found[:, part.index] = value
    elif isinstance(bound, Uncertain):
        for part in bound.probabilities(encoded, theta):
            value = part.values.double().numpy()
            found = np.full((len(value), rows.rows, value.shape[-1]), np.nan) if found is None else found
            found[:, part.index] = value
    else:
        found = bound.predictive(encoded, theta)[None]
    return np.full((1, rows.rows, 1), np.nan) if found is None else found


def has_effects(fit: "Record") -> bool:
    """Whether it predicts a target of rows that are independent, from columns of a table."""
    bound, schema = fit.bound, fit.data.schema
    able = bound.exchangeable and isinstance(bound, Conditional | Regresses) and schema.shape is None
    alone = schema.sequence is None and len(fit.data.lengths) <= 1
    return able and alone and not fit.data.arrays and len(schema.columns) > 1


def predictors(fit: "Record") -> list[Column]:
    """The columns that a target is predicted from."""
    needed = fit.bound.needed()
    columns = [c for c in fit.data.schema.columns if c.name != fit.data.schema.target]
    return [c for c in columns if not needed or c.name in needed] or columns


def _theta(fit: "Record", draws: int) -> Draws:
    from ppl_models.capabilities import Direct

    if isinstance(fit.bound, Direct) and not isinstance(fit.bound, Uncertain):
        return fit.bound.direct(fit.params)
    return select_draws(fit.draws, slice(0, min(draws, number_of(fit.draws))))


def effect(fit: "Record", part: Dataset, column: Column, theta: Draws, tails: tuple[float, float]) -> Effect:
    """Partial dependence: predictions averaged over rows, one column of which is set to each of some values.

        f_j(v) = (1/n) Σ_n E[y | x_n with x_nj = v]

    (Friedman 2001, Greedy function approximation, Annals of Statistics 29.)

    Args:
        fit: whose predictions.
        part: the rows.
        column: which is set.
        theta: draws of θ.
        tails: probabilities of the ends of the interval.
    """
    from dataclasses import replace

    j = part.names.index(column.name)
    x = part.values[:, j]
    if column.labelled:
        values = np.arange(min(len(column.levels), GRID), dtype=float)
    else:
        values = np.unique(np.nanquantile(x, np.linspace(0.02, 0.98, GRID)))
        if len(values) > 3:
            values = np.linspace(values[0], values[-1], GRID)
        values = np.unique(np.rint(values)) if column.integer else values
    G, n = len(values), part.rows
    cells = np.tile(np.asarray(part.values), (G, 1))
    cells[:, j] = np.repeat(values, n)
    rows = replace(
        part,
        values=cells,
        lengths=np.array([G * n]),
        sequence_ids=("",),
        times=None,
        weight=None,
        index=None,
        kept=None,
    )
    p = expected(fit, rows, theta).reshape(
        -1, G, n, 1 if isinstance(fit.bound, Regresses) else len(fit.bound.labels())
    )
    each = np.nanmean(p, 2)  # (S, G, C)
    lower, upper = np.quantile(each, tails, axis=0)
    return Effect(column, values, each.mean(0), lower, upper)


@kind(
    "effects", "what predictions are on average as each column goes through its values",
    section="predictions",
    has=has_effects, telling=40, takes=("columns",),
)  # fmt: skip
def effects(fit: "Record", wish: Wish) -> Picture:
    """Partial dependence of the prediction on the columns that change it most."""
    import pandas as pd

    own = {c.name: c for c in predictors(fit)}
    names = list(own)[:TRIED] if wish.columns is None else wish.chosen(list(own))
    part = wish.part(fit, ROWS)
    if part.rows > ROWS:
        part = part.subset(np.linspace(0, part.rows - 1, ROWS).astype(int))
    known = ~np.isnan(part.values[:, [part.names.index(n) for n in own]]).any(1)
    part = part.subset(np.flatnonzero(known)) if known.sum() >= 20 else part
    theta = _theta(fit, DRAWS)
    tails = (1 - wish.level) / 2, (1 + wish.level) / 2
    found = [effect(fit, part, own[name], theta, tails) for name in names]
    found = [e for e in found if np.isfinite(e.mean).all()]
    if wish.columns is None:
        found = sorted(found, key=lambda e: -float(np.ptp(e.mean, axis=0).max()))[: min(wish.most, 6)]
    classes = [] if isinstance(fit.bound, Regresses) else list(fit.bound.labels())
    shown = [0] if not classes else [1] if len(classes) == 2 else list(range(min(len(classes), 6)))
    target = fit.data.schema.target or ""
    rows = []
    for e in found:
        at = np.unique(np.linspace(0, len(e.values) - 1, min(5, len(e.values))).astype(int))
        for g in range(len(e.values)) if e.column.labelled else at:
            for c in shown:
                value = e.column.levels[int(e.values[g])] if e.column.labelled else f"{e.values[g]:.4g}"
                rows.append(
                    {
                        "column": e.column.name,
                        "value": value,
                        **({"class": classes[c]} if len(shown) > 1 else {}),
                        "prediction": e.mean[g, c],
                        "lower": e.lower[g, c],
                        "upper": e.upper[g, c],
                    }  # fmt: skip
                )
    table = pd.DataFrame(rows)
    said = f"p({label(classes[1], 16)})" if len(classes) == 2 else "probability" if classes else label(target)

    def draw(canvas: "Canvas") -> None:
        axes = canvas.grid(len(found), sharey=True)
        for ax, e in zip(axes, found, strict=True):
            for i, c in enumerate(shown):
                hue = colour(i) if len(shown) > 1 else MAIN
                name = label(classes[c], 16) if len(shown) > 1 else None
                if e.column.labelled:
                    x = np.arange(len(e.values)) + (i - (len(shown) - 1) / 2) * 0.15
                    ax.vlines(x, e.lower[:, c], e.upper[:, c], color=hue, linewidth=1.4)
                    ax.plot(x, e.mean[:, c], "o", color=hue, markersize=4, label=name)
                else:
                    ax.fill_between(e.values, e.lower[:, c], e.upper[:, c], color=hue, alpha=0.2, linewidth=0)
                    ax.plot(e.values, e.mean[:, c], color=hue, label=name)
            if e.column.labelled:
                shown_ = [label(e.column.levels[int(v)], 10) for v in e.values]
                crowded = sum(map(len, shown_)) > 22
                ax.set_xticks(
                    range(len(shown_)),
                    shown_,
                    rotation=40 if crowded else 0,
                    ha="right" if crowded else "center",
                )
                ax.set_xlim(-0.5, len(shown_) - 0.5)
            else:
                ax.locator_params(axis="x", nbins=4)
            ax.set_title(label(e.column.name), fontsize=8.5)
            place = ax.get_subplotspec()
            if place is None or not place.colspan.start:
                ax.set_ylabel(said)
        if len(shown) > 1:
            axes[0].legend(fontsize=7)

    band = (
        f" Bands hold {wish.level:.0%} of the posterior."
        if isinstance(fit.bound, Uncertain | Regresses)
        else ""
    )
    reading = (
        f"The mean prediction of {part.rows} rows when the column is set to each value and the others stay "
        "as they "
        f"are; the columns that change it most come first.{band}"
    )
    tall = 0.7 + 1.8 * -(-len(found) // 3) if len(found) != 4 else 4.2
    return Picture("Marginal effects", reading, table, draw, (6.0, tall) if len(found) > 1 else (4.6, 3.2))


def has_boundary(fit: "Record") -> bool:
    """Whether it tells classes apart by at least two numbers."""
    numbers = [c for c in predictors(fit) if not c.labelled] if has_effects(fit) else []
    return isinstance(fit.bound, Conditional) and len(numbers) >= 2


@kind(
    "boundary", "which class is predicted where, in two columns",
    section="predictions",
    has=has_boundary, telling=20, takes=("columns",),
)  # fmt: skip
def boundary(fit: "Record", wish: Wish) -> Picture:
    """Probabilities over two columns, the others at their means or most frequent labels, and the rows."""
    from dataclasses import replace

    import pandas as pd

    numbers = [c for c in predictors(fit) if not c.labelled]
    part = wish.part(fit, 400)
    theta = _theta(fit, 50)
    chosen = list(wish.columns or ())
    if not chosen:
        few = part.subset(np.linspace(0, part.rows - 1, min(part.rows, 60)).astype(int))
        tried = numbers[:TRIED]
        tails = (0.5, 0.5)
        span = [
            float(np.nan_to_num(np.ptp(effect(fit, few, c, theta, tails).mean, axis=0).max())) for c in tried
        ]
        chosen = [tried[i].name for i in np.sort(np.argsort(span)[::-1][:2])]
    own = wish.chosen([c.name for c in numbers]) if wish.columns else chosen
    if len(own) != 2:
        from ppl_models.errors import UsageError

        raise UsageError(f"a boundary is drawn over two columns, got {len(own)}")
    at = [part.names.index(name) for name in own]
    others = [c for c in part.schema.columns if c.name not in own and c.name != part.schema.target]
    base = np.array([_typical(c, part.values[:, j]) for j, c in enumerate(part.schema.columns)])
    X = np.array(part.values[:, at])
    low, high = np.nanmin(X, 0), np.nanmax(X, 0)
    room = 0.05 * (high - low)
    size = 80
    xs, ys = (np.linspace(low[i] - room[i], high[i] + room[i], size) for i in (0, 1))
    cells = np.tile(base, (size * size, 1))
    cells[:, at[0]], cells[:, at[1]] = np.tile(xs, size), np.repeat(ys, size)
    if part.schema.target is not None:
        cells[:, part.names.index(part.schema.target)] = np.nan
    rows = replace(
        part,
        values=cells,
        lengths=np.array([size * size]),
        sequence_ids=("",),
        times=None,
        weight=None,
        index=None,
        kept=None,
    )
    p = fit.bound.predictive(fit.bound.rows(rows, fit.settings.device), theta).reshape(size, size, -1)
    y = np.asarray(part.column(part.schema.target or ""))
    labels = fit.bound.labels()
    rng = np.random.default_rng(0)
    for i in (0, 1):  # points on a few values would lie upon one another
        if len(np.unique(X[:, i])) <= 12:
            X[:, i] = X[:, i] + rng.uniform(-0.02, 0.02, len(X)) * (high[i] - low[i])
    best = p.argmax(-1)
    table = pd.DataFrame(
        [
            {
                "class": labels[c], "share of the area": float((best == c).mean()),
                "mean probability": float(p[..., c].mean()),
            }
            for c in range(len(labels))
        ]
    )  # fmt: skip

    def draw(canvas: "Canvas") -> None:
        from matplotlib.colors import to_rgb

        ax = canvas.one()
        C = p.shape[-1]
        hues = np.array([to_rgb(colour(c)) for c in range(C)])
        certain = np.clip((p.max(-1) - 1 / C) / (1 - 1 / C), 0, 1)
        image = np.concatenate([hues[best], (0.08 + 0.42 * certain)[..., None]], -1)
        ax.imshow(image, origin="lower", aspect="auto", extent=(xs[0], xs[-1], ys[0], ys[-1]))
        for c in range(C) if C > 2 else [1]:
            margin = p[..., c] - np.delete(p, c, -1).max(-1)
            if margin.min() < 0 < margin.max():
                ax.contour(xs, ys, margin, [0], colors=[INK], linewidths=0.9)
        for c in range(C):
            mine = y == c
            if not wish.aggregate and c < 10:
                ax.plot(
                    X[mine, 0], X[mine, 1], "os^DvPX*"[c % 8], color=colour(c), markersize=3.6,
                    markeredgecolor=PAPER, markeredgewidth=0.4,
                )  # fmt: skip
            ax.plot([], [], "os^DvPX*"[c % 8], color=colour(c), markersize=4.5, label=label(labels[c], 16))
        ax.set(xlabel=label(own[0]), ylabel=label(own[1]), xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]))
        if C <= 10:
            ax.legend(loc="best", frameon=True, framealpha=0.8, edgecolor="none")

    rest = (
        f" The other {len(others)} columns are at their means or most frequent labels, so that rows may "
        "lie on the "
        "wrong side because of them."
        if others
        else ""
    )
    reading = (
        f"Colour: the predicted class, paler where it is not sure; lines: where two are as probable.{rest}"
    )
    return Picture("Decision boundary", reading, table, draw, (5.4, 4.2))


def _typical(column: Column, x: np.ndarray) -> float:
    known = x[np.isfinite(x)]
    if not len(known):
        return np.nan
    if column.labelled:
        return float(np.bincount(known.astype(int)).argmax())
    middle = float(known.mean())
    return float(np.rint(middle)) if column.integer else middle
