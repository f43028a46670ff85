"""New rows that pass for those of the data, and how far they do."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from ppl_models.annotations import Metavar, count
from ppl_models.capabilities import Samples, Sequences
from ppl_models.errors import UsageError
from ppl_models.verbs.base import Needs, Seed, verb

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ppl_models.data import Column, Dataset
    from ppl_models.record import Record

ROUNDS = 50
"""Times that rows out of the range of the data are drawn again, before they are put at its ends."""

DECIMALS = 9
"""Decimals of a column at most; one with more is not rounded."""


@verb("ppl augment latest --rows 1000 -o more.csv", needs=(Samples, Sequences))
def augment(
    fit: "Record",
    *,
    rows: Annotated[int | None, "How many; as many as the fit has if not given.", Needs((Samples,))] = None,
    balance: Annotated[
        str | None,
        "Make as many rows of each level of this column as it lacks to the most frequent one.",
        Metavar("COL"),
        Needs((Samples,)),
    ] = None,
    given: Annotated[
        Mapping[str, Any] | None,
        "Values of some columns, which the others are drawn given.",
        Metavar("COL=VALUE,..."),
        Needs((Samples,)),
    ] = None,
    report: Annotated[
        bool, "Instead of the rows, how true they are to the data, and whether they copy it."
    ] = False,
    test: Annotated[
        str | None, "Real rows that the fit has not seen, for the report.", Metavar("FILE")
    ] = None,
    outcome: Annotated[
        str | None,
        "Column that predictors are trained for in the report; the target if not given.",
        Metavar("COL"),
    ] = None,
    seed: Seed = None,
) -> "pd.DataFrame":
    """New rows that keep the types, ranges, decimals and level names of the data, or a report on them.

    Rows are drawn from the posterior predictive distribution, each from its own draw of the parameters, until
    every number is inside of the range that its column had; numbers get as many decimals as the column has.
    Of chains they are sequences as long as those of the fit. No cell is missing.

    Args:
        fit: the fit.
        rows: how many.
        balance: a column of labels; rows of the fit and new ones together have as many of each level.
        given: values of columns, by name, as in `sample`.
        report: whether to return figures in place of rows: see `ppl_models.fidelity`.
        test: real rows that the fit has not seen, a path or a table. Without them the report compares with
            the rows of the fit, and what is near to these with how near they are to one another.
        outcome: the column that predictors on made-up rows are trained for.
        seed: of the draws; the fit's if not given.

    Returns:
        The rows, with the columns of the data. With `report` by `figure`: `column` and `other`, `value`, its
        `standard_error` were the rows as good as real ones, where that is known, and the `rows` it is of.

    Raises:
        UsageError: options that cannot be meant, or a run without the rows of the fit where they are needed.
    """
    import numpy as np
    import pandas as pd
    import torch

    from ppl_models.later import later
    from ppl_models.tables import seeded

    if (test is not None or outcome is not None) and not report:
        raise UsageError("test and outcome are of the report; ask for --report")
    if balance is not None and (rows is not None or given):
        raise UsageError("balance says how many rows there are of each level; leave rows and given out")
    if fit.absent is not None and (report or balance is not None or isinstance(fit.bound, Sequences)):
        raise UsageError(f"{fit.path} was saved without the rows of the fit (--slim), which this needs")
    seed = seeded(fit, seed, 17)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = _made(fit, rows, balance, dict(given or {}))
    if not report:
        return made.frame()
    from ppl_models import fidelity

    names, about = fit.data.names, fit.data.schema.target if outcome is None else outcome
    if about is not None and about not in names:
        raise UsageError(
            f"outcome names the column {about!r}, which the fit does not have: {', '.join(names)}"
        )
    held = None if test is None else np.array(later(fit, test, {}).values)
    if not len(made.values):
        raise UsageError(
            f"the levels of {balance!r} are balanced already: there are no new rows to report on"
        )
    at = None if about is None else names.index(about)
    figures = fidelity.report(fit.data.schema.columns, made.values, np.array(fit.data.values), held, at, seed)
    order = ["figure", "column", "other", "value", "standard_error", "rows"]
    return pd.DataFrame(list(figures)).reindex(columns=order)


def _made(fit: "Record", rows: int | None, balance: str | None, given: dict[str, Any]) -> "Dataset":
    """The new rows as a data set."""
    import numpy as np

    from ppl_models.tables import given_row

    bound, data = fit.bound, fit.data
    whole = replace(data, weight=None, index=None, kept=None, times=None)
    if isinstance(bound, Sequences):
        parts = [bound.sample_sequences(1, int(length), fit.draws).values for length in data.lengths]
        values = _as_it_was(data, np.concatenate(parts))
        schema = replace(data.schema, time=None, weights=None)
        lengths = np.array([len(part) for part in parts], np.int64)  # those that may end are shorter
        return replace(whole, values=values, schema=schema, lengths=lengths)
    asked = {} if balance is None else _lacking(data, balance)
    if balance is None:
        plain = fit.absent if fit.absent is not None else data.rows
        row = given_row(fit, given) if given else None
        parts = [_inside(fit, plain if rows is None else count("rows", rows), row)]
    else:
        at = data.names.index(balance)
        parts = [_inside(fit, n, _only(data, at, code)) for code, n in enumerate(asked.values()) if n]
        parts = parts or [np.empty((0, len(data.names)))]
    values = _as_it_was(data, np.concatenate(parts))
    schema = replace(data.schema, sequence=None, time=None, weights=None)
    lengths = np.array([len(values)], np.int64)
    return replace(whole, values=values, schema=schema, lengths=lengths, sequence_ids=("",))


def _lacking(data: "Dataset", name: str) -> dict[str, int]:
    """Level -> how many rows it lacks to the most frequent.

    Raises:
        UsageError: there is no such column, or it has no levels.
    """
    import numpy as np

    labelled = [c.name for c in data.schema.columns if c.labelled]
    if name not in labelled:
        there = (
            f"those with levels are {', '.join(labelled)}" if labelled else "none of the columns has levels"
        )
        raise UsageError(f"balance needs a column of labels, got {name!r}; {there}")
    column, cells = data.schema.columns[data.names.index(name)], data.column(name)
    weight = data.weight[~np.isnan(cells)] if data.weight is not None else None
    each = np.bincount(cells[~np.isnan(cells)].astype(int), weight, len(column.levels))
    return {level: round(float(each.max() - n)) for level, n in zip(column.levels, each, strict=True)}


def _only(data: "Dataset", at: int, code: int) -> "Dataset":
    """One row of which only the code of one column is known."""
    import numpy as np

    values = np.full((1, len(data.names)), np.nan)
    values[0, at] = code
    lengths = np.ones(1, np.int64)
    return replace(
        data,
        values=values,
        lengths=lengths,
        sequence_ids=("",),
        times=None,
        weight=None,
        index=None,
        kept=None,
    )


def _inside(fit: "Record", number: int, row: "Dataset | None") -> "np.ndarray":
    """Rows of which every number that is not given is inside of the range of its column."""
    import numpy as np

    columns = fit.data.schema.columns
    known = np.zeros(len(columns), dtype=bool) if row is None else ~np.isnan(row.values[0])
    known |= np.array([c.labelled for c in columns])
    free = ~known
    low, high = (np.array([getattr(c, end) for c in columns]) for end in ("minimum", "maximum"))
    found, wanted = np.empty((number, len(columns))), np.arange(number)
    for _ in range(ROUNDS):
        found[wanted] = fit.bound.sample(len(wanted), fit.draws, row).values
        outside = free & ((found < low) | (found > high))
        wanted = np.flatnonzero(outside.any(1))
        if not len(wanted):
            return found
    return np.where(free, np.clip(found, low, high), found)


def _as_it_was(data: "Dataset", values: "np.ndarray") -> "np.ndarray":
    """Numbers with the decimals of their columns, within the ranges of these."""
    import numpy as np

    found = values.copy()
    for j, column in enumerate(data.schema.columns):
        if not column.labelled and len(found):
            places = _decimals(column, data.values[:, j])
            if places is not None:
                inside = (found[:, j] >= column.minimum) & (found[:, j] <= column.maximum)
                cells = np.round(found[:, j], places)
                found[:, j] = np.where(inside, np.clip(cells, column.minimum, column.maximum), cells)
    return found


def _decimals(column: "Column", cells: "np.ndarray") -> int | None:
    """How many decimals the cells of a column have; None where they have more than are written by hand."""
    import numpy as np

    if column.integer:
        return 0
    x = cells[~np.isnan(cells)]
    for places in range(DECIMALS + 1) if len(x) else ():
        if np.abs(np.round(x, places) - x).max() <= 1e-12 * max(np.abs(x).max(), 1e-300):
            return places
    return None
