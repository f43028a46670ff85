"""What makes a function a verb: the capabilities that it asks for, and what its options need."""

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from functools import cache, wraps
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol, TypeVar, cast

from ppl_models.annotations import Hint, check_type, hint
from ppl_models.capabilities import Importance, Observes
from ppl_models.data import reading_options
from ppl_models.errors import Unsupported, UsageError
from ppl_models.threads import threads_for, turn

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.record import Record

BLOCK = 1_500_000
"""Numbers of a draw, rows × states say, of which a verb says something at a time where it can."""

DRAWN = 50
"""As many draws are held of each number at least, where cells of an answer are drawn."""

F = TypeVar("F", bound=Callable[..., Any])

Seed = Annotated[int | None, "Seed of the draws; follows from the fit's if not given."]
"""An option of verbs that draw."""


class Needs(NamedTuple):
    """An option is there where the model has one of these capabilities."""

    one_of: tuple[type, ...]

    def met(self, bound: Any) -> bool:
        """Whether it has."""
        return isinstance(bound, self.one_of)


class Verb(Protocol):
    """A function of a fit, with what is known of it.

    Attributes:
        needs: the capabilities of which it takes one.
        example: how it is called on the command line.
        takes_data: whether later data can be given.
        by_row: whether its answer is a row for each row of the data, which is of that row alone where rows
            are independent.
        unless: options with which it is not.
        drawn: whether cells of its answer are drawn, and which columns it has depends on the rows.
    """

    needs: tuple[type, ...]
    example: str
    takes_data: bool
    by_row: bool
    unless: tuple[str, ...]
    drawn: bool
    __name__: str
    __doc__: str

    def __call__(self, fit: "Record", *args: Any, **options: Any) -> Any:
        """The table."""
        ...


def verb(
    example: str,
    needs: tuple[type, ...],
    by_row: bool = False,
    unless: tuple[str, ...] = (),
    drawn: bool = False,
) -> Callable[[F], F]:
    """Make a function a verb: refuse it where the model cannot, and options that the model does not have.

    Args:
        example: how it is called on the command line.
        needs: capabilities of which the bound model must have one.
        by_row: whether its answer is a row for each row of the data, and of that row alone.
        unless: options with which it is not.
        drawn: whether cells of its answer are drawn, and which columns it has depends on the rows.
    """

    def decorate(function: F) -> F:
        @wraps(function)
        def checked(fit: "Record", *args: Any, **options: Any) -> Any:
            own = cast("Verb", checked)
            with turn():
                return answered(own, fit, *args, **options)

        def answered(own: Verb, fit: "Record", *args: Any, **options: Any) -> Any:
            if not isinstance(fit.bound, needs):
                raise Unsupported(refusal(own, fit))
            _check_options(own, fit, options)
            _check_types(own, options)
            with threads_for(0):  # within it large work asks for more
                return function(fit, *args, **options)

        found: Any = checked
        found.needs, found.example, found.by_row, found.unless = needs, example, by_row, unless
        found.drawn = drawn
        found.takes_data = "data" in signature(function).parameters
        found.__signature__ = _shown(function)
        return found

    return decorate


def in_blocks(verb: Verb, fit: "Record", options: dict[str, Any]) -> "Iterator[pd.DataFrame]":
    """What a verb says, some rows at a time where it says it row by row: the same as all at once.

    What is drawn has a seed for each block, and columns that only some blocks have are empty in the others.

    Args:
        verb: which.
        fit: of what.
        options: as the verb takes them; its data, if given, was read already.
    """
    import numpy as np

    data, bound = options.get("data"), fit.bound
    data = fit.data if data is None else data
    numbers = bound.numbers(data) * (DRAWN if verb.drawn else 1)
    size = max(1, BLOCK * data.rows // max(numbers, 1))
    others = Observes if verb.drawn else Importance | Observes
    alone = verb.by_row and bound.exchangeable and not isinstance(bound, others)
    alone = alone and not any(options.get(name) for name in verb.unless)
    if not alone or data.arrays or len(data.lengths) != 1 or data.rows <= size:
        yield verb(fit, **options)
        return
    columns = _columns(verb, fit, options, data) if verb.drawn else None
    seed = options.get("seed")
    for i, lo in enumerate(range(0, data.rows, size)):
        own = {**options, "data": data.subset(np.arange(lo, min(lo + size, data.rows)))}
        if verb.drawn:
            own["seed"] = (fit.settings.seed if seed is None else seed) + i
        frame = verb(fit, **own)
        yield frame if columns is None else frame.reindex(columns=columns)


def _columns(verb: Verb, fit: "Record", options: dict[str, Any], data: Any) -> "pd.Index":
    """The columns of an answer to all rows: those of one to a row for each column with missing cells."""
    import numpy as np

    from ppl_models.data.spill import blocks

    first, at = np.full(len(data.names), -1), 0
    for block in blocks(data.values):
        gaps = np.isnan(block)
        found = np.where(gaps.any(0), at + gaps.argmax(0), -1)
        first = np.where(first < 0, found, first)
        at += len(block)
    rows = np.unique(np.maximum(first, 0))
    return verb(fit, **{**options, "data": data.subset(rows)}).columns


def _shown(function: Callable[..., Any]) -> Signature:
    """The signature for notebooks and help(): plain types, and the options of reading one by one."""
    own, shown = signature(function), []
    for p in own.parameters.values():
        if p.kind is Parameter.VAR_KEYWORD:
            kind = Parameter.KEYWORD_ONLY
            shown += [Parameter(o.name, kind, default=o.default) for o in reading_options("later")]
            shown.append(Parameter("lengths", kind, default=None))
        else:
            shown.append(p.replace(annotation=hint(p.annotation).plain))
    return own.replace(parameters=shown)


@cache
def options_of(verb: Any) -> dict[str, tuple[Hint, Any]]:
    """The options of a verb by name: their types and defaults, without what says which data."""
    found = {}
    for name, p in signature(verb.__wrapped__).parameters.items():
        if p.kind is not Parameter.VAR_KEYWORD and name not in ("fit", "data"):
            found[name] = (hint(p.annotation), p.default)
    return found


def available(verb: Any, bound: Any) -> list[str]:
    """The options that a model has of a verb."""
    return [
        name
        for name, (about, _) in options_of(verb).items()
        if (needs := about.note(Needs)) is None or needs.met(bound)
    ]


def _check_options(verb: Any, fit: "Record", given: dict[str, Any]) -> None:
    """Refuse options that there are not, or that the model does not have.

    Raises:
        UsageError: naming those that it has.
    """
    has, known = available(verb, fit.bound), {*options_of(verb), "data"}
    reading = {each.name for each in reading_options()} | {"lengths"} if verb.takes_data else set()
    for name, value in given.items():
        if name not in known | reading:
            close = get_close_matches(name, [*has, *reading], n=2)
            there = f"it has {', '.join(has)}" if has else "there are none but those of reading"
            what = f"did you mean {' or '.join(close)}?" if close else there
            raise UsageError(f"{verb.__name__} has no option {name!r}; {what}")
        if name in options_of(verb) and name not in has and value not in (None, options_of(verb)[name][1]):
            there = ", ".join(f"--{other.replace('_', '-')}" for other in has)
            raise UsageError(
                f"{verb.__name__} of {fit.name} has no --{name.replace('_', '-')}"
                + (f"; it has {there}" if there else "")
            )


def _check_types(verb: Any, options: dict[str, Any]) -> None:
    """Refuse values that are no numbers where there must be, and the like; by position there may be data.

    Raises:
        UsageError: naming the option.
    """
    for name, value in options.items():
        about, default = options_of(verb).get(name, (None, None))
        if about is not None and value is not default and not (value is None and about.optional):
            check_type(name, value, about)


def extent(verb: Any, bounds: Sequence[type]) -> float:
    """The share of the forms in which a model may be bound that have a verb: 0 none, 1 all."""
    return sum(issubclass(bound, verb.needs) for bound in bounds) / len(bounds)


def refusal(verb: Any, fit: "Record") -> str:
    """Why a verb is not there for a model, and which have it."""
    from ppl_models.registry import those

    def has(bound: type) -> bool:
        return issubclass(bound, verb.needs)

    name = verb.__name__
    forms = {bound.form for bound in type(fit.model).bounds() if has(bound)}
    if forms and fit.bound.form not in forms:
        said = f"{fit.name} has {name} only of {' and '.join(sorted(forms))}"
        return f"{said}, and this one was fitted to {fit.bound.form}"
    if extent(verb, type(fit.model).bounds()) and fit.data.schema.target is not None:
        said = f"{fit.name} has {name} only without a target, and this one was fitted with one"
        return f"{said}; fit it without --target"
    if extent(verb, type(fit.model).bounds()):
        said = f"{fit.name} has {name} only with a target, and this one was fitted without"
        return f"{said}; fit it with --target"
    there = those(has)
    return f"{fit.name} has no {name}; {', '.join(there)} {'has' if len(there) == 1 else 'have'} it"
