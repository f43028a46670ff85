"""The report: one page of HTML that needs nothing else, made of aggregates.

What it says is computed here, as plain values; how it looks is in `page.html`, a Jinja2 template that escapes
whatever it is handed. Its size does not depend on the number of rows: tables are cut off at `ROWS`, pictures
are of counts, and are left out, with a note, once the page has `BYTES`.
"""

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.capabilities import Conditional, Continues, Named, Regresses, Summarises
from ppl_models.data.excerpt import excerpt
from ppl_models.errors import PplError, UsageError
from ppl_models.report.canvas import write
from ppl_models.report.picture import Picture, Wish, name_of
from ppl_models.report.plot import kinds
from ppl_models.report.text import heading, printable
from ppl_models.report.vector import svg
from ppl_models.runs import LIBRARIES, version_of
from ppl_models.wording import at_a_terminal, spoken

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.record import Record

ROWS, BYTES, JUDGED = 40, 900_000, 5_000
"""Rows of a table, bytes of pictures, and rows of the data that predictions are judged on."""

SECTIONS = {
    "model": "Model", "data": "Data", "posterior": "What was learned", "checks": "Checks",
    "predictions": "Predictions",
}  # fmt: skip
"""Sections that have pictures, and what they are called."""

MARKS = {"ok": "✓", "warn": "!", "fail": "✗"}
WORDS = {"ok": "passed", "warn": "warning", "fail": "failed"}


def check_name(path: Any) -> None:
    """Refuse names of files that are no pages.

    Raises:
        UsageError: it ends in something else than .html.
    """
    if Path(os.fspath(path)).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path}: a report is a page of HTML; the name must end in .html")


def page(fit: "Record", other: "Record | None" = None, path: Any = None) -> str:
    """The report of a fit, or of two.

    Args:
        fit: of what.
        other: another one to put beside it.
        path: a file to write it to, if any.

    Raises:
        UsageError: the name of the file does not end in .html.
        OutputError: it cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    if path is not None:
        check_name(path)
    environment = Environment(
        loader=PackageLoader("ppl_models.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["shown"] = shown
    fits = [fit] if other is None else [fit, other]
    share = BYTES // len(fits)
    runs = [told(each, f"r{i}", share) for i, each in enumerate(fits, 1)]
    text = environment.get_template("page.html").render(
        runs=runs,
        comparison=None if other is None else table_of(_compared(fits)),
        marks=MARKS,
        words=WORDS,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=version_of("ppl_models"),
    )
    if path is not None:
        write(path, text.encode("utf-8"))
    return text


def shown(value: Any) -> str:
    """A cell of a table as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    if isinstance(value, float | np.floating):
        number = float(value)
        if not np.isfinite(number):
            return "" if np.isnan(number) else str(number)
        return f"{number:,.0f}" if abs(number) >= 1e5 else f"{number:.4g}"
    return printable(value)


def table_of(frame: "pd.DataFrame", caption: str = "") -> dict[str, Any]:
    """A table as plain values: names, rows, which columns are numbers, and how many rows were cut off."""
    numeric = [kind.kind in "iuf" for kind in frame.dtypes]
    return {
        "caption": caption,
        "names": [printable(name) for name in frame.columns],
        "rows": frame.head(ROWS).astype(object).to_numpy().tolist(),
        "numeric": numeric,
        "left": max(len(frame) - ROWS, 0),
    }


def told(fit: "Record", name: str, bytes_: int) -> dict[str, Any]:
    """All that the page says of a fit.

    Args:
        fit: which.
        name: what its anchors begin with.
        bytes_: of its pictures, at most.
    """
    with at_a_terminal():
        report = fit.report
        checks = [
            {"name": c.name, "level": c.level, "reason": spoken(c.reason), "about": c.about}
            for c in report.checks
        ]
    pictures, left = _pictures(fit, name, bytes_)
    return {
        "id": name,
        "title": f"{fit.name} on {printable(name_of(fit.data))}",
        "heading": heading(fit).replace(printable(fit.data.source), printable(name_of(fit.data))),
        "verdict": report.verdict,
        "predicts": report.predictions,
        "checks": checks,
        "todo": [c for c in checks if c["level"] != "ok"],
        "sections": SECTIONS,
        "pictures": pictures,
        "left": left,
        "summary_of_model": type(fit.model).summary,
        "describe": fit.bound.describe,
        "formula": formula(fit.model),
        "fields": table_of(_fields(fit), "Fields and settings that differ from their defaults"),
        "notes": [printable(note) for note in fit.notes],
        "columns": table_of(_columns(fit), "Columns"),
        "rows": fit.absent or fit.data.rows,
        "sequences": len(fit.data.lengths),
        "target": fit.data.schema.target,
        "posterior": _quiet(lambda: table_of(_summary(fit), "Parameters")),
        "evaluation": _quiet(
            lambda: table_of(_evaluation(fit), "How good predictions are on rows of the fit")
        ),
        "forecast": _quiet(lambda: table_of(_forecast(fit), "Ten rows ahead")),
        "command": command(fit),
        "python": python(fit),
        "facts": _facts(fit),
    }


def _quiet(make: Any) -> Any:
    """A table, or nothing where the fit has none of the kind."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return make()
        except PplError:
            return None


def _pictures(fit: "Record", name: str, most: int) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Pictures by section, the most telling first while there is room; and those that had none."""
    import warnings

    found: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS}
    left: list[str] = []
    wish = Wish(fit.data, most=6, aggregate=True)
    there = kinds(fit)
    for each in sorted(
        there, key=lambda kind: -(kind.telling or 1 + (kind.section in ("model", "data")) * 100)
    ):
        if each.section not in SECTIONS:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                picture: Picture = each.make(fit, wish)
                drawn = svg(picture, f"{name}p-{each.name}")
            except PplError:
                continue
        if len(drawn) > most:
            left.append(each.name)
            continue
        most -= len(drawn)
        found[each.section].append(
            {
                "id": f"{name}p-{each.name}",
                "title": picture.title,
                "svg": drawn,
                "reading": picture.reading,
                "table": table_of(picture.table, f"Numbers of: {picture.title}"),
                "wide": picture.size[0] > 5.5,
            }  # fmt: skip
        )
    order = [each.name for each in there]
    for pictures in found.values():
        pictures.sort(key=lambda p: order.index(p["id"].partition("-")[2]))
    return found, left


def formula(model: Any) -> str:
    """The density of a model: the indented lines with which its module, or it, begins."""
    module = sys.modules.get(type(model).__module__)
    for text in (getattr(module, "__doc__", None), type(model).__doc__):
        lines: list[str] = []
        for line in (text or "").splitlines()[1:]:
            if line.startswith("    ") and line.strip() and (line[4] != " " or lines):
                lines.append(line[4:].rstrip())
            elif lines and line.strip():
                break
            elif lines:
                lines.append("")
        if lines and any(mark in "".join(lines) for mark in "~=∝∣|"):
            return "\n".join(lines).rstrip()
    return ""


def _differing(owner: Any) -> Iterator[tuple[str, Any]]:
    from dataclasses import MISSING

    for f in fields(owner):
        value = getattr(owner, f.name)
        default = f.default if f.default_factory is MISSING else f.default_factory()
        if value != default and not callable(value):
            yield f.name, value


def _given(fit: "Record") -> dict[str, Any]:
    """Fields and settings that are not at their defaults."""
    own = dict(_differing(fit.model))
    rest = {name: v for name, v in _differing(fit.settings) if name != "device" and v is not None}
    return own | rest


def _fields(fit: "Record") -> "pd.DataFrame":
    import pandas as pd

    given = {name: _plain(value) for name, value in _given(fit).items()} | {"seed": str(fit.settings.seed)}
    learned = {
        f.name: _plain(getattr(fit.resolved, f.name))
        for f in fields(fit.model)
        if getattr(fit.resolved, f.name) != getattr(fit.model, f.name)
    }
    rows = [{"name": n, "value": v, "from": "given"} for n, v in given.items()]
    return pd.DataFrame(rows + [{"name": n, "value": v, "from": "learned"} for n, v in learned.items()])


def _plain(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_plain, value))
    if isinstance(value, Mapping):
        return ",".join(f"{k}={_plain(v)}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _columns(fit: "Record") -> "pd.DataFrame":
    import pandas as pd

    rows = []
    total = max(fit.absent or fit.data.rows, 1)
    for c in fit.data.schema.columns:
        numbers = {"mean": c.mean, "sd": c.sd, "min": c.minimum, "max": c.maximum}
        levels = ", ".join(map(printable, c.levels[:6])) + (
            f", … ({len(c.levels)})" if len(c.levels) > 6 else ""
        )
        rows.append(
            {
                "column": c.name,
                "kind": str(c.kind),
                "missing": f"{c.missing / total:.1%}" if c.missing else "none",
            }
            | (dict.fromkeys(numbers, np.nan) if c.labelled else numbers)
            | {"labels": levels}
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame({"array": list(fit.data.arrays)})


def _summary(fit: "Record") -> "pd.DataFrame":
    from ppl_models.verbs.summary import summary

    if not isinstance(fit.bound, Summarises | Named):
        raise UsageError("nothing to sum up")
    return summary(fit).reset_index()


def _part(fit: "Record") -> Any:
    if not fit.data.rows or fit.data.arrays:
        return None
    return excerpt(fit.data, JUDGED, ordered=not fit.bound.exchangeable, seed=fit.settings.seed)


def _evaluation(fit: "Record") -> "pd.DataFrame":
    from ppl_models.verbs.evaluate import evaluate

    if not isinstance(fit.bound, Conditional | Regresses):
        raise UsageError("nothing is predicted")
    table = evaluate(fit, _part(fit)).reset_index()
    table = table[~table["figure"].isin(["confusion", "calibration"])]
    return table.loc[:, ["figure", "value", "standard_error", "rows"]]


def _forecast(fit: "Record") -> "pd.DataFrame":
    from ppl_models.verbs.forecast import forecast

    if not isinstance(fit.bound, Continues):
        raise UsageError("nothing goes on")
    return forecast(fit, 10) if len(fit.data.lengths) == 1 else forecast(fit, 10, fit.data.subset(_last(fit)))


def _last(fit: "Record") -> np.ndarray:
    which = int(np.argmax(fit.data.lengths))
    return np.arange(int(fit.data.offsets[which]), int(fit.data.offsets[which + 1]))


def command(fit: "Record") -> str:
    """The command that makes such a fit again, as far as it is known: columns, roles, fields, settings."""
    import shlex

    from ppl_models.registry import reference

    reference_ = reference(type(fit.model))
    name = (
        reference_
        if ":" not in reference_
        else f"{PurePath(reference_.rpartition(':')[0]).name}:{type(fit.model).__name__}"
    )
    words = ["ppl", "fit", name, name_of(fit.data)]
    schema = fit.data.schema
    for option in ("target", "sequence", "time", "weights"):
        if (value := getattr(schema, option)) is not None:
            words += [f"--{option}", value]
    if schema.names and len(schema.names) <= 20 and schema.shape is None:
        words += ["--columns", ",".join(schema.names)]
    given = {n: v for n, v in _given(fit).items() if n not in ("target", "seed")}
    for option, value in given.items():
        flag = option.replace("_", "-")
        words += (
            [f"--{flag}" if value else f"--no-{flag}"]
            if isinstance(value, bool)
            else [f"--{flag}", _plain(value)]
        )
    return shlex.join([*words, "--seed", str(fit.settings.seed)])


def python(fit: "Record") -> str:
    """The same in Python."""
    own = ", ".join(f"{n}={v!r}" for n, v in _differing(fit.model))
    schema = fit.data.schema
    roles = {
        o: getattr(schema, o)
        for o in ("target", "sequence", "time", "weights")
        if getattr(schema, o) is not None
    }
    rest = {n: v for n, v in _differing(fit.settings) if n not in ("device", "seed") and v is not None}
    options = ", ".join(f"{n}={v!r}" for n, v in (roles | rest | {"seed": fit.settings.seed}).items())
    path = name_of(fit.data)
    return (
        f"import ppl_models as ppl\n\nfit = ppl.fit({type(fit.model).__name__}({own}), {path!r}, {options})"
    )


def _facts(fit: "Record") -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {version_of(name)}" for name in LIBRARIES)
    found = [
        ("data", f"{printable(name_of(fit.data))}, {fit.absent or fit.data.rows:,} rows"),
        ("fingerprint of the data", fit.data.sha256 if fit.data.rows else "not stored with the run"),
        ("rule", fit.trained.rule),
        ("steps, seconds", f"{fit.trained.steps:,}, {fit.trained.seconds:.1f}"),
        (fit.settings.objective, f"{fit.elbo:,.4f}"),
        ("versions now", f"Python {platform.python_version()}, {versions}"),
    ]
    if fit.path is not None:
        found.insert(0, ("run", printable(PurePath(fit.path).name)))
    return found


def _compared(fits: "list[Record]") -> "pd.DataFrame":
    """Figures of two fits side by side."""
    import pandas as pd

    columns: list[dict[str, str]] = []
    for fit in fits:
        own = {
            "model": f"{fit.name}, {fit.bound.describe}", "data": name_of(fit.data),
            "rows": shown(fit.absent or fit.data.rows), "verdict": fit.report.verdict,
            "predictions": fit.report.predictions, "free parameters": shown(fit.bound.parameters),
            fit.settings.objective: f"{fit.elbo:,.2f}",
        }  # fmt: skip
        table = _quiet(lambda fit=fit: _evaluation(fit))
        if table is not None:
            own |= {
                f"{row.figure} (rows of the fit)": shown(row.value)
                for row in table.itertuples()
                if row.figure != "not_evaluated"
            }
        columns.append(own)
    names = list(dict.fromkeys(name for own in columns for name in own))
    heads = [f"{'first' if i == 0 else 'second'}: {fit.name}" for i, fit in enumerate(fits)]
    rows = [{"": n} | {h: own.get(n, "") for h, own in zip(heads, columns, strict=True)} for n in names]
    return pd.DataFrame(rows)
