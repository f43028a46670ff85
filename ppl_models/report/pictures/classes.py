"""How good probabilities of classes are: reliability, ROC, precision and recall, confusion."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.capabilities import Conditional, Regresses
from ppl_models.report.canvas import FAINT, INK, MAIN, MUTED, SECOND, colour, histogram, label, shades
from ppl_models.report.corp import curves, reliability
from ppl_models.report.picture import Line, Picture, Wish, kind
from ppl_models.report.pictures.numbers import pit

if TYPE_CHECKING:
    from ppl_models.record import Record
    from ppl_models.report.canvas import Canvas
    from ppl_models.verbs.evaluate import Known

ROWS = 5_000
"""Rows that curves are of, about, at most."""

MOST = 6
"""Classes that have a curve of their own, at most."""


def has_classes(fit: "Record") -> bool:
    """Whether it predicts classes."""
    return isinstance(fit.bound, Conditional)


def predicts(fit: "Record") -> bool:
    """Whether it predicts classes or a number."""
    return isinstance(fit.bound, Conditional | Regresses)


def known(fit: "Record", wish: Wish) -> "Known":
    """Rows with their classes and probabilities."""
    from ppl_models.verbs.evaluate import known_rows

    return known_rows(fit, wish.part(fit, ROWS), None, {})[0]


def flatters(wish: Wish) -> str:
    """What is to be remembered of rows that a model was fitted to."""
    return (
        " These are the rows of the fit, on which predictions flatter: give other rows." if wish.own else ""
    )


@kind(
    "calibration", "whether probabilities, or intervals, are as often right as they say",
    section="checks",
    has=predicts, telling=50,
)  # fmt: skip
def calibration(fit: "Record", wish: Wish) -> Picture:
    """CORP reliability with a consistency band; of numbers the distribution of F_n(y_n)."""
    import pandas as pd

    if not isinstance(fit.bound, Conditional):
        return pit(fit, wish)
    rows = known(fit, wish)
    if len(rows.labels) == 2:
        name, p, y = rows.labels[1], rows.p[:, 1], (rows.y == 1).astype(float)
    else:
        best = rows.p.argmax(1)
        name, p, y = "the predicted class", rows.p[np.arange(len(best)), best], (best == rows.y).astype(float)
    r = reliability(p, y, rows.weight, wish.level, fit.settings.seed)
    at = np.unique(np.searchsorted(np.cumsum(r.rows) / r.rows.sum(), np.linspace(0.02, 0.98, 12)))
    at = np.minimum(at, len(r.forecast) - 1)
    table = pd.DataFrame(
        {"probability": r.forecast, "share": r.recalibrated, "lower": r.lower, "upper": r.upper}
    ).iloc[np.unique(at)]
    thin = np.unique(np.linspace(0, len(r.forecast) - 1, min(400, len(r.forecast))).astype(int))
    heights, edges = np.histogram(p, np.linspace(0, 1, 21), weights=rows.weight)

    def draw(canvas: "Canvas") -> None:
        ax = canvas.one()
        ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
        ax.fill_between(r.forecast[thin], r.lower[thin], r.upper[thin], color=MUTED, alpha=0.22, linewidth=0)
        ax.plot(r.forecast[thin], r.recalibrated[thin], color=MAIN)
        histogram(ax, edges, 0.16 * heights / heights.max(), SECOND, alpha=0.4)
        ax.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of rows that were")
        ax.set_xlabel(f"probability of {label(name)}")
        parts = ("miscalibration", "discrimination", "uncertainty")
        said = "\n".join(f"{name} {getattr(r, name):.3f}" for name in parts)
        ax.text(0.03, 0.97, said, transform=ax.transAxes, va="top", fontsize=7.5, color=INK)
        ax.set_aspect("equal", adjustable="box")

    reading = (
        f"Of rows with this probability so many were of the class, by isotonic regression. In the grey band "
        f"{wish.level:.0%} of reliable forecasts would be; {r.outside:.0%} of the rows are outside. Below "
        "the "
        f"diagonal probabilities are too high. Bars: where the probabilities are.{flatters(wish)}"
    )
    line = Line("share", r.forecast[thin], r.recalibrated[thin])
    return Picture(f"Calibration on {label(wish.of)}", reading, table, draw, (4.2, 4.2), (line,))


def _curves(rows: "Known") -> list[tuple[str, dict[str, np.ndarray], float]]:
    """For each class that is there, or the second of two: its name, its curves, its share."""
    order = [1] if len(rows.labels) == 2 else [int(c) for c in np.argsort(-np.bincount(rows.y))]
    found = []
    for c in order:
        own = rows.y == c
        if own.any() and not own.all() and len(found) < MOST:
            share = float(rows.weight @ own / rows.weight.sum())
            found.append((rows.labels[c], curves(rows.p[:, c], own, rows.weight), share))
    return found


def _thin(x: np.ndarray) -> np.ndarray:
    return np.unique(np.linspace(0, len(x) - 1, min(300, len(x))).astype(int))


@kind(
    "roc",
    "true against false positive rate at every threshold",
    section="predictions",
    has=has_classes,
    telling=30,
)
def roc(fit: "Record", wish: Wish) -> Picture:
    """Receiver operating characteristic, one against the rest, with the area under it."""
    import pandas as pd

    from ppl_models.verbs.evaluate import auc

    rows = known(fit, wish)
    found = _curves(rows)
    codes = {name: rows.labels.index(name) for name, _, _ in found}
    area = {n: auc(rows.p[:, c], rows.y == c, rows.weight) for n, c in codes.items()}
    table = pd.DataFrame([{"class": name, "auc": area[name], "share": share} for name, _, share in found])

    def draw(canvas: "Canvas") -> None:
        ax = canvas.one()
        ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
        for k, (name, c, _) in enumerate(found):
            x, y = np.concatenate([[0], c["alarm"]]), np.concatenate([[0], c["hit"]])
            at = _thin(x)
            ax.plot(x[at], y[at], color=colour(k), label=f"{label(name, 18)}: AUC {area[name]:.3f}")
        ax.set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="false positive rate", ylabel="true positive rate")
        ax.set_aspect("equal", adjustable="box")
        ax.legend(loc="lower right")

    reading = (
        "The nearer to the upper left corner, the better the classes are told apart; on the dashed line "
        "they are "
        f"not at all. AUC is the chance that a row of the class has the higher probability.{flatters(wish)}"
    )
    lines = tuple(Line(n, c["alarm"], c["hit"]) for n, c, _ in found[:1])
    return Picture(f"ROC on {label(wish.of)}", reading, table, draw, (4.2, 4.2), lines)


@kind("pr", "precision against recall at every threshold", section="", has=has_classes)
def pr(fit: "Record", wish: Wish) -> Picture:
    """Precision against recall, one against the rest, with average precision Σ (R_i − R_{i−1}) P_i."""
    import pandas as pd

    rows = known(fit, wish)
    found = _curves(rows)
    mean = {n: float(np.diff(c["hit"], prepend=0.0) @ c["precision"]) for n, c, _ in found}
    table = pd.DataFrame(
        [{"class": name, "average_precision": mean[name], "share": share} for name, _, share in found]
    )

    def draw(canvas: "Canvas") -> None:
        ax = canvas.one()
        for k, (name, c, share) in enumerate(found):
            at = _thin(c["hit"])
            ax.plot(
                c["hit"][at],
                c["precision"][at],
                color=colour(k),
                label=f"{label(name, 18)}: {mean[name]:.3f}",
            )
            ax.axhline(share, color=colour(k), linewidth=0.7, linestyle=(0, (3, 2)), alpha=0.6)
        ax.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        ax.set_aspect("equal", adjustable="box")
        ax.legend(loc="lower left", title="average precision", title_fontsize=8)

    reading = (
        "Of the rows that are taken for the class, the share that is right, against the share of the class "
        "that is "
        f"found. Dashed: the share of the class, which guessing has.{flatters(wish)}"
    )
    lines = tuple(Line(n, c["hit"], c["precision"]) for n, c, _ in found[:1])
    return Picture(f"Precision and recall on {label(wish.of)}", reading, table, draw, (4.2, 4.2), lines)


@kind("confusion", "which classes are taken for which", section="predictions", has=has_classes)
def confusion(fit: "Record", wish: Wish) -> Picture:
    """Shares of each class by the class that is predicted."""
    import pandas as pd

    rows = known(fit, wish)
    C = len(rows.labels)
    keep = np.arange(C) if C <= 20 else np.sort(np.argsort(-np.bincount(rows.y, minlength=C))[:20])
    counts = np.bincount(rows.y * C + rows.predicted, rows.weight, C * C).reshape(C, C)[np.ix_(keep, keep)]
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1e-300)
    names = [label(rows.labels[k], 14) for k in keep]
    table = pd.DataFrame(
        [
            {"class": rows.labels[a], "predicted": rows.labels[b], "rows": counts[i, j], "share": share[i, j]}
            for i, a in enumerate(keep)
            for j, b in enumerate(keep)
            if counts[i, j]
        ]
    )
    side = float(np.clip(1.6 + 0.42 * len(keep), 2.8, 6.0))

    def draw(canvas: "Canvas") -> None:
        heat(canvas.one(), share, names, names, "predicted", "class", counts)

    reading = f"Each row of the picture is a class; shares add up to 1 along it.{flatters(wish)}"
    return Picture(f"Confusion on {label(wish.of)}", reading, table, draw, (side + 0.6, side))


def heat(
    ax: Any,
    share: np.ndarray,
    rows: list[str],
    columns: list[str],
    x: str,
    y: str,
    said: np.ndarray | None = None,
) -> None:
    """A matrix of shares as shades of one colour, with the numbers in it where they have room.

    Args:
        ax: where.
        share: (R, C), 0 to 1.
        rows: names.
        columns: names.
        x: what the columns are.
        y: what the rows are.
        said: what is written in the cells, if not the shares.
    """
    ax.imshow(share, cmap=shades(MAIN), vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(
        range(len(columns)),
        columns,
        rotation=0 if max(map(len, columns)) < 6 else 40,
        ha="center" if max(map(len, columns)) < 6 else "right",
        rotation_mode="anchor",
    )
    ax.set_yticks(range(len(rows)), rows)
    ax.set(xlabel=x, ylabel=y)
    for name in ("left", "bottom"):
        ax.spines[name].set_color(FAINT)
    if max(share.shape) <= 12:
        for (i, j), value in np.ndenumerate(share):
            shown = f"{value:.2f}" if said is None else f"{said[i, j]:,.0f}"
            ax.text(
                j, i, shown, ha="center", va="center", fontsize=7.5, color="#ffffff" if value > 0.55 else INK
            )
