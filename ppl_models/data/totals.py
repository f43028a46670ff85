"""Rows that repeat what others say: subtotals and totals among the rows of an export."""

import re
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ppl_models.data.messages import listed, plural
from ppl_models.data.table import Table

if TYPE_CHECKING:
    import pyarrow

_TOTAL = re.compile(
    r"((sub|grand|zwischen|gesamt)[- ]?)?(total|totals|totale|summe|sum|somme|suma|insgesamt|gesamt)\b.*|"
    r"(opening|closing|beginning|starting|ending|previous|final) balance\b.*|"
    r"balance (brought|carried)( forward| down)?|(brought|carried) forward|"
    r"(anfangs|end|schluss)saldo\b.*|saldovortrag|(ancien|nouveau) solde\b.*|solde (initial|final)\b.*",
    re.I,
)
"""Rows of sums, and of the balance before and after those of a statement."""


_LABELS = 4
"""Columns of text, from the left, that are looked at."""

_HINT = "(?i)total|summ?e?|suma|gesamt|balance|forward|saldo|solde"


def filled(cells: "pyarrow.ChunkedArray", usual: Collection[str]) -> np.ndarray:
    """(n,) truth values: which cells hold something.

    Args:
        cells: Of a column.
        usual: The texts that mean a missing cell.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    there = ~pc.is_null(cells).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    if pa.types.is_string(cells.type):
        trimmed = pc.utf8_trim_whitespace(cells)  # pyright: ignore[reportAttributeAccessIssue]
        there &= ~pc.is_in(trimmed, pa.array([*usual], pa.string())).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    return there


def without_totals(table: Table, usual: Collection[str]) -> Table:
    """The table without rows that say `total` and leave another label blank that other rows have.

    Args:
        table: In memory.
        usual: The texts that mean a missing cell.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    words = [name for name, cells in table.columns.items() if pa.types.is_string(cells.type)]  # type: ignore[union-attr]
    for name in words[:_LABELS]:
        cells = table.columns[name]
        hit = pc.match_substring_regex(cells, _HINT)  # pyright: ignore
        where = np.flatnonzero(pc.fill_null(hit, False).to_numpy(zero_copy_only=False))
        if not len(where) or len(where) > table.rows // 2:
            continue
        others = [filled(table.columns[other], usual) for other in table.columns if other != name]  # pyright: ignore
        full = [each for each in others if (~each).sum() <= 2 * len(where)]
        rows = [
            int(row)
            for row in where
            if _TOTAL.fullmatch(cells[int(row)].as_py().strip()) and any(not each[row] for each in full)
        ]
        if rows:
            said = listed([cells[row].as_py() for row in rows])
            return without(table, rows, f"left out {plural(len(rows), 'row')} of totals or balances: {said}")
    return table


def without(table: Table, rows: Collection[int], note: str) -> Table:
    """The table without some of its rows.

    Args:
        table: In memory.
        rows: Those to leave out, from 0.
        note: What is said of it.
    """
    import pyarrow as pa

    keep = np.setdiff1d(np.arange(table.rows), [*rows])
    place, cell, index = table.place, table.cell, pa.array(keep)

    def at(row: int) -> int:
        return int(keep[row]) if row < len(keep) else row

    return replace(
        table,
        columns={
            name: cells[keep] if isinstance(cells, np.ndarray) else cells.take(index)
            for name, cells in table.columns.items()
        },
        rows=len(keep),
        notes=[*table.notes, note],
        matrix=None if table.matrix is None else table.matrix[keep],
        place=lambda row: place(at(row)),
        cell=None if cell is None else lambda row, name: cell(at(row), name),
        index=None if table.index is None else table.index[keep],
    )
