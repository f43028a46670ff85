"""Options: those that several commands share, and those made from the fields of a model."""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import click

from ppl_models.annotations import Hint, Metavar, hints
from ppl_models.cli.base import Option
from ppl_models.cli.locate import complete_run
from ppl_models.cli.values import Listed, Literals, Names, Order, Pairs, Several
from ppl_models.data import reading_options
from ppl_models.data.readers.base import Option as Reading
from ppl_models.data.readers.base import Stage
from ppl_models.errors import UsageError
from ppl_models.inference.settings import Training
from ppl_models.model import Model

F = TypeVar("F", bound=Callable[..., Any])

_PLAIN = (int, float, str)


def option(*names: str, section: str = "Options", **settings: Any) -> Callable[[F], F]:
    """A decorator that adds an option under a heading; its default is shown."""
    settings.setdefault("show_default", True)
    return click.option(*names, cls=Option, section=section, **settings)


def together(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several decorators as one, in the order in which they are read."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def reading_of(stage: Stage, model: type[Model] | None = None) -> Callable[[F], F]:
    """How data is read: when a model is fitted (`fit`), or after that (`later`).

    A model with a field `text` takes texts its own way, so that theirs is not offered.
    """
    return together(*(_reading_option(each) for each in _reading(stage, model)))


def _reading(stage: Stage, model: type[Model] | None) -> list[Reading]:
    own = {"text"} & {field.name for field in fields(model)} if model is not None else set()
    return [each for each in reading_options(stage) if each.name not in own]


def _reading_option(about: Reading) -> Callable[[F], F]:
    """The option of one option of reading; nothing is its value where it is not given."""
    settings: dict[str, Any] = {"metavar": about.metavar, "help": about.help}
    if about.type is bool:
        settings |= {"is_flag": True, "metavar": None}
    elif about.repeated:
        settings["multiple"] = True
        if get_origin(about.type) is Mapping:
            settings["type"] = Order()
    elif get_origin(about.type) is Literal:
        settings |= {"type": click.Choice(get_args(about.type)), "metavar": None}
    elif get_origin(about.type) is tuple:
        settings["type"] = Names()
    elif get_origin(about.type) is Mapping:
        settings["type"] = Pairs()
    return option("--" + about.name.replace("_", "-"), section="Data", **settings)


def read_with(options: Mapping[str, Any], stage: Stage, model: type[Model] | None = None) -> dict[str, Any]:
    """The options of reading that were given."""
    reading = _reading(stage, model)
    given = {each.name: options[each.name] for each in reading}
    for each in reading:
        if each.repeated and get_origin(each.type) is Mapping:
            given[each.name] = dict(given[each.name]) or None
    return {name: value for name, value in given.items() if value is not False and value not in (None, ())}


def table_options() -> Callable[[F], F]:
    """Where a table goes."""
    return together(
        option(
            "--output",
            "-o",
            default="-",
            metavar="FILE",
            help="Write to a file, as its name says: .csv, .tsv, .jsonl (or .gz of these), "
            ".parquet, .feather or .xlsx; - is stdout.",
        ),
        option("--json", is_flag=True, help="Write JSON lines."),
    )


def runs_option() -> Callable[[F], F]:
    """Where runs are."""
    return option(
        "--runs", default="runs", envvar="PPL_RUNS", metavar="DIR", help="The directory that holds the runs."
    )


def quiet_option() -> Callable[[F], F]:
    """Nothing but results and errors."""
    return option("--quiet", "-q", is_flag=True, help="No progress and no notes.")


def json_option() -> Callable[[F], F]:
    """One JSON object instead of text."""
    return option("--json", is_flag=True, help="Print JSON.")


def run_argument() -> Callable[[F], F]:
    """RUN, the first argument of the verbs, and where it is looked for."""
    return together(
        click.argument("run", metavar="RUN", shell_complete=complete_run),
        runs_option(),
        option(
            "--model",
            metavar="FILE.py:Class",
            help="The file of a model of your own that the run was fitted with; it is executed.",
        ),
    )


def field_options(model: type[Model]) -> list[Option]:
    """An option for every field of a model: its type, default and help are the field's.

    `Annotated[T, "help"]` gives the help, a `Literal` the choices, a bool a pair of flags, a tuple a list
    with commas. The field that can be selected (`Model.select`) takes ranges and lists.

    Raises:
        UsageError: A field has a type that no option can give, and no default.
    """
    try:
        about = hints(model)
    except NameError as error:
        raise UsageError(f"the types of {model.__name__} cannot be read: {error}") from None
    found: list[Option] = []
    for field in fields(model):
        if not field.init:
            continue
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        option = option_of(
            field.name,
            about[field.name],
            default,
            section="Model",
            several=field.name == model.select,
            otherwise=f"The field {field.name}",
        )
        if option is not None:
            found.append(option)
        elif default is MISSING:
            raise UsageError(
                f"the field {field.name} of {model.__name__} is of a type that no option can give: use bool, "
                "int, float, str, a Literal or a tuple of these, or give it a default"
            )
    return found


def settings_options(rule: type[Training]) -> list[Option]:
    """An option for every setting of an update rule."""
    about = hints(rule)
    made = (option_of(f.name, about[f.name], f.default, section="Training") for f in fields(rule))
    return [each for each in made if each is not None]


def option_of(
    name: str,
    about: Hint,
    default: Any,
    *,
    section: str = "Options",
    several: bool = False,
    otherwise: str = "",
) -> Option | None:
    """An option from a type with notes; None if no option can give values of it.

    Args:
        name: Of the field or parameter.
        about: Its type and notes.
        default: What it is if not given; `MISSING` if it has to be.
        section: The heading in the help.
        several: Whether it takes ranges and lists of whole numbers.
        otherwise: The help where the notes have none.
    """
    flag, kind = "--" + name.replace("_", "-"), about.type
    item = about.many
    if item in _PLAIN and isinstance(default, tuple):
        default = ",".join(map(str, default))
    made: dict[str, Any] = {"help": _sentence(about.help or otherwise), "required": default is MISSING}
    if default is not MISSING:
        made |= {"default": default, "show_default": default is not None}
    if (metavar := about.note(Metavar)) is not None:
        made["metavar"] = metavar.text
    if several:
        made["help"] = made["help"][:-1] + "; several, such as 1:6, are compared by their evidence."
        return Option([flag], type=Several(), section=section, **{"metavar": "N|LOW:HIGH|A,B"} | made)
    if kind is bool:
        return Option([f"{flag}/--no-{flag[2:]}"], section=section, **made)
    if get_origin(kind) is Literal:
        return Option([flag], type=Literals(get_args(kind)), section=section, **made)
    if kind in _PLAIN:
        return Option([flag], type=kind, section=section, **made)
    if get_origin(kind) in (Union, types.UnionType) and str in get_args(kind):
        return Option([flag], type=str, section=section, **made)
    if item in _PLAIN:
        return Option([flag], type=Listed(item), section=section, **{"metavar": "A,B,..."} | made)
    if get_origin(kind) is Mapping or kind is Mapping:
        return Option([flag], type=Pairs(), section=section, **{"metavar": "KEY=VALUE,..."} | made)
    return None


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
