"""The verbs on a run: each prints a table; its options are the parameters of the function."""

import warnings
from collections.abc import Iterator
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from ppl_models.cli.base import Command
from ppl_models.cli.locate import locate
from ppl_models.cli.options import (
    json_option,
    option,
    option_of,
    quiet_option,
    read_with,
    reading_of,
    run_argument,
    table_options,
    together,
)
from ppl_models.cli.output import data_notes, emit, note, print_json, say, table, width
from ppl_models.cli.streams import results
from ppl_models.errors import NotTrusted, PplWarning, Unsupported, UsageError
from ppl_models.verbs import VERBS
from ppl_models.verbs.base import in_blocks, options_of

if TYPE_CHECKING:
    import pandas

    from ppl_models.api import Fit
    from ppl_models.data import Dataset

ABOUT_RUN = "RUN is a run directory, the name of one in the runs directory, or `latest`."


@cache
def verb_command(name: str) -> click.Command:
    """The command of a verb: RUN, DATA where it takes some, and its own parameters as options."""
    verb = VERBS[name]
    own = [option_of(each, about, default) for each, (about, default) in options_of(verb).items()]

    @together(
        run_argument(),
        *([click.argument("data", required=False, metavar="[DATA]"), reading_of("later")] * verb.takes_data),
        table_options(),
        *([quiet_option()] * verb.takes_data),
        *([plot_option(name)] * (name in PICTURED)),
        *([stream_option()] * verb.by_row),
    )
    def run(run: str, **options: Any) -> None:
        if options["output"] != "-":
            from ppl_models.data.writers import check_destination

            check_destination(options["output"], options["json"])
        if options.get("plot") is not None:
            from ppl_models.report.canvas import ending

            ending(options["plot"])
        fit = opened(run, options)
        if options.pop("stream", False):
            _stream(verb, fit, {each.name: options[each.name] for each in own if each and each.name}, options)
            return
        given = {each.name: options[each.name] for each in own if each is not None and each.name}
        if verb.takes_data:
            given["data"] = later_of(fit, options)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", PplWarning)
            _print(in_blocks(verb, fit, given), options)
            if options.get("plot") is not None:
                _draw(name, fit, given, options["plot"])
        for each in dict.fromkeys(str(each.message) for each in said):
            note(f"warning: {each}")

    shared: list[click.Parameter] = list(reversed(run.__click_params__))  # type: ignore[attr-defined]
    arguments = [each for each in shared if isinstance(each, click.Argument)]
    rest = [each for each in shared if not isinstance(each, click.Argument)]
    first, _, _ = (verb.__doc__ or f"`{name}` of a fit.").partition("\n\n")
    about = " DATA is a file or - for stdin; without it, the data of the fit." if verb.takes_data else ""
    return Command(
        name,
        callback=run,
        params=[*arguments, *(each for each in own if each is not None), *rest],
        help=f"{' '.join(first.split())}\n\n{ABOUT_RUN}{about}",
        example=verb.example,
    )


PICTURED = ("forecast",)
"""Verbs that have a picture of their name, of which `--plot` is a shortcut"""


def plot_option(name: str) -> Any:
    """`--plot FILE`."""
    about = f"Draw it too, as ppl plot RUN {name} does: .png, .svg or .pdf."
    return option("--plot", metavar="FILE", help=about)


def stream_option() -> Any:
    """`--stream`."""
    return option(
        "--stream",
        is_flag=True,
        help="With DATA -: answer each JSON line of stdin as it comes, by a line on stdout.",
    )


def _stream(verb: Any, fit: "Fit", given: dict[str, Any], options: dict[str, Any]) -> None:
    """Answer lines of JSON until there are no more."""
    import sys

    from ppl_models.serving.answers import answered, answers
    from ppl_models.serving.lines import stream

    if options["data"] != "-":
        raise UsageError("--stream answers lines of standard input: give - as DATA")
    if options["output"] != "-":
        raise UsageError("--stream answers on standard output: leave --output out, and redirect it")
    answered(fit)
    if sys.stdin is None:
        raise UsageError("standard input is closed; give it lines of JSON")
    given = {name: value for name, value in given.items() if value is not None}

    def say(text: str) -> None:
        results().write(text)
        results().flush()

    stream(sys.stdin.buffer, say, lambda rows: answers(fit, verb, rows, given))


def _draw(name: str, fit: "Fit", given: dict[str, Any], file: str) -> None:
    """The picture of a verb, with the options that it was given and the picture has."""
    from ppl_models.report.canvas import ending, rendered, write
    from ppl_models.report.plot import planned

    own = {each: given[each] for each in ("data", "steps", "level", "seed") if each in given}
    write(file, rendered(planned(fit, name, own.pop("data", None), **own).figure(), ending(file)[1:]))


def opened(run: str, options: dict[str, Any]) -> "Fit":
    """The fit of a run."""
    path = locate(run, options["runs"])
    from ppl_models import load

    return load(path, options["model"])


def later_of(fit: "Fit", options: dict[str, Any]) -> "Dataset | None":
    """Later data, read as the fit's data was."""
    data = options["data"]
    reading = read_with(options, "later")
    if data is None and {*reading} == {"keep"} and fit.data.path is not None:
        data = fit.data.path
    if data is None:
        if reading:
            raise UsageError(f"--{min(reading)} says how DATA is read, and none is given")
        return None
    from ppl_models.later import later

    dataset = later(fit, data, reading)
    data_notes(dataset, options["quiet"])
    return dataset


def _print(frames: "Iterator[pandas.DataFrame]", options: dict[str, Any]) -> None:
    """Write a table in blocks of rows; one whose rows have names is for people, if there is a terminal."""
    first = next(frames)
    for each in () if options.get("quiet") else first.attrs.get("notes", ()):
        note(each)
    named = first.index.name == "parameter"
    first, frames = _with_index(first), map(_with_index, frames)
    if named and options["output"] == "-" and not options["json"] and results().isatty():
        say(table(first.to_dict("records")))
    else:
        emit(chain([first], frames), output=options["output"], json=options["json"])


def _with_index(frame: "pandas.DataFrame") -> "pandas.DataFrame":
    """The table with its index as columns, where it has a name."""
    from ppl_models.draws import free

    if all(name is None for name in frame.index.names):
        return frame
    return frame.reset_index(names=[free(str(n or "index"), frame.columns) for n in frame.index.names])


OF_PRIOR = {
    "prior_predictive": "what the prior expects of the data: median and 99.9 % interval of data sets from it",
    "sensitivity": "sensitivity to the power of prior and likelihood, from 0.05 on worth a thought",
}
"""What `check --prior` shows, and the lines above it."""


def _of_prior(fit: Any) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Rows by what they show, and why one of the two is not there.

    Raises:
        Unsupported: neither is.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    why: list[Unsupported] = []
    for name in OF_PRIOR:
        try:
            rows = getattr(fit, name)()
        except Unsupported as error:
            why.append(error)
        else:
            named = rows if rows.index.name is None else rows.reset_index()
            found[name] = named.to_dict("records")
    if not found:
        raise why[0]
    return found, list(map(str, why))


@click.command(
    cls=Command,
    help=f"Whether to trust a fit: the verdict and its reasons. Exits with 3 if not.\n\n{ABOUT_RUN}",
    example="ppl check latest && ppl forecast latest",
)
@together(
    run_argument(),
    option(
        "--prior",
        is_flag=True,
        help="Also what data the prior expects, and how much each parameter hangs on its prior.",
    ),
    json_option(),
)
def check(run: str, **options: Any) -> None:
    """Print the report, and exit with 3 if the fit is not trusted."""
    path = locate(run, options["runs"])
    fit = opened(run, options)
    report = fit.check()
    found, why = _of_prior(fit) if options["prior"] else ({}, [])
    if options["json"]:
        print_json({"run": str(path), **report.to_dict(), **found})
    else:
        say(report.text(width() if results().isatty() else 100))
        for name, rows in found.items():
            say(f"\n{OF_PRIOR[name]}")
            say(table(rows))
    for each in why:
        note(each)
    if report.verdict == "not trusted":
        raise NotTrusted(f"{path} is not trusted")
