"""Which family each column gets: by its kind, or by what the user named."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ppl_models.data.schema import Column, Kind, Schema
from ppl_models.errors import DataError, UsageError
from ppl_models.families.registry import FAMILIES, Family, names

if TYPE_CHECKING:
    from ppl_models.families.base import Emission
    from ppl_models.families.priors import Priors

Named = str | Mapping[str, str]
"""`auto`, one family, or `column=family` pairs with commas between them; or columns mapped to families."""

SHOWN = 12
"""Columns that a message names, at most."""


@dataclass(frozen=True)
class Chooser:
    """The choice of one side of the families.

    Attributes:
        option: the field that names families: `emission` or `likelihood`.
        side: which kinds of column count: `emits` or `decodes`.
    """

    option: str
    side: Literal["emits", "decodes"]

    @property
    def help(self) -> str:
        """The help of the option."""
        listed = ", ".join(["auto", *names(self.side)])
        return f"family of every column ({listed}), or column=family pairs separated by commas"

    def check(self, named: Named) -> None:
        """Refuse families that do not exist, before there are columns.

        Raises:
            UsageError: naming the family.
        """
        for _, family in self._pairs(named):
            if family != "auto" and family not in names(self.side):
                listed = ", ".join(["auto", *names(self.side)])
                raise UsageError(f"{self.option} {family!r} is not known; choose from {listed}")

    def families(self, named: Named, schema: Schema) -> dict[str, str]:
        """The family of each column but the target, by name.

        Raises:
            UsageError: a family or a column is not known.
        """
        self.check(named)
        columns = [column for column in schema.columns if column.name != schema.target]
        chosen = {column.name: self._automatic(column) for column in columns}
        if schema.shape is not None and self.side == "decodes":
            chosen |= _pixels([column for column in columns if not column.labelled])
        for column, family in self._pairs(named):
            if column is not None and column not in chosen:
                listed = ", ".join([*chosen][:SHOWN])
                raise UsageError(
                    f"{self.option} names the column {column!r}, which is not modelled ({listed})"
                )
            if family != "auto":
                chosen.update(dict.fromkeys(chosen if column is None else [column], family))
        return chosen

    def kinds(self, named: Named, schema: Schema) -> dict[str, str]:
        """Columns that must be read as another kind because their family was named, and as which."""
        chosen, found = self.families(named, schema), {}
        for column in schema.columns:
            family = FAMILIES.get(chosen.get(column.name, ""))
            if family is not None and family.read_as is not None and column.kind not in self._of(family):
                found[column.name] = str(family.read_as)
        return found

    def grouped(self, named: Named, schema: Schema) -> dict[str, tuple[int, ...]]:
        """Family -> the positions of its columns, in the order in which they come.

        Raises:
            DataError: a column cannot be described by the family named for it.
        """
        chosen = self.families(named, schema)
        groups: dict[str, list[int]] = {}
        for i, column in enumerate(schema.columns):
            if column.name == schema.target:
                continue
            family = FAMILIES[chosen[column.name]]
            if column.kind not in self._of(family):
                raise DataError(
                    f"column {column.name!r} is {column.kind}, which a {family.name} {self.option} cannot "
                    f"describe; leave it out with --ignore or name another family with --{self.option}"
                )
            if refusal := family.refusal(column):
                raise DataError(refusal)
            groups.setdefault(family.name, []).append(i)
        return {family: tuple(index) for family, index in groups.items()}

    def _of(self, family: Family) -> tuple[Kind, ...]:
        return family.emits if self.side == "emits" else family.decodes

    def _automatic(self, column: Column) -> str:
        return next(f.name for f in FAMILIES.values() if f.automatic is column.kind)

    @staticmethod
    def _pairs(named: Named) -> list[tuple[str | None, str]]:
        """Columns, or None for all, and families."""
        if isinstance(named, Mapping):
            return [(str(column), str(family)) for column, family in named.items()]
        found = []
        for part in named.split(","):
            column, sign, family = part.strip().rpartition("=")
            found.append((column if sign else None, family))
        return found


EMISSION = Chooser("emission", "emits")
LIKELIHOOD = Chooser("likelihood", "decodes")


def emissions(named: Named, priors: "Priors", states: int, schema: Schema) -> "tuple[Emission, ...]":
    """The emissions over the columns of a schema, with that of the labels where there is a target.

    Args:
        named: the families.
        priors: the fields of their priors.
        states: K, of which each class has as many if there is a target.
        schema: the columns; standardising constants come from here.

    Raises:
        DataError: a column cannot be described by the family named for it.
        UsageError: a family or a column is not known.
    """
    groups = EMISSION.grouped(named, schema)
    found = [FAMILIES[name].emission(index, states, schema, priors) for name, index in groups.items()]
    if schema.target is not None:
        from ppl_models.families.label import Label

        at = schema.names.index(schema.target)
        classes = len(schema.columns[at].levels)
        found.append(Label(at, [k * classes // states for k in range(states)], classes))
    return tuple(found)


def modelled(schema: Schema) -> list[int]:
    """The positions of all columns but the target."""
    return [i for i, column in enumerate(schema.columns) if column.name != schema.target]


def _pixels(pixels: list[Column]) -> dict[str, str]:
    """The family of the pixels of an image: of two values only, or of intensities."""
    from ppl_models.families.unit_interval import two_valued

    family = "bernoulli" if all(map(two_valued, pixels)) else "continuous_bernoulli"
    return {column.name: family for column in pixels}
