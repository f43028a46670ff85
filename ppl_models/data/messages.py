"""Text from outside, made safe to put in a one-line message."""

from collections.abc import Iterable

_LONGEST = 60


class Change(str):
    """A note on something that was done to the data, such as a column left out, of which Python is warned."""

    __slots__ = ()


def clean(text: object, longest: int = 200) -> str:
    r"""Escape what a terminal could obey (control codes, line ends) and shorten what is very long.

    Example:
        >>> clean("a\x1b[2J"), clean("abcdef", longest=4)
        ('a\\x1b[2J', 'abc…')
    """
    short = str(text)
    if len(short) > longest:
        short = short[: longest - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in short)


def quoted(text: object) -> str:
    """The text between quotes, safe to print."""
    return f"'{clean(text, _LONGEST)}'"


def listed(items: Iterable[object], most: int = 6) -> str:
    """Several quoted items; the tail of a long list is counted.

    Example:
        >>> listed("abcd", most=2)
        "'a', 'b' and 2 more"
    """
    shown = list(items)
    text = ", ".join(quoted(item) for item in shown[:most])
    return text if len(shown) <= most else f"{text} and {len(shown) - most} more"


def plural(count: int, thing: str) -> str:
    """The count with its noun: `1 row`, `2 rows`."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"
