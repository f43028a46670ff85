"""A table as it was read, before it is known what its columns mean."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ppl_models.data.messages import clean, listed, quoted
from ppl_models.data.schema import Kind
from ppl_models.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import pyarrow

    Cells = np.ndarray | pyarrow.ChunkedArray


MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "None", "?")
"""The texts that mean a missing cell, where the data has no missing cells of its own."""


@dataclass(frozen=True)
class Came:
    """As what the cells of a column came, so that results can be the same.

    Attributes:
        dtype: The pandas type, such as `int64`; "" for text; None if the source has no types.
        order: Labels in the order of the levels, if that was given.
        given: Whether it was given by the user, so that it names all levels.
        positive: The label that is to be the second of two.
        categories: All categories of a categorical, in order.
        ordered: Whether these are ordered.
    """

    dtype: str | None = None
    order: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    ordered: bool = False
    given: bool = False
    positive: str | None = None


UNKNOWN = Came()


@dataclass
class Table:
    """Named columns of equal length.

    Attributes:
        source: What messages call it.
        columns: A NumPy array of numbers, or an Arrow array, for each name.
        rows: The length of every column.
        notes: What was done while reading.
        place: Names a row in a message, counting from zero: `line 7`, `row 6`.
        cell: The text of a cell as it stands in the file, where there is one.
        matrix: All columns at once as (n, C) numbers, if that is how they came.
        lengths: The lengths of the sequences, if the data says so itself.
        kinds: Kinds that the format itself declares.
        names: All columns that the source has, also those that were not read.
        arrays: Numbers of other shapes beside the columns.
        parts: For a table that stays on disk: reads some columns, a block of rows after another. Its
            `columns` are read when they are asked for.
        shape: Height, width and perhaps channels, if the columns named x… are the pixels of images.
        decimal: The decimal mark of its numbers, where that was found out.
        quoted_commas: Whether commas separate cells, so that those inside of numbers are of thousands.
        usual: Texts that mean a missing cell unless the user says otherwise.
        typed: Whether the source has types, and missing cells of its own: then its words are data.
        held: Whether it was in memory, where a column is there because somebody put it there.
        came: As what the cells of columns came, where the source says so.
        index: The index of the rows, of a pandas data frame.
        text: Of rows that are the bytes of texts, the column that they were; "" if a file was one.
    """

    source: str
    columns: Mapping[str, "Cells"]
    rows: int
    notes: list[str] = field(default_factory=list)
    place: Callable[[int], str] = lambda row: f"row {row + 1}"
    cell: Callable[[int, str], str] | None = None
    matrix: "np.ndarray | None" = None
    lengths: "np.ndarray | None" = None
    kinds: dict[str, Kind] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    parts: Callable[[Collection[str]], Iterator[Mapping[str, "Cells"]]] | None = None
    arrays: "dict[str, np.ndarray]" = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    decimal: str = "."
    quoted_commas: bool = False
    usual: tuple[str, ...] = MISSING
    typed: bool = False
    held: bool = False
    came: dict[str, Came] = field(default_factory=dict)
    index: "pandas.Index | None" = None
    text: str | None = None

    def __post_init__(self) -> None:
        self.names = self.names or list(self.columns)

    def blocks(self, names: Collection[str]) -> Iterator["Table"]:
        """The table itself, or the blocks of rows of one that stays on disk, with these columns.

        Raises:
            DataError: The file is no longer what it was when it was opened.
        """
        if self.parts is None:
            yield self
            return
        start = 0
        for columns in self.parts(names):
            rows = len(next(iter(columns.values())))
            yield replace(
                self, columns=columns, rows=rows, place=self._after(start), names=[], matrix=None, parts=None
            )
            start += rows
        if start != self.rows:
            raise self.error(
                f"{start:,} rows where there were {self.rows:,}; it was changed while it was read"
            )

    def _after(self, start: int) -> Callable[[int], str]:
        return lambda row: self.place(start + row)

    def named(self, names: list[str]) -> "Table":
        """The same table with other names of its columns."""
        old = dict(zip(names, self.columns, strict=True))
        parts = self.parts

        def renamed(wanted: Collection[str]) -> Iterator[Mapping[str, "Cells"]]:
            for block in parts([old[name] for name in wanted]) if parts else ():
                yield {name: block[old[name]] for name in wanted}

        columns = {name: self.columns[before] for name, before in old.items()}
        return replace(self, columns=columns, names=[], parts=renamed if parts else None)

    def error(self, reason: str) -> DataError:
        """An error about the table as a whole."""
        return DataError(f"{clean(self.source)}: {reason}")

    def column_error(self, name: str, reason: str, row: int | None = None) -> DataError:
        """An error about a column, or about one cell of it.

        Args:
            name: of the column.
            reason: what is wrong and what to do.
            row: of the cell, counting from 0.
        """
        where = f"{clean(self.source)}, " + (f"{self.place(row)}, " if row is not None else "")
        return DataError(f"{where}column {quoted(name)}: {reason}")


def check_names(source: str, names: list[str]) -> None:
    """Refuse names that cannot tell the columns apart.

    A blank name is let through in the first place only, where it usually heads row numbers.

    Raises:
        DataError: A name is repeated, blank, has spaces around it, or holds half a character.
    """
    where = f"{clean(source)}: the header"
    halves = [name for name in names if any("\ud800" <= c <= "\udfff" for c in name)]
    if halves:  # as JSON can spell them: no file could hold the name
        raise DataError(f"{where} has half a character in {listed(halves)}; rename it")
    repeated = (
        sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    )
    if [name for name in repeated if name.strip()]:
        raise DataError(
            f"{where} repeats {listed(n for n in repeated if n.strip())}; give each column its own name"
        )
    blank = [str(i + 1) for i, name in enumerate(names) if not name.strip() and i > 0]
    if blank:
        raise DataError(
            f"{where} has no name for column {', '.join(blank[:6])}; name it, or remove the column"
        )
    padded = [name for name in names if name != name.strip() and name.strip()]
    if padded:
        raise DataError(f"{where} has spaces around {listed(padded)}; remove them")
