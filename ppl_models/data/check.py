"""Later data against the schema that was stored when a model was fitted."""

from collections.abc import Collection

import numpy as np

from ppl_models.data.cells import Dates
from ppl_models.data.matrix import matrix
from ppl_models.data.messages import Change, listed, plural, quoted
from ppl_models.data.schema import Column, Schema
from ppl_models.data.summaries import MOST_TEXTS, LabelSummary, Summary
from ppl_models.data.survey import Survey
from ppl_models.data.table import Table
from ppl_models.data.types import check_numbers, is_number, respelling


def conform(
    table: Table,
    schema: Schema,
    *,
    missing: Collection[str],
    decimal: str,
    unseen: str,
    required: bool | Collection[str],
) -> tuple[np.ndarray, list[str]]:
    """The columns of the schema as (n, C) numbers, and notes.

    Columns are matched by name, those of an array by position; further columns are passed over. The target
    need not be there; then all its cells are missing.

    Args:
        table: The later data.
        schema: What the model was fitted to.
        missing: Further texts that mean a missing cell.
        decimal: The decimal mark of numbers in text.
        unseen: What to do with a label that the schema does not have: `error` or `missing`.
        required: Whether a column that is not there is an error, or the names of those of which it is; the
            cells of others are then missing.

    Raises:
        DataError: A column is not there, or a cell does not fit its column.
    """
    notes: list[str] = []
    if None not in (table.shape, schema.shape) and table.shape != schema.shape:
        sizes = (" × ".join(map(str, shape or ())) for shape in (table.shape, schema.shape))
        raise table.error("images of {}, where the model was fitted to images of {}".format(*sizes))
    table = table if table.matrix is None else _by_position(table, schema)
    absent = [name for name in schema.names if name not in table.columns]
    lacking = [name for name in absent if name != schema.target]
    needed = [name for name in lacking if required is True or (required and name in required)]
    if needed:
        noun = "column" if len(needed) == 1 else "columns"
        raise table.error(
            f"lacks the {noun} {listed(needed)} that the model was fitted to; it has {listed(table.names)}"
        )
    if lacking and not required:
        notes.append(Change(f"not in the data, so missing in every row: {listed(lacking)}"))

    present = [column for column in schema.columns if column.name not in absent]
    kinds = {column.name: column.kind for column in present}
    survey = Survey(table, list(kinds), kinds=kinds, missing=missing, decimal=decimal)
    notes += survey.notes
    strangers = False
    for column in present:
        new = _check(table, column, survey.summaries[column.name], unseen)
        strangers = strangers or bool(new and column.labelled)
        notes += new
    return matrix(survey, schema.columns, absent, changed=strangers), notes


def _by_position(table: Table, schema: Schema) -> Table:
    """An array with the names of the schema; the target, which comes last there, may be missing."""
    names, width = list(schema.names), len(table.columns)
    if sorted(names) == sorted(table.columns):
        return table  # the fit was to such an array as well, and may have moved its target
    if schema.target is not None and width == len(names) - 1:
        names.remove(schema.target)
    if width != len(names):
        found = plural(width, "column")
        raise table.error(f"{found}, where the model was fitted to {len(names)}: {listed(names)}")
    return table.named(names)


def _check(table: Table, column: Column, found: Summary, unseen: str) -> list[str]:
    """Refuse cells that do not fit the column, or say what becomes of them."""
    if isinstance(found, Dates):
        if column.labelled:
            raise table.column_error(
                column.name, f"dates, where the model was fitted to {listed(column.levels)}"
            )
        raise table.column_error(
            column.name, "dates are not modelled; name the column with --time, or leave it out with --ignore"
        )
    if not found.count:
        return [f"column {quoted(column.name)} is missing in every row"]
    if isinstance(found, LabelSummary) and column.labelled:
        return _check_labels(table, column, found, unseen)
    check_numbers(table, column.name, found, column.kind)
    return []


def _check_labels(table: Table, column: Column, found: LabelSummary, unseen: str) -> list[str]:
    spelled = respelling(column.levels)
    strangers = {text: spelled(text) for text in found.seen if spelled(text) not in column.levels}
    if not strangers and not found.overflow:
        return []
    if not strangers:
        raise table.column_error(column.name, f"more than {MOST_TEXTS:,} different texts; group them")
    if unseen == "missing":
        number = sum(found.counts[text] for text in strangers)
        cells = f"more than {number:,} cells" if found.overflow else plural(number, "cell")
        note = f"column {quoted(column.name)}: {cells} with labels never seen in the fit, taken as missing"
        return [Change(f"{note}: {listed(sorted(strangers))}")]
    text = min(strangers, key=lambda text: found.first[text])
    first, levels = quoted(text), listed(column.levels)
    if all(map(is_number, strangers)) and not any(map(is_number, column.levels)):
        reason = f"the number {first}, where the model was fitted to the categories {levels}"
    else:
        reason = (
            f"{first} was never seen in the fit, which knows {levels}; correct it, or use --unseen missing"
        )
    raise table.column_error(column.name, reason, found.first[text])


def read_as_text(schema: Schema) -> set[str]:
    """The columns whose cells are not to be taken for numbers while reading."""
    labelled = {column.name for column in schema.columns if column.labelled}
    return labelled | {name for name in (schema.sequence, schema.time) if name is not None}
