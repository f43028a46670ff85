"""A fit for people, as text for a terminal."""

from typing import TYPE_CHECKING

from ppl_models.record import Record
from ppl_models.verbs.summary import glance

if TYPE_CHECKING:
    import pandas


def printable(text: object) -> str:
    """Text with control characters escaped, so that nothing in the data can drive a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def heading(fit: Record, seconds: float | None = None) -> str:
    """One line: the model, the data, and how training ended.

    Args:
        fit: the fit.
        seconds: that the user waited for it; those that `fit` or `select` took if not given.
    """
    data, t = fit.data, fit.trained
    waited = seconds if seconds is not None else fit.waited or t.seconds
    many = len(data.lengths)
    number = data.rows if fit.absent is None else fit.absent
    rows = f"{number:,} rows" + (f" in {many:,} sequences" if many > 1 else "")
    return (
        f"{fit.model.name} with {fit.bound.describe} on "
        f"{printable(data.source)} ({rows}, {len(data.names)} column{'s' if len(data.names) > 1 else ''}): "
        f"{t.status} after {t.steps} steps, {waited:.1f} s, {fit.settings.objective} {t.elbo:,.2f}"
    )


def _cell(cell: object) -> str:
    if isinstance(cell, float):
        return "" if cell != cell else f"{cell:.3g}"
    return printable(cell)


def states(fit: Record) -> "pandas.DataFrame":
    """The table of a fit as text cells; of few states, on its side where its columns do not fit a line."""
    given = glance(fit)
    table = given.map(_cell)
    table.attrs = given.attrs
    table.columns = [printable(name) for name in table.columns]
    if len(table.columns) <= 9 or len(table) > 8:
        return table
    noun = table.columns[0]
    turned = table.set_index(noun).T
    turned.columns = [f"{noun} {k}" for k in turned.columns]
    return turned.rename_axis("").reset_index()


def states_text(fit: Record, width: int | None = 110) -> str:
    """The table of states as text, columns wrapped to the width."""
    import pandas as pd

    with pd.option_context("display.max_columns", None, "display.max_colwidth", 40):
        table = states(fit)
        note = table.attrs.get("note", "")
        return table.to_string(index=False, line_width=width) + (f"\n({note})" if note else "")


def fit_text(fit: Record) -> str:
    """Heading, notes, states and verdict."""
    notes = [f"note: {printable(note)}" for note in fit.notes]
    return "\n".join([heading(fit), *notes, "", states_text(fit), "", fit.report.text()])
