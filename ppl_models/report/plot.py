"""Pictures of a fit: which it can have, each of them, and the panel of the most telling ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ppl_models.annotations import count
from ppl_models.errors import PplError, Unsupported, UsageError
from ppl_models.report.canvas import Canvas, new_figure, rendered, styled
from ppl_models.report.picture import Kind, Picture, Wish
from ppl_models.report.pictures import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ppl_models.record import Record

PANEL = 6
"""Pictures of the panel, at most."""


class Drawn(tuple["Axes", ...]):
    """The axes that were drawn, in order; in a notebook the picture."""

    @property
    def figure(self) -> Any:
        """What they are on."""
        return self[0].figure if self else None

    def _repr_png_(self) -> bytes | None:
        top = self.figure
        while getattr(top, "figure", top) is not top:
            top = top.figure
        return None if top is None else rendered(top, "png", 110)


@dataclass(frozen=True)
class Plot:
    """What was asked for, ready to be drawn.

    Attributes:
        pictures: one, or those of a panel.
        size: inches.
    """

    pictures: tuple[Picture, ...]
    size: tuple[float, float]

    def figure(self) -> Any:
        """A figure of its own."""
        figure = new_figure(self.size)
        self.draw(Canvas(figure))
        return figure

    def draw(self, canvas: Canvas) -> Drawn:
        """Draw on a canvas."""
        with styled():
            if len(self.pictures) == 1:
                picture = self.pictures[0]
                canvas.title(picture.title)
                picture.draw(canvas)
                return Drawn(canvas.axes)
            axes: list[Any] = []
            down = -(-len(self.pictures) // 2)
            parts = canvas.figure.subfigures(down, 2, squeeze=False, wspace=0.04, hspace=0.05).ravel()
            for part, picture in zip(parts, self.pictures, strict=False):
                own = Canvas(part)
                part.suptitle(picture.title, x=0.02, ha="left", fontsize=9.5, fontweight="bold")
                picture.draw(own)
                axes += own.axes
            return Drawn(axes)


def kinds(fit: "Record", rows: bool | None = None) -> list[Kind]:
    """The kinds of pictures that a fit can have.

    Args:
        fit: which.
        rows: whether there are rows; those of the fit if not given.
    """
    there = fit.data.rows > 0 or bool(fit.data.arrays) if rows is None else rows
    return [each for each in KINDS.values() if (there or not each.of_rows) and each.has(fit)]


def the_kind(fit: "Record", name: str, rows: bool) -> Kind:
    """A kind by its name.

    Raises:
        UsageError: there is none of this name.
        Unsupported: the fit cannot have it.
    """
    found = KINDS.get(name)
    if found is None:
        close = get_close_matches(name, KINDS, n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(KINDS)}"
        raise UsageError(f"there is no kind of picture called {name!r}; {hint}")
    has = kinds(fit, rows)
    if found in has:
        return found
    there = ", ".join(each.name for each in has)
    if found.of_rows and not rows and found.has(fit):
        raise Unsupported(
            f"{name} is a picture of rows, and {fit.path} has none (--slim): give DATA, or one of {there}"
        )
    raise Unsupported(f"this {fit.name} has no picture {name}; it has {there}")


def planned(
    fit: "Record",
    name: str | None = None,
    data: Any = None,
    *,
    columns: Sequence[str] | None = None,
    steps: int | None = None,
    level: float = 0.9,
    seed: int | None = None,
    aggregate: bool = False,
    reading: dict[str, Any] | None = None,
) -> Plot:
    """Compute a picture, or the panel.

    Args:
        fit: of what.
        name: of the kind; the panel of the most telling ones if None.
        data: later rows; those of the fit if None.
        columns: columns or parameters to be shown.
        steps: how far ahead.
        level: probability of the intervals.
        seed: of draws.
        aggregate: whether counts are drawn in the place of rows.
        reading: options of `ppl_models.data.read`.

    Raises:
        UsageError: an option cannot be meant, or there is no such kind.
        Unsupported: the fit has no such picture.
    """
    from ppl_models.later import later
    from ppl_models.tables import check_level

    check_level(level)
    there = data is not None or fit.data.rows > 0 or bool(fit.data.arrays)
    chosen = None if name is None else the_kind(fit, name, there)
    dataset = fit.data if data is None and not there else later(fit, data, reading or {})
    given = {"columns": columns, "steps": steps}
    for option, value in given.items():
        if value is not None and (chosen is None or option not in chosen.takes):
            having = [each.name for each in kinds(fit, there) if option in each.takes]
            what = f"the picture {chosen.name}" if chosen else "the panel"
            raise UsageError(f"{what} has no --{option}; {', '.join(having) or 'none of this fit'} has it")
    wish = Wish(
        dataset, data is None, _names(columns),
        None if steps is None else count("steps", steps), level, seed, 9, aggregate,
    )  # fmt: skip
    if chosen is not None:
        picture = chosen.make(fit, wish)
        return Plot((picture,), picture.size)
    return panel(fit, wish, there)


def _names(columns: Any) -> tuple[str, ...] | None:
    """Names as a list, or as text with commas between them."""
    if isinstance(columns, str):
        columns = [name.strip() for name in columns.split(",") if name.strip()]
    return None if columns is None else tuple(columns)


def panel(fit: "Record", wish: Wish, rows: bool, most: int = PANEL) -> Plot:
    """The most telling pictures of a fit side by side; one that cannot be had of these rows is left out.

    Args:
        fit: of what.
        wish: what is asked of each.
        rows: whether there are rows.
        most: pictures.
    """
    from dataclasses import replace

    small = replace(wish, most=2)
    found: list[Picture] = []
    there = kinds(fit, rows)
    names = {each.name for each in there}
    for each in sorted(there, key=lambda kind: -kind.telling):
        if each.telling and len(found) < most and each.part_of not in names:
            try:
                found.append(each.make(fit, small))
            except PplError:
                continue
    if not found:
        raise Unsupported(f"this {fit.name} has no picture of these rows")
    down = -(-len(found) // 2)
    return Plot(tuple(found), (8.0, 2.9 * down) if len(found) > 1 else found[0].size)


def most_telling(fit: "Record") -> Picture:
    """The picture that comes first in the panel, of as few axes as may be.

    Raises:
        Unsupported: there is none.
    """
    there = fit.data.rows > 0 or bool(fit.data.arrays)
    return panel(fit, Wish(fit.data), there, 1).pictures[0]


def drawn(
    fit: "Record", kind: str | None, data: Any, wish: dict[str, Any], ax: Any, figure: Any, file: Any
) -> Drawn:
    """Draw into a figure of its own, or one that is given: see `Fit.plot`.

    Args:
        fit: what.
        kind: of the picture; the panel if None.
        data: later rows, or None.
        wish: options of `planned`.
        ax: axes to draw into, or None.
        figure: a figure to draw into, or None.
        file: to write it to, or None.
    """
    from ppl_models.report.canvas import ending, write

    form = None if file is None else ending(file)[1:]
    if ax is not None and kind is None:
        raise UsageError("a panel takes a figure: give figure= instead of ax=, or a kind")
    plan = planned(fit, kind, data, **wish)
    own = new_figure(plan.size) if ax is None and figure is None else figure
    axes = plan.draw(Canvas(own, ax))
    if file is not None and form is not None:
        top = axes.figure
        while getattr(top, "figure", top) is not top:
            top = top.figure
        write(file, rendered(top, form))
    return axes
