"""The names in and around a run directory, and the limits they keep to."""

import os
import re
from pathlib import Path
from typing import Literal

from ppl_models.errors import UsageError

SCHEMA_VERSION = 1

MANIFEST = "run.json"
PARAMS = "params.safetensors"
HISTORY = "history.jsonl"
POSTERIOR = "posterior.nc"

MAX_FILES = 64
MAX_MANIFEST_BYTES = 16 * 2**20
MAX_HISTORY_BYTES = 2**30
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format itself

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_HIDDEN = re.compile(r"\.(?P<run>.+)\.ppl-(?P<kind>new|old|lock)", re.DOTALL)

Kind = Literal["new", "old", "lock"]


def shown(value: object) -> str:
    r"""Return `value` as text that is safe in one line of a terminal.

    Args:
        value: A path, a name or any other value; control, bidirectional and unpaired surrogate characters
            are escaped.

    Returns:
        One line.

    >>> shown("a\x1b[2Jb\n")
    'a\\x1b[2Jb\\n'
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in str(value)
    )


def system_says(error: OSError) -> str:
    """Return the system's reason for `error` in one line; libraries put lines of their own into theirs."""
    return os.strerror(error.errno) if error.errno else shown(error)[:300]


def is_file_name(name: object) -> bool:
    """Say whether `name` may name a file in a run: ASCII letters, digits and `_ . -`, at most 100 of them.

    Such a name cannot lead out of the directory, hide, or mean something else on another system.
    """
    return isinstance(name, str) and _FILE_NAME.fullmatch(name) is not None and name.lower() != MANIFEST


def beside(run: Path, kind: Kind) -> Path:
    """Return the hidden sibling of `run` that holds the new run, the old run or the lock."""
    return run.with_name(f".{run.name}.ppl-{kind}")


def hidden_name(name: str) -> tuple[str, str] | None:
    """Return the run and the kind that the hidden `name` belongs to, or None for any other name."""
    match = _HIDDEN.fullmatch(name)
    return (match["run"], match["kind"]) if match else None


def run_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a run that the user named; its parent is resolved, itself it is not.

    Raises:
        UsageError: If the path holds a NUL byte, or has no name that a directory could have.
    """
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise UsageError(f"a run needs the path of a directory, got {shown(ascii(text))}")
    given = Path(text)
    if given.name in ("", ".."):  # `.` and `..` get their name from where they lead
        given = Path(os.path.realpath(given))
    if not given.name:
        raise UsageError(f"{shown(text)} cannot be a run directory: name a directory in it")
    if hidden_name(given.name):
        raise UsageError(f"{shown(text)} is a name this program keeps for itself: choose another")
    return Path(os.path.realpath(given.parent)) / given.name


def has_manifest(directory: Path) -> bool:
    """Say whether `directory` is a directory, not a link, with a `run.json` in it."""
    return not os.path.islink(directory) and os.path.lexists(directory / MANIFEST)


def is_empty(directory: Path) -> bool:
    """Say whether `directory` is an empty directory, not a link.

    Raises:
        OSError: If it cannot be listed.
    """
    if os.path.islink(directory) or not os.path.isdir(directory):
        return False
    with os.scandir(directory) as entries:
        return next(entries, None) is None
