"""The target: the column that is to be predicted, as labels or as numbers.

The rules, where its kind is not given:

- Text and truth values: labels. Text in which every cell is a number is numbers.
- Numbers with fractions: continuous, as any other column.
- Whole numbers with at most `MOST_LEVELS` different values: labels `0`, `1`, `2` in their order, however they
  are written.
- Whole numbers with more: a count, or continuous, as `ppl_models.data.types` has it for any other column.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ppl_models.data.cells import EXACT, Dates, Labels, label
from ppl_models.data.schema import LABELLED, Column, Kind
from ppl_models.data.summaries import LabelSummary, NumberSummary, Summary
from ppl_models.data.survey import Survey
from ppl_models.data.table import Table
from ppl_models.data.types import MOST_LEVELS, column, infer, is_number, levels_of, natural, of_labels, two

if TYPE_CHECKING:
    import pyarrow

_SOME = 1 << 16
"""Cells that are looked at at a time for different values, as a few thousand mostly settle it."""


def first_kind(table: Table, name: str) -> dict[str, Kind]:
    """As what the target is looked through first: text as labels, which keeps how labels are written."""
    cells = next(table.blocks([name])).columns[name]
    return {} if isinstance(cells, np.ndarray) or _numeric(cells) else {name: Kind.CATEGORICAL}


def _numeric(cells: "pyarrow.ChunkedArray") -> bool:
    import pyarrow as pa

    kind = cells.type
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def with_numbers(table: Table, name: str, decimal: str) -> Table:
    """The table with numbers for the text of a target, where it is plain that they are not labels.

    Text is read as numbers at once, which for a million cells takes a tenth of the time of looking at each.
    Where that does not settle it, the text stays.

    Args:
        table: The data.
        name: The target.
        decimal: The decimal mark of numbers in text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = None if table.parts is not None else table.columns[name]
    if cells is None or isinstance(cells, np.ndarray) or not pa.types.is_string(cells.type):
        return table
    try:
        if decimal != "." and pc.any(pc.match_substring(cells, ".")).as_py():  # pyright: ignore
            return table  # points are of thousands
        plain = cells if decimal == "." else pc.replace_substring(cells, decimal, ".")  # pyright: ignore[reportAttributeAccessIssue]
        numbers = pc.utf8_trim_whitespace(plain).cast(pa.float64())  # pyright: ignore[reportAttributeAccessIssue]
    except pa.ArrowInvalid:
        return table
    values = numbers.drop_null().to_numpy()
    whole = bool((values == np.trunc(values)).all())
    if whole and (len(np.unique(values)) <= MOST_LEVELS or np.abs(values).max(initial=0.0) > EXACT):
        return table
    return replace(table, columns={**table.columns, name: numbers})


def target_column(survey: Survey, name: str, kind: Kind | None) -> Column:
    """Describe the target: binary if it has two levels, else categorical; continuous or a count if numbers.

    Args:
        survey: The data, of which the target may be looked through again as of another kind.
        name: The target.
        kind: Its kind, if the user said so. Of a binary or categorical one, numbers of any sort are labels.

    Raises:
        DataError: It is dates, has words for more than `MOST_LEVELS` levels or among numbers with fractions,
            is not of the kind that was given, or is missing in every row.
    """
    table = survey.table
    found = survey.summaries[name] if kind is not None else _found_out(survey, name)
    if isinstance(found, Dates):
        raise table.column_error(name, "dates cannot be predicted; name another target")
    if not found.count:
        raise table.column_error(name, "every cell of the target is missing; name another target")
    if isinstance(found, NumberSummary) or (kind is not None and kind not in LABELLED):
        return column(table, name, found, kind or infer(found))
    levels = levels_of(found) if kind is not None else _levels(table, name, found)
    if kind is Kind.BINARY or levels in (("0",), ("1",)):
        levels = two(table, name, levels)
    return of_labels(name, found, kind or (Kind.BINARY if len(levels) == 2 else Kind.CATEGORICAL), levels)


def _found_out(survey: Survey, name: str) -> Summary:
    """The cells of a target of which nothing is known, as numbers or as labels."""
    found = survey.summaries[name]
    if isinstance(found, NumberSummary):
        few = found.count and found.whole and not _many(survey, name)
        return survey.again(name, Kind.CATEGORICAL) if few else found
    if isinstance(found, Dates) or found.typed:
        return found
    numbers = {float(plain) for text in found.seen if is_number(plain := survey.plain(text))}
    fractions = any(number != int(number) for number in numbers)
    all_numbers = len(found.seen) and all(is_number(survey.plain(text)) for text in found.seen)
    many = found.overflow or (len(numbers) if all_numbers else len(found.seen)) > MOST_LEVELS
    # A word among fractions, or one of very many, is judged as in any other column: it may be a slip.
    return survey.again(name, None) if fractions or many else found


def _many(survey: Survey, name: str) -> bool:
    """Whether a column of numbers has more than `MOST_LEVELS` different values."""
    seen: set[float] = set()
    for block in survey.cells([name]):
        cells = block[name]
        values = np.empty(0) if isinstance(cells, Labels) else cells.values
        for lo in range(0, len(values), _SOME):
            part = values[lo : lo + _SOME]
            seen.update(np.unique(part[~np.isnan(part)]).tolist())
            if len(seen) > MOST_LEVELS:
                return True
    return False


def _levels(table: Table, name: str, found: LabelSummary) -> tuple[str, ...]:
    """The levels, whole numbers in one spelling, if there are few enough."""
    levels = levels_of(found)
    if len(levels) > MOST_LEVELS or found.overflow:
        raise table.column_error(
            name, f"a target has at most {MOST_LEVELS} levels, this one has {len(levels):,}; group them"
        )
    numbers = [float(text) for text in levels if is_number(text)]
    if len(numbers) == len(levels) and max(map(abs, numbers)) <= EXACT:
        return tuple(sorted({label(number) for number in numbers}, key=natural))
    return levels
