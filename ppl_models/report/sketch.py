"""Pictures for a terminal: lines of braille dots, and bars."""

from collections.abc import Sequence
from math import ceil

import numpy as np

from ppl_models.report.canvas import label
from ppl_models.report.picture import Line, Picture

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of the dots of a braille cell, four rows of two (Unicode, U+2800)."""

BARS = 20
"""Bars at most."""


def braille(lines: Sequence[Line], width: int = 60, height: int = 10) -> str:
    """Lines as dots, two by four to a character, with their extremes at the axes.

    Args:
        lines: with `x`; drawn into one frame.
        width: characters, with the labels of the axis.
        height: rows of characters.

    Example:
        >>> print(braille([Line("y", np.arange(8.0), np.arange(8.0))], width=14, height=2))
        7 ┤⠀⠀⠀⠀⠀⠀⠀⣀⣀⠤⠤⠒⠒⠉
        0 ┤⣀⠤⠤⠒⠒⠉⠉⠀⠀⠀⠀⠀⠀⠀
           0 to 7
    """
    given = [(np.asarray(v.x, float), np.asarray(v.y, float)) for v in lines if v.x is not None]
    kept = [(x[np.isfinite(y)], y[np.isfinite(y)]) for x, y in given]
    kept = [(x, y) for x, y in kept if len(y)]
    if not kept:
        return ""
    left, right = min(x.min() for x, _ in kept), max(x.max() for x, _ in kept)
    low, high = min(y.min() for _, y in kept), max(y.max() for _, y in kept)
    ends = [f"{high:.4g}", f"{low:.4g}"]
    margin = max(map(len, ends))
    columns, rows = 2 * max(width, 8), 4 * height
    cells = np.zeros((height, columns // 2), int)
    for x, y in kept:
        order = np.argsort(x, kind="stable")
        at = np.linspace(left, right, columns)
        room = (right - left) / columns
        inside = (at >= x.min() - room) & (at <= x.max() + room)
        y = np.interp(at, x[order], y[order])
        up = np.rint((y - low) / (high - low or 1) * (rows - 1)).astype(int)
        for c in np.flatnonzero(inside):
            before = up[c - 1] if c and inside[c - 1] else up[c]
            for r in (
                range(min(before, up[c]), max(before, up[c]) + 1) if abs(before - up[c]) > 1 else [up[c]]
            ):
                row, dot = divmod(rows - 1 - r, 4)
                cells[row, c // 2] |= DOTS[dot][c % 2]
    said = []
    for i, row in enumerate(cells):
        name = ends[0] if i == 0 else ends[1] if i == height - 1 else ""
        said.append(f"{name:>{margin}} ┤{''.join(chr(0x2800 + int(cell)) for cell in row)}".rstrip())
    said.append(f"{'':{margin}}  {left:.6g} to {right:.6g}")
    return "\n".join(said)


def bars(line: Line, width: int = 60) -> str:
    """Numbers as bars below one another, those below 0 to the left of it.

    Example:
        >>> print(bars(Line("share", None, np.array([0.5, 0.25]), ("a", "bb")), 16))
        a  ████████ 0.5
        bb ████ 0.25
    """
    names = [label(n, max(width // 3, 8)) for n in line.names[:BARS]]
    values = np.asarray(line.y, float)[:BARS]
    margin = max(map(len, names), default=0)
    room = max(width - margin - 8, 8)
    most = max(np.nanmax(np.abs(values), initial=0.0), 1e-300)
    said = [
        f"{name:<{margin}} {'█' * max(ceil(abs(v) / most * room - 1e-9), 0)} {v:.3g}"
        for name, v in zip(names, values, strict=True)
    ]
    left = len(line.names) - len(names)
    return "\n".join(said + ([f"… and {left} more"] if left > 0 else []))


def sketched(picture: Picture, width: int = 80) -> str:
    """A picture as text: its title, lines or bars, and how it is read; "" where it has neither."""
    import textwrap

    from ppl_models.report.text import printable

    if not picture.sketch:
        return ""
    first = picture.sketch[0]
    room = max(width - 14, 16)
    body = bars(first, room) if first.x is None else braille(picture.sketch, room)
    names = ", ".join(printable(line.name) for line in picture.sketch)
    reading = "\n".join(textwrap.wrap(printable(picture.reading), max(width, 24)))
    return f"{printable(picture.title)} ({names})\n{body}\n{reading}"
