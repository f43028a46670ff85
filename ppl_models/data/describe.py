"""A table that is seen for the first time: which columns are modelled, and as what."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ppl_models.data.came import of_texts
from ppl_models.data.cells import Dates, Numbers
from ppl_models.data.marks import BLANK
from ppl_models.data.matrix import matrix
from ppl_models.data.messages import Change, listed, plural, quoted
from ppl_models.data.schema import Column, Kind
from ppl_models.data.spill import blocks, lies_on_disk
from ppl_models.data.summaries import LabelSummary, NumberSummary, Summary
from ppl_models.data.survey import Survey
from ppl_models.data.table import MISSING, UNKNOWN, Table
from ppl_models.data.targets import first_kind, target_column, with_numbers
from ppl_models.data.types import MOST_LEVELS, column, infer

_AMBIGUOUS = ("NA", "NULL", "null", "None", "?")
"""Texts that mean a missing cell, and might as well be labels."""

LOOKED_AT = 1_000_000
"""Rows of a table on disk, for numbers that may mean a missing cell."""

_ID_ROWS = 20
_NUMBERED_ROWS = 10


def describe(
    table: Table,
    names: list[str],
    *,
    selected: Collection[str],
    types: Mapping[str, Kind],
    missing: Collection[str],
    decimal: str,
    target: str | None = None,
) -> tuple[np.ndarray, tuple[Column, ...], list[str]]:
    """The columns that can be modelled, as (n, C) numbers.

    Row numbers, dates, identifiers and text with too many levels are left out with a note, unless the
    user asked for them by name.

    Args:
        table: The data.
        names: The columns to look at, in order.
        selected: Those that the user asked for by name.
        types: Kinds given by the user.
        missing: Further texts that mean a missing cell.
        decimal: The decimal mark of numbers in text.
        target: The one of the columns that is to be predicted.

    Raises:
        DataError: A column cannot be modelled, or none can.
    """
    notes: list[str] = []
    columns: list[Column] = []
    kinds = dict(types)
    if target is not None and target not in kinds:
        table = with_numbers(table, target, decimal)
        kinds |= first_kind(table, target)
    survey = Survey(table, names, kinds=kinds, missing=missing, decimal=decimal, codes=True)
    for position, name in enumerate(names):
        found = survey.summaries[name]
        if name == target:
            columns.append(dressed(table, target_column(survey, name, types.get(name))))
            continue
        first = position == 0 and len(names) > 1 and table.matrix is None
        coded = name in survey.codes
        why = _left_out(table, name, found, chosen=name in selected, first=first, coded=coded)
        if why is None and name not in selected and _identifies(survey, name, found):
            why = (
                f"left out {quoted(name)} (whole numbers that differ in every row, named as an identifier); "
                "name it in --columns to use it"
            )
        if why is not None:
            notes.append(Change(why))
            continue
        if isinstance(found, Dates):
            raise table.column_error(
                name, "dates are not modelled; name the column with --time, or leave it out"
            )
        kind = types.get(name) or table.kinds.get(name) or infer(found)
        columns.append(dressed(table, column(table, name, found, kind)))
    if not columns:
        raise table.error("has no column that can be modelled; " + ("; ".join(notes) or "none is left"))
    values = matrix(survey, columns)
    notes += [*survey.notes, *words(table, survey, columns), *sentinels(values, columns)]
    return values, tuple(columns), notes + remarks(values, columns, table.kinds | types)


_IDENTIFIER = re.compile(
    r"(.*[\W_])?(id|ids|uid|uuid|key|nr|no|nummer|number|code|zip|plz|kundennr|kundennummer|customerid|userid|"
    r"orderid|patientid|accountid|rowid|index)\.?(?!\w)|\w*[a-z]I[Dd]",
    re.ASCII,
)


def _identifies(survey: Survey, name: str, found: Summary) -> bool:
    """Whether whole numbers are names of rows: called so, and all different."""
    if not isinstance(found, NumberSummary) or not found.whole or found.count < _ID_ROWS:
        return False
    table = survey.table
    if table.matrix is not None or table.parts is not None or (table.held and found.numbered):
        return False
    if not (_IDENTIFIER.fullmatch(name) or _IDENTIFIER.fullmatch(name.lower())):
        return False
    cells = next(iter(survey.cells([name])))[name]
    values = cells.values[~np.isnan(cells.values)] if isinstance(cells, Numbers) else np.empty(0)
    return len(np.unique(values)) == len(values) > 0


def dressed(table: Table, found: Column) -> Column:
    """The column, with as what its cells came."""
    came = table.came.get(found.name, UNKNOWN)
    dtype = came.dtype
    if dtype is None:
        dtype = of_texts(found.levels) if found.labelled else ""
    categories = came.categories if found.labelled else ()
    if categories:  # of a file that is read block by block, the first block may not know all
        categories = (*categories, *(level for level in found.levels if level not in categories))
    return replace(found, dtype=dtype, categories=categories, ordered=came.ordered and bool(categories))


def words(table: Table, survey: Survey, columns: Sequence[Column]) -> list[str]:
    """What became of texts such as NA and None in columns of labels."""
    notes = []
    for each in columns:
        found = survey.summaries[each.name]
        if not each.labelled or not isinstance(found, LabelSummary):
            continue
        if table.typed and not each.categories:
            kept = [text for text in found.seen if text.strip() in MISSING]
            if kept:
                advice = "--missing says which mean a missing cell"
                notes.append(f"column {quoted(each.name)}: {listed(kept)} taken as labels; {advice}")
        elif dropped := _unasked(found, survey):
            advice = f"--na-values {quoted('')} keeps labels"
            cells = plural(sum(dropped.values()), "cell")
            notes.append(
                Change(f"column {quoted(each.name)}: {cells} of {listed(dropped)} taken as missing; {advice}")
            )
    return notes


def _unasked(found: LabelSummary, survey: Survey) -> dict[str, int]:
    """Texts that were taken as missing and might as well be labels, but for those that the user named."""
    return {w: k for w, k in found.dropped.items() if w in {*_AMBIGUOUS, *BLANK} and w not in survey.missing}


def _left_out(
    table: Table, name: str, found: Summary, *, chosen: bool, first: bool, coded: bool
) -> str | None:
    """Why a column is not modelled, if it is not."""
    numbered = first and isinstance(found, NumberSummary) and found.numbered
    if coded and not chosen:
        advice = f"--types {quoted(name + '=categorical')} takes them as labels"
        return f"left out {quoted(name)} (whole numbers beyond 2⁵³: identifiers); {advice}"
    if not name.strip():
        if numbered:
            return "left out the first column, which has no name (row numbers)"
        return "left out the first column, which has no name (an index); name it to use it"
    if chosen:
        return None
    if numbered and table.rows >= _NUMBERED_ROWS and not table.held:
        return f"left out {quoted(name)} (row numbers); name it in --columns to use it"
    if isinstance(found, Dates):
        return f"left out {quoted(name)} (dates); name it with --time to check the order of the rows"
    if isinstance(found, LabelSummary):
        seen = len(found.seen)
        if found.overflow:
            return f"left out {quoted(name)} (over {seen:,} different texts, more than {MOST_LEVELS})"
        if seen > _ID_ROWS and seen == found.count:
            return f"left out {quoted(name)} (text that differs in every row)"
        if seen > MOST_LEVELS:
            return f"left out {quoted(name)} ({seen:,} different texts, more than {MOST_LEVELS})"
    return None


def remarks(values: np.ndarray, columns: list[Column], types: Mapping[str, Kind]) -> list[str]:
    """What a user should know about the data before believing a fit to it.

    Args:
        values: (n, C) float64, NaN where missing.
        columns: C of them, as they are described.
        types: kinds that were given, which are not remarked upon.

    Returns:
        A sentence each: counts, constant and equal columns, missing cells, empty rows.
    """
    notes = []
    counts = [c.name for c in columns if c.kind is Kind.COUNT and c.name not in types]
    if counts:
        notes.append(
            f"whole numbers taken as counts: {listed(counts)}; --types NAME=continuous says otherwise"
        )
    constant = [c.name for c in columns if c.minimum == c.maximum]
    if constant:
        notes.append(f"constant: {listed(constant)}")
    for group in _duplicates(values, columns):
        notes.append(f"the same values: {listed(group)}")
    missing = [c.name for c in columns if c.missing]
    if missing:
        cells = sum(c.missing for c in columns)
        notes.append(f"{cells:,} of {values.size:,} cells are missing, in {listed(missing)}")
        empty = sum(int(np.isnan(block).all(axis=1).sum()) for block in blocks(values))
        if empty:
            notes.append(f"rows in which every cell is missing: {empty:,}")
    return notes


def sentinels(values: np.ndarray, columns: list[Column]) -> list[str]:
    """A note of numbers that may mean a missing cell: they repeat, far away from all others.

    Far is three times the range of the others, and once for a row of nines such as -999 or 9999.

    Args:
        values: (n, C) float64, NaN where missing. Of what stays on disk the first million rows are looked at.
        columns: C of them.
    """
    found: dict[float, list[str]] = {}
    values = values[:LOOKED_AT] if lies_on_disk(values) else values
    for j, c in enumerate(columns):
        if c.labelled or c.minimum == c.maximum:
            continue
        cells = values[:, j]
        for end in (c.minimum, c.maximum):
            others = cells[(cells != end) & ~np.isnan(cells)]
            repeats = int((cells == end).sum())
            if repeats < 2 or not others.size:
                continue
            span, gap = float(np.ptp(others)), float(np.abs(others - end).min())
            nines = abs(end) >= 99 and {*f"{abs(end):g}"} == {"9"}
            if span > 0 and gap > (1 if nines else 3) * span and len(np.unique(others[:1000])) > 2:
                found.setdefault(end, []).append(c.name)
    return [
        f"{end:g} repeats in {listed(names)}, far from all other values; --missing {end:g} if it is missing"
        for end, names in found.items()
    ]


def _duplicates(values: np.ndarray, columns: list[Column]) -> list[list[str]]:
    """Groups of columns that are equal cell by cell, and not constant."""
    alike = defaultdict(list)
    for j, c in enumerate(columns):
        if c.minimum < c.maximum:
            alike[(c.kind, c.levels, c.mean, c.sd, c.minimum, c.maximum, c.missing)].append(j)
    groups = []
    for candidates in alike.values():
        while len(candidates) > 1:
            first = candidates[0]
            same = _equal_to(values, first, candidates)
            if len(same) > 1:
                groups.append([columns[j].name for j in same])
            candidates = [j for j in candidates if j not in same]
    return groups


def _equal_to(values: np.ndarray, first: int, candidates: list[int]) -> list[int]:
    same = candidates
    for block in blocks(values):
        same = [j for j in same if np.array_equal(block[:, first], block[:, j], equal_nan=True)]
        if len(same) == 1:
            break
    return same
