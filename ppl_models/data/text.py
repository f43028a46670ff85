"""Texts as rows of bytes."""

from typing import TYPE_CHECKING, Any

from ppl_models.data.messages import plural
from ppl_models.data.schema import Kind
from ppl_models.data.table import Came, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

BYTE = "byte"
"""What the column is called that the bytes of texts become."""


def of_bytes(source: str, texts: "Sequence[bytes]", column: str) -> Table:
    """A row for each byte of texts, each of which is a sequence.

    Args:
        source: What messages call it.
        texts: In UTF-8, none of them empty.
        column: The column that they were; "" if they were a file.
    """
    import numpy as np

    values = np.frombuffer(b"".join(texts), np.uint8).astype(np.float64)
    lengths = np.array([len(text) for text in texts], np.int64)
    return Table(
        source,
        {BYTE: values},
        len(values),
        lengths=lengths if len(texts) > 1 else None,
        kinds={BYTE: Kind.COUNT},
        came={BYTE: Came("int64")},
        text=column,
    )


def of_column(table: Table, name: str) -> Table:
    """The texts of a column; cells without any are left out.

    Raises:
        DataError: No cell has a text.
    """
    cells: Any = table.columns[name]
    every = cells.tolist() if not hasattr(cells, "to_pylist") else cells.to_pylist()
    texts = [str(each).encode("utf-8", "replace") for each in every if each is not None and each == each]
    texts = [text for text in texts if text]
    if not texts:
        raise table.column_error(name, "no cell has a text")
    found = of_bytes(table.source, texts, name)
    found.notes = list(table.notes)
    left = len(every) - len(texts)
    if left:
        found.notes.append(f"{plural(left, 'row')} without a text in {name!r} left out")
    return found
