"""In what order states are numbered."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ppl_models.data.schema import Schema
from ppl_models.draws import Params
from ppl_models.errors import UsageError
from ppl_models.families.base import Emission
from ppl_models.inference.factors import Theta

RULES = ("auto", "mean", "sd", "share")
"""What states may be put in order by, beside the mean of a column that is named."""

LOCATION, SPREAD = ("mean", "rate", "probability"), ("sd", "scale")
"""What families call the location of a column, and its spread."""

APART = 3.0
"""Standard errors between neighbours from which an order is one of the data."""

DRAWS, NUMBERS = (16, 200), 2_000_000
"""Draws that tell how well an order is known, least and most, and numbers in all of them."""


def checked(by: str, schema: Schema) -> str:
    """The rule, if there is such a rule or column.

    Raises:
        UsageError: there is not.
    """
    names = [column.name for column in schema.columns if column.name != schema.target]
    if by not in RULES and by not in names:
        raise UsageError(f"order_by must be {', '.join(RULES)} or a column that is modelled, got {by!r}")
    return by


def key(by: str, emissions: tuple[Emission, ...], schema: Schema, params: Params, rows: Tensor) -> np.ndarray:
    """What states are put in order by, smallest first, (K,).

    - `mean`, `sd`: of the first modelled column;
    - `share`: of the rows, largest first;
    - a column: its mean;
    - `auto`: `mean`, unless two states have means that are within 3 standard errors of one another and no
      two have such standard deviations: then `sd`. So calm and wild regimes around one mean have the same
      numbers in every sample.

    Args:
        by: the rule.
        emissions: the families.
        schema: the columns.
        params: statistics of all factors, R = 1.
        rows: expected in each state, (K,); empty ones do not count in `auto`.
    """
    if by == "share":
        return -rows.numpy()
    modelled = [e for e in emissions if not e.is_label]
    # draws are of states in an order of their statistics, so that the result does not depend on names
    keys = torch.cat([params[e.name][0].flatten(1).cpu() for e in modelled], 1)
    same = torch.from_numpy(np.lexsort(keys.numpy().T))
    found = np.empty(len(same))
    found[same.numpy()] = _key(
        by, modelled, schema, {e.name: params[e.name][:, same] for e in modelled}, rows[same]
    )
    return found


def _key(by: str, modelled: Sequence[Emission], schema: Schema, params: Params, rows: Tensor) -> np.ndarray:
    at = min(e.columns[0] for e in modelled) if by in RULES else schema.names.index(by)
    e = next(e for e in modelled if at in e.columns)
    user, d = _drawn(e, params[e.name]), e.columns.index(at)
    mean = _of(user, LOCATION, d)
    if mean is None:
        mean = _codes(user[f"probability_{d}"][0])
    # Of its first column a family knows the order without the noise of draws.
    middle = mean.mean(0) if d else e.order_key(params[e.name])[0].cpu()
    if by not in ("auto", "sd"):
        return middle.numpy()
    spread = _of(user, SPREAD, d)
    if spread is None:
        spread = mean
    there = rows >= 1.0
    sd = by == "sd" or (_apart(mean[:, there]) < APART <= _apart(spread[:, there].log()))
    return (spread.mean(0) if sd else middle).numpy()


def _drawn(e: Emission, S: Tensor) -> Mapping[str, tuple[Tensor, tuple[str, ...]]]:
    """Parameters in the user's units, drawn from the guide; the same each time."""
    number = int(np.clip(NUMBERS // max(S.numel(), 1), *DRAWS))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theta: Theta = e.draw(S.cpu().expand(number, *S.shape[1:]))
    return e.user(theta)


def _of(user: Mapping[str, tuple[Tensor, tuple[str, ...]]], names: tuple[str, ...], d: int) -> Tensor | None:
    """Draws (S, K) of the first of these that a family has, of its column d."""
    found = next((user[name][0] for name in names if name in user), None)
    return None if found is None else found[..., d]


def _codes(probability: Tensor) -> Tensor:
    """The mean code, (S, K)."""
    return probability @ torch.arange(probability.shape[-1], dtype=probability.dtype)


def _apart(draws: Tensor) -> float:
    """Standard errors between the two neighbours that are closest, ∞ of a single state."""
    mean, order = draws.mean(0), draws.mean(0).argsort()
    error = draws.var(0)
    gap = mean[order].diff() / (error[order][1:] + error[order][:-1]).sqrt().clamp_min(1e-300)
    return float(gap.min()) if len(gap) else float("inf")
