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
from ppl_models.cli.values import Pairs
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
    from ppl_models import load

    return load(path, options["model"])


def _later(fit: "Fit", data: str | None, options: dict[str, Any]) -> "Dataset | None":
    """Later data, read as the fit's data was."""
    reading = {name: options[name] for name in LATER if options[name] not in (None, ())}
    if data is None:
        if reading:
            raise UsageError(f"--{min(reading)} says how DATA is read, and none is given")
        return None
    from ppl_models.data import read

    required = fit.bound.kind != "program"  # a program may predict what the data lacks
    dataset = read(data, schema=fit.data.schema, require_schema_columns=required, **reading)
    data_notes(dataset, options["quiet"])
    return dataset


def _print(frame: Any, options: dict[str, Any]) -> None:
    emit(frame, output=options["output"], json=options["json"])


def _seed() -> Any:
    return option("--seed", type=int, help="Seed of the draws; follows from the fit's if not given.")


def _level(default: float) -> Any:
    return option("--level", type=float, default=default, help="Probability of the intervals.")


def _call(fit: "Fit", name: str, options: dict[str, Any], **own: Any) -> Any:
    """A verb of a fit with those of its own options that were given, if the kind of model has them."""
    from inspect import signature

    from ppl_models.tasks import verb

    given = {key: value for key, value in own.items() if value not in (None, ())}
    data = given.pop("data", None)
    known = signature(verb(fit, name)).parameters
    for key in given:
        if key not in known:
            has = ", ".join(
                f"--{other.replace('_', '-')}" for other in own if other in known and other != "data"
            )
            raise UsageError(
                f"{name} of {fit.model.name} has no --{key.replace('_', '-')}"
                + (f"; it has {has}" if has else "")
            )
    if "data" in own:
        given["data"] = _later(fit, data, options)
    return getattr(fit, name)(**given)


@_verb(
    "ppl predict latest new.csv -o states.csv",
    option("--level", type=float, help="Probability of the intervals; 0.9 if not given."),
    option(
        "--threshold",
        type=float,
        help="Probability from which the second class is predicted; 0.5 if not given.",
    ),
    option(
        "--draws", type=int, help="Draws for p(y | x) by importance, of a vae; its classifier if not given."
    ),
)
def predict(run: str, data: str | None, **options: Any) -> None:
    """The state, component or class of each row, with probabilities."""
    fit = _opened(run, options)
    own = {name: options[name] for name in ("level", "threshold", "draws")}
    _print(_call(fit, "predict", options, data=data, **own), options)


@_verb(
    "ppl score latest new.csv --by sequence",
    option(
        "--by", type=click.Choice(["step", "sequence"]), help="A row for each of these; step if not given."
    ),
    option("--draws", type=int, help="Importance draws of each row, of a vae; 100 if not given."),
)
def score(run: str, data: str | None, by: str | None, draws: int | None, **options: Any) -> None:
    """The log predictive density of each row or sequence, in nats."""
    fit = _opened(run, options)
    _print(_call(fit, "score", options, data=data, by=by, draws=draws), options)


@_verb(
    "ppl sample latest --rows 250 --seed 1",
    option("--rows", type=int, help="How many rows; 100 if not given."),
    option(
        "--given",
        type=Pairs(),
        metavar="COL=VALUE,...",
        help="Values of some columns, of a mixture or a vae.",
    ),
    option("--steps", type=int, help="Rows of each sequence, of a hidden Markov model; 100 if not given."),
    option("--sequences", type=int, help="How many sequences; 1 if not given."),
    _seed(),
    data=False,
)
def sample(run: str, **options: Any) -> None:
    """New rows from the posterior predictive distribution."""
    fit = _opened(run, options)
    own = {name: options[name] for name in ("rows", "given", "steps", "sequences", "seed")}
    _print(_call(fit, "sample", options, **own), options)


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
    """Each row as features for other programs: probabilities of states, or latents."""
    fit = _opened(run, options)
    _print(fit.transform(_later(fit, data, options)), options)


@_verb("ppl reconstruct latest new.csv -o expected.csv", _seed())
def reconstruct(run: str, data: str | None, seed: int | None, **options: Any) -> None:
    """The table as the latents of each row have it: expected values, and most probable labels."""
    fit = _opened(run, options)
    _print(_call(fit, "reconstruct", options, data=data, seed=seed), options)


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
