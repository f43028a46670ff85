"""What a comparison gives: tables, and these as text, Markdown and JSON."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

HEADINGS = {
    "gains": "One helping another",
    "curve": "Learning curve: {loss} by rows to fit to",
    "crossings": "Where the second overtakes the first",
    "missing_cells": "Test cells going missing: {loss} by their share",
    "missing_labels": "Labels going missing: {loss} by the share that is left",
    "loo": "PSIS-LOO of the fits to all rows",
}
"""Of the tables after the first, in order."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models beside one another. Every table but the first is None where it was not asked for.

    Attributes:
        source: the data.
        target: what is predicted; None where densities are compared.
        rows: of the data.
        how: how rows were held out, in words.
        loss: the column of `table` that decides: `log_loss`, `crps`, or `negative_log_density`.
        table: a row for each entry, best first: the loss, its `difference` to the best with a corrected
            `standard_error`, `against_best` (`best`, `no difference`, `worse`), the other figures as means of
            folds, `seconds` and `memory_mb` of a fit, `verdict` of the first fold's, `failed`: why none.
        by_fold: a row for each entry and fold, with its figures.
        gains: of entries in which one model helps another: what the loss falls by.
        curve: a row for each entry and size: mean loss and its standard error; other figures.
        crossings: a row for each pair of a joint and a conditional entry and each figure.
        missing_cells: a row for each entry and share of cells.
        missing_labels: a row for each entry, share of labels, and rows that were learned from.
        loo: ArviZ's comparison, those of one likelihood together.
        probabilities: held-out rows for calibration plots: `model`, `fold`, `row`, `class`, and a column
            `probability_LABEL` for each class.
        labels: of the classes.
        notes: what else is to be known.
    """

    source: str
    target: str | None
    rows: int
    how: str
    loss: str
    table: "pd.DataFrame"
    by_fold: "pd.DataFrame"
    gains: "pd.DataFrame | None" = None
    curve: "pd.DataFrame | None" = None
    crossings: "pd.DataFrame | None" = None
    missing_cells: "pd.DataFrame | None" = None
    missing_labels: "pd.DataFrame | None" = None
    loo: "pd.DataFrame | None" = None
    probabilities: "pd.DataFrame | None" = field(default=None, repr=False)
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> str:
        """The name of the entry with the lowest loss."""
        return str(self.table.index[0])

    @property
    def within_noise(self) -> tuple[str, ...]:
        """The entries that are not told apart from the best, that one first."""
        near = zip(self.table.index, self.table["against_best"].tolist(), strict=True)
        return tuple(str(name) for name, said in near if said in ("best", "no difference"))

    def tables(self) -> "dict[str, pd.DataFrame]":
        """The tables that there are, by name, as they are shown: wide, with few digits to read."""
        shown: dict[str, Any] = {"table": _headline(self)}
        for name in HEADINGS:
            if (table := getattr(self, name)) is not None and len(table):
                shown[name] = _wide(name, table, self.loss)
        return shown

    def text(self) -> str:
        """For a terminal."""
        parts = [self._head()]
        for name, table in self.tables().items():
            parts += ([] if name == "table" else [self._heading(name)]) + [_plain(table)]
        return "\n\n".join([*parts, *self.notes])

    def markdown(self) -> str:
        """A model card: what was compared, how, and every table."""
        parts = [f"# {self._title()}", self._head() + "."]
        for name, table in self.tables().items():
            parts += [
                f"## {'Held-out figures' if name == 'table' else self._heading(name)}",
                _markdown(table),
            ]
        if self.notes:
            parts += ["## Notes", "\n".join(f"- {note}" for note in self.notes)]
        return "\n\n".join([*parts, "## How to read it", READ]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the probabilities of rows are left out."""
        found: dict[str, Any] = {
            name: getattr(self, name) for name in ("source", "target", "rows", "how", "loss", "best")
        }
        found |= {"within_noise": list(self.within_noise), "notes": list(self.notes)}
        for name in ("table", "by_fold", *HEADINGS):
            table = getattr(self, name)
            if table is not None:
                found[name] = table.reset_index().to_dict("records")
        return found

    def _repr_html_(self) -> str:
        parts = [f"<p>{_escaped(self._head())}</p>"]
        for name, table in self.tables().items():
            heading = "" if name == "table" else f"<h4>{_escaped(self._heading(name))}</h4>"
            parts.append(heading + table.to_html(index=False, escape=True))
        return "".join(parts)

    def __repr__(self) -> str:
        return self.text()

    def _title(self) -> str:
        return f"Models of {self.target} in {self.source}" if self.target else f"Models of {self.source}"

    def _head(self) -> str:
        return f"{self._title()}: {self.rows:,} rows, {self.how}"

    def _heading(self, name: str) -> str:
        return HEADINGS[name].format(loss=self.loss.replace("_", " "))


READ = (
    "Figures are means over the held-out parts. A difference to the best is given with a standard error that "
    "is corrected for training parts that overlap (Nadeau & Bengio 2003); below two of them it says "
    "`no difference`. The Brier score is miscalibration − discrimination + uncertainty (CORP; Dimitriadis, "
    "Gneiting & Jordan 2021). Log losses and densities are in nats. Seconds and memory are of one fit."
)

FEW = {
    "standard_error": "±",
    "against_best": "",
    "miscalibration": "mcb",
    "discrimination": "dsc",
    "uncertainty": "unc",
    "memory_mb": "MB",
}


def _headline(found: Comparison) -> "pd.DataFrame":
    table = found.table.reset_index()
    drop = [name for name in table if not table[name].notna().to_numpy().any()]
    drop += [] if any(table["failed"]) else ["failed"]
    return table.drop(columns=drop).rename(columns=FEW)


def _wide(name: str, table: "pd.DataFrame", loss: str) -> "pd.DataFrame":
    """A column for each size or share."""
    by = {"curve": ["model"], "missing_cells": ["model"], "missing_labels": ["model", "by"]}.get(name)
    if by is None:
        return table.reset_index() if table.index.name else table
    over = next(each for each in ("size", "missing", "labelled") if each in table)
    cells = table.assign(
        cell=[
            f"{m:.3f} ± {s:.3f}" if s == s else f"{m:.3f}"
            for m, s in zip(table[loss], table["standard_error"], strict=True)
        ]
    )
    wide = cells.pivot(index=by, columns=over, values="cell")
    order = table[by].drop_duplicates()
    wide = wide.reindex(list(map(tuple, order.to_numpy())) if len(by) > 1 else order["model"])
    wide = wide[sorted(wide.columns, reverse=name == "missing_labels")]
    wide.columns = [f"{each:.0%}" if over != "size" else f"{each:,}" for each in wide.columns]
    return wide.reset_index()


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) < 1 else f"{value:.3f}"
    return str(value)


def _plain(table: "pd.DataFrame") -> str:
    rows = [
        [str(name) for name in table],
        *([_cell(v) for v in row] for row in table.itertuples(index=False)),
    ]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: list[str]) -> str:
        rest = (f"{cell:>{w}}" for cell, w in zip(row[1:], wide[1:], strict=True))
        return "  ".join([f"{row[0]:<{wide[0]}}", *rest]).rstrip()

    return "\n".join(map(line, rows))


def _markdown(table: "pd.DataFrame") -> str:
    def line(cells: Any) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    rows = (line(map(_cell, row)) for row in table.itertuples(index=False))
    return "\n".join([line(table.columns), "|" + " --- |" * len(table.columns), *rows])


def _escaped(text: str) -> str:
    import html

    return html.escape(text)
