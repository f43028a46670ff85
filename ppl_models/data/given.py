"""The options of reading as they are given, in whatever form Python has for them, and as they are meant."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, get_args

import numpy as np

from ppl_models.data.arrays import is_array, to_numpy
from ppl_models.data.messages import listed, quoted
from ppl_models.data.options import reading_options
from ppl_models.data.readers import format_options
from ppl_models.data.schema import Kind, Meaning, Schema
from ppl_models.errors import UsageError

TABS = {"\\t": "\t", "tab": "\t"}
"""How a tab can be written on a command line."""


def names_of(option: str, names: Any) -> list[str] | None:
    """Names, each once and in order, or None if none were given.

    Args:
        option: What messages call it.
        names: A text with commas between them, a number, or anything that holds texts and numbers.

    Raises:
        UsageError: They are nothing of this sort, or `columns` names none.

    Example:
        >>> names_of("columns", "a, b"), names_of("missing", -999), names_of("ignore", ("b", 7))
        (['a', 'b'], ['-999'], ['b', '7'])
    """
    if names is None:
        return None
    if isinstance(names, str):
        split = [name.strip() for name in names.split(",")]
    elif isinstance(names, int | float | np.number):
        split = [str(names)]
    elif is_array(names):
        split = [str(name) for name in to_numpy(names).ravel().tolist()]
    elif isinstance(names, Iterable) and not isinstance(names, bytes | Mapping):
        split = [str(name) for name in names]
    else:
        what = "names, as a list or with commas between them"
        raise UsageError(f"{option} must be {what}, got {quoted(names)}")
    split = list(dict.fromkeys(split))
    if option == "columns" and not any(split):
        raise UsageError("columns must name at least one column")
    return split


def name_of(option: str, name: Any) -> str | None:
    """The name of one column, which is a number in a data frame whose columns have no other names.

    Raises:
        UsageError: It is neither a text nor a whole number.
    """
    if name is None or isinstance(name, str | int | np.integer):
        return None if name is None else str(name)
    raise UsageError(f"{option} must be the name of one column, got {quoted(name)}")


def kinds_of(types: Any) -> dict[str, Kind]:
    """The kinds of columns by name.

    Raises:
        UsageError: It is no dictionary, or there is no such kind.
    """
    if types is None:
        return {}
    if not isinstance(types, Mapping):
        raise UsageError(f"types must be a dictionary of names and kinds of column, got {quoted(types)}")
    return {str(name): _kind(name, kind) for name, kind in types.items()}


def _kind(name: object, kind: Any) -> Kind:
    try:
        return Kind(kind)
    except ValueError:
        known = ", ".join(Kind)
        raise UsageError(f"the type of {quoted(name)} must be one of {known}, got {quoted(kind)}") from None


def text_options(
    delimiter: str | None = None, decimal: str = ".", encoding: str = "utf-8"
) -> dict[str, str | None]:
    """How text is written.

    Args:
        delimiter: One character, or how `TABS` spells a tab; None if it is to be found out.
        decimal: A point or a comma.
        encoding: A name that Python knows.

    Raises:
        UsageError: They are something else, or the delimiter is the decimal mark.
    """
    delimiter = None if delimiter is None else TABS.get(delimiter, delimiter)
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n"' or not delimiter.isascii()):
        raise UsageError(f"delimiter must be one character such as , or ; or a tab, got {quoted(delimiter)}")
    if decimal not in (".", ","):
        raise UsageError(f"decimal must be . or , got {quoted(decimal)}")
    if decimal == delimiter:
        raise UsageError(f"delimiter and decimal cannot both be {quoted(decimal)}")
    return {"delimiter": delimiter, "decimal": decimal, "encoding": encoding}


def own_options(given: Mapping[str, Any]) -> dict[str, str]:
    """The options of single formats that were given, as text.

    Raises:
        UsageError: No format has such an option, or its value is no text.
    """
    known = {option.name for option in format_options() if option.strict}
    for name, value in given.items():
        if name not in known:
            close = difflib.get_close_matches(name, [each.name for each in reading_options()], cutoff=0.5)
            hint = f"; did you mean {listed(close)}?" if close else ""
            raise UsageError(f"read has no option {quoted(name)}{hint}")
        if not isinstance(value, str | int | np.integer | None):
            raise UsageError(f"{name} must be a text, got {quoted(value)}")
    return {name: str(value) for name, value in given.items() if value is not None}


def check_meaning(meaning: Any, weights: Any, schema: Schema | None) -> None:
    """Refuse what `weights_are` cannot be.

    Raises:
        UsageError: It is something else than `counts` or `importance`, or there are no weights.
    """
    if meaning not in (None, *get_args(Meaning)):
        raise UsageError(f"weights_are must be counts or importance, got {quoted(meaning)}")
    if meaning is not None and weights is None and (schema is None or schema.weights is None):
        raise UsageError("weights_are says what weights are, and there are none; give weights")


def check_unseen(unseen: str) -> None:
    """Refuse what `unseen` cannot be.

    Raises:
        UsageError: It is something else than `error` or `missing`.
    """
    if unseen not in ("error", "missing"):
        raise UsageError(f"unseen must be error or missing, got {quoted(unseen)}")
