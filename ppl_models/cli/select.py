"""`ppl select MODEL DATA --FIELD A,B,C`: the value of one field that predicts held-out rows best."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin

import click

from ppl_models.annotations import Hint, hints
from ppl_models.cli.base import Command, Option
from ppl_models.cli.fit import FitGroup, Plan, finish, saving_options
from ppl_models.cli.options import option, read_with, reading_of, settings_options, together
from ppl_models.errors import UsageError
from ppl_models.model import Model


class SelectGroup(FitGroup):
    """`ppl select`, with a command for each model."""

    usage: ClassVar[str] = "ppl select MODEL DATA"

    def made(self, name: str, model: type[Model]) -> click.Command:
        """The command of a model."""
        return select_command(name, model)


@click.group(
    cls=SelectGroup,
    subcommand_metavar="MODEL DATA --FIELD A,B,C [OPTIONS]",
    options_metavar="",
    epilog="\b\nExample:\n  ppl select mlp data.csv --target y --hidden 50,100,200/100\n"
    "  ppl select svm data.csv --target y --kernel all",
)
def select() -> None:
    """Fit a model with several values of one field, and keep the one that predicts held-out rows best.

    Values have commas between them, items of a value a /; whole numbers may be a range, 1:6; `all` stands for
    every choice. The best value is fitted to all rows and saved as a run.
    """


def select_command(name: str, model: type[Model]) -> click.Command:
    """`ppl select NAME`, with the fields of a model as options that take several values."""

    @together(
        reading_of("fit", model),
        option("--folds", type=click.IntRange(min=2), default=5, help="Parts of the rows."),
        saving_options(),
    )
    def run(data: str, **options: Any) -> None:
        _run(model, data, options)

    shared = [*reversed(run.__click_params__)]  # type: ignore[attr-defined]
    about = hints(model)
    own = [
        Option(
            ["--" + each.name.replace("_", "-")],
            section="Model",
            metavar="A,B,...",
            help=(about[each.name].help or f"the field {each.name}").capitalize().rstrip(".") + ".",
        )
        for each in fields(model)
        if each.init
    ]
    return Command(
        name,
        callback=run,
        params=[click.Argument(["data"], metavar="DATA"), *own, *settings_options(model.settings), *shared],
        help=f"The value of one field of {name} that predicts held-out rows best.",
        short_help=model.summary,
        example=f"ppl select {name} data.csv{model.example} --{own[0].name.replace('_', '-')} A,B,C"
        if own and own[0].name
        else "",
    )


def several(name: str, text: str, about: Hint) -> list[Any]:
    """The values of a field from text.

    Args:
        name: of the field.
        text: values with commas between them, `1:6`, or `all`.
        about: the type of the field.

    Raises:
        UsageError: one cannot be meant.
    """
    from ppl_models.comparison.words import value_of

    if text == "all" and get_origin(about.type) is Literal:
        return list(get_args(about.type))
    if text == "all" and about.type is bool:
        return [False, True]
    if about.type is int and ":" in text:
        from ppl_models.cli.values import Several

        return list(Several().convert(text, None, None))
    return list(dict.fromkeys(value_of(name, each.strip(), about) for each in text.split(",")))


def _run(model: type[Model], data: str, options: dict[str, Any]) -> None:
    from ppl_models import store
    from ppl_models.cli.fit import _stem

    about = hints(model)
    given = {
        each.name: several(each.name, options[each.name], about[each.name])
        for each in fields(model)
        if each.init and options.get(each.name) is not None
    }
    many = [name for name, values in given.items() if len(values) > 1]
    if len(many) != 1:
        said = f"got several of {', '.join(many)}" if many else "got one value of each"
        raise UsageError(f"select compares the values of one field, such as --{_example(model)} A,B; {said}")
    base = model(**{name: values[0] for name, values in given.items()})
    plan = Plan(base, many[0], tuple(given[many[0]]))
    if data != "-":
        from ppl_models.data.several import check_files

        check_files(data)
    if options["out"] is None:
        target = store.next_run_directory(options["runs"], base.name, _stem(data))
    else:
        target = Path(options["out"])

    def train(progress: Any) -> Any:
        from ppl_models import select as selected

        settings = {name: options[name] for name in hints(model.settings)}
        return selected(
            base,
            data,
            {plan.field: plan.values},
            by="held_out",
            folds=options["folds"],
            progress=progress,
            **settings,
            **read_with(options, "fit", model),
        )

    with store.lock(target):
        store.check_target(target, force=options["force"])
        finish(target, options, plan, train)


def _example(model: type[Model]) -> str:
    """A field of the model."""
    return next((f.name for f in fields(model) if f.default is not MISSING), "field").replace("_", "-")
