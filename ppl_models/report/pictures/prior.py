"""The data beside data sets that are drawn from the prior."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.bound import Bayesian
from ppl_models.capabilities import PriorDraws
from ppl_models.errors import PplError
from ppl_models.prior_predictive import LEVELS, RANGE, WIDE, Predicted, predicted
from ppl_models.report.canvas import INK, MAIN, SECOND, bare, histogram, label
from ppl_models.report.picture import Line, Picture, Wish, kind

if TYPE_CHECKING:
    from ppl_models.record import Record
    from ppl_models.report.canvas import Canvas

TABLES = 400
"""Data sets that are drawn."""

LINES = 40
"""Of these that have a line of their own."""

BINS = 30
"""Of numbers, at most."""

LARGE = 30.0
"""Times the range of the data from which the axis is logarithmic far from it."""


def has_prior(fit: "Record") -> bool:
    """Whether its prior can be drawn from, and data from it."""
    bound = fit.bound
    if not (isinstance(bound, Bayesian) and isinstance(bound, PriorDraws) and bound.generates):
        return False
    try:
        bound.prior_draws(1, 0)
    except PplError:  # a horseshoe, or a prior that is improper
        return False
    return True


def _edges(p: Predicted) -> np.ndarray:
    """Of bins over the data and nine tenths of what the prior draws; evenly in asinh where that is far wider.

    Whole numbers that are few have a bin each. Of few rows there are few bins, as their shares are rough.
    """
    number = int(np.clip(2 * len(p.seen) ** 0.5, 6, BINS))
    low, high = np.quantile(p.drawn, RANGE, method="nearest")
    low, high = min(low, float(p.seen.min())), max(high, float(p.seen.max()))
    if not high > low:
        return np.array([low - 0.5, low + 0.5])
    if p.whole and high - low < BINS:
        return np.arange(low - 0.5, high + 1)
    if not p.width > LARGE:
        return np.linspace(low, high, number + 1)
    middle, scale = _place(p)
    with np.errstate(over="ignore"):
        ends = np.arcsinh((np.array([low, high]) - middle) / scale)
        return middle + scale * np.sinh(np.linspace(*ends, number + 1))


def _middles(edges: np.ndarray) -> np.ndarray:
    return 0.5 * (edges[1:] + edges[:-1])


def _place(p: Predicted) -> tuple[float, float]:
    """Where the data is, and how far it goes."""
    return float(np.median(p.seen)), float(np.subtract(*np.quantile(p.seen, RANGE[::-1]))) or 1.0


def _shares(p: Predicted) -> tuple[np.ndarray, tuple[str, ...], np.ndarray, np.ndarray]:
    """Edges, names of labels, and the shares of cells in each bin: (m,) of the data, (S, m) of data sets."""
    if p.levels:
        often = np.bincount(p.seen.astype(int), minlength=len(p.levels))
        codes = np.sort(np.argsort(-often, kind="stable")[:LEVELS])
        names = tuple(p.levels[code] for code in codes)
        seen = (p.seen[:, None] == codes).mean(0)
        return np.arange(len(codes) + 1) - 0.5, names, seen, (p.drawn[..., None] == codes).mean(1)
    edges = _edges(p)
    made = np.array([np.histogram(x, edges)[0] for x in p.drawn]) / p.drawn.shape[1]
    return edges, (), np.histogram(p.seen, edges)[0] / len(p.seen), made


@kind(
    "prior_predictive", "the data beside data sets that are drawn from the prior",
    section="checks", has=has_prior, takes=("columns",),
)  # fmt: skip
def prior_predictive(fit: "Record", wish: Wish) -> Picture:
    """A line of each of some data sets of the prior, their mean, and the data, by shares of cells in bins."""
    import pandas as pd

    every = predicted(fit, TABLES)
    names = wish.chosen([p.name for p in every])
    found = [(p, *_shares(p)) for p in every if p.name in names]
    tails = (1 - wish.level) / 2, (1 + wish.level) / 2
    rows = []
    for p, edges, levels, seen, made in found:
        low, high = np.quantile(made, tails, axis=0)
        told = levels or tuple(f"{a:.4g} to {b:.4g}" for a, b in zip(edges[:-1], edges[1:], strict=True))
        for k, cells in enumerate(told):
            rows.append(
                {
                    "column": p.name, "cells": cells, "observed": seen[k],
                    "prior": made[:, k].mean(), "lower": low[k], "upper": high[k],
                }
            )  # fmt: skip

    def draw(canvas: "Canvas") -> None:
        for ax, (p, edges, levels, seen, made) in zip(canvas.grid(len(found)), found, strict=True):
            if levels:
                low, high = np.quantile(made, tails, axis=0)
                histogram(ax, edges, seen, INK, alpha=0.3)
                at = np.arange(len(levels))
                ax.vlines(at, low, high, color=MAIN, linewidth=1.6)
                ax.plot(at, made.mean(0), "o", color=SECOND, markersize=4)
                ax.set_xticks(at, [label(name, 10) for name in levels], fontsize=7)
                if sum(map(len, levels)) > 22:
                    ax.tick_params(axis="x", rotation=40)
            else:
                _scale(ax, p)
                middle = _middles(edges)
                for each in made[:LINES]:
                    ax.plot(middle, each, color=MAIN, alpha=0.2, linewidth=0.7)
                ax.plot(middle, made.mean(0), color=SECOND, linestyle=(0, (3, 2)))
                histogram(ax, edges, seen, INK, alpha=0.15)
                ax.plot(middle, seen, color=INK)
            ax.set_ylim(0, 1.05 * max(seen.max(), made.mean(0).max(), float(np.quantile(made.max(1), 0.8))))
            ax.set_title(label(p.name), fontsize=8.5)
        bare(canvas.axes)

    wide = [p.name for p, *_ in found if p.width > WIDE]
    reading = (
        f"Black: the data. Blue: {LINES} data sets drawn from the prior, or the {wish.level:.0%} interval of "
        "the shares of labels. Orange: the mean of all. The data should be among them, and they should not "
        "be of another order of magnitude."
    )
    if wide:
        reading += (
            f" Of {', '.join(map(label, wide[:3]))} the prior is over {WIDE:g} times as wide as the data."
        )
    p, edges, levels, seen, made = found[0]
    middle = _middles(edges)
    sketch = (
        (Line(f"{p.name}: data", None, seen, levels),)
        if levels
        else (Line(f"{p.name}: data", middle, seen), Line("prior", middle, made.mean(0)))
    )
    down = -(-len(found) // min(len(found), 3 if len(found) != 4 else 2))
    size = (6.0, 0.7 + 1.6 * down) if len(found) > 1 else (5.0, 3.2)
    return Picture("Prior predictive check", reading, pd.DataFrame(rows), draw, size, sketch)


def _scale(ax: Any, p: Predicted) -> None:
    """Linear about the data, and logarithmic beyond, where the prior is that much wider."""
    if p.width > LARGE:
        middle, scale = _place(p)
        ax.set_xscale(
            "function",
            functions=(lambda x: np.arcsinh((x - middle) / scale), lambda y: middle + scale * np.sinh(y)),
        )
        low, high = _edges(p)[[0, -1]]
        tens = [10.0**k for k in range(-3, 17, 1)]
        far = max(abs(low), abs(high))
        step = [t for t in tens if scale < t <= far]
        every = step[:: max(1, len(step) // 2)] or [far]
        ticks = [t for t in (*(-t for t in every[::-1]), middle, *every) if low <= t <= high]
        ax.set_xticks(ticks, [f"{t:.3g}" for t in ticks])
        ax.minorticks_off()
    else:
        ax.locator_params(axis="x", nbins=4)
