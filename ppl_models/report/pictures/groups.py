"""Groups of rows in two columns: components of a mixture, or classes, with ellipses and responsibilities."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.capabilities import Assigns, Conditional, Samples
from ppl_models.draws import select_draws
from ppl_models.errors import UsageError
from ppl_models.report.canvas import FAINT, INK, bare, colour, histogram, label, shades
from ppl_models.report.picture import Line, Picture, Wish, kind
from ppl_models.report.shapes import bins

if TYPE_CHECKING:
    from ppl_models.record import Record
    from ppl_models.report.canvas import Canvas

MADE = 20_000
"""Rows that are made by the model, for means and covariances of the groups."""

POINTS = 600
"""Rows that are drawn, at most."""

ELLIPSES = (0.5, 0.9)
"""Shares of a normal group that are within its ellipses."""


def has_groups(fit: "Record") -> bool:
    """Whether it makes rows in groups: of independent rows, with at least one number."""
    bound = fit.bound
    numbers = any(not c.labelled for c in fit.data.schema.columns)
    able = bound.exchangeable and isinstance(bound, Samples)
    return able and numbers and isinstance(bound, Assigns | Conditional)


def _grouped(fit: "Record") -> tuple[str, list[str], np.ndarray, np.ndarray]:
    """What groups are called, each of them, rows that the model makes, and the group of each."""
    import torch

    bound, schema = fit.bound, fit.data.schema
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.settings.seed + 16)
        made = bound.sample(MADE, fit.draws, None)
    if isinstance(bound, Conditional):
        names = [label(level, 16) for level in bound.labels()]
        return str(schema.target), names, made.values, made.values[:, schema.names.index(str(schema.target))]
    noun, group = next(iter(made.beside.items()))
    return noun, [f"{noun} {k}" for k in range(int(group.max()) + 1)], made.values, group


def _responsible(fit: "Record", rows: Any) -> np.ndarray:
    """(n, K) probabilities of the groups."""
    bound, theta = fit.bound, select_draws(fit.draws, slice(0, 50))
    if isinstance(bound, Conditional):
        return bound.predictive(rows, theta)
    return next(iter(bound.assign(rows, theta, fit.params).shares.values()))


@kind(
    "groups", "components or classes as ellipses over two columns, and which row is in which",
    has=has_groups, telling=70, takes=("columns",),
)  # fmt: skip
def groups(fit: "Record", wish: Wish) -> Picture:
    """Rows coloured by their probabilities of the groups, with their ellipses; of one column densities."""
    import pandas as pd

    noun, names, made, group = _grouped(fit)
    columns = fit.data.schema.columns
    numbers = [j for j, c in enumerate(columns) if not c.labelled]
    K = len(names)
    share = np.array([(group == k).mean() for k in range(K)])
    kept = [k for k in range(K) if share[k] > 0.002]
    mean = np.array(
        [made[group == k][:, numbers].mean(0) if k in kept else np.zeros(len(numbers)) for k in range(K)]
    )
    sd = np.array(
        [made[group == k][:, numbers].std(0) if k in kept else np.ones(len(numbers)) for k in range(K)]
    )
    weight = share[kept] / share[kept].sum()
    middle = weight @ mean[kept]
    apart = weight @ (mean[kept] - middle) ** 2 / np.maximum(weight @ sd[kept] ** 2, 1e-300)
    order = [columns[numbers[i]].name for i in np.argsort(-apart, kind="stable")]
    chosen = wish.chosen(order, 2)
    if len(chosen) > 2:
        raise UsageError(f"groups are drawn over one or two columns, got {len(chosen)}")
    at = [fit.data.names.index(name) for name in chosen]
    part = wish.part(fit, POINTS)
    X = np.asarray(part.values)[:, at]
    p = _responsible(fit, fit.bound.rows(part, fit.settings.device))
    use = np.isfinite(X).all(1) & np.isfinite(p).all(1)
    X, p = X[use], p[use]
    best = p.argmax(1)
    own = [numbers.index(j) for j in at]
    table = pd.DataFrame(
        [
            {noun: names[k], "share": share[k]}
            | {f"{columns[j].name} mean": mean[k, i] for i, j in zip(own, at, strict=True)}
            | {f"{columns[j].name} sd": sd[k, i] for i, j in zip(own, at, strict=True)}
            for k in kept
        ]
    )
    sure = float((p.max(1) > 0.9).mean()) if len(p) else float("nan")
    if len(at) == 1:
        return _one(fit, wish, chosen[0], X[:, 0], made[:, at[0]], group, names, kept, table, noun)
    cov = {k: np.cov(made[group == k][:, at].T) for k in kept}

    def draw(canvas: "Canvas") -> None:
        from matplotlib.colors import to_rgb
        from matplotlib.patches import Ellipse

        ax = canvas.one()
        hues = np.array([to_rgb(colour(k)) for k in range(K)])
        if wish.aggregate or len(X) > POINTS * 2:
            for k in kept:
                z, x, y = np.histogram2d(
                    X[:, 0], X[:, 1], 36, weights=p[:, k],
                    range=[(a.min(), a.max() + 1e-9) for a in X.T],
                )  # fmt: skip
                ax.imshow(
                    np.sqrt(z.T), origin="lower", aspect="auto", cmap=shades(colour(k)),
                    extent=(x[0], x[-1], y[0], y[-1]),
                )  # fmt: skip
        else:
            grey = np.array(to_rgb(FAINT))
            certain = (
                np.clip((p.max(1) - 1 / K) / (1 - 1 / K), 0, 1)[:, None] if K > 1 else np.ones((len(p), 1))
            )
            mixed = certain * hues[best] + (1 - certain) * (0.5 * grey + 0.5 * (p @ hues))
            ax.scatter(X[:, 0], X[:, 1], c=mixed, s=12, linewidths=0, alpha=0.8)
        for k in kept:
            values, vectors = np.linalg.eigh(cov[k])
            angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
            centre = mean[k][own]
            for inside, line in list(zip(ELLIPSES, ("-", (0, (4, 2))), strict=True))[: 1 if K > 6 else 2]:
                # P(|z|² ≤ r²) = 1 − exp(−r²/2) of a normal in two dimensions
                radius = np.sqrt(-2 * np.log(1 - inside) * np.maximum(values, 0))
                ax.add_patch(
                    Ellipse(
                        centre,
                        2 * radius[1],
                        2 * radius[0],
                        angle=angle,
                        fill=False,
                        edgecolor=colour(k),
                        linestyle=line,
                        linewidth=1.3,
                    )  # fmt: skip
                )
            ax.plot(*centre, marker="+", color=INK, markersize=7)
            ax.plot([], [], "o", color=colour(k), markersize=4, label=names[k])
        ax.autoscale_view()
        ax.set(xlabel=label(chosen[0]), ylabel=label(chosen[1]))
        if len(kept) <= 10:
            ax.legend(loc="best", handletextpad=0.2)

    reading = (
        f"Each row has the colour of the {noun} that it is most probably in, paler where that is not sure; "
        f"{sure:.0%} of the rows are in one with over 90 %. Ellipses hold {ELLIPSES[0]:.0%} (line) and "
        f"{ELLIPSES[1]:.0%} (dashes) of normal groups."
    )
    bars = (Line("share", None, share[kept], tuple(names[k] for k in kept)),)
    return Picture(
        f"{_title(fit, noun)} in {label(chosen[0])} and {label(chosen[1])}",
        reading,
        table,
        draw,
        (5.4, 4.2),
        bars,
    )


def _title(fit: "Record", noun: str) -> str:
    return f"Classes of {label(noun)}" if isinstance(fit.bound, Conditional) else f"{noun.capitalize()}s"


def _one(
    fit: "Record", wish: Wish, name: str, x: np.ndarray, made: np.ndarray, group: np.ndarray,
    names: list[str], kept: list[int], table: Any, noun: str,
) -> Picture:  # fmt: skip
    """Densities of one column, times the shares of the groups."""
    column = fit.data.schema.columns[fit.data.names.index(name)]
    edges = bins(x, whole=str(column.kind) == "count")
    width = np.diff(edges)
    tall = np.histogram(x, edges)[0] / (len(x) * width)
    fine = edges if str(column.kind) == "count" else np.linspace(edges[0], edges[-1], 121)
    curves = [np.histogram(made[group == k], fine)[0] / (len(made) * np.diff(fine)) for k in kept]
    middle = 0.5 * (fine[1:] + fine[:-1])

    def draw(canvas: "Canvas") -> None:
        ax = canvas.one()
        histogram(ax, edges, tall)
        for k, height in zip(kept, curves, strict=True):
            smooth = height if len(fine) < 40 else np.convolve(height, np.ones(7) / 7, mode="same")
            ax.plot(middle, smooth, color=colour(k), label=names[k])
        ax.set_xlabel(label(name))
        bare([ax])
        if len(kept) > 1:
            ax.legend()

    reading = f"Grey: the data. Lines: each {noun}'s density times its share; together like the data."
    return Picture(f"{_title(fit, noun)} in {label(name)}", reading, table, draw, (5.4, 3.0))
