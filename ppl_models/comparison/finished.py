"""Finished runs beside one another, as they stand, on rows that they were not fitted to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ppl_models.comparison.contest import Contestant, Judge, Made
from ppl_models.comparison.entries import FittedOwn
from ppl_models.comparison.figures import row_loss
from ppl_models.comparison.folds import Fold
from ppl_models.comparison.resampling import Difference
from ppl_models.comparison.result import Comparison
from ppl_models.comparison.tabulate import by_fold, headline, probabilities
from ppl_models.errors import UsageError
from ppl_models.record import Record


def finished(
    data: Any, entries: Sequence[tuple[str, Record]], reading: Mapping[str, Any], target: str | None
) -> Comparison:
    """Score runs on the data as they are; the differences are over rows, which are independent of the fits.

        se(d̄)² = Σ_n (d_n − d̄)² / n²,    d_n the difference of −log p of row n

    Args:
        data: later data.
        entries: names and fits, all with the same target.
        reading: options of reading later data.
        target: the column that is predicted.

    Raises:
        UsageError: they have different targets.
    """
    from ppl_models.later import later

    targets = {record.data.schema.target for _, record in entries}
    if len(targets) > 1 or target not in {*targets, None}:
        raise UsageError(f"the runs predict different columns: {', '.join(sorted(map(str, targets)))}")
    rows, found, notes, of_rows = 0, [], [], {}
    said = None
    for name, record in entries:
        own = later(record, data, {k: v for k, v in reading.items() if k != "target"})
        said, rows = Judge(own), own.rows
        if record.data.sha256 == own.sha256:
            notes.append(f"{name} was fitted to these very rows, so that its figures flatter")
        fitted = FittedOwn(record)
        figures, told = said.figures(fitted, own)
        part = Fold(np.zeros(0, np.int64), np.arange(own.rows))
        one = Contestant(name, None, own, [Made(part, fitted, figures, told, record.trained.seconds, np.nan)])
        one.verdict = fitted.verdict
        found.append(one)
        of_rows[name] = _by_row(told, own, said)
    assert said is not None
    loss = said.deciding([one.folds[0].figures for one in found])
    table = headline(found, loss, 0.0)
    best = of_rows[str(table.index[0])]
    for name in table.index[1:]:
        d = of_rows[str(name)] - best
        d = d[~np.isnan(d)]
        gap = Difference(np.nan, np.nan)
        if len(d):
            gap = Difference(float(d.mean()), float(d.std() / len(d) ** 0.5))
        table.loc[name, "standard_error"] = gap.standard_error
        table.loc[name, "against_best"] = "worse" if gap.clear and gap.mean > 0 else "no difference"
    return Comparison(
        found[0].data.source, said.target, rows, "finished runs as they stand", loss, table, by_fold(found),
        probabilities=probabilities(found, said), labels=said.labels, notes=tuple(notes),
    )  # fmt: skip


def _by_row(told: Any, data: Any, said: Judge) -> np.ndarray:
    """The loss of each row; NaN without a target."""
    if said.target is None:
        return -told.log_density
    y = np.asarray(data.column(said.target), float)
    if told.p is None:
        return np.where(np.isnan(y), np.nan, -told.log_p)
    loss = np.full(len(y), np.nan)
    known = ~np.isnan(y)
    loss[known] = row_loss(told.p[known], y[known].astype(int))
    return loss
