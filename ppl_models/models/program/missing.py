"""Cells that are not there: masked out of the likelihood exactly.

For a site whose events are single numbers, x_n ~ p(x | θ) and a missing x_n integrates to
∫ p(x_n | θ) dx_n = 1, so its log density is 0 whatever θ. The cell is given some other row's value, at which
the density is finite, and is masked. An event of several numbers, some of which are missing, has a marginal
that is not known in general: it is refused.
"""

from typing import Any

import torch
from torch import Tensor

from ppl_models.errors import DataError


def filled(name: str, value: Tensor, event_dim: int) -> tuple[Tensor, Tensor] | None:
    """A value without NaN, and a mask that is false where there was one; None where there was none.

    Raises:
        DataError: if events have several numbers, or every cell is missing.
    """
    if not value.is_floating_point():
        return None
    holes = torch.isnan(value)
    if not bool(holes.any()):
        return None
    if event_dim:
        raise DataError(
            f"site {name!r} observes several numbers at once, some of which are missing; "
            "take these rows out, or model the columns one by one"
        )
    if bool(holes.all()):
        raise DataError(f"site {name!r} observes no value: every cell is missing; give it some")
    return torch.where(holes, value[~holes][0], value), ~holes


def as_tensor(msg: Any) -> None:
    """Make what a site observes a tensor, where it is a plain number, as in `obs=3.0`, or an array."""
    value = msg["value"]
    if not isinstance(value, Tensor):
        number = float(value) if isinstance(value, int | float) else value
        msg["value"] = torch.as_tensor(number, dtype=torch.get_default_dtype())


def masked(fn: Any, mask: Tensor) -> Any:
    """A distribution with the density 1 where the mask is false."""
    return fn.mask(mask)
