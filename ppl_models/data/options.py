"""The options of reading as data: what a command line or a manual is made from.

    >>> [option.name for option in reading_options("fit")][:4]
    ['columns', 'ignore', 'types', 'sequence']

`lengths`, `schema`, `require_schema_columns` and `refine` of `ppl_models.data.read` are not among them: they
are for programs. Nothing large is imported for them.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict

from ppl_models.data.readers import format_options
from ppl_models.data.readers.base import Option, Stage
from ppl_models.data.schema import Kind, Meaning

Names = str | Iterable[str]
"""Names: in one text with commas between them, or one after the other."""

Unseen = Literal["error", "missing"]
"""What becomes of a label that the fit has never seen."""

_FIT: frozenset[Stage] = frozenset({"fit"})
_LATER: frozenset[Stage] = frozenset({"later"})

_COLUMNS = (
    Option(
        name="columns",
        help="The only columns to model.",
        metavar="A,B",
        type=tuple[str, ...],
        stages=_FIT,
    ),
    Option(
        name="ignore",
        help="Columns not to model.",
        metavar="A,B",
        type=tuple[str, ...],
        stages=_FIT,
    ),
    Option(
        name="types",
        help="Kinds of columns: continuous, count, binary or categorical.",
        metavar="COL=KIND,...",
        type=Mapping[str, Kind],
        stages=_FIT,
    ),
    Option(
        name="sequence",
        help="The column that names the sequence of a row, or several.",
        metavar="A,B",
        stages=_FIT,
    ),
    Option(name="time", help="The column that orders a sequence.", metavar="COL", stages=_FIT),
    Option(
        name="date_format",
        help="How dates of the time are written: dmy, mdy or like %d.%m.%Y; found out if not given.",
        metavar="FORMAT",
    ),
    Option(
        name="sort",
        help="Sort the rows by time, within sequences.",
        metavar="",
        type=bool,
        default=False,
    ),
    Option(
        name="long",
        help="Make one column of those that are called by years, with a row for each year.",
        metavar="NAME",
    ),
    Option(
        name="text",
        help="Columns of texts in whose place their words are counted (a bag of words).",
        metavar="A,B",
        type=tuple[str, ...],
        stages=_FIT,
    ),
    Option(name="target", help="The column that is to be predicted.", metavar="COL", stages=_FIT),
    Option(name="weights", help="The column of the weights of the rows.", metavar="COL", stages=_FIT),
    Option(
        name="weights_are",
        help="What weights are: counts of rows, or importance, which adds no information; whole numbers are "
        "counts if not given.",
        metavar="counts|importance",
        type=Meaning,
        stages=_FIT,
    ),
)
_CELLS = (
    Option(
        name="missing",
        help="A further text that means a missing cell; may be repeated.",
        metavar="TOKEN",
        type=tuple[str, ...],
        repeated=True,
    ),
    Option(
        name="na_values",
        help="The texts that mean a missing cell, instead of the usual ones; an empty cell always does.",
        metavar="A,B",
        type=tuple[str, ...],
    ),
    Option(
        name="levels",
        help="The order of a column's levels, the reference first; may be repeated.",
        metavar="COL=A,B,C",
        type=Mapping[str, tuple[str, ...]],
        repeated=True,
        stages=_FIT,
    ),
    Option(
        name="positive",
        help="The class of a target of two that counts as yes.",
        metavar="LABEL",
        stages=_FIT,
    ),
    Option(
        name="keep",
        help="Columns of DATA to carry through to the results, or all.",
        metavar="A,B",
        type=tuple[str, ...],
        stages=_LATER,
    ),
    Option(
        name="unseen",
        help="What a label never seen in the fit is; an error if not given.",
        metavar="error|missing",
        type=Unseen,
        stages=_LATER,
    ),
)


class FormatOptions(TypedDict, total=False):
    """Options that only some formats have: those that their readers declare, for type checkers.

    Attributes:
        sheet: The sheet of a workbook; the first if not given.
        query: What to ask a database, in SQL; its only table if not given.
    """

    sheet: str | None
    query: str | None


class Later(FormatOptions, total=False):
    """How data is read that comes after the fit: options of `ppl_models.data.read`.

    Attributes:
        delimiter: What separates the cells of delimited text.
        decimal: The decimal mark of numbers in text, `.` or `,`.
        encoding: The encoding of text.
        missing: Further texts, or numbers, that mean a missing cell.
        na_values: The texts, or numbers, that mean a missing cell, instead of the usual ones.
        keep: Columns of the data to carry through to the results, or `all`.
        unseen: What a label that the fit has never seen is: an `error`, or `missing`.
        lengths: The number of rows of each sequence, of an array.
        sequence: The column that names the sequence of a row; the fit's if not given.
        time: The column that orders a sequence; the fit's if not given.
        date_format: How the dates of the time are written, where their cells do not tell.
        sort: Whether to sort the rows by time, within sequences.
        long: What to call the column that is made of those called by years, with a row for each year.
    """

    delimiter: str | None
    decimal: str
    encoding: str
    missing: Names | float | None
    na_values: Names | float | None
    keep: Names | None
    unseen: Unseen
    lengths: Any
    sequence: str | None
    time: str | None
    date_format: str | None
    sort: bool
    long: str | None


def reading_options(stage: Stage | None = None) -> tuple[Option, ...]:
    """The options of reading, in the order in which a help text lists them.

    Args:
        stage: Only those that apply when a model is fitted (`fit`), or to data after that (`later`).
    """
    found = (*_COLUMNS, *format_options(), *_CELLS)
    return tuple(option for option in found if stage is None or stage in option.stages)
