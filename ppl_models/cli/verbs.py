"""The verbs on a run: each prints a table, from the function of the same name of a fit."""

import sys
from typing import TYPE_CHECKING, Any

import click

from ppl_models.cli.base import Command
from ppl_models.cli.locate import locate
from ppl_models.cli.options import (
    json_option,
    later_options,
    option,
    quiet_option,
    run_argument,
    table_options,
    together,
)
from ppl_models.cli.output import data_notes, emit, print_json, say, table, width
from ppl_models.errors import NotTrusted, UsageError

if TYPE_CHECKING:
    from ppl_models.data import Dataset
    from ppl_models.fitting import Fit

LATER = ("delimiter", "decimal", "encoding", "missing", "unseen")

ABOUT_RUN = "RUN is a run directory, the name of one in the runs directory, or `latest`."


def _verb(example: str, *options: Any, data: bool = True) -> Any:
    """A command on a run that prints a table and, where it reads data, does so for later data too."""
    about = " DATA is a file or - for stdin; without it, the data of the fit." if data else ""
    parameters = [run_argument()]
    if data:
        parameters += [click.argument("data", required=False, metavar="[DATA]"), later_options()]
    parameters += [*options, table_options(), *([quiet_option()] if data else [])]

    def decorate(function: Any) -> Any:
        text = f"{function.__doc__}\n\n{ABOUT_RUN}{about}"
        return click.command(cls=Command, help=text, example=example)(together(*parameters)(function))

    return decorate


def _opened(run: str, options: dict[str, Any]) -> "Fit":
    """The fit of a run."""
    path = locate(run, options["runs"])
    if options["model"]:
        from ppl_models.registry import find

        find(options["model"], files=True)
    from ppl_models.runs import load

    return load(path)


def _later(fit: "Fit", data: str | None, options: dict[str, Any]) -> "Dataset | None":
    """Later data, read as the fit's data was."""
    reading = {name: options[name] for name in LATER if options[name] not in (None, ())}
    if data is None:
        if reading:
            raise UsageError(f"--{min(reading)} says how DATA is read, and none is given")
        return None
    from ppl_models.data import read

    dataset = read(data, schema=fit.data.schema, **reading)
    data_notes(dataset, options["quiet"])
    return dataset


def _print(frame: Any, options: dict[str, Any]) -> None:
    emit(frame, output=options["output"], json=options["json"])


def _seed() -> Any:
    return option("--seed", type=int, help="Seed of the draws; follows from the fit's if not given.")


def _level(default: float) -> Any:
    return option("--level", type=float, default=default, help="Probability of the intervals.")


@_verb("ppl predict latest new.csv -o states.csv")
def predict(run: str, data: str | None, **options: Any) -> None:
    """The state of each row: the most probable path, smoothed and filtered probabilities."""
    fit = _opened(run, options)
    _print(fit.predict(_later(fit, data, options)), options)


@_verb(
    "ppl score latest new.csv --by sequence",
    option("--by", type=click.Choice(["step", "sequence"]), default="step", help="A row for each of these."),
)
def score(run: str, data: str | None, by: str, **options: Any) -> None:
    """The log predictive density of each row or sequence, in nats."""
    fit = _opened(run, options)
    _print(fit.score(_later(fit, data, options), by=by), options)


@_verb(
    "ppl sample latest --steps 250 --sequences 4 --seed 1",
    option("--steps", type=int, default=100, help="Rows of each sequence."),
    option("--sequences", type=int, default=1, help="How many sequences."),
    _seed(),
    data=False,
)
def sample(run: str, steps: int, sequences: int, seed: int | None, **options: Any) -> None:
    """New rows from the posterior predictive distribution."""
    fit = _opened(run, options)
    _print(fit.sample(steps, sequences=sequences, seed=seed), options)


@_verb(
    "ppl forecast latest --steps 20 --level 0.8",
    option("--steps", type=int, default=10, help="How many rows ahead."),
    _level(0.9),
    _seed(),
)
def forecast(run: str, data: str | None, steps: int, level: float, seed: int | None, **options: Any) -> None:
    """The rows after the last one of each sequence, with intervals."""
    fit = _opened(run, options)
    _print(fit.forecast(steps, _later(fit, data, options), level=level, seed=seed), options)


@_verb("ppl impute latest gaps.csv -o filled.csv", _level(0.9), _seed())
def impute(run: str, data: str | None, level: float, seed: int | None, **options: Any) -> None:
    """The table with its missing cells filled in, and intervals for them."""
    fit = _opened(run, options)
    _print(fit.impute(_later(fit, data, options), level=level, seed=seed), options)


@_verb("ppl transform latest new.csv -o features.parquet")
def transform(run: str, data: str | None, **options: Any) -> None:
    """Each row as the probabilities of its states, as features for other programs."""
    fit = _opened(run, options)
    _print(fit.transform(_later(fit, data, options)), options)


@_verb("ppl summary latest", _level(0.89), data=False)
def summary(run: str, level: float, **options: Any) -> None:
    """Posterior mean, standard deviation and interval of every parameter."""
    frame = _opened(run, options).summary(level=level)
    if "parameter" not in frame.columns:
        frame = frame.rename_axis("parameter").reset_index()
    if options["output"] == "-" and not options["json"] and sys.stdout.isatty():
        say(table(frame.to_dict("records")))
    else:
        _print(frame, options)


@click.command(
    cls=Command,
    help=f"Whether to trust a fit: the verdict and its reasons. Exits with 3 if not.\n\n{ABOUT_RUN}",
    example="ppl check latest && ppl forecast latest",
)
@together(run_argument(), json_option())
def check(run: str, **options: Any) -> None:
    """Print the report, and exit with 3 if the fit is not trusted."""
    path = locate(run, options["runs"])
    report = _opened(run, options).check()
    if options["json"]:
        print_json({"run": str(path), **report.to_dict()})
    else:
        say(report.text(width() if sys.stdout.isatty() else 100))
    if report.verdict == "not trusted":
        raise NotTrusted(f"{path} is not trusted")
