"""What the verbs share: as many draws as are affordable, and tables in the user's terms."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.annotations import count
from ppl_models.capabilities import Direct, Sparing
from ppl_models.data import Column, Dataset, Kind, read
from ppl_models.data.came import as_text, decode, numbers
from ppl_models.draws import Draws, free, number_of, select_draws
from ppl_models.errors import PplWarning, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.record import Record


def some_draws(fit: "Record", data: Dataset, budget: int, least: int) -> Draws:
    """As many of the draws as keep draws × numbers a draw within a budget, but at least `least`.

    Args:
        fit: whose draws they are.
        data: the rows that they are used on.
        budget: of numbers in one intermediate result.
        least: draws whatever the budget, if there are as many.
    """
    if isinstance(fit.bound, Direct):
        return fit.bound.direct(fit.params)
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


class Result:
    """The columns of a result: those of the data as they are called, ours out of their way.

    Args:
        own: names that the data's columns have, or will have, in it.
        index: of the rows.
    """

    def __init__(self, own: Iterable[str] = (), index: Any = None) -> None:
        self._taken, self._cells, self._index = {*own}, {}, index

    def own(self, name: str, cells: Any) -> None:
        """A column of the data."""
        self._taken.add(name)
        self._cells[name] = cells

    def add(self, name: str, cells: Any) -> None:
        """A column of ours; it gets a `_` behind its name where that is taken."""
        name = free(name, self._taken)
        self._taken.add(name)
        self._cells[name] = cells

    def frame(self) -> "pd.DataFrame":
        """The table."""
        import pandas as pd

        return pd.DataFrame(self._cells, index=self._index)


def by_row(data: Dataset, own: Iterable[str] = ()) -> Result:
    """A result with a row for each of the data: with its index, sequences and times, and what was to be kept.

    Args:
        data: the rows.
        own: further columns of the data that the result will have, which stand for those to be kept.
    """
    schema, own = data.schema, list(own)
    kept = {} if data.kept is None else {str(name): cells.array for name, cells in data.kept.items()}
    front: dict[str, Any] = {}
    if schema.sequence is not None:
        front[schema.sequence] = sequence_names(data)
    if schema.time is not None and data.times is not None:
        front[schema.time] = list(data.times)
    front |= kept
    index = range(data.rows) if data.index is None else data.index
    result = Result([*front, *own], index)
    if len(data.lengths) > 1 and schema.sequence is None:
        result.add("sequence", sequence_names(data))
    for name, cells in front.items():
        if name not in own:
            result.own(name, cells)
    return result


def by_sequence(data: Dataset) -> Result:
    """A result with a row for each sequence of the data, beginning with its name and its number of steps."""
    sequence = data.schema.sequence
    result = Result([sequence] if sequence else [])
    names = [s or str(i) for i, s in enumerate(data.sequence_ids)]
    (result.own if sequence else result.add)(sequence or "sequence", names)
    result.add("steps", data.lengths)
    return result


def sequence_names(data: Dataset) -> np.ndarray:
    """The name of the sequence of each row, or its number."""
    ids = [s or str(i) for i, s in enumerate(data.sequence_ids)]
    return np.repeat(np.array(ids, dtype=object), data.lengths)


def rounded(column: Column, cells: np.ndarray) -> np.ndarray:
    """Numbers as the column can have them: whole ones of a count, or of integers."""
    whole = column.kind is Kind.COUNT or (column.integer and column.dtype.lower().startswith(("int", "uint")))
    return np.rint(cells) if whole else cells


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


def in_users_terms(column: Column, cells: np.ndarray) -> Any:
    """Drawn cells as the column has them: labels for codes, whole numbers for counts."""
    if column.labelled:
        return decode(cells, column)
    return numbers(cells, replace(column, integer=True)) if column.kind is Kind.COUNT else cells


def spread(result: Result, column: Column, draws: np.ndarray, tails: tuple[float, float]) -> None:
    """Add what draws (S, T) of one column say of each of the T cells.

    These are `x` (the mean), `x_sd`, `x_lower` and `x_upper` of a number; `x` (the likeliest) and
    `x_probability` of a label.

    Args:
        result: to which they are added.
        column: of which they are draws.
        draws: in the user's units, codes of labels.
        tails: the probabilities of the interval's ends.
    """
    if column.labelled:
        share = np.stack([(draws == code).mean(0) for code in range(len(column.levels))])
        result.own(column.name, decode(share.argmax(0).astype(float), column))
        result.add(f"{column.name}_probability", share.max(0))
        return
    lower, upper = np.quantile(draws, tails, axis=0)
    result.own(column.name, draws.mean(0))
    result.add(f"{column.name}_sd", draws.std(0))
    result.add(f"{column.name}_lower", lower)
    result.add(f"{column.name}_upper", upper)


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
            row[name] = [as_text(value) if column.labelled else float(value)]
        except (TypeError, ValueError):
            raise UsageError(f"given says {name} = {value!r}, which is not a number") from None
    with warnings.catch_warnings():  # that the other columns are not there is meant
        warnings.simplefilter("ignore", PplWarning)
        return read(row, schema=fit.data.schema, require_schema_columns=False)
