"""Rows in, rows out: what a verb says of rows that are given as JSON objects."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ppl_models.api import Fit
from ppl_models.errors import PplError, Unsupported, UsageError
from ppl_models.verbs import VERBS
from ppl_models.verbs.base import Verb

Row = dict[str, Any]

ERROR = "error"
"""The key of an answer that says what is wrong with its row."""


def answered(fit: Fit) -> dict[str, Verb]:
    """The verbs that say something of each row by itself, and that the model has.

    Raises:
        Unsupported: rows of the model follow one another.
    """
    if not fit.bound.exchangeable or fit.data.arrays:
        raise Unsupported(
            f"rows of {fit.name} are not independent of one another: give whole sequences as a file"
        )
    return {name: verb for name, verb in VERBS.items() if verb.by_row and isinstance(fit.bound, verb.needs)}


def answers(fit: Fit, verb: Verb, rows: Sequence[Row], options: Mapping[str, Any]) -> list[Row]:
    """An answer for each row, in order.

    Args:
        fit: which is asked.
        verb: what it is asked.
        rows: of plain values by the name of the column.
        options: of the verb.

    Returns:
        For each row the cells of the verb's table, null for what is missing or not finite; `{"error": …}` for
        one that the verb refuses.

    Raises:
        UsageError: of an option.
    """
    if not rows:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = verb(fit, [*rows], **options)
    except UsageError:
        raise  # of the options, whatever the row
    except PplError as error:
        if len(rows) == 1:
            return [{ERROR: str(error)}]
        half = len(rows) // 2  # so that the others are answered together
        return answers(fit, verb, rows[:half], options) + answers(fit, verb, rows[half:], options)
    names = [str(name) for name in frame.columns]
    columns = [frame.iloc[:, j].astype(object).tolist() for j in range(len(names))]
    return [dict(zip(names, map(plain, row), strict=True)) for row in zip(*columns, strict=True)]


def each(values: Sequence[Any], answer: Callable[[list[Row]], list[Row]]) -> list[Row]:
    """An answer for each JSON value: what keeps it from being a row, or that of the verb.

    Args:
        values: which; one that is an error already stays so.
        answer: gives those of rows.
    """
    found = [value if isinstance(value, Wrong) else Wrong.of(value) for value in values]
    rows = [i for i, problem in enumerate(found) if problem is None]
    answered = dict(zip(rows, answer([values[i] for i in rows]), strict=True))
    return [answered[i] if problem is None else {ERROR: problem.text} for i, problem in enumerate(found)]


class Wrong(NamedTuple):
    """What keeps a JSON value from being a row."""

    text: str

    @classmethod
    def of(cls, value: Any) -> "Wrong | None":
        """None if it is a row."""
        if not isinstance(value, dict):
            return cls("not an object with a value for each column")
        if not value:
            return cls("an object without a column")
        nested = [name for name, cell in value.items() if isinstance(cell, list | dict)]
        return cls(f"column {nested[0]!r}: a list or an object; give plain values") if nested else None


def plain(value: Any) -> Any:
    """A cell as JSON has it."""
    import pandas as pd

    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if value is pd.NaT or value is pd.NA else value
