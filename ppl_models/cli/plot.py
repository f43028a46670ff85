"""`ppl plot`: pictures to a file, or as a sketch where there is a terminal."""

import os
from typing import Any

import click

from ppl_models.cli.base import Command
from ppl_models.cli.options import option, quiet_option, reading_of, run_argument, together
from ppl_models.cli.output import emit, note, say, width
from ppl_models.cli.streams import results
from ppl_models.cli.values import Names
from ppl_models.cli.verbs import ABOUT_RUN, later_of, opened

TABLES = (".csv", ".tsv", ".jsonl", ".parquet", ".feather", ".xlsx")
"""Endings of files that take the numbers of a picture."""


@click.command(
    cls=Command,
    help="A picture of a fit: a panel of the most telling ones, or one of a KIND.\n\n"
    f"{ABOUT_RUN} Which kinds there are follows from what the model can do; one that it has not is "
    "refused, naming "
    "those that it has. DATA is a file with other rows to be drawn, test data for calibration say. Without a "
    "file it is sketched in the terminal, or else its numbers are printed.",
    example="ppl plot latest -o fit.png\nppl plot latest calibration test.csv -o calibration.svg",
)
@run_argument()
@click.argument("kind", required=False, metavar="[KIND]")
@click.argument("data", required=False, metavar="[DATA]")
@together(
    option(
        "--output", "-o", default="-", metavar="FILE",
        help="Write to a file: .png, .svg or .pdf, or the numbers of one KIND: .csv, .parquet and so on.",
    ),
    option(
        "--columns", type=Names(), metavar="A,B",
        help="Columns or parameters; those that tell most if not given.",
    ),
    option("--steps", type=int, metavar="N", help="How many rows ahead, of states and forecast."),
    option("--level", type=float, default=0.9, help="Probability of the intervals."),
    option("--seed", type=int, metavar="N", help="Seed of the draws; follows from the fit's if not given."),
    option("--json", is_flag=True, help="Print the numbers of one KIND as JSON lines."),
    reading_of("later"),
    quiet_option(),
)  # fmt: skip
def plot(run: str, kind: str | None, data: str | None, **options: Any) -> None:
    """Draw, sketch or print."""
    output, numbers = options["output"], _wants_table(options["output"], options["json"])
    if not numbers and output != "-":
        from ppl_models.report.canvas import ending

        ending(output)
    if numbers and kind is None:
        raise click.UsageError("a table is of one KIND of picture; name it: ppl plot RUN KIND")
    fit = opened(run, options)
    dataset = later_of(fit, options | {"data": data})
    from ppl_models.report.plot import planned

    given = {name: options[name] for name in ("columns", "steps", "level", "seed")}
    planned_ = planned(fit, kind, dataset, **given)
    draw_or_say(planned_, output, options["json"], options["quiet"])


def _wants_table(output: str, json: bool) -> bool:
    name = os.fspath(output).lower().removesuffix(".gz")
    return json or name.endswith(TABLES)


def draw_or_say(planned: Any, output: str, json: bool = False, quiet: bool = False) -> None:
    """Write a picture to a file; without one sketch it, or print its numbers where there is no terminal.

    Args:
        planned: the plot.
        output: a file, or `-`.
        json: the numbers as JSON lines.
        quiet: without a note of how it is read.
    """
    from ppl_models.report.canvas import ending, rendered, write
    from ppl_models.report.sketch import sketched

    pictures = planned.pictures
    if output != "-" and not _wants_table(output, json):
        write(output, rendered(planned.figure(), ending(output)[1:]))
        if not quiet:
            for picture in pictures if len(pictures) == 1 else ():
                note(f"{picture.title}: {picture.reading}")
    elif _wants_table(output, json) or not (results().isatty()):
        for picture in pictures[:1] if len(pictures) == 1 else pictures:
            if len(pictures) > 1:
                say(f"# {picture.title}")
            emit(picture.table, output=output, json=json)
    else:
        said = [text for text in (sketched(picture, width()) for picture in pictures) if text]
        say("\n\n".join(said))
