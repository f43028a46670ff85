"""`ppl sbc MODEL`: whether fits to data of known parameters are right about them."""

from pathlib import Path
from typing import Any, ClassVar

import click

from ppl_models.annotations import hints
from ppl_models.cli.base import Command
from ppl_models.cli.fit import FitGroup, plan_of
from ppl_models.cli.options import (
    field_options,
    json_option,
    option,
    quiet_option,
    read_with,
    reading_of,
    settings_options,
    together,
)
from ppl_models.cli.output import note, print_json, say
from ppl_models.errors import Interrupted
from ppl_models.model import Model

OWN = "workers"
"""Here of simulations, not of the training."""

WORDS = """Simulation-based calibration of {name}: parameters from the prior, data from these, a fit to the
data, and the rank of the true values among its draws, which is uniform where fits are right.

DATA is a template, as for `ppl fit`: what is not random in it (predictors, known numbers, lengths of
sequences) stays. Without it columns are standard normal: --rows of them, and --columns N. Simulations are
written to --out as they come, and the same command goes on with those that are missing."""


class CalibrationGroup(FitGroup):
    """`ppl sbc`, with a command for each model."""

    usage: ClassVar[str] = "ppl sbc MODEL"

    def made(self, name: str, model: type[Model]) -> click.Command:
        """The command of a model."""
        return sbc_command(name, model)


@click.group(
    cls=CalibrationGroup,
    subcommand_metavar="MODEL [DATA] [OPTIONS]",
    options_metavar="",
    epilog="\b\nExample:\n  ppl sbc gmm --components 2 --rows 200 --columns 3 --workers 2 -o sbc.png\n"
    "  ppl sbc eight_schools.py:EightSchools eight_schools.json --simulations 1000 --out sbc-schools",
)
def sbc() -> None:
    """Whether fits of a model are right about parameters that are known, over many simulated data sets.

    Parameters are drawn from the prior, data from these, and the model is fitted to the data. Each quantity
    gets a conclusion: uniform, biased, intervals too narrow (under-dispersed) or too wide (over-dispersed).
    """


def sbc_command(name: str, model: type[Model]) -> click.Command:
    """`ppl sbc NAME`, with the fields of a model as options."""

    @together(
        option("--simulations", "-n", type=click.IntRange(min=1), default=200, help="Data sets."),
        option("--rows", type=click.IntRange(min=1), default=100, help="Rows without DATA."),
        option("--rank-draws", type=click.IntRange(min=3), default=99,
               help="Draws of each fit that the truth is ranked among."),
        option("--workers", type=click.IntRange(min=1), default=1, help="Processes, of one thread each."),
        option("--level", type=click.FloatRange(0, 1, True, True), default=0.95,
               help="Of the band, for all quantities together."),
        option("--out", metavar="DIR", help="Where simulations are written to, and gone on from."),
        option("--force", is_flag=True, help="Begin anew, whatever is in --out."),
        option("--output", "-o", metavar="FILE", help="Write a picture: .png, .svg or .pdf."),
        reading_of("fit", model),
        json_option(),
        quiet_option(),
    )  # fmt: skip
    def run(data: str | None, **options: Any) -> None:
        _run(model, data, options)

    shared = [*reversed(run.__click_params__)]  # type: ignore[attr-defined]
    own = field_options(model)
    return Command(
        name,
        callback=run,
        params=[
            click.Argument(["data"], metavar="[DATA]", required=False),
            *own,
            *(each for each in settings_options(model.settings) if each.name != OWN),
            *shared,
        ],
        help=WORDS.format(name=name),
        short_help=model.summary,
        example=f"ppl sbc {name} --simulations 200 --workers 2 -o sbc.png",
    )


def _reading(model: type[Model], data: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """How the template is read; without one `--columns` is their number."""
    found = read_with(options, "fit", model)
    if data is not None or "columns" not in found:
        return found
    (first, *more) = found["columns"]
    if more or not str(first).isdecimal():
        raise click.UsageError("without DATA --columns is a number: how many there are to be")
    return found | {"columns": int(first)}


def _run(model: type[Model], data: str | None, options: dict[str, Any]) -> None:
    if options["output"] is not None:
        from ppl_models.report.canvas import ending

        ending(options["output"])
    if data is not None and data != "-":
        from ppl_models.data.files import checked

        checked(Path(data))
    from ppl_models.validation.running import sbc as calibrated

    count = [0]

    def told(done: int, every: int) -> None:
        count[0] = done
        if not options["quiet"] and (done == every or done % max(every // 20, 1) == 0):
            note(f"{done} of {every} simulations")

    names = ("simulations", "rows", "rank_draws", "workers", "level", "out", "force")
    settings = {name: options[name] for name in hints(model.settings) if name != OWN}
    try:
        found = calibrated(
            plan_of(model, options).model,
            data,
            progress=told,
            **{name: options[name] for name in names},
            **settings,
            **_reading(model, data, options),
        )
    except KeyboardInterrupt:
        kept = f"; the same command goes on from {options['out']}" if options["out"] else ""
        raise Interrupted(f"stopped after {count[0]} of {options['simulations']} simulations{kept}") from None
    if options["output"] is not None:
        found.plot(options["output"])
    if options["json"]:
        print_json(found.to_dict())
    else:
        say(found.text())
