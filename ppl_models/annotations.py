"""Types with notes: what `Annotated` says of a field or a parameter, for checks, options and documentation.

    steps: Annotated[int | None, "Steps at most; by the rule if not given.", AtLeast(1)] = None

is one place that says the type, the help and the bounds; the command line and the messages follow from it.
"""

from collections.abc import Iterable
from dataclasses import fields
from functools import cache, reduce
from numbers import Real
from operator import index, or_
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from ppl_models.errors import UsageError


class AtLeast(NamedTuple):
    """The value must be a whole number, no smaller than this."""

    least: int


class Positive(NamedTuple):
    """The value must be positive and finite."""


class Metavar(NamedTuple):
    """What stands for the value in the help of the command line."""

    text: str


class Hint(NamedTuple):
    """The type of a field, taken apart.

    Attributes:
        type: without `Annotated` and `None`.
        optional: whether None is a value too.
        help: the first text in `Annotated`.
        notes: all that stands in it.
    """

    type: Any
    optional: bool
    help: str
    notes: tuple[Any, ...]

    @property
    def plain(self) -> Any:
        """The type as it is written without notes: `int | None`."""
        try:
            return self.type | None if self.optional else self.type
        except TypeError:  # a name in quotes
            return self.type

    @property
    def many(self) -> Any:
        """The type of the items, where the value may be a tuple; None where it may not."""
        kinds = get_args(self.type) if get_origin(self.type) in (Union, UnionType) else (self.type,)
        return next(
            (get_args(kind)[0] for kind in kinds if get_origin(kind) is tuple and get_args(kind)), None
        )

    def note(self, kind: Any) -> Any:
        """The note of a class, or None."""
        return next((note for note in self.notes if isinstance(note, kind)), None)


def hint(annotation: Any) -> Hint:
    """Take an annotation apart.

    Example:
        >>> hint(Annotated[int | None, "how many", AtLeast(1)])
        Hint(type=<class 'int'>, optional=True, help='how many', notes=('how many', AtLeast(least=1)))
    """
    notes: tuple[Any, ...] = ()
    if get_origin(annotation) is Annotated:
        annotation, *found = get_args(annotation)
        notes = tuple(found)
    optional = False
    if get_origin(annotation) in (Union, UnionType):
        rest = [each for each in get_args(annotation) if each is not type(None)]
        optional = len(rest) < len(get_args(annotation))
        annotation = reduce(or_, rest)
    text = next((note for note in notes if isinstance(note, str)), "")
    return Hint(annotation, optional, text, notes)


@cache
def hints(owner: type) -> dict[str, Hint]:
    """The fields of a dataclass and their types, in order."""
    every = get_type_hints(owner, include_extras=True)
    return {field.name: hint(every[field.name]) for field in fields(owner)}


def checked(name: str, value: Any, about: Hint) -> Any:
    """The value as Python's own number where it is NumPy's.

    Raises:
        UsageError: it cannot be meant.
    """
    least = about.note(AtLeast)
    if least is not None:
        return count(name, value, least.least)
    if about.note(Positive) is not None:
        if isinstance(value, tuple | list) and about.many:
            if len(value) > 1 and isinstance(value[0], tuple | list):
                return _matrix(name, value)
            each = tuple(checked(name, item, about) for item in value)
            return each[0] if len(each) == 1 else each
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if isinstance(value, bool | str) or not 0 < number < float("inf"):
            raise UsageError(f"{name} must be positive and finite, got {value}")
        return number
    _check_word(name, value, about)
    if about.type is bool and not isinstance(value, bool):
        raise UsageError(f"{name} must be true or false, got {value!r}")
    return value


def check_type(name: str, value: Any, about: Hint) -> None:
    """Refuse a value of another type than its annotation says, where that is a number or one of some words.

    Raises:
        UsageError: it cannot be meant.
    """
    if about.type is float and (isinstance(value, bool) or not isinstance(value, Real)):
        raise UsageError(f"{name} must be a number, got {value!r}")
    if about.type is int and _integer(value) is None:
        raise UsageError(f"{name} must be a whole number, got {value!r}")
    _check_word(name, value, about)


def _check_word(name: str, value: Any, about: Hint) -> None:
    if get_origin(about.type) is Literal and value not in get_args(about.type):
        raise UsageError(f"{name} must be one of {', '.join(get_args(about.type))}, got {value!r}")


def _matrix(name: str, value: Any) -> tuple[tuple[float, ...], ...]:
    """A symmetric positive definite matrix as tuples."""
    import numpy as np

    try:
        found = np.array(value, dtype=np.float64)
        np.linalg.cholesky(found)
        if not np.allclose(found, found.T):
            raise ValueError
    except (TypeError, ValueError, np.linalg.LinAlgError):
        raise UsageError(f"{name} must be a symmetric positive definite matrix, got {value}") from None
    return tuple(map(tuple, found.tolist()))


def check_fields(owner: Any) -> None:
    """Refuse values of a dataclass that its notes rule out: `Positive`, `AtLeast`, choices of a `Literal`.

    Numbers become Python's own.

    Raises:
        UsageError: naming the field.
    """
    for name, about in hints(type(owner)).items():
        value = getattr(owner, name)
        if value is None and about.optional:
            continue
        if about.note(Positive) is not None:
            object.__setattr__(owner, name, checked(name, value, about))  # fields are frozen for users
        if (least := about.note(AtLeast)) is not None:
            object.__setattr__(owner, name, whole(name, value, least.least))
        if get_origin(about.type) is Literal and value not in get_args(about.type):
            *others, last = get_args(about.type)
            raise UsageError(f"{name} must be {', '.join(others)} or {last}, got {value!r}")


def whole(name: str, value: Any, least: int = 1) -> int:
    """A count as Python's own integer, also where it is NumPy's.

    Raises:
        UsageError: it is not a whole number, or below `least`.

    Example:
        >>> whole("states", 3)
        3
    """
    number = _integer(value)
    if number is None:
        raise UsageError(f"{name} must be a whole number, got {value!r}")
    if number < least:
        raise UsageError(f"{name} must be at least {least}, got {number}")
    return number


def layer_sizes(value: Any, meant: str) -> tuple[int, ...]:
    """The sizes of hidden layers: from numbers, or text with commas between them.

    Args:
        value: what was given for `hidden`.
        meant: what the message says that it must be, where it is no numbers.

    Raises:
        UsageError: they are not whole numbers of at least 1.

    Example:
        >>> layer_sizes([400, 200], "64"), layer_sizes("400,200", "64"), layer_sizes(400, "64")
        ((400, 200), (400, 200), (400,))
    """
    parts = value.split(",") if isinstance(value, str) else value
    parts = parts if isinstance(parts, Iterable) else (parts,)
    try:
        found = tuple(int(part) if isinstance(part, str) else index(part) for part in parts)
    except (ValueError, TypeError):
        raise UsageError(f"hidden must be {meant}, got {value!r}") from None
    if not found or min(found) < 1:
        raise UsageError(f"hidden must be sizes of at least 1, got {value!r}")
    return found


def count(name: str, value: Any, least: int = 1) -> int:
    """A number of things that was given as an argument, as Python's own integer.

    Raises:
        UsageError: it is not a whole number of at least `least`.
    """
    number = _integer(value)
    if number is None or number < least:
        raise UsageError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return number


def _integer(value: Any) -> int | None:
    """Python's own integer, also from NumPy's; None for anything else, truth values too."""
    try:
        return None if isinstance(value, bool) else index(value)
    except TypeError:
        return None
