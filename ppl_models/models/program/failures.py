"""What goes wrong in a user-defined model: one line that says which file, line and site."""

import linecache
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ppl_models.errors import PplError, UsageError
from ppl_models.wording import words_of


def file_of(model: Any) -> str:
    """The file that the class of a model is defined in, or nothing."""
    module = sys.modules.get(type(model).__module__)
    return str(getattr(module, "__file__", None) or "")


def line_here(model: Any) -> int | None:
    """The line of the model's file that is being executed."""
    path, frame = file_of(model), sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == path and frame.f_code.co_name != "<module>":
            return frame.f_lineno
        frame = frame.f_back
    return None


@contextmanager
def in_place() -> Iterator[None]:
    """The working directory is afterwards what it was, whatever code of somebody else did with it."""
    before = _directory()
    try:
        yield
    finally:
        if before and _directory() != before:
            with suppress(OSError):
                os.chdir(before)


def _directory() -> str:
    """The working directory; "" where it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


@contextmanager
def telling(model: Any, doing: str = "", site: Any = None) -> Iterator[None]:
    """Whatever a model raises as a `UsageError` with its file and line; errors of ours as they are.

    The working directory is afterwards what it was, as after `numerics`.

    Args:
        model: whose code is executed.
        doing: what for, if that is not plain.
        site: called for the name of the site that was reached, or None.
    """
    try:
        with in_place():
            yield
    except (PplError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # SystemExit, and whatever else a model may raise
        raise UsageError(_told(model, error, doing, site() if site is not None else None)) from error


def _told(model: Any, error: BaseException, doing: str, site: str | None) -> str:
    path = file_of(model)
    where = path.rpartition("/")[2] or type(model).__name__
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if path and f.filename == path]
    if lines:
        where += f", line {lines[-1]}"
    text = words_of(error)
    named = f"site {site!r}: " if site and site not in text else ""
    kind = type(error).__name__
    what = kind if text == kind else f"{kind}: {text[:300]}"
    code = linecache.getline(path, lines[-1] or 0).strip() if lines else ""
    at = f" (in: {code[:80]})" if code else ""
    return f"{where}: {f'{doing}: ' if doing else ''}{named}{what}{at}"
