"""What the verbs share: later data, as many draws as are affordable, and tables in the user's terms."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.annotations import count
from ppl_models.capabilities import Sparing
from ppl_models.data import Column, Dataset, Schema, read
from ppl_models.data.dataset import decode
from ppl_models.draws import Draws, number_of, select_draws
from ppl_models.errors import DataError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.record import Record


def later(fit: "Record", data: Any, reading: Mapping[str, Any]) -> Dataset:
    """Data for a verb: the fit's own for None, else read and checked against the fit's schema.

    Args:
        fit: whose schema it must have.
        data: a file, a table in memory, a data set that was read already, or None.
        reading: options of reading.

    Raises:
        DataError: it lacks a column, or has other types.
        UsageError: options of reading without data, or no data and a run without its rows.
    """
    if data is None:
        if reading:
            raise UsageError(f"{', '.join(reading)} can only be given with data")
        if fit.absent is not None:
            raise UsageError(f"{fit.path} was saved without the rows of the fit (--slim): give DATA")
        return fit.data
    if isinstance(data, Dataset):
        if data.names != fit.data.names:
            raise DataError(
                f"{data.source}: its columns {', '.join(data.names)} are not those of the fit, "
                f"{', '.join(fit.data.names)}"
            )
        return data
    needed = fit.bound.needed()
    found = read(
        data, schema=fit.data.schema, require_schema_columns=True if needed is None else needed, **reading
    )
    return replace(found, notes=(*found.notes, *fit.bound.remarks(found)))


def some_draws(fit: "Record", data: Dataset, budget: int, least: int) -> Draws:
    """As many of the draws as keep draws × numbers a draw within a budget, but at least `least`.

    Args:
        fit: whose draws they are.
        data: the rows that they are used on.
        budget: of numbers in one intermediate result.
        least: draws whatever the budget, if there are as many.
    """
    draws = fit.draws
    number = int(np.clip(budget // max(fit.bound.numbers(data), 1), least, max(number_of(draws), least)))
    return select_draws(draws, slice(0, number))


def averaging(
    fit: "Record", data: Dataset, budget: int, least: int, number: int | None = None, bound: Any = None
) -> tuple[Any, Draws]:
    """The model and the draws that its answers are averaged over: as many as the answer needs.

    Args:
        fit: whose draws they are.
        data: the rows that they are used on.
        budget: as for `some_draws`, where the model does not choose by itself.
        least: the same.
        number: of draws, where the user says it.
        bound: the model, where it is not the fit's as it is.

    Raises:
        UsageError: the number is none of at least 1.
    """
    bound = fit.bound if bound is None else bound
    if number is not None:
        return bound, select_draws(fit.draws, slice(0, count("draws", number)))
    if isinstance(bound, Sparing):
        return bound.sparing(), fit.draws
    return bound, some_draws(fit, data, budget, least)


def index_frame(data: Dataset) -> "pd.DataFrame":
    """The sequence and time columns of the data, as they were, for results by row."""
    import pandas as pd

    columns: dict[str, Any] = {}
    schema = data.schema
    if len(data.lengths) > 1 or schema.sequence is not None:
        name = schema.sequence or "sequence"
        ids = [s or str(i) for i, s in enumerate(data.sequence_ids)]
        columns[name] = np.repeat(np.array(ids, dtype=object), data.lengths)
    if schema.time is not None and data.times is not None:
        columns[schema.time] = list(data.times)
    return pd.DataFrame(columns, index=range(data.rows))


def seeded(fit: "Record", seed: int | None, offset: int) -> int:
    """The seed of a verb that draws: the caller's, or one that follows from the fit's.

    Args:
        fit: the fit.
        seed: the caller's, or None.
        offset: of the verb, added to the seed of the fit so that verbs draw apart.
    """
    return fit.settings.seed + offset if seed is None else seed


def check_level(level: float) -> tuple[float, float]:
    """The two tail probabilities of an interval.

    Raises:
        UsageError: if the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise UsageError(f"level must be between 0 and 1, got {level}")
    return (1 - level) / 2, 1 - (1 - level) / 2


def frame_of(schema: Schema, values: np.ndarray) -> "pd.DataFrame":
    """Rows in the user's terms: labels for codes, whole numbers for counts."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for column, cells in zip(schema.columns, values.T, strict=True):
        if column.labelled:
            columns[column.name] = decode(cells, column.levels)
        else:
            columns[column.name] = cells.astype(np.int64) if column.kind == "count" else cells
    return pd.DataFrame(columns)


def spread(column: Column, draws: np.ndarray, tails: tuple[float, float]) -> dict[str, np.ndarray]:
    """What draws (S, T) of one column say of each of the T cells.

    Args:
        column: of which they are draws.
        draws: in the user's units, codes of labels.
        tails: the probabilities of the interval's ends.

    Returns:
        (T,) under each name: `x` (the mean), `x_sd`, `x_lower` and `x_upper` of a number; `x` (the likeliest)
        and `x_probability` of a label.
    """
    if column.labelled:
        share = np.stack([(draws == code).mean(0) for code in range(len(column.levels))])
        best = share.argmax(0)
        return {
            column.name: decode(best.astype(float), column.levels),
            f"{column.name}_probability": share.max(0),
        }
    lower, upper = np.quantile(draws, tails, axis=0)
    return {
        column.name: draws.mean(0),
        f"{column.name}_sd": draws.std(0),
        f"{column.name}_lower": lower,
        f"{column.name}_upper": upper,
    }


def given_row(fit: "Record", given: Mapping[str, Any]) -> Dataset:
    """One row of the fit's columns with the values that are given, the others missing.

    Raises:
        UsageError: if there is no such column.
    """
    names = fit.data.names
    row: dict[str, Any] = {}
    for name, value in given.items():
        if name not in names:
            raise UsageError(
                f"given names the column {name!r}, which the fit does not have: {', '.join(names)}"
            )
        column = fit.data.schema.columns[names.index(name)]
        try:
            row[name] = [str(value) if column.labelled else float(value)]
        except (TypeError, ValueError):
            raise UsageError(f"given says {name} = {value!r}, which is not a number") from None
    return read(row, schema=fit.data.schema, require_schema_columns=False)
