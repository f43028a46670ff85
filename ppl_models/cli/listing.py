"""`ppl models`, `ppl data` and `ppl runs`: what there is."""

from typing import Any

import click

from ppl_models.cli.base import Command
from ppl_models.cli.options import json_option, read_with, reading_of, runs_option, together
from ppl_models.cli.output import note, print_json, say, table
from ppl_models.data import known_formats

_LEVELS = 40


@click.command(cls=Command, example="ppl models")
@json_option()
def models(json: bool) -> None:
    """The models that are installed, with one line on each, and which verb each has."""
    from ppl_models import registry
    from ppl_models.verbs import extents

    listed = registry.models()
    for each in listed:
        if each.problem:
            note(f"warning: {each.problem}")
    rows: list[dict[str, Any]] = []
    marks: dict[str, dict[str, str]] = {}
    for m in listed:
        if m.problem:
            continue
        has = extents(registry.find(m.name).bounds())
        verbs = {"verbs": [name for name, share in has.items() if share]} if json else {}
        rows.append({"name": m.name, "summary": m.summary, "source": m.source} | verbs)
        marks[m.name] = {name: _mark(share) for name, share in has.items()}
    _list(rows, json)
    if json:
        return
    marks["FILE.py:Class"] = {name: _mark(s) for name, s in extents(registry.PyroModel.bounds()).items()}
    say()
    say(table([{"verb": name, **{m: has[name] for m, has in marks.items()}} for name in marks["gmm"]]))
    say("* only with a target, or only without: it depends on what is there to predict")


def _mark(share: float) -> str:
    """A cell of the table of verbs."""
    return "yes" if share == 1 else "yes*" if share else "-"


@click.command(
    cls=Command,
    help="What is read from a file: rows, sequences, and the columns with their kinds.\n\n"
    f"FILE is a data file ({known_formats()}), or - for stdin. The options are those of `ppl fit`, so that "
    "they can be tried here.",
    example="ppl data survey.csv --ignore id",
)
@click.argument("file", metavar="FILE")
@together(reading_of("fit"), json_option())
def data(file: str, json: bool, **options: Any) -> None:
    """Print what is read."""
    from ppl_models.data import read

    found = read(file, **read_with(options, "fit"))
    columns = [_column(each) for each in found.schema.columns]
    lengths = [int(found.lengths.min(initial=found.rows)), int(found.lengths.max(initial=0))]
    if json:
        print_json(
            {
                "source": found.source,
                "rows": found.rows,
                "sequences": len(found.lengths),
                "shortest": lengths[0],
                "longest": lengths[1],
                "sequence": found.schema.sequence,
                "time": found.schema.time,
                "target": found.schema.target,
                "weights": found.schema.weights,
                "columns": columns,
                "notes": found.notes,
            }
        )
        return
    say(found.source)
    say(f"rows       {found.rows:,}")
    spread = f" of {lengths[0]:,} to {lengths[1]:,} rows" if len(found.lengths) > 1 else ""
    say(f"sequences  {len(found.lengths):,}{spread}")
    for name in ("sequence", "time", "target", "weights"):
        if getattr(found.schema, name) is not None:
            say(f"{name:<11}{getattr(found.schema, name)}")
    say()
    say(table([column | {"levels": _short(column["levels"])} for column in columns]))
    if found.notes:
        say()
    for remark in found.notes:
        say(f"note: {remark}")


def _column(column: Any) -> dict[str, Any]:
    numbers = {"min": column.minimum, "mean": column.mean, "max": column.maximum}
    return {
        "column": column.name,
        "kind": str(column.kind),
        "missing": column.missing,
        **(dict.fromkeys(numbers) if column.labelled else numbers),
        "levels": list(column.levels),
    }


def _short(levels: list[str]) -> str:
    text = ", ".join(levels)
    return text if len(text) <= _LEVELS else f"{text[: _LEVELS - 1]}… ({len(levels)})"


@click.command(cls=Command, example="ppl runs")
@together(runs_option(), json_option())
def runs(runs: str, json: bool) -> None:
    """The runs in the runs directory, and which of them are damaged."""
    from ppl_models.store import DamagedRun, list_runs

    listed = list_runs(runs)
    damaged = [run for run in listed if isinstance(run, DamagedRun)]
    rows = [_run(run.name, run.manifest) for run in listed if not isinstance(run, DamagedRun)]
    if json:
        for row in [*rows, *({"name": run.name, "damaged": run.reason} for run in damaged)]:
            print_json(row)
        return
    if not listed:
        note(f"there are no runs in {runs}; `ppl fit hmm DATA` makes one")
    _list(rows, json)
    for run in damaged:
        say(f"damaged: {run.name}: {run.reason}")


def _run(name: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """What the manifest of a run says, as far as it does."""
    source = manifest.get("data")
    return {
        "name": name,
        "model": manifest.get("model"),
        "data": source.get("source") if isinstance(source, dict) else None,
        "status": manifest.get("status"),
        "verdict": manifest.get("verdict"),
        "elbo": manifest.get("elbo"),
        "created": manifest.get("created"),
    }


def _list(rows: list[dict[str, Any]], json: bool) -> None:
    """Print rows as JSON lines or as a table."""
    if json:
        for row in rows:
            print_json(row)
    elif rows:
        say(table(rows))
