"""How training went."""

from typing import TYPE_CHECKING

import numpy as np

from ppl_models.report.canvas import INK, MAIN, MUTED, SECOND
from ppl_models.report.picture import Line, Picture, Wish, kind

if TYPE_CHECKING:
    from ppl_models.record import Record
    from ppl_models.report.canvas import Canvas

POINTS = 500
"""Points of the curve at most."""


@kind(
    "training", "the ELBO step by step, and where each start ended",
    section="checks",
    has=lambda fit: any("elbo" in line for line in fit.trained.history), telling=10, of_rows=False,
)  # fmt: skip
def training(fit: "Record", wish: Wish) -> Picture:
    """The evidence lower bound over steps; of several starts also the ELBOs that they ended with."""
    import pandas as pd

    lines = [line for line in fit.trained.history if np.isfinite(line.get("elbo", np.nan))]
    names = list(dict.fromkeys(str(line.get("phase", "")) for line in lines))
    x = np.arange(len(lines)) if len(names) > 1 else np.array([line["step"] for line in lines])
    y = np.array([line["elbo"] for line in lines])
    phase = np.array([str(line.get("phase", "")) for line in lines])
    last = phase == names[-1]  # phases before it are on other rows, and their ELBOs on another scale
    x, y = (x - x[last][0] if len(names) > 1 else x)[last], y[last]
    steps = np.array([line["step"] for line in lines])[last]
    keep = np.unique(np.linspace(0, len(y) - 1, min(POINTS, len(y))).astype(int))
    steps, y = steps[keep], y[keep]
    ends: tuple[float, ...] = () if fit.trained.restarts is None else fit.trained.restarts.elbo
    few = np.unique(np.linspace(0, len(y) - 1, min(12, len(y))).astype(int))
    raised = fit.settings.objective
    table = pd.DataFrame({"step": steps[few], raised: y[few]})

    def draw(canvas: "Canvas") -> None:
        both = len(ends) > 1 and wish.most > 1
        axes = canvas.grid(1 + both, width_ratios=[2, 1]) if both else canvas.grid(1)
        ax = axes[0]
        ax.plot(steps, y, color=MAIN)
        settled = y[len(y) // 10 :] if len(y) > 20 else y
        span = max(settled.max() - settled.min(), 1e-9 * abs(settled.max()), 1e-12)
        ax.set_ylim(settled.min() - 0.08 * span, y.max() + 0.08 * span)
        ax.set(xlabel="step", ylabel="ELBO (nats)" if raised == "ELBO" else raised)
        ax.annotate(
            str(fit.status).replace("_", " "), (steps[-1], y[-1]), (-4, -12),
            textcoords="offset points", ha="right", color=INK, fontsize=8,
        )  # fmt: skip
        if both:
            gap = max(ends) - np.array(ends)
            ax = axes[1]
            own = fit.trained.restarts.within  # type: ignore[union-attr]
            ax.barh(np.arange(len(gap)), gap, color=[MAIN if g < own else SECOND for g in gap], height=0.7)
            ax.plot(gap, np.arange(len(gap)), "o", color=INK, markersize=3)
            ax.axvline(own, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
            ax.set(xlim=(-0.03 * max(gap.max(), own), 1.1 * max(gap.max(), own)))
            ax.set(xlabel="nats below best", ylabel="start", yticks=[0, len(gap) - 1])
            ax.set_yticklabels(["1", str(len(gap))])
            ax.invert_yaxis()

    reading = (
        "The curve should have levelled off. Of several starts at least two should end within a nat of the "
        "best "
        "(blue); else there may be a better optimum: more restarts, or a smaller model."
        if len(ends) > 1
        else "The curve should have levelled off; if it still rises, give the fit more steps."
    )
    return Picture("Training", reading, table, draw, (6.0, 2.8), (Line(raised, steps, y),))
