"""Columns of delimited text that look like whole numbers and are codes: `02134`, or beyond 2⁵³.

A number loses its leading zeros, and digits beyond 2⁵³; such columns are therefore read as text, to be judged
as any other text is (`ppl_models.data.survey`).
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from ppl_models.data.cells import EXACT

if TYPE_CHECKING:
    import pyarrow


def as_codes(
    columns: "dict[str, pyarrow.ChunkedArray]",
    content: memoryview,
    delimiter: str,
    again: "Callable[[list[str]], dict[str, pyarrow.ChunkedArray]]",
) -> "dict[str, pyarrow.ChunkedArray]":
    """Those of the columns that are to be text.

    Args:
        columns: as they were read.
        content: the text that they were read from.
        delimiter: what separates its cells.
        again: reads some columns as text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    mark = re.escape(delimiter.encode())
    zeros = re.search(rb'(?:^|[\r\n"]|' + mark + rb")[ +-]*0[0-9]", content) is not None
    doubtful = []
    for name, cells in columns.items():
        if pa.types.is_integer(cells.type) and zeros:
            doubtful.append(name)
        elif pa.types.is_floating(cells.type):
            high = pc.max(pc.abs(cells)).as_py()  # pyright: ignore[reportAttributeAccessIssue]
            if high is not None and high > EXACT:
                doubtful.append(name)
    if not doubtful:
        return {}
    code, long = r"^\s*[+-]?0\d+\s*$", r"^\s*[+-]?\d{17,}\s*$"
    found = {}
    for name, cells in again(doubtful).items():
        match = pc.match_substring_regex  # pyright: ignore[reportAttributeAccessIssue]
        if pa.types.is_integer(columns[name].type):
            wanted = pc.any(match(cells, code)).as_py()  # pyright: ignore[reportAttributeAccessIssue]
        else:
            wanted = 2 * (pc.sum(match(cells, long)).as_py() or 0) > len(cells)  # pyright: ignore[reportAttributeAccessIssue]
        if wanted:
            found[name] = cells
    return found
