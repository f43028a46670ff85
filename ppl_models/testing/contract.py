"""What the parts of the contract share: how one is found broken, and the options of a fit."""

from typing import Any

from ppl_models.errors import PplError
from ppl_models.inference.settings import every_setting


class ContractError(PplError, AssertionError):
    """A model does not keep the contract: says which part of it, and the figures."""


def training(options: dict[str, Any]) -> dict[str, Any]:
    """Those that say how to train."""
    return {name: value for name, value in options.items() if name in every_setting()}


def require(kept: bool, part: str, why: str) -> None:
    """Raise if a part is not kept.

    Raises:
        ContractError: with the part, and why.
    """
    if not kept:
        raise ContractError(f"{part}: {why}")
