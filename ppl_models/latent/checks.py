"""What is checked of mixtures and hidden Markov models alone: that rows are in every state."""

import numpy as np

from ppl_models.checks import Check
from ppl_models.draws import Params
from ppl_models.latent.joint import Joint


def occupancy(joint: Joint, params: Params) -> list[Check]:
    """Whether states are empty, or have too few rows to say anything of their spread.

    Args:
        joint: the model over the columns.
        params: expected sufficient statistics, R = 1.
    """
    noun = joint.structure.noun
    rows = joint.occupied(params).numpy()
    needed = least(joint)
    empty, thin = np.flatnonzero(rows < 1.0), np.flatnonzero((rows >= 1.0) & (rows < needed))
    name, found = f"{noun}s visited", rows.round(2).tolist()
    if len(empty) and joint.prunes:
        used = joint.states - len(empty)
        reason = f"{used} of {joint.states} {noun}s are used; the process left the others empty"
        return [Check(name, found, "ok", reason)]
    if len(empty):
        reason = f"{_named(empty, noun)} never visited: what is said there is the prior; fit fewer {noun}s"
        return [Check(name, found, "warn", reason)]
    if len(thin):
        reason = (
            f"{_named(thin, noun)} visited in fewer than {needed} rows: the spread is the prior's; "
            f"fit fewer {noun}s"
        )
        return [Check(name, found, "warn", reason)]
    return [Check(name, found, "ok", f"each {noun} has at least {rows.min():.0f} rows in expectation")]


def least(joint: Joint) -> int:
    """Rows that a state needs for its spread to be said by them."""
    return 2 + max(len(e.columns) for e in joint.emissions)


def _named(states: np.ndarray, noun: str) -> str:
    names = ", ".join(map(str, states))
    return f"{noun}s {names} are" if len(states) > 1 else f"{noun} {names} is"
