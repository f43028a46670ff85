"""The data by themselves, and beside data that the model makes."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ppl_models.bound import Bayesian
from ppl_models.capabilities import Redraws, Samples
from ppl_models.data import Column, Dataset, Kind
from ppl_models.draws import number_of, select_draws
from ppl_models.errors import DataError
from ppl_models.report.canvas import INK, MAIN, histogram, label
from ppl_models.report.picture import Line, Picture, Wish, kind, name_of
from ppl_models.report.shapes import bins

if TYPE_CHECKING:
    from ppl_models.record import Record
    from ppl_models.report.canvas import Canvas

TABLES = 40
"""Data sets that are made."""

CELLS = 400_000
"""Cells of each, at most."""

LEVELS = 15
"""Labels that have a bar, at most: those that are most frequent."""


class Shares(NamedTuple):
    """How the cells of a column are distributed.

    Attributes:
        name: of the column.
        edges: (m + 1,) of bins; of labels the halves around their codes.
        names: (m,) of labels; () of numbers.
        seen: (m,) share of the observed cells in each.
        missing: share of the cells that are missing.
    """

    name: str
    edges: np.ndarray
    names: tuple[str, ...]
    seen: np.ndarray
    missing: float


def counted(x: np.ndarray, edges: np.ndarray, codes: np.ndarray | None, w: np.ndarray | None) -> np.ndarray:
    """Shares of cells by bin, or by some codes; those outside are in no bin, and count in the total.

    Args:
        x: (n,) cells, NaN where missing.
        edges: of bins.
        codes: of the labels that are shown; None of numbers.
        w: (n,) weights.
    """
    use = np.isfinite(x)
    x, w = x[use], None if w is None else w[use]
    total = max(len(x) if w is None else w.sum(), 1e-300)
    if codes is None:
        return np.histogram(x, edges, weights=w)[0] / total
    each = np.bincount(x.astype(int), w, minlength=int(codes.max(initial=0)) + 1)
    return each[codes] / total


def shares(
    column: Column, x: np.ndarray, w: np.ndarray | None = None, made: np.ndarray | None = None
) -> tuple[Shares, np.ndarray | None]:
    """The distribution of a column, and the codes of its labels that are shown.

    Args:
        column: which.
        x: (n,) cells.
        w: (n,) weights.
        made: other cells that should have a place in the bins too, but for the furthest of them.
    """
    missing = float(np.isnan(x).mean()) if len(x) else 0.0
    if column.labelled:
        often = np.bincount(x[np.isfinite(x)].astype(int), minlength=len(column.levels))
        codes = np.sort(np.argsort(-often, kind="stable")[:LEVELS])
        edges = np.arange(len(codes) + 1) - 0.5
        names = tuple(column.levels[c] for c in codes)
        return Shares(column.name, edges, names, counted(x, edges, codes, w), missing), codes
    edges = bins(x[np.isfinite(x)], whole=column.kind is Kind.COUNT)
    if made is not None and len(edges) > 2:
        low, high = np.nanquantile(made, [0.005, 0.995])
        width = edges[1] - edges[0]
        before = np.ceil(np.clip((edges[0] - low) / width, 0, 15))
        after = np.ceil(np.clip((high - edges[-1]) / width, 0, 15))
        edges = edges[0] + width * np.arange(-before, len(edges) + after)
    return Shares(column.name, edges, (), counted(x, edges, None, w), missing), None


def axis_of(ax: Any, s: Shares) -> None:
    """Labels of a column's axis."""
    if s.names:
        shown = [label(n, 10) for n in s.names]
        crowded = sum(map(len, shown)) > 22
        ax.set_xticks(
            range(len(shown)), shown, rotation=40 if crowded else 0, ha="right" if crowded else "center"
        )
        ax.tick_params(axis="x", labelsize=7)
    else:
        ax.locator_params(axis="x", nbins=4)


def _told(s: Shares) -> list[str]:
    """What each bin is called."""
    return list(s.names) or [f"{a:.4g} to {b:.4g}" for a, b in zip(s.edges[:-1], s.edges[1:], strict=True)]


@kind(
    "data",
    "how the cells of each column are distributed",
    section="data",
    has=lambda fit: True,
    takes=("columns",),
)
def data(fit: "Record", wish: Wish) -> Picture:
    """A histogram of each column; of images the mean and the sd of each pixel."""
    import pandas as pd

    if wish.data.schema.shape is not None and wish.columns is None:
        return _of_images(fit, wish)
    names = wish.chosen(wish.data.names, 12 if wish.most > 2 else wish.most)
    part = _some(wish.data, 100_000)
    at = [wish.data.names.index(name) for name in names]
    found = [shares(wish.data.schema.columns[j], np.asarray(part.values[:, j]), part.weight)[0] for j in at]
    table = pd.DataFrame(
        [
            {
                "column": c.name, "kind": str(c.kind), "missing": c.missing,
                "mean": np.nan if c.labelled else c.mean, "sd": np.nan if c.labelled else c.sd,
                "min": np.nan if c.labelled else c.minimum, "max": np.nan if c.labelled else c.maximum,
                "most frequent": s.names[int(s.seen.argmax())] if s.names else "",
            }
            for c, s in ((wish.data.schema.columns[j], s) for j, s in zip(at, found, strict=True))
        ]
    )  # fmt: skip

    def draw(canvas: "Canvas") -> None:
        for ax, s in zip(canvas.grid(len(found)), found, strict=True):
            histogram(ax, s.edges, s.seen, MAIN, alpha=0.5)
            ax.set_yticks([])
            ax.spines["left"].set_visible(False)
            ax.set_title(label(s.name) + (f" ({s.missing:.0%} missing)" if s.missing else ""), fontsize=8.5)
            axis_of(ax, s)

    left = len(wish.data.names) - len(names)
    reading = "Shares of the cells of each column that are not missing." + (
        f" The first {len(names)} of {len(wish.data.names)} columns are shown."
        if left and wish.columns is None
        else ""
    )
    tall = 0.6 + 1.45 * -(-len(found) // 3)
    return Picture(f"Columns of {label(name_of(wish.data))}", reading, table, draw, (6.0, max(tall, 2.0)))


def _of_images(fit: "Record", wish: Wish) -> Picture:
    """The mean image, and the standard deviation of each pixel."""
    import pandas as pd

    from ppl_models.report.pictures.latents import as_images, mosaic, pixels

    part = _some(wish.data, 20_000)
    X = np.asarray(part.values)[:, pixels(part.schema)]
    shape: tuple[int, ...] = part.schema.shape or ()
    mean, sd = np.nanmean(X, 0), np.nanstd(X, 0)
    table = pd.DataFrame(
        [
            {
                "images": part.rows,
                "height": shape[0],
                "width": shape[1],
                "min": np.nanmin(X),
                "max": np.nanmax(X),
            }
        ]
    )

    def draw(canvas: "Canvas") -> None:
        for ax, name, image in zip(canvas.grid(2), ("mean", "standard deviation"), (mean, sd), strict=True):
            mosaic(
                ax,
                as_images(image[None], shape),
                1,
                0.0 if name != "mean" else float(image.min()),
                float(image.max()),
            )
            ax.set_title(name, fontsize=8.5)

    reading = "The mean of each pixel, and how much it varies from image to image."
    return Picture(f"Images of {label(name_of(wish.data))}", reading, table, draw, (4.6, 2.6))


def _some(dataset: Dataset, most: int) -> Dataset:
    """Rows at even steps, where there are more than that: reading all would take long."""
    if dataset.rows <= most or dataset.arrays:
        return dataset
    return dataset.subset(np.linspace(0, dataset.rows - 1, most).astype(int))


def replicated(fit: "Record", part: Dataset, tables: int) -> np.ndarray | None:
    """Data sets as the model makes them, of the size of one, (tables, n, C); None if no tables."""
    import torch

    bound = fit.bound
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.settings.seed + 15)
        if isinstance(bound, Bayesian):
            theta = select_draws(fit.draws, slice(0, tables))
            drawn = bound.replicate(part, theta)
        elif isinstance(bound, Redraws):
            drawn = bound.redraw(part, fit.draws, tables)
        elif isinstance(bound, Samples):
            drawn = bound.sample(tables * part.rows, fit.draws, None).values.reshape(tables, part.rows, -1)
        else:
            return None
    return drawn if isinstance(drawn, np.ndarray) and drawn.ndim == 3 else None


def has_replicates(fit: "Record") -> bool:
    """Whether it makes tables like the one of the fit."""
    able = isinstance(fit.bound, Bayesian | Redraws | Samples)
    return (
        able and fit.data.values.size > 0 and not (fit.data.schema.shape and isinstance(fit.bound, Samples))
    )


@kind(
    "predictive", "the data beside data that the model makes: a predictive check",
    section="checks",
    has=has_replicates, telling=33, takes=("columns",),
)  # fmt: skip
def predictive(fit: "Record", wish: Wish) -> Picture:
    """Histograms of observed cells, and the interval that each bin has in data sets made by the model."""
    import pandas as pd

    part = wish.part(fit, int(np.clip(CELLS // max(len(fit.data.names), 1), 50, 2_000)))
    tables = int(np.clip(number_of(fit.draws), 20, TABLES))
    drawn = replicated(fit, part, tables)
    if drawn is None:
        raise DataError(
            f"{fit.name}: what it makes is no table like {part.source}; there is nothing to compare"
        )
    found: list[tuple[Shares, np.ndarray, float]] = []
    for j, column in enumerate(part.schema.columns):
        x = np.asarray(part.values[:, j])
        hole = np.isnan(x)
        if hole.all() or (np.nan_to_num(drawn[:, :, j]) == np.nan_to_num(x)).all():
            continue  # given, not made
        own, codes = shares(column, x, part.weight, drawn[:, ~hole, j])
        made = np.array(
            [counted(np.where(hole, np.nan, d), own.edges, codes, part.weight) for d in drawn[:, :, j]]
        )
        spread = np.sqrt(own.seen * (1 - own.seen) / max((~hole).sum(), 1)) + made.std(0) + 1e-12
        found.append((own, made, float(np.abs((own.seen - made.mean(0)) / spread).mean())))
    if not found:
        raise DataError(f"{fit.name}: the model makes no column of {part.source}")
    names = [s.name for s, _, _ in found]
    if wish.columns is None and len(found) > wish.most:
        found = sorted(found, key=lambda each: -each[2])[: wish.most]
    else:
        wanted = wish.chosen(names)
        found = [each for each in found if each[0].name in wanted]
    tails = (1 - wish.level) / 2, (1 + wish.level) / 2
    rows = []
    for s, made, _ in found:
        low, high = np.quantile(made, tails, axis=0)
        for k, name in enumerate(_told(s)):
            rows.append(
                {
                    "column": s.name,
                    "cells": name,
                    "observed": s.seen[k],
                    "model": made[:, k].mean(),
                    "lower": low[k],
                    "upper": high[k],
                }  # fmt: skip
            )
    table = pd.DataFrame(rows)
    seen, low, high = (table[name].to_numpy() for name in ("observed", "lower", "upper"))
    off = float(((seen < low) | (seen > high)).mean())

    def draw(canvas: "Canvas") -> None:
        for ax, (s, made, _) in zip(canvas.grid(len(found)), found, strict=True):
            low, high = np.quantile(made, tails, axis=0)
            ax.stairs(high, s.edges, baseline=low, fill=True, color=MAIN, alpha=0.35, linewidth=0)
            ax.stairs(made.mean(0), s.edges, color=MAIN, linewidth=1.2, baseline=None)
            ax.stairs(s.seen, s.edges, color=INK, linewidth=1.0)
            ax.set_yticks([])
            ax.set_ylim(0, None)
            ax.spines["left"].set_visible(False)
            ax.set_title(label(s.name), fontsize=8.5)
            axis_of(ax, s)

    reading = (
        f"Outline: the data. Blue: the mean and {wish.level:.0%} interval of {tables} data sets that "
        f"the model makes. {off:.0%} of the bars are outside of it. Where many are, another family, more "
        "states or "
        "a transformation may be needed."
    )
    s, made, _ = found[0]
    middle = 0.5 * (s.edges[1:] + s.edges[:-1])
    sketch = (
        (Line(s.name, None, s.seen, s.names),)
        if s.names
        else (Line(f"{s.name}: data", middle, s.seen), Line("model", middle, made.mean(0)))
    )
    down = -(-len(found) // min(len(found), 3 if len(found) != 4 else 2))
    size = (6.0, 0.7 + 1.6 * down) if len(found) > 1 else (5.0, 3.2)
    return Picture("Predictive check", reading, table, draw, size, sketch)
