"""Every error a user can meet, and the exit code the command line gives it.

    PplError
    ├── UsageError        2    an option, a field or a call that cannot be meant
    │   └── Unsupported   2    a verb or emission that this model does not have
    ├── DataError         65   data that cannot be read, or that no model can be fitted to
    ├── OutputError       73   a result that cannot be written
    ├── RunError          74   a run directory that is damaged, foreign or of another version
    ├── Lost              75   another process of a fit is gone, and with it its rows
    ├── NotTrusted        3    a fit that fails its own checks, where that was asked to be an error
    └── Interrupted       130  the user, or the system, asked to stop

A message is one line that says what is wrong, where, and what to do about it. A bug of ours is any
other exception and exits with 1. It names options as the command line has them; outside of it a traceback
shows beneath how Python writes them.
"""

from ppl_models.wording import spoken


class PplError(Exception):
    """Base class of every error that `ppl_models` raises on purpose."""

    exit_code = 1

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        own = str(self)
        if (said := spoken(own)) != own:
            self.add_note(f"in Python: {said}")


class UsageError(PplError, ValueError):
    """An option, a field or an argument that cannot be meant."""

    exit_code = 2


class Unsupported(UsageError):
    """Something that exists, but not for this model or this data."""


class DataError(PplError, ValueError):
    """Data that cannot be read, or that a model cannot be fitted to."""

    exit_code = 65


class OutputError(PplError, OSError):
    """A result that cannot be written."""

    exit_code = 73


class RunError(PplError):
    """A run directory that is damaged, foreign, or written by another version."""

    exit_code = 74


class Lost(PplError):
    """Another process of a fit is gone, and with it its rows; or this one has lost the one that leads."""

    exit_code = 75


class NotTrusted(PplError):
    """A fit that does not pass its own checks, where the caller asked for that to be an error."""

    exit_code = 3


class Interrupted(PplError):
    """The user (SIGINT, 130) or the system (SIGTERM, 143) asked to stop."""

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PplWarning(UserWarning):
    """Something that a result should not be read without, and that is no error.

    For instance what was done to the data that changes it: columns or rows left out, texts taken as missing.
    """

    def __str__(self) -> str:
        return spoken(super().__str__())


def warn(message: str) -> None:
    """Warn of a change to the data or the like, at the line of the caller outside the package."""
    import sys
    import warnings

    depth, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "ppl_models":
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, PplWarning, stacklevel=depth)
