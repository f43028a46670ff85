"""Ranks of true values: the difference of their distribution function from the uniform one, with its band."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ppl_models.report.canvas import (
    INK,
    MAIN,
    MUTED,
    Canvas,
    ending,
    label,
    new_figure,
    rendered,
    styled,
    write,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACROSS = 4
"""Quantities beside one another."""


class Ranks(NamedTuple):
    """Those of one quantity.

    Attributes:
        name: of it.
        difference: (L,) F(z_k) − z_k of the ranks, z_k = k/(L + 1).
        uniform: whether they are within the band.
    """

    name: str
    difference: np.ndarray
    uniform: bool


def drawn(title: str, each: Sequence[Ranks], lower: np.ndarray, upper: np.ndarray, file: Any = None) -> Any:
    """A figure with a place for each quantity.

    Args:
        title: above all.
        each: the quantities.
        lower: (L,) of the band, as differences.
        upper: (L,).
        file: `.png`, `.svg` or `.pdf` to write it to.

    Returns:
        The matplotlib figure.

    Raises:
        OutputError: the file cannot be written.
    """
    across = min(ACROSS, max(len(each), 1))
    down = -(-len(each) // across)
    figure = new_figure((max(2.1 * across, 6.0), 0.7 + 1.5 * max(down, 1)))
    with styled():
        canvas = Canvas(figure)
        canvas.title(label(title, 90))
        for ax, ranks in zip(canvas.grid(len(each), across, sharex=True, sharey=True), each, strict=True):
            _draw(ax, ranks, lower, upper)
        if file is not None:
            write(file, rendered(figure, ending(file)[1:]))
    return figure


def _draw(ax: "Axes", ranks: Ranks, lower: np.ndarray, upper: np.ndarray) -> None:
    z = np.arange(1, len(lower) + 1) / (len(lower) + 1)
    ax.fill_between(z, lower, upper, step="mid", color=MUTED, alpha=0.25, linewidth=0)
    ax.axhline(0.0, color=MUTED, linewidth=0.6)
    ax.step(z, ranks.difference, where="mid", color=MAIN if ranks.uniform else INK)
    ax.set_title(label(ranks.name) + ("" if ranks.uniform else " ✗"))
