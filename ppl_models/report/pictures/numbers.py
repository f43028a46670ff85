"""How good predictions of a number are: observed against expected, and the distribution of F_n(y_n)."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ppl_models.capabilities import Regresses
from ppl_models.errors import DataError
from ppl_models.report.canvas import INK, MAIN, MUTED, label, shades
from ppl_models.report.picture import Line, Picture, Wish, kind

if TYPE_CHECKING:
    from ppl_models.record import Record
    from ppl_models.report.canvas import Canvas

DRAWS = 400
"""Draws of θ that predictions are averaged over, at most."""


class Seen(NamedTuple):
    """Rows whose number is known and was predicted.

    Attributes:
        y: (n,) the numbers.
        mean: (n,) expected.
        lower: (n,) of the interval of a new observation.
        upper: (n,) the same.
        below: (n,) F_n(y_n), anywhere in its step where numbers are discrete.
    """

    y: np.ndarray
    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    below: np.ndarray


def seen(fit: "Record", wish: Wish) -> Seen:
    """Predictions of rows whose target is known.

    Raises:
        DataError: there are none.
    """
    import torch

    from ppl_models.tables import seeded, some_draws

    part, bound = wish.part(fit), fit.bound
    y = part.column(part.schema.target or "")
    tails = torch.tensor([(1 - wish.level) / 2, (1 + wish.level) / 2], dtype=torch.float64)
    found: list[np.ndarray] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(fit, wish.seed, 11))
        theta = some_draws(fit, part, DRAWS * max(part.rows, 1), 200)
        for block in bound.predicted(bound.rows(part, fit.settings.device), theta):
            own = torch.from_numpy(y[block.index])
            use = ~own.isnan()
            value = own.nan_to_num(0.0)
            drawn = block.new.sample().double()
            below = block.new.cdf(value).double().mean(0)
            if block.discrete:
                before = block.new.cdf(value - 1).double().mean(0)
                below = before + torch.rand_like(below) * (below - before)
            ends = drawn.quantile(tails, 0)
            columns = [own, block.new.mean.double().mean(0), *ends, below]
            found.append(torch.stack(columns)[:, use].numpy())
    both = np.concatenate(found, 1) if found else np.zeros((5, 0))
    if not both.shape[1]:
        raise DataError(f"{part.source}: no row has both its target and every predictor")
    return Seen(*both)


@kind(
    "fitted", "observed against expected values of a number",
    section="checks",
    has=lambda fit: isinstance(fit.bound, Regresses), telling=45,
)  # fmt: skip
def fitted(fit: "Record", wish: Wish) -> Picture:
    """Observed values against expected ones, with the interval of a new observation."""
    import pandas as pd

    s = seen(fit, wish)
    target = fit.data.schema.target or ""
    inside = float(((s.y >= s.lower) & (s.y <= s.upper)).mean())
    order = np.argsort(s.mean, kind="stable")
    parts = np.array_split(order, min(20, len(order)))
    middle = np.array([[a[at].mean() for at in parts] for a in (s.mean, s.lower, s.upper, s.y)])
    table = pd.DataFrame(dict(zip(("expected", "lower", "upper", "observed"), middle, strict=True)))
    low, high = min(s.y.min(), s.mean.min()), max(s.y.max(), s.mean.max())

    def draw(canvas: "Canvas") -> None:
        ax = canvas.one()
        ax.plot([low, high], [low, high], color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
        ax.fill_between(middle[0], middle[1], middle[2], color=MAIN, alpha=0.15, linewidth=0)
        if wish.aggregate or len(s.y) > 600:
            z, x, y = np.histogram2d(s.mean, s.y, 40)
            ax.imshow(
                np.sqrt(z.T),
                origin="lower",
                aspect="auto",
                cmap=shades(INK),
                gid="ink",
                extent=(x[0], x[-1], y[0], y[-1]),
            )
        else:
            ax.plot(s.mean, s.y, "o", color=INK, markersize=2.5, alpha=0.5, markeredgewidth=0)
        room = 0.03 * (high - low or 1)
        ax.set(xlim=(s.mean.min() - room, s.mean.max() + room), ylim=(low - room, high + room))
        ax.set(xlabel=f"expected {label(target)}", ylabel=f"observed {label(target)}")

    reading = (
        f"Rows should lie around the dashed line. The band holds {wish.level:.0%} of new observations by "
        "the model; "
        f"{inside:.0%} of {len(s.y):,} rows are inside of their own."
    )
    line = Line("observed", middle[0], middle[3])
    return Picture(f"Observed and expected, {label(wish.of)}", reading, table, draw, (5.0, 3.8), (line,))


def pit(fit: "Record", wish: Wish) -> Picture:
    """The probability integral transform F_n(y_n), uniform if predictions are calibrated: its distribution
    less the uniform one, with a simultaneous band (Kolmogorov 1933).
    """  # noqa: D205
    import pandas as pd
    from scipy.stats import kstwo

    s = seen(fit, wish)
    n = len(s.below)
    u = np.linspace(0, 1, 101)
    share = np.searchsorted(np.sort(s.below), u, side="right") / n
    gap = share - u
    band = float(kstwo.ppf(wish.level, n))
    out = float((np.abs(gap) > band).mean())
    table = pd.DataFrame({"probability": u[::10], "share": share[::10], "difference": gap[::10]})

    def draw(canvas: "Canvas") -> None:
        ax = canvas.one()
        ax.axhspan(-band, band, color=MUTED, alpha=0.22, linewidth=0)
        ax.axhline(0, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
        ax.plot(u, gap, color=MAIN)
        reach = max(1.3 * band, 1.1 * np.abs(gap).max())
        ax.set(xlim=(0, 1), ylim=(-reach, reach), xlabel="probability p")
        ax.set_ylabel("share of rows below their\np-quantile, less p")

    shape = "leaves it: " if out else "stays in it. "
    what = (
        "first over, then under 0 says that intervals are too narrow, first under, then over that they are "
        "too "
        "wide, and one side alone that expected values are off. "
    )
    reading = (
        f"Of calibrated predictions the curve stays in the band with probability {wish.level:.0%}; it {shape}"
        f"{what if out else ''}{n:,} {wish.of}."
    )
    return Picture(
        f"Calibration on {label(wish.of)}", reading, table, draw, (5.0, 3.2), (Line("difference", u, gap),)
    )
