"""`ppl fit MODEL DATA`: fit, save, and say whether to trust it."""

import os
import shlex
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from ppl_models.annotations import hints
from ppl_models.cli.base import Command, check_environment
from ppl_models.cli.locate import locate
from ppl_models.cli.options import (
    Option,
    field_options,
    json_option,
    option,
    quiet_option,
    read_with,
    reading_of,
    runs_option,
    settings_options,
    together,
)
from ppl_models.cli.output import data_notes, note, print_json, say, table, width
from ppl_models.cli.progress import ProgressLine
from ppl_models.cli.signals import Stop
from ppl_models.cli.streams import apart, results
from ppl_models.data import known_formats
from ppl_models.errors import Interrupted, NotTrusted, RunError, UsageError
from ppl_models.model import Model
from ppl_models.verbs import VERBS
from ppl_models.wording import words_of

if TYPE_CHECKING:
    from ppl_models.api import Fit

Progress = Callable[[str, int, float, float], None]

NEXT = ("predict", "transform", "sample", "forecast", "summary")
"""What is advised after a fit: the first of these that there is."""


class FitGroup(click.Group):
    """`ppl fit`, with a command for each model; groups like it say how they are used, and make their own.

    Attributes:
        usage: how a command begins.
    """

    usage: ClassVar[str] = "ppl fit MODEL DATA"

    def made(self, name: str, model: type[Model]) -> click.Command:
        """The command of a model."""
        return fit_command(name, model)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the models."""
        from ppl_models.registry import names

        return names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """The command of a model, made from its fields."""
        from ppl_models.registry import find

        with apart():  # a file may print while it is imported
            found = find(cmd_name, files=True)
        return self.made(cmd_name, found)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say where options go, which is after the model."""
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            raise click.UsageError(f"{args[0]} goes after the model: {self.usage} {args[0]}", ctx)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the models; one that cannot be imported is left out with a warning."""
        from ppl_models.registry import models

        listed = models()
        with formatter.section("Models"):
            formatter.write_dl([(each.name, each.summary) for each in listed if not each.problem])
        for each in listed:
            if each.problem:
                note(f"warning: {each.problem}")


@click.group(
    cls=FitGroup,
    subcommand_metavar="MODEL DATA [OPTIONS]",
    options_metavar="",
    epilog="\b\nExample:\n  ppl fit hmm returns.csv --states 1:6\n  ppl fit hmm --help",
)
def fit() -> None:
    """Fit a model to data, save the run, and say whether to trust it.

    MODEL is one of those below or FILE.py:Class; `ppl fit MODEL --help` shows its options. DATA is a file
    (see `ppl data --help`) or - for stdin.
    """


def saving_options() -> Any:
    """Where the run goes, and what is said."""
    return together(
        option("--out", metavar="DIR", help="The run directory; RUNS/MODEL-DATA-NNN if not given."),
        runs_option(),
        option("--force", is_flag=True, help="Replace the run that is in --out."),
        option(
            "--strict", is_flag=True, help="Exit with 3 if the fit is not trusted; it is saved all the same."
        ),
        option(
            "--slim",
            is_flag=True,
            help="Save the run without the rows of the fit: small, for verbs that are given DATA.",
        ),
        json_option(),
        quiet_option(),
    )


def helping_options() -> Any:
    """Another run that helps: its features or its rows."""
    return together(
        option(
            "--features-from",
            metavar="RUN",
            section="Data",
            help="A run of a joint model whose features of each row become further columns.",
        ),
        option(
            "--rows-from",
            metavar="RUN",
            section="Data",
            help="A run of a joint model of the same columns, from which further rows are drawn.",
        ),
        option(
            "--rows",
            type=click.IntRange(min=1),
            metavar="N",
            section="Data",
            help="How many rows are drawn from it; as many as there are if not given.",
        ),
    )


def fit_command(name: str, model: type[Model]) -> click.Command:
    """`ppl fit NAME`, with the fields of a model as options."""

    @together(reading_of("fit", model), helping_options(), saving_options())
    def run(data: str, **options: Any) -> None:
        _run(model, data, options)

    reading = [*reversed(run.__click_params__)]  # type: ignore[attr-defined]
    training = settings_options(model.settings)
    data_first = [each for each in reading if getattr(each, "section", "") == "Data"]
    shared: list[click.Parameter] = [*data_first, *training, *(e for e in reading if e not in data_first)]
    own = field_options(model)
    taken = {flag for each in shared for flag in each.opts}
    for each in own:
        if clash := taken.intersection(each.opts):
            raise UsageError(
                f"{model.__name__} has a field for {min(clash)}, an option of ppl fit; rename it"
            )
    for each in [*own, *shared]:
        if isinstance(each, Option) and each.name and each.envvar is None:
            each.envvar = [f"PPL_FIT_{_variable(name)}_{each.name.upper()}", f"PPL_FIT_{each.name.upper()}"]
    many = f" --{model.select.replace('_', '-')} 1:6" if model.select else ""
    return Command(
        name,
        callback=run,
        params=[click.Argument(["data"], metavar="DATA"), *own, *shared],
        help=f"{model.summary[:1].upper()}{model.summary[1:].rstrip('.')}.\n\n"
        f"DATA is a file ({known_formats()}), or - for stdin.",
        short_help=model.summary,
        example=f"ppl fit {name} data.csv{model.example}{many}",
    )


def _variable(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).upper()


@dataclass(frozen=True)
class Plan:
    """A model and, where several values of one field are to be compared, which."""

    model: Model
    field: str = ""
    values: tuple[Any, ...] = ()

    @property
    def labels(self) -> list[str]:
        """What each is called."""
        return [f"{self.field} {value}" for value in self.values]


def plan_of(model: type[Model], options: Mapping[str, Any]) -> Plan:
    """The model that the options mean."""
    given = {field.name: options[field.name] for field in fields(model) if field.name in options}
    several = given.get(model.select) if model.select else None
    try:
        if model.select and isinstance(several, tuple):
            models = [model(**given | {model.select: value}) for value in several]
            return Plan(models[0], model.select, several)
        return Plan(model(**given))
    except UsageError:
        raise
    except (ValueError, TypeError) as error:  # of a model that somebody else wrote
        raise UsageError(f"{model.__name__}: {words_of(error)}") from error


def _check_environment() -> None:
    """Refuse variables PPL_FIT_… that are no option of any model.

    Raises:
        UsageError: naming the closest.
    """
    if not any(name.startswith("PPL_FIT_") for name in os.environ):
        return
    from ppl_models.registry import models

    ctx = click.get_current_context()
    commands = [ctx.command]
    if ctx.parent is not None and isinstance(ctx.parent.command, click.Group):
        usable = [each.name for each in models() if not each.problem]
        commands += [c for name in usable if (c := ctx.parent.command.get_command(ctx, name)) is not None]
    known: set[str] = set()
    for each in (parameter for command in commands for parameter in command.params):
        known |= {each.envvar} if isinstance(each.envvar, str) else {*(each.envvar or ())}
    check_environment("PPL_FIT", known)


def _run(model: type[Model], data: str, options: dict[str, Any]) -> None:
    _check_environment()
    plan = plan_of(model, options)
    if data != "-":
        from ppl_models.data.several import check_files

        check_files(data)
    from ppl_models import store

    if options["out"] is None:
        target = store.next_run_directory(options["runs"], plan.model.name, _stem(data))
    else:
        target = Path(options["out"])
    with store.lock(target):
        store.check_target(target, force=options["force"])
        finish(target, options, plan, lambda progress: _fitted(plan, data, target, options, progress))


def finish(
    target: Path,
    options: Mapping[str, Any],
    plan: Plan,
    train: Callable[[Progress], "Fit"],
    going_on: bool = False,
) -> None:
    """Train with a line of progress, save, and say what came out.

    Args:
        target: the directory of the run, which is replaced.
        options: of the command: `quiet`, `strict`, and those of training.
        plan: what is fitted.
        train: fits it, and tells its progress.
        going_on: whether the run that is in `target` is of the same fit.

    Raises:
        Interrupted: if the training was stopped; what there is, is saved.
        NotTrusted: if the fit fails its own checks, and `strict` is set; it is saved.
        KeyboardInterrupt: if it was stopped before there was anything to save.
    """
    tolerance, budget = options.get("tolerance", 1e-3), options.get("budget")
    began = time.perf_counter()
    objective = type(plan.model).settings.objective
    with Stop() as stop, ProgressLine(options["quiet"], tolerance, plan.labels, budget, objective) as line:

        def progress(phase: str, step: int, elbo: float, left: float) -> None:
            line(phase, step, elbo, left)
            stop.check()

        before = None if going_on else _stored(target)
        try:
            fitted = train(progress)
            stop.training = False
            if stop.code and not fitted.trained.steps:
                raise KeyboardInterrupt
        except KeyboardInterrupt:  # outside of the steps, where there may be a checkpoint all the same
            now = _stored(target)
            if now is None or (now == before and not going_on):
                raise
            raise _interrupted(plan.model, target, stop.code or 130) from None
        line.say("checking and saving")
        slim = bool(options.get("slim")) and not stop.code  # what was stopped keeps its rows, to go on
        fitted.save(target, force=True, slim=slim)
    fitted = type(fitted).of(fitted, waited=time.perf_counter() - began)
    data_notes(fitted.data, options["quiet"])
    if not options["quiet"]:
        for each in fitted.trained.notes:
            note(each)
    _report(fitted, target, options, plan)
    if stop.code:
        raise _interrupted(fitted.model, target, stop.code)
    verdict = fitted.check()
    if options["strict"] and verdict.verdict == "not trusted":
        raise NotTrusted(f"not trusted: {_failures(verdict)} (saved in {target})")


def _fitted(plan: Plan, data: str, target: Path, options: Mapping[str, Any], progress: Progress) -> "Fit":
    from ppl_models import fit as train
    from ppl_models import select

    settings = {name: options[name] for name in hints(type(plan.model).settings)}
    reading = read_with(options, "fit", type(plan.model))
    if plan.field:
        return select(plan.model, data, {plan.field: plan.values}, progress=progress, **settings, **reading)
    helps: dict[str, Any] = {name: options[name] for name in ("features_from", "rows_from")}
    helps = {name: run and locate(run, options["runs"]) for name, run in helps.items()}
    return train(
        plan.model, data, progress=progress, checkpoint=target, rows=options["rows"], **helps, **settings,
        **reading,
    )  # fmt: skip


def _stem(data: str) -> str:
    """What a run is called after: the data file without its endings."""
    name = Path(data).name.split(".")[0].rstrip("*?-_")
    return "stdin" if data == "-" else "".join(c for c in name if c not in "*?[]") or "data"


def _report(fitted: "Fit", target: Path, options: Mapping[str, Any], plan: Plan) -> None:
    """Print what came out."""
    if options["json"]:
        print_json(as_json(fitted, target))
        return
    from ppl_models.report.text import heading, states_text

    limit = width() if results().isatty() else None
    head = heading(fitted)
    say(textwrap.fill(head, limit) if limit else head)
    if fitted.candidates:
        say()
        say(candidates_text(fitted, plan.field))
    say()
    say(states_text(fitted, limit))
    say()
    say(fitted.check().text(limit or 100))
    say()
    run = _named(fitted.model, target)
    first = next(verb for verb in NEXT if isinstance(fitted.bound, VERBS[verb].needs))
    for label, text in (("saved", str(target)), ("next", f"ppl {first} {run}"), ("", f"ppl summary {run}")):
        say(f"{label:<6}{text}")


def _interrupted(model: Model, target: Path, code: int) -> Interrupted:
    """What a fit that was stopped ends with where there is a run to go on from."""
    named = _named(model, target)
    return Interrupted(f"stopped; what there was is saved in {target}; to go on: ppl resume {named}", code)


def _stored(target: Path) -> dict[str, Any] | None:
    """The manifest of the run that is there, if one is."""
    from ppl_models import store

    try:
        return store.read_run(target).manifest
    except RunError:
        return None


def _named(model: Model, target: Path) -> str:
    """A run as the arguments of a verb: with the file of its model, if it is one's own."""
    from ppl_models.registry import reference

    code = reference(type(model))
    path, _, name = code.rpartition(":")
    if path.startswith(f"{Path.cwd()}/"):
        code = f"{Path(path).relative_to(Path.cwd())}:{name}"
    own = f" --model {shlex.quote(code)}" if path.endswith(".py") else ""
    return f"{shlex.quote(str(target))}{own}"


def candidates_text(fitted: "Fit", field: str) -> str:
    """The table of what was compared, with a star at what was chosen; it keeps to the width of the terminal.

    Where it does not fit, the columns that say least are left out: `--json` has all of them.
    """
    chosen = getattr(fitted.model, field)
    rows = [
        {"": "*" if each[field] == chosen else "", **{name: _short(name, each) for name in each}}
        for each in fitted.candidates
    ]
    shown = [name for name in dict.fromkeys(key for row in rows for key in row) if not name.endswith("_se")]
    limit = width() if results().isatty() else 100
    for spare in (*LEAST_TELLING, None):
        text = table([{name: row.get(name) for name in shown} for row in rows], columns=10_000)
        if spare is None or max(map(len, text.splitlines())) <= limit:
            return text
        shown = [name for name in shown if name != spare]
    return text


LEAST_TELLING = ("status", "log_likelihood", "seconds", "bic", "parameters", "loo", "empty", "held_out")
"""Columns of the comparison in the order in which they are left out where there is no room."""


def _short(name: str, row: Mapping[str, Any]) -> Any:
    """A figure with its standard error, and no more digits than that."""
    value, error = row[name], row.get(f"{name}_se")
    if error is not None:
        return f"{value:.3f} ± {error:.3f}"
    return f"{value:.1f}" if isinstance(value, float) and abs(value) >= 100 else value


def as_json(fitted: "Fit", target: Path) -> dict[str, Any]:
    """What came out, for machines."""
    report = fitted.check().to_dict()
    data, trained = fitted.data, fitted.trained
    return {
        "run": str(target),
        "model": fitted.model.name,
        "fields": {field.name: getattr(fitted.model, field.name) for field in fields(fitted.model)},
        "data": {
            "source": data.source,
            "rows": data.rows,
            "sequences": len(data.lengths),
            "notes": data.notes,
        },
        "elbo": fitted.elbo,
        "status": str(fitted.status),
        "reason": trained.reason,
        "steps": trained.steps,
        "seconds": round(trained.seconds, 3),
        "waited": round(fitted.waited, 3),
        "verdict": report["verdict"],
        "predictions": report["predictions"],
        "checks": report["checks"],
        "candidates": [dict(each) for each in fitted.candidates],
    }


def _failures(report: Any) -> str:
    return "; ".join(f"{check.name}: {check.reason}" for check in report.checks if check.level == "fail")
