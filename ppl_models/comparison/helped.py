"""One model helping another by themselves: a table with the features, or the rows, of a finished run."""

from dataclasses import replace
from typing import Any

from ppl_models.comparison.folds import described
from ppl_models.comparison.lending import with_rows
from ppl_models.data import Dataset
from ppl_models.errors import UsageError
from ppl_models.later import with_features
from ppl_models.record import Record


def helped(
    data: Dataset,
    features_from: Record | None = None,
    rows_from: Record | None = None,
    rows: int | None = None,
    seed: int = 0,
) -> Dataset:
    """Data with the features of one run as further columns, or rows drawn from one as further rows.

    Features are of the columns that the run was fitted to, whose target is not looked at. Rows are drawn from
    p(x, y) and keep the types and ends of the columns; both are named in the notes of the data.

    Args:
        data: the rows.
        features_from: a fit of a joint model to some of the columns.
        rows_from: a fit of a joint model to all of them.
        rows: how many are drawn; as many as there are if None.
        seed: of the draws.

    Raises:
        UsageError: `rows` without `rows_from`, or of both runs; or a run has neither.
        DataError: the columns of the run and of the data do not go together.
    """
    if features_from is not None and rows_from is not None:
        raise UsageError("features_from and rows_from cannot be given together")
    if rows is not None and rows_from is None:
        raise UsageError("rows says how many rows are drawn; give rows_from as well")
    if features_from is not None:
        own = features_from.data.schema.target
        if own is not None and own == data.schema.target:
            raise UsageError(
                f"the run of features was fitted with the target {own!r}: fit it without, so that features "
                "do not tell what is to be predicted"
            )
        more = described(with_features(data, features_from))
        new = [name for name in more.names if name not in data.names]
        later = "; later data need them too, as the run is not saved" if more.lent is None else ""
        said = f"features of {_called(features_from)} added: {', '.join(new)}{later}"
        return replace(more, notes=(*data.notes, said))
    if rows_from is not None:
        more = described(with_rows(data, rows_from, rows, balance=False, seed=seed))
        said = f"{more.rows - data.rows:,} rows drawn from {_called(rows_from)} added to {data.rows:,}"
        return replace(more, notes=(*data.notes, said))
    return data


def _called(record: Any) -> str:
    return record.path or record.name
