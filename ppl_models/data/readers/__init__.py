"""File formats: a module each, found by being here."""

import pkgutil
from fnmatch import fnmatch
from functools import cache
from importlib import import_module
from pathlib import Path

from ppl_models.data.readers.base import Option, Reader


@cache
def formats() -> tuple[Reader, ...]:
    """The formats that can be read, in alphabetical order.

    Of each, `name`, `description`, `suffixes`, `packed` (whether `.gz` may follow) and `extra` (the optional
    dependencies that it needs, or None) are what a help text or a manual says.
    """
    modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = [module.READER for module in modules if hasattr(module, "READER")]
    return tuple(sorted(found, key=lambda reader: reader.name.lower()))


def known_formats() -> str:
    """The formats in one sentence without a full stop, for a help text.

    Example:
        >>> known_formats().startswith("Arrow, CSV and TSV, ")
        True
    """
    packed = [reader.name for reader in formats() if reader.packed]
    names = ", ".join(reader.name for reader in formats())
    return f"{names}; also .gz of {', '.join(packed)}"


def suffixes(reader: Reader) -> list[str]:
    """What names of files of a format end in, for a message or a help text."""
    return [f"*{suffix}" if reader.folder else suffix for suffix in reader.suffixes]


def reader_of(path: Path, whole: bool = False) -> Reader | None:
    """The reader of a file or of a directory, by its name; None if there is none.

    Args:
        path: Where it is. Only whether it is a directory is looked up.
        whole: Whether one that takes a file for one text comes first; else none of these is taken.
    """
    if path.is_dir():
        return next((reader for reader in formats() if reader.folder), None)
    suffix, packed = suffix_of(path)
    for reader in sorted(formats(), key=lambda reader: not reader.whole):
        if reader.folder or (reader.whole and not whole) or (packed and not reader.packed):
            continue
        if any(fnmatch(suffix, pattern) for pattern in reader.suffixes):
            return reader
    return None


def suffix_of(path: Path) -> tuple[str, bool]:
    """The last suffix of a name in lower case, without a `.gz` that follows it, and whether one does."""
    found = [suffix.lower() for suffix in path.suffixes]
    packed = found[-1:] == [".gz"]
    found = found[:-1] if packed else found
    return (found[-1] if found else ""), packed


def reader_of_text(start: bytes) -> Reader:
    """The reader of what comes on standard input.

    Args:
        start: The first characters of it that are not white space.
    """
    fitting = [
        (len(text), i) for i, each in enumerate(formats()) for text in each.starts if start.startswith(text)
    ]
    return formats()[max(fitting)[1]]


def format_options() -> tuple[Option, ...]:
    """The options that formats declare, each once."""
    return tuple({option.name: option for reader in formats() for option in reader.options}.values())
