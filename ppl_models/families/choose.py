"""Which family each column gets, in models with emissions and in models with likelihoods.

A choice is `auto`, one family for all columns, `column=family` pairs as text, or a mapping from columns to
families; what is not named goes by the kind of the column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ppl_models.data.schema import Schema
from ppl_models.errors import DataError, UsageError
from ppl_models.families.family import Conjugate, Family, Group, Network, Side
from ppl_models.families.registry import FAMILIES, having, listed

if TYPE_CHECKING:
    from ppl_models.families.base import Emission
    from ppl_models.families.likelihood import Likelihood

Choice = str | Mapping[str, str]
"""`auto`, one family, or `column=family` pairs with commas between them; or columns mapped to families."""

NAMED = 12
"""Columns that a message names at most."""


def help_text(side: Side) -> str:
    """What the help of the field says."""
    return f"family of every column ({listed(side)}), or column=family pairs separated by commas"


def checked(side: Side, choice: Choice) -> Choice:
    """The choice, a mapping as a dictionary, before there are columns.

    Raises:
        UsageError: naming a family that there is not.

    Example:
        >>> checked("emission", {"wait": "gamma"})
        {'wait': 'gamma'}
    """
    for _, family in _pairs(choice):
        if family != "auto" and family not in having(side):
            raise UsageError(f"{side} {family!r} is not known; choose from {listed(side)}")
    return choice if isinstance(choice, str) else dict(choice)


def _pairs(choice: Choice) -> Iterator[tuple[str | None, str]]:
    """Columns, None for all, with what is named for them."""
    if not isinstance(choice, str):
        yield from choice.items()
        return
    for part in choice.split(","):
        column, named, family = part.strip().rpartition("=")
        yield column if named else None, family


def modelled(schema: Schema) -> list[int]:
    """The positions of all columns but the target."""
    return [i for i, column in enumerate(schema.columns) if column.name != schema.target]


def families(side: Side, choice: Choice, schema: Schema) -> dict[str, Family]:
    """The family of each column by name.

    Raises:
        UsageError: a family or column is not known.
    """
    choice = checked(side, choice)
    known, columns = having(side), [schema.columns[i] for i in modelled(schema)]
    auto = {family.auto: family for family in known.values()}
    chosen = {column.name: auto[column.kind] for column in columns}
    pixels = [column for column in columns if not column.labelled] if schema.shape is not None else []
    for family in FAMILIES if pixels else ():
        if side == "likelihood" and family.network is not None and family.network.pixels(pixels):
            chosen |= {column.name: family for column in pixels}
    for column, name in _pairs(choice):
        if column is not None and column not in chosen:
            names = ", ".join([*chosen][:NAMED])
            raise UsageError(f"{side} names the column {column!r}, which is not modelled ({names})")
        if name != "auto":
            chosen.update(dict.fromkeys(chosen if column is None else [column], known[name]))
    return chosen


def explicit(choice: Choice, schema: Schema) -> frozenset[str]:
    """The columns that a family is named for, which keep their units."""
    own: set[str] = set()
    for column, name in _pairs(choice):
        if name != "auto":
            own |= {column} if column is not None else {*schema.names}
    return frozenset(own)


def kinds(side: Side, choice: Choice, schema: Schema) -> Mapping[str, str]:
    """Columns that must be read as another kind because their family was named."""
    chosen, found = families(side, choice, schema), {}
    for i in modelled(schema):
        column = schema.columns[i]
        of = _side(side, chosen[column.name])
        if of.read_as is not None and column.kind not in of.kinds:
            found[column.name] = str(of.read_as)
    return found


def groups(side: Side, choice: Choice, schema: Schema) -> list[tuple[Family, Group]]:
    """Each family that is used with its columns, in the order of the registry.

    Raises:
        DataError: a column cannot be described by the family named for it.
    """
    chosen = families(side, choice, schema)
    index: dict[str, list[int]] = {family.name: [] for family in FAMILIES}
    for i in modelled(schema):
        column = schema.columns[i]
        family = chosen[column.name]
        if column.kind not in _side(side, family).kinds:
            article = "an" if family.name[0] in "aeiou" else "a"
            raise DataError(
                f"column {column.name!r} is {column.kind}, which {article} {family.name} {side} cannot "
                f"describe; leave it out with --ignore or name another family with --{side}"
            )
        if lacks := family.lacks(column):
            raise DataError(
                f"column {column.name!r} has the value {column.minimum:g}; {family.name} needs {lacks}"
            )
        index[family.name].append(i)
    C = schema.correlation

    def group(at: list[int]) -> Group:
        correlation = tuple(tuple(C[i][j] for j in at) for i in at) if C else ()
        return Group(tuple(at), tuple(schema.columns[i] for i in at), correlation)

    return [(family, group(index[family.name])) for family in FAMILIES if index[family.name]]


def named(side: Side, column: str, family: str) -> str:
    """How another family is asked for.

    Example:
        >>> named("emission", "visits", "poisson")
        'try --emission=visits=poisson'
    """
    if re.fullmatch(r"\w+", column):
        return f"try --{side}={column}={family}"
    return f"try {family} for it, by --{side}"


def instead(side: Side, column: str, family: Family) -> dict[str, str]:
    """What to do where a check finds that a family lacks something, by what it lacks."""
    other = having(side)
    return {what: named(side, column, name) for what, name in family.instead.items() if name in other}


def _side(side: Side, family: Family) -> Conjugate | Network:
    of = family.side(side)
    if of is None:
        raise UsageError(f"{side} {family.name!r} is not known; choose from {listed(side)}")
    return of


def emissions(
    choice: Choice,
    priors: Any,
    states: int,
    schema: Schema,
    owner: Sequence[int] | None = None,
    lagged: bool = False,
) -> tuple[Emission, ...]:
    """The emissions over the columns of a schema, in the order of their first columns, then the target's.

    Args:
        choice: which family each column gets.
        priors: the fields of the priors (`registry.Priors`).
        states: K, of which each class has as many if there is a target.
        schema: the columns, of which some may be others inside; standardising constants come from here.
        owner: (K,) the class of each state, −1 for none, where not each has as many.
        lagged: whether families that can look at the row before do, in columns after those of the schema.

    Raises:
        DataError: a column cannot be described by the family named for it.
        UsageError: no family can look at the row before.
    """
    from ppl_models.data.inside import Inside

    schema = Inside(schema).schema
    found = sorted(groups("emission", choice, schema), key=lambda each: each[1].index[0])
    built = []
    for family, group in found:
        side = family.conjugate
        if side is not None and side.lagged is not None and lagged:
            built.append(side.lagged(group, states, priors, len(schema.columns)))
        elif side is not None:
            built.append(side.build(group, states, priors))
    if lagged and not any(e.lagged for e in built):
        raise UsageError(
            "autoregressive is of gaussian columns, and there are none; counts are with --emission=gaussian"
        )
    if schema.target is not None:
        built.append(_label(schema, states, owner))
    return tuple(built)


def likelihoods(choice: Choice, schema: Schema) -> list[tuple[tuple[int, ...], Likelihood]]:
    """The likelihoods over the columns of a schema with the positions of their columns.

    Raises:
        DataError: a column cannot be described by the family named for it.
    """
    image = schema.shape is not None
    return [
        (group.index, family.network.build(group.columns, image))
        for family, group in groups("likelihood", choice, schema)
        if family.network
    ]


def correlated(priors: Any) -> bool:
    """Whether the prior of any family refers to the correlations of the data."""
    return any(family.conjugate is not None and family.conjugate.correlated(priors) for family in FAMILIES)


def _label(schema: Schema, states: int, owner: Sequence[int] | None) -> Emission:
    """The classes of the target, each with as many of the states, class by class, unless they are given."""
    from ppl_models.families.label import Label

    at = schema.names.index(str(schema.target))
    classes = len(schema.columns[at].levels)
    return Label(at, owner or [k * classes // states for k in range(states)], classes)
