"""Columns that say together what one should, and one that says what several should.

    Debit, Credit                       of which one is filled in each row: `Credit - Debit`
    Contact: email;phone                ticks in one cell: `Contact: email`, `Contact: phone`, true or false
    2014, 2015, …, 2023                 one measure over time, on request: a row for each year

The names of what is made tell from what, so that later data is rearranged alike.
"""

import re
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ppl_models.data.cells import Numbers
from ppl_models.data.marks import blank
from ppl_models.data.messages import listed, plural, quoted
from ppl_models.data.survey import parse
from ppl_models.data.table import Table
from ppl_models.data.totals import without
from ppl_models.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow

_IN = r"credits?|deposits?|(paid|money) in|haben|gutschrift|crédit|haber|abono"
_OUT = r"debits?|withdrawals?|(paid|money) out|soll|belastung|lastschrift|débit|debe|cargo"
_SIDE = re.compile(rf"(?P<into>{_IN})|(?P<out>{_OUT})", re.IGNORECASE)
_NONE = frozenset({"none", "nothing", "no", "keine", "keins", "aucun", "ninguno"})
_MOST_TICKS = 20
_MOST_TEXTS = 400
_FEWEST_PERIODS = 3
_MOSTLY = 0.95
_FEWEST_KEYS = 20


def sources(names: Collection[str]) -> set[str]:
    """The columns that some might be made of, by their names."""
    found: set[str] = set()
    for name in names:
        into, sign, out = name.partition(" - ")
        found |= {into, out} if sign else set()
        question, sign, _ = name.rpartition(": ")
        found |= {question} if sign else set()
    return found


def rearranged(
    table: Table, wanted: Collection[str] | None, named: Collection[str], *, decimal: str
) -> Table:
    """The table with ticks and two-sided amounts as columns of their own.

    Args:
        table: Of a file without types, in memory.
        wanted: For later data, the columns that are wanted; else whatever is found is rearranged.
        named: Columns that the user speaks of, which stay as they are. Those of later data all stay, beside
            what is made of them.
        decimal: The decimal mark of numbers in text.
    """
    if wanted is not None:
        missing = [name for name in wanted if name not in table.columns]
        if not sources(missing) & {*table.columns}:
            return table
        named = {name for name in wanted if name in table.columns}
    given = table.columns
    table = _one_amount(table, named, decimal, sure=wanted is not None)
    for name in [name for name in table.columns if name not in named]:
        prefix = f"{name}: "
        asked = None if wanted is None else [w.removeprefix(prefix) for w in wanted if w.startswith(prefix)]
        if asked is None or asked:
            table = _ticks(table, name, asked)
    if wanted is None:
        return table
    return replace(table, columns={**given, **table.columns}, names=[])


def _one_amount(table: Table, named: Collection[str], decimal: str, *, sure: bool) -> Table:
    import pyarrow as pa

    sides: dict[str, str] = {}
    for name in table.columns:
        side = _SIDE.fullmatch(name.strip())
        if side is not None and name not in named:
            if str(side.lastgroup) in sides:
                return table
            sides[str(side.lastgroup)] = name
    if len(sides) < 2:
        return table
    try:
        parsed = [parse(table, sides[each], decimal=decimal) for each in ("into", "out")]
    except DataError:
        return table
    into, out = (each.values if isinstance(each, Numbers) else np.empty(0) for each in parsed)
    if len(into) != len(out) or not len(into):
        return table
    both = (np.nan_to_num(into) != 0) & (np.nan_to_num(out) != 0)
    neither = np.isnan(into) & np.isnan(out)
    if not sure and (
        both.any() or neither.mean() > 1 - _MOSTLY or np.isnan(into).all() or np.isnan(out).all()
    ):
        return table
    amount = np.where(neither, np.nan, np.nan_to_num(into) - np.abs(np.nan_to_num(out)))
    name = f"{sides['into']} - {sides['out']}"
    new = {name: pa.chunked_array([pa.array(amount, from_pandas=True)])}
    note = f"{listed(list(sides.values()))} are the two sides of one amount, taken as {quoted(name)}"
    return _put(table, [*sides.values()], new, note)


def _ticks(table: Table, name: str, asked: list[str] | None) -> Table:
    """The table with a column of truth values for each of the items that cells list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = table.columns[name]
    if isinstance(cells, np.ndarray) or not pa.types.is_string(cells.type):
        return table
    texts = [text.strip() for text in pc.unique(cells).to_pylist() if text is not None]  # pyright: ignore[reportAttributeAccessIssue]
    mark = next((mark for mark in ";|" if any(mark in text for text in texts)), ",")
    if asked is None and (len(texts) > _MOST_TEXTS or not any(mark in text for text in texts)):
        return table
    known = [t for t in texts if t not in table.usual and not blank(t) and t.lower() not in _NONE]
    lists = {text: [item.strip() for item in text.split(mark)] for text in known}
    items = list(dict.fromkeys(item for each in lists.values() for item in each))
    if asked is None:
        if not 2 <= len(items) <= _MOST_TICKS or not all(items) or any(re.search(r"\d", i) for i in items):
            return table
        if any(len({*each}) < len(each) for each in lists.values()):
            return table
        if any(sum(item in each for each in lists.values()) < 2 for item in items):
            return table
        if sum(len(each) > 1 for each in lists.values()) < 2:
            return table
    made: dict[str, pyarrow.ChunkedArray] = {}
    answers = [None if text is None else text.strip() for text in cells.to_pylist()]
    for item in sorted(items) if asked is None else asked:
        truth: dict[str | None, bool] = {text: item in each for text, each in lists.items()}
        truth |= {text: False for text in texts if text.lower() in _NONE}
        ticked = [truth.get(text) for text in answers]
        made[f"{name}: {item}"] = pa.chunked_array([pa.array(ticked, pa.bool_())])
    note = f"column {quoted(name)} lists several in one cell; a column for each: {listed(list(made), 8)}"
    return _put(table, [name], made, note)


def _put(table: Table, gone: list[str], new: "dict[str, pyarrow.ChunkedArray]", note: str) -> Table:
    """The table with new columns at the place of the first of some others."""
    columns: dict = {}
    for name, cells in table.columns.items():
        columns |= {name: cells} if name not in gone else new
    names = dict.fromkeys(each for name in table.names for each in ([name] if name not in gone else new))
    return replace(table, columns=columns, names=list(names), notes=[*table.notes, note])


def without_repeats(table: Table) -> Table:
    """The table without rows that repeat an earlier one whole, where a column of text tells rows apart.

    Without such a column, as that of names or times, equal rows are as good as any.

    Args:
        table: Of a file without types, in memory.
    """
    import pandas as pd
    import pyarrow as pa

    for cells in table.columns.values():
        if table.rows < _FEWEST_KEYS or isinstance(cells, np.ndarray) or not pa.types.is_string(cells.type):
            continue
        again = pd.Series(cells.to_numpy(), copy=False).duplicated()
        if not 0 < again.sum() <= (1 - _MOSTLY) * table.rows:
            continue
        whole = {
            i: c if isinstance(c, np.ndarray) else c.to_pandas() for i, c in enumerate(table.columns.values())
        }
        rows = np.flatnonzero(pd.DataFrame(whole).duplicated()).tolist()
        if not rows:
            return table
        said = f"left out {plural(len(rows), 'row')} that repeat another one whole, the first in "
        return without(table, rows, said + table.place(rows[0]))
    return table


def periods(table: Table) -> list[str]:
    """The columns that are called by years that follow one another, if there are any."""
    years = [name for name in table.columns if re.fullmatch(r"(1[6-9]|20|21)\d\d", name, re.ASCII)]
    numbers = [int(name) for name in years]
    steps = {*np.diff(numbers).tolist()}
    return years if len(years) >= _FEWEST_PERIODS and len(steps) == 1 and min(steps) > 0 else []


def longer(table: Table, name: str, decimal: str) -> Table:
    """The table with one column, and `year`, for those that are called by years; a row for each of them.

    Args:
        table: In memory.
        name: What the column of their cells is called.
        decimal: The decimal mark of numbers in text.

    Raises:
        UsageError: No columns are called by years, or a name is taken.
        DataError: Their cells are not numbers.
    """
    wide = periods(table)
    if not wide:
        raise UsageError(
            f"long needs columns called by years, such as 2020, 2021, 2022; {table.source} has none"
        )
    for each in ("year", name):
        if each in table.columns:
            raise UsageError(
                f"{table.source} has a column {quoted(each)} already, as long would call another"
            )
    cells = []
    for each in wide:
        parsed = parse(table, each, decimal=decimal)
        if not isinstance(parsed, Numbers):
            raise table.column_error(each, "its cells are not numbers, which those of long are to be")
        cells.append(parsed.values)
    width, rows, place = len(wide), np.repeat(np.arange(table.rows), len(wide)), table.place
    columns: dict = {}
    for each, given in table.columns.items():
        if each not in wide:
            columns[each] = given[rows] if isinstance(given, np.ndarray) else given.take(rows)
        elif each == wide[0]:
            columns["year"] = np.tile([float(year) for year in wide], table.rows)
            columns[name] = np.stack(cells, 1).ravel()
    note = f"the columns {quoted(wide[0])} to {quoted(wide[-1])} are {quoted(name)} in rows, by 'year'"
    return replace(
        table,
        columns=columns,
        names=list(columns),
        matrix=None,
        rows=table.rows * width,
        notes=[*table.notes, note],
        place=lambda row: place(row // width),
        cell=None,
        index=None,
    )
