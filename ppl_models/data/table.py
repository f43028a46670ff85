"""A table as it was read, before it is known what its columns mean."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ppl_models.data.messages import clean, listed, quoted
from ppl_models.data.schema import Kind
from ppl_models.errors import DataError

if TYPE_CHECKING:
    import pyarrow

    Cells = np.ndarray | pyarrow.ChunkedArray


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
    """

    source: str
    columns: Mapping[str, "Cells"]
    rows: int
    notes: list[str] = field(default_factory=list)
    place: Callable[[int], str] = lambda row: f"row {row + 1}"
    cell: Callable[[int, str], str] | None = None
    matrix: np.ndarray | None = None
    lengths: np.ndarray | None = None
    kinds: dict[str, Kind] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = self.names or list(self.columns)

    def error(self, reason: str) -> DataError:
        """An error about the table as a whole."""
        return DataError(f"{clean(self.source)}: {reason}")

    def column_error(self, name: str, reason: str, row: int | None = None) -> DataError:
        """An error about a column, or about one cell of it."""
        where = f"{clean(self.source)}, " + (f"{self.place(row)}, " if row is not None else "")
        return DataError(f"{where}column {quoted(name)}: {reason}")


def check_names(source: str, names: list[str]) -> None:
    """Refuse names that cannot tell the columns apart.

    A blank name is let through in the first place only, where it usually heads row numbers.

    Raises:
        DataError: A name is repeated, blank, or has spaces around it.
    """
    where = f"{clean(source)}: the header"
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
