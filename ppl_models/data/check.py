"""Later data against the schema that was stored when a model was fitted."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from ppl_models.data.cells import Dates, Labels, Numbers, Parsed, label, parse
from ppl_models.data.messages import listed, plural, quoted
from ppl_models.data.schema import Column, Kind, Schema
from ppl_models.data.table import Table
from ppl_models.data.types import codes_of, numbers_of


def conform(
    table: Table, schema: Schema, *, missing: Collection[str], decimal: str, unseen: str, required: bool
) -> tuple[np.ndarray, list[str]]:
    """The columns of the schema as (n, C) numbers, and notes.

    Columns are matched by name, those of an array by position; further columns are passed over.

    Args:
        table: The later data.
        schema: What the model was fitted to.
        missing: Further texts that mean a missing cell.
        decimal: The decimal mark of numbers in text.
        unseen: What to do with a label that the schema does not have: `error` or `missing`.
        required: Whether a column that is not there is an error; else all its cells are missing.

    Raises:
        DataError: A column is not there, or a cell does not fit its column.
    """
    notes: list[str] = []
    names = list(schema.names)
    if table.matrix is not None and table.matrix.shape[1] != len(names):
        found = plural(table.matrix.shape[1], "column")
        raise table.error(f"{found}, where the model was fitted to {len(names)}: {listed(names)}")
    columns = table.columns if table.matrix is None else dict(zip(names, table.columns.values(), strict=True))
    table = replace(table, columns=columns)
    absent = [name for name in names if name not in columns]
    if absent and required:
        noun = "column" if len(absent) == 1 else "columns"
        raise table.error(
            f"lacks the {noun} {listed(absent)} that the model was fitted to; it has {listed(table.names)}"
        )
    if absent:
        notes.append(f"not in the data, so missing in every row: {listed(absent)}")

    plain = table.matrix is not None
    values = np.empty((table.rows, len(names))) if table.matrix is None else table.matrix
    for j, column in enumerate(schema.columns):
        cells = np.full(table.rows, np.nan)
        if column.name in columns:
            parsed = parse(table, column.name, missing=missing, decimal=decimal, text=column.labelled)
            cells, new = _cells(table, column, parsed, unseen)
            notes += new
        if plain and not np.array_equal(values[:, j], cells, equal_nan=True):
            plain, values = False, values.copy()
        if not plain:
            values[:, j] = cells
    return values, notes


def _cells(table: Table, column: Column, parsed: Parsed, unseen: str) -> tuple[np.ndarray, list[str]]:
    if isinstance(parsed, Numbers) and np.isnan(parsed.values).all():
        return parsed.values, [f"column {quoted(column.name)} is missing in every row"]
    if not column.labelled:
        return numbers_of(table, column.name, parsed, column.kind), []
    if isinstance(parsed, Dates):
        raise table.column_error(column.name, f"dates, where the model was fitted to {listed(column.levels)}")
    labels = parsed if isinstance(parsed, Labels) else Labels(np.zeros(0), ())
    return _known(table, column, _respelled(labels, column.levels), unseen)


def _respelled(parsed: Labels, levels: tuple[str, ...]) -> Labels:
    """The same labels, spelled like the levels: TRUE for true, 1.0 for 1."""
    truth = (
        {level.lower(): level for level in levels} if {x.lower() for x in levels} == {"false", "true"} else {}
    )
    numbers = {float(level): level for level in levels if _is_number(level) and label(float(level)) == level}

    def spelled(text: str) -> str:
        if text in levels:
            return text
        if text.lower() in truth:
            return truth[text.lower()]
        try:
            return numbers.get(float(text), text)
        except ValueError:
            return text

    return Labels(parsed.codes, tuple(spelled(text) for text in parsed.labels), parsed.typed)


def _is_number(text: str) -> bool:
    try:
        return bool(float(text) < np.inf)
    except ValueError:
        return False


def _known(table: Table, column: Column, parsed: Labels, unseen: str) -> tuple[np.ndarray, list[str]]:
    known = np.array([text in column.levels for text in parsed.labels] + [True])
    new = ~known[parsed.codes]
    if not new.any():
        return codes_of(parsed, column.levels), []
    row = int(np.argmax(new))
    strangers = {parsed.labels[code] for code in parsed.codes[new]}
    if unseen == "missing":
        cells = plural(int(new.sum()), "cell")
        note = f"column {quoted(column.name)}: {cells} with labels never seen in the fit, taken as missing"
        return codes_of(parsed, column.levels), [f"{note}: {listed(sorted(strangers))}"]
    first, levels = quoted(parsed.labels[parsed.codes[row]]), listed(column.levels)
    if all(_is_number(text) for text in strangers) and not any(_is_number(level) for level in column.levels):
        reason = f"the number {first}, where the model was fitted to the categories {levels}"
        raise table.column_error(column.name, reason, row)
    reason = f"{first} was never seen in the fit, which knows {levels}; correct it, or use --unseen missing"
    raise table.column_error(column.name, reason, row)


def as_text(schema: Schema) -> set[str]:
    """The columns whose cells are not to be taken for numbers while reading."""
    labelled = {column.name for column in schema.columns if column.kind in (Kind.BINARY, Kind.CATEGORICAL)}
    return labelled | {name for name in (schema.sequence, schema.time) if name is not None}
