"""Rows that repeat what others say: subtotals and totals among the rows of an export."""

import re
from dataclasses import replace

import numpy as np

from ppl_models.data.messages import listed, plural
from ppl_models.data.table import Table

_TOTAL = re.compile(
    r"((sub|grand|zwischen|gesamt)[- ]?)?(total|totals|totale|summe|sum|somme|suma|insgesamt|gesamt)\b.*",
    re.I,
)


def without_totals(table: Table) -> Table:
    """The table without rows that say `total` and leave another label blank that other rows have.

    Args:
        table: In memory.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    words = [name for name, cells in table.columns.items() if pa.types.is_string(cells.type)]  # type: ignore[union-attr]
    for name in words[:2]:
        cells = table.columns[name]
        hit = pc.match_substring_regex(cells, "(?i)total|summ?e?|suma|gesamt")  # pyright: ignore
        where = np.flatnonzero(pc.fill_null(hit, False).to_numpy(zero_copy_only=False))
        if not len(where) or len(where) > table.rows // 2:
            continue
        others = [table.columns[other] for other in table.columns if other != name]
        full = [each for each in others if each.null_count <= 2 * len(where)]  # pyright: ignore[reportAttributeAccessIssue]
        rows = [
            int(row)
            for row in where
            if _TOTAL.fullmatch(cells[int(row)].as_py().strip())
            and any(not each[int(row)].is_valid for each in full)
        ]
        if rows:
            return _without(table, rows, [cells[row].as_py() for row in rows])
    return table


def _without(table: Table, rows: list[int], said: list[str]) -> Table:
    keep = np.setdiff1d(np.arange(table.rows), rows)
    place = table.place
    columns = {name: cells.take(keep) for name, cells in table.columns.items()}
    note = f"left out {plural(len(rows), 'row')} of totals: {listed(said)}"
    return replace(
        table,
        columns=columns,
        rows=len(keep),
        notes=[*table.notes, note],
        place=lambda row: place(int(keep[row]) if row < len(keep) else row),
    )
