"""What a picture is: aggregates, how they are drawn and told, and which fits can have it.

A kind of picture is a function in a file of `ppl_models.report.pictures`:

    @kind("roc", "…what it shows…", has=lambda fit: isinstance(fit.bound, Conditional), telling=40)
    def roc(fit, wish): ... return Picture(...)

Which fits can have it is asked of their capabilities. It computes aggregates, and gives a `Picture`: what is
drawn, the same as a table, how it is read, and lines for a terminal. So the plot, the report, the notebook
and the terminal say the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from ppl_models.data import Dataset
from ppl_models.data.excerpt import excerpt
from ppl_models.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ppl_models.record import Record
    from ppl_models.report.canvas import Canvas

ROWS = 2_000
"""Rows that a picture is about of, at most: of more an excerpt at random, or of blocks of sequences."""


class Line(NamedTuple):
    """A line for a terminal.

    Attributes:
        name: what it is.
        x: (m,) where, or None for bars with `names`.
        y: (m,) how high.
        names: of bars.
    """

    name: str
    x: "np.ndarray | None"
    y: "np.ndarray"
    names: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture before it is drawn.

    Attributes:
        title: what it shows.
        reading: how it is read, and what is to be done about what it shows: a sentence or two.
        table: the numbers that are drawn, or those that matter of them.
        draw: draws it on a canvas.
        size: inches that suit it.
        sketch: lines or bars for a terminal.
    """

    title: str
    reading: str
    table: "pd.DataFrame"
    draw: "Callable[[Canvas], None]"
    size: tuple[float, float] = (6.0, 3.6)
    sketch: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Wish:
    """What is asked of a picture.

    Attributes:
        data: the rows, those of the fit or later ones.
        own: whether they are those of the fit, on which predictions flatter.
        columns: names that were asked for; None for the most telling.
        steps: how far ahead.
        level: probability of the intervals.
        seed: of draws; follows from the fit's if None.
        most: axes at most.
        aggregate: whether counts are drawn in the place of rows.
    """

    data: Dataset
    own: bool = True
    columns: tuple[str, ...] | None = None
    steps: int | None = None
    level: float = 0.9
    seed: int | None = None
    most: int = 9
    aggregate: bool = False

    def part(self, fit: "Record", rows: int = ROWS) -> Dataset:
        """About so many rows that stand for all; all of them where arrays stand beside the rows."""
        if self.data.arrays:
            return self.data
        ordered = not fit.bound.exchangeable
        return excerpt(self.data, rows, ordered=ordered, seed=fit.settings.seed)

    @property
    def of(self) -> str:
        """Which rows, for titles."""
        return "rows of the fit" if self.own else name_of(self.data)

    def chosen(self, names: Sequence[str], most: int | None = None) -> list[str]:
        """Those of some names that were asked for, or the first few.

        Raises:
            UsageError: one that was asked for is not among them.
        """
        if self.columns is None:
            return list(names)[: self.most if most is None else most]
        for name in self.columns:
            if name not in names:
                raise UsageError(f"there is no {name!r} to be drawn; there are {_listed(names)}")
        return list(self.columns)


@dataclass(frozen=True)
class Kind:
    """A kind of picture.

    Attributes:
        name: what it is called.
        about: what it shows, in a few words.
        has: whether a fit can have it; data is there.
        make: computes it.
        telling: the more, the earlier it is in the panel; 0 where it is not to be in it.
        of_rows: whether it needs rows.
        takes: options that it has beside `level` and `seed`.
        section: of the report that it stands in; "" for none.
        part_of: the kind that shows the same among other things; the panel has only one of them.
    """

    name: str
    about: str
    has: "Callable[[Record], bool]"
    make: "Callable[[Record, Wish], Picture]"
    telling: float = 0.0
    of_rows: bool = True
    takes: frozenset[str] = field(default_factory=frozenset)
    part_of: str = ""
    section: str = "posterior"


def kind(
    name: str,
    about: str,
    has: "Callable[[Record], bool]",
    telling: float = 0.0,
    of_rows: bool = True,
    takes: Sequence[str] = (),
    part_of: str = "",
    section: str = "posterior",
) -> "Callable[[Callable[[Record, Wish], Picture]], Kind]":
    """Make a function of a fit and a wish a kind of picture.

    Args:
        name: what it is called.
        about: what it shows, in a few words.
        has: whether a fit can have it.
        telling: the more, the earlier it is in the panel; 0 where it is not to be in it.
        of_rows: whether it needs rows.
        takes: options that it has beside `level` and `seed`.
        part_of: the kind that shows the same among other things.
        section: of the report.
    """
    return lambda make: Kind(name, about, has, make, telling, of_rows, frozenset(takes), part_of, section)


def name_of(data: Dataset) -> str:
    """Where rows are from, without the folders."""
    return PurePath(data.source).name or data.source


def _listed(names: Sequence[Any], most: int = 20) -> str:
    shown = ", ".join(map(str, list(names)[:most]))
    return shown + (", …" if len(names) > most else "")
