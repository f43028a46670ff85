"""Which states may begin a sequence, and which may follow one another.

    full         every state may follow every other
    left-right   k may be followed by k, k + 1, …, k + width, or by all later ones
    banded       k may be followed by k − width … k + width

A left-to-right chain begins in its first state unless something else is asked for (Rabiner 1989, §IV.A).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ppl_models.errors import UsageError


class Topology(NamedTuple):
    """What a chain of K states is allowed.

    Attributes:
        begins: (K,) bool, whether a sequence may begin in a state.
        follows: (K, K) bool, whether j may follow i.
        told: whether states mean something by it, so that they may not change places.
    """

    begins: np.ndarray
    follows: np.ndarray
    told: bool

    @property
    def full(self) -> bool:
        """Whether everything is allowed."""
        return bool(self.begins.all() and self.follows.all())

    @property
    def forward(self) -> bool:
        """Whether states are never gone back to, and none is begun in but the first of each chain."""
        return self.told and not np.tril(self.follows, -1).any()

    def copies(self, number: int) -> Topology:
        """So many chains beside one another, none of which can be left for another."""
        follows = np.kron(np.eye(number, dtype=bool), self.follows)
        return Topology(np.tile(self.begins, number), follows, self.told)


def topology(
    names: Sequence[str],
    form: str = "full",
    width: int | None = None,
    forbid: str | Sequence[str] = (),
    start: str = "any",
) -> Topology:
    """What is allowed, from the fields of a model.

    Args:
        names: of the states, by which `forbid` and `start` may speak of them; their numbers always do.
        form: `full`, `left-right` or `banded`.
        width: how far a step may lead; 1 if not given, and of `left-right` as far as there are states for 0.
        forbid: transitions that there are not, `A>B`, with commas between them or one by one.
        start: `any`, `first`, or states with commas between them.

    Raises:
        UsageError: a state is not known, or has nothing left that may follow it.
    """
    K = len(names)
    i, j = np.indices((K, K))
    reach = 1 if width is None else width
    if form == "left-right":
        follows = (j >= i) & ((j <= i + reach) | (reach == 0))
    elif form == "banded":
        follows = abs(i - j) <= reach
    else:
        if width is not None:
            raise UsageError("width is of --topology left-right or banded; a full one has none")
        follows = np.ones((K, K), dtype=bool)
    for pair in _parts(forbid):
        left, arrow, right = pair.partition(">")
        if not arrow:
            raise UsageError(f"forbid is of pairs of states such as 0>1, or a FILE.csv, got {pair!r}")
        follows[_state("forbid", left, names), _state("forbid", right, names)] = False
    for k in np.flatnonzero(~follows.any(1)).tolist():
        raise UsageError(f"forbid leaves nothing that may follow state {names[k]}, not even itself")
    begins = np.ones(K, dtype=bool)
    if start == "first" or (start == "any" and form == "left-right"):
        begins = np.arange(K) == 0
    elif start != "any":
        begins = np.zeros(K, dtype=bool)
        for each in _parts(start):
            begins[_state("start", each, names)] = True
    return Topology(begins, follows, bool(not begins.all() or not follows.all()))


def state_names(levels: Sequence[str], states: int) -> list[str]:
    """The labels, then names for the states that have none; the numbers of the states without labels.

    Example:
        >>> state_names(("calm", "wild"), 3)
        ['calm', 'wild', 'unnamed_2']
        >>> state_names((), 2)
        ['0', '1']
    """
    if not levels:
        return [str(k) for k in range(states)]
    return [*levels, *(f"unnamed_{k}" for k in range(len(levels), states))]


def _parts(text: str | Sequence[str]) -> list[str]:
    """What stands between the commas."""
    parts = text.split(",") if isinstance(text, str) else [str(each) for each in text]
    return [part.strip() for part in parts if part.strip()]


def _state(field: str, name: str, names: Sequence[str]) -> int:
    """The number of a state.

    Raises:
        UsageError: there is no such state.
    """
    name = name.strip()
    if name in names:
        return list(names).index(name)
    if re.fullmatch(r"\d+", name) and int(name) < len(names):
        return int(name)
    raise UsageError(f"{field} names the state {name!r}; there are {', '.join(names)}")


def placed(
    topology: Topology, labels: np.ndarray, offsets: np.ndarray, rng: np.random.Generator, tries: int = 200
) -> np.ndarray:
    """Clusters as states: the assignment, of some at random, whose transitions are forbidden least often.

    Args:
        topology: of K states.
        labels: (n,) clusters of the rows, below K.
        offsets: where sequences begin, and the number of rows.
        rng: of the assignments.
        tries: how many.
    """
    K = len(topology.begins)
    inner = np.ones(len(labels), dtype=bool)
    inner[offsets[:-1]] = False
    pairs = np.zeros((K, K))
    np.add.at(pairs, (labels[:-1][inner[1:]], labels[1:][inner[1:]]), 1.0)
    first = np.bincount(labels[offsets[:-1]], minlength=K)
    best, least = np.arange(K), np.inf
    for _ in range(tries):
        order = rng.permutation(K)
        cost = pairs[~topology.follows[np.ix_(order, order)]].sum() + first[~topology.begins[order]].sum()
        if cost < least:
            best, least = order, cost
    return best[labels]


def segments(
    number: int, lengths: np.ndarray, owner: np.ndarray, rng: np.random.Generator, jitter: float
) -> np.ndarray:
    """Each sequence cut into `number` parts of about equal length, one a state, (n,).

    Args:
        number: of states, of a chain.
        lengths: of the sequences.
        owner: (sequences,) the chain that each is of; its first state is `owner · number`.
        rng: of the cuts.
        jitter: how far, in parts, each cut may be from where it would be.
    """
    found = []
    for length, own in zip(lengths.tolist(), owner.tolist(), strict=True):
        cuts = np.arange(1, number) + jitter * rng.uniform(-0.5, 0.5, number - 1)
        at = (np.arange(length) + 0.5) / length * number
        found.append(own * number + np.searchsorted(cuts, at))
    return np.concatenate(found)
