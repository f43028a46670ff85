"""Rows in, rows out: what a verb says of rows that are given as JSON objects."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ppl_models.api import Fit
from ppl_models.errors import PplError, Unsupported
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
    """
    if not rows:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = verb(fit, [*rows], **options)
    except PplError as error:
        if len(rows) == 1:
            return [{ERROR: str(error)}]
        half = len(rows) // 2  # so that the others are answered together
        return answers(fit, verb, rows[:half], options) + answers(fit, verb, rows[half:], options)
    names = [str(name) for name in frame.columns]
    columns = [frame.iloc[:, j].astype(object).tolist() for j in range(len(names))]
    return [dict(zip(names, map(plain, row), strict=True)) for row in zip(*columns, strict=True)]


def plain(value: Any) -> Any:
    """A cell as JSON has it."""
    import pandas as pd

    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if value is pd.NaT or value is pd.NA else value
