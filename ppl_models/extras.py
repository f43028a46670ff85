"""Packages that only some uses need, the extras of pyproject.toml: imported where they are used."""

from importlib import import_module
from typing import Any

from ppl_models.errors import PplError, UsageError


def needed(module: str, extra: str, why: str, error: type[PplError] = UsageError) -> Any:
    """A module that may not be installed.

    Args:
        module: its name.
        extra: of this package, that brings it.
        why: what needs it, up to its name: `Excel is written by`.
        error: what is raised without it.

    Raises:
        PplError: it is not installed; how to install it is said.
    """
    try:
        return import_module(module)
    except ImportError:
        raise error(f"{why} {module}, which is not installed; pip install 'ppl_models[{extra}]'") from None
