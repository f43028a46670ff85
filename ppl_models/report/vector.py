"""A picture as SVG inside of a page: its colours are variables of the page's style."""

import re
from html import escape
from typing import Any

from ppl_models.report.canvas import COLOURS, FAINT, INK, MUTED, PAPER, rendered
from ppl_models.report.picture import Picture

NAMES = {INK: "ink", MUTED: "muted", FAINT: "faint", PAPER: "card"} | {
    c: f"c{i}" for i, c in enumerate(COLOURS)
}
"""Colours of pictures -> variables of the page."""

_COLOUR = re.compile("|".join(NAMES), re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_FONT = re.compile(r"font: ([^;\"]*?)(\d+(?:\.\d+)?)px [^;\"]*")


def svg(picture: Picture, name: str) -> str:
    """An `<svg>` element, with a title and a description for whoever does not see it.

    Args:
        picture: which.
        name: what the identifiers in it begin with, as several stand in one page.
    """
    from ppl_models.report.canvas import Canvas, new_figure, styled

    with styled():
        figure = new_figure(picture.size)
        picture.draw(Canvas(figure))
    return inlined(
        rendered(figure, "svg").decode("utf-8"), name, picture.title, picture.reading, 7.5 * picture.size[0]
    )


def inlined(text: str, name: str, title: str, about: str, width: float = 45.0) -> str:
    """The SVG of matplotlib, fit to stand in a page.

    Args:
        text: the file.
        name: what the identifiers in it are to begin with.
        title: of the picture.
        about: what is seen in it.
        width: at most, in the size of the page's letters.
    """
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{name}-", body)
    body = re.sub(r'(?s)(\sd="|\spoints=")([^"]*)"', _shorter, body)
    body = _COLOUR.sub(lambda found: f"var(--{NAMES[found[0].lower()]})", body)
    body = _FONT.sub(r"font: \1\2px var(--font)", body)
    body = re.sub(r">\s+<", "><", body)
    head, _, rest = body.partition(">")
    box = re.search(r'viewBox="([^"]*)"', head)
    view = box[1] if box else "0 0 432 288"
    label = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(about)}</desc>'
    opening = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{view}" '
        f'style="max-width: {width:.0f}rem" role="img" aria-labelledby="{name}-title" '
        f'aria-describedby="{name}-desc">'
    )
    return opening + label + rest


def _shorter(found: "re.Match[str]") -> str:
    """Coordinates to a tenth of a point, which is all that can be seen."""
    return f'{found[1]}{_NUMBER.sub(lambda n: f"{float(n[0]):.1f}", found[2])}"'.replace("\n", " ")


def thumbnail(picture: Picture, width: float = 4.2) -> Any:
    """A small PNG of a picture, for notebooks."""
    from ppl_models.report.canvas import Canvas, new_figure, styled

    with styled():
        scale = width / picture.size[0]
        figure = new_figure((width, picture.size[1] * max(scale, 0.75)))
        picture.draw(Canvas(figure))
    return rendered(figure, "png", 90)
