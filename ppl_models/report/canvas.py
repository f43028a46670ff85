"""Where pictures are drawn: matplotlib's figures without pyplot, one style, colours for every eye.

Colours are those of Okabe & Ito (2008, Color Universal Design, https://jfly.uni-koeln.de/color/), in an order
in which neighbours differ in lightness too. In the report each becomes a variable of the page's style, so
that it follows dark mode and print; so pictures take them from here and nowhere else, and shade by alpha.
"""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_models.errors import OutputError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, FAINT, PAPER = "#1b1b1e", "#696970", "#dcdce0", "#fefefe"
"""Text and observed data; what is beside the point; lines of grids; the background."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#5e4fa2")
"""Groups, in order; beyond these they begin again."""

MAIN, SECOND = COLOURS[:2]
"""The posterior, or what a model says; what is put beside it: a prior, a reference."""

STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "font.family": "sans-serif",
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "axes.formatter.limits": (-4, 6),
    "figure.facecolor": PAPER,
    "grid.color": FAINT,
    "image.interpolation": "none",  # in SVG the pixels as they are: small
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.4,
    "text.color": INK,
    "text.parse_math": False,  # a column may be called "price ($)"
    "text.usetex": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "svg.fonttype": "none",  # text stays text: small, found by search, read by screen readers
    "svg.hashsalt": "ppl",
    "pdf.fonttype": 42,
}

ENDINGS = (".png", ".svg", ".pdf")
"""Of files that pictures can be written to."""

DPI = 150


def colour(k: int) -> str:
    """That of the k-th group."""
    return COLOURS[k % len(COLOURS)]


def shades(hue: str) -> Any:
    """A colour map from nothing to a colour by its alpha alone, which is right on light and dark paper."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    rgb = to_rgb(hue)
    return LinearSegmentedColormap.from_list("shades", [(*rgb, 0.0), (*rgb, 1.0)])


def label(text: object, most: int = 28) -> str:
    """A name from the data as a label: in one line, not too long, nothing in it that cannot be printed."""
    from ppl_models.report.text import printable

    shown = printable(text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


@contextmanager
def styled() -> Iterator[None]:
    """Our style within the block, whatever the caller's is; his is back after it."""
    import warnings

    import matplotlib

    style: Any = STYLE
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a script that the font lacks
        yield


class Canvas:
    """A place for axes: a figure, a part of one, or axes that somebody made.

    Args:
        figure: a matplotlib `Figure` or `SubFigure`.
        ax: axes to draw into, instead.
    """

    def __init__(self, figure: Any = None, ax: "Axes | None" = None) -> None:
        self.figure, self._ax = figure, ax
        self.axes: list[Axes] = []

    def one(self) -> "Axes":
        """The only axes."""
        return self.grid(1)[0]

    def grid(self, number: int, across: int | None = None, **options: Any) -> "list[Axes]":
        """Axes row by row, as square as may be if `across` is not given.

        Raises:
            UsageError: several are needed, and one was given.
        """
        if self._ax is not None:
            if number > 1:
                raise UsageError(f"this picture takes {number} axes, and one was given: give figure= instead")
            self.axes.append(self._ax)
            return [self._ax]
        across = across or columns_of(number)
        down = -(-number // across)
        made = self.figure.subplots(down, across, squeeze=False, **options).ravel()
        for ax in made[number:]:
            ax.remove()
        self.axes += list(made[:number])
        return list(made[:number])

    def title(self, text: str) -> None:
        """Above all axes; of somebody's axes nothing, as they have their own."""
        if self._ax is None:
            self.figure.suptitle(text, x=0.01, ha="left", fontsize=10.5, fontweight="bold")


def columns_of(number: int) -> int:
    """How many axes stand beside one another: at most three, so that they can be read at six inches.

    Example:
        >>> [columns_of(n) for n in (1, 2, 3, 4, 5, 9)]
        [1, 2, 3, 2, 3, 3]
    """
    return number if number <= 3 else 2 if number == 4 else 3


def new_figure(size: tuple[float, float]) -> "Figure":
    """A figure that no global state knows of.

    Args:
        size: width and height, inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def ending(path: str | os.PathLike[str]) -> str:
    """The ending of the name of a picture's file.

    Raises:
        UsageError: pictures are not written to files of this name.
    """
    suffix = Path(os.fspath(path)).suffix.lower()
    if suffix not in ENDINGS:
        raise UsageError(f"{path}: pictures are written to {', '.join(ENDINGS)}")
    return suffix


def rendered(figure: Any, form: str, dpi: int = DPI) -> bytes:
    """A figure as the bytes of a file, the same each time.

    Args:
        figure: which.
        form: `png`, `svg` or `pdf`.
        dpi: of pictures that are made of pixels.
    """
    held = io.BytesIO()
    about = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form, {})
    with styled():
        figure.savefig(held, format=form, dpi=dpi, metadata=about)
    return held.getvalue()


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole, or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    target = Path(os.fspath(path))
    held = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        held.write_bytes(content)
        os.replace(held, target)
    except OSError as error:
        held.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None


def histogram(ax: "Axes", edges: Any, heights: Any, hue: str = MUTED, **options: Any) -> None:
    """Heights between edges as one shape, which stays small in a file whatever the number of bins.

    Args:
        ax: where.
        edges: (m + 1,) of the bins.
        heights: (m,).
        hue: its colour.
        **options: of `Axes.stairs`.
    """
    ax.stairs(heights, edges, fill=True, color=hue, **{"alpha": 0.35, "linewidth": 0} | options)


def bare(axes: "Sequence[Axes]") -> None:
    """Without the scale of densities, which says nothing."""
    for ax in axes:
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
