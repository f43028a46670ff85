"""The one list of families: what each is called, the columns that it describes, and where it is.

A family is one file, with `emission` (its conjugate side, for mixtures and chains), `likelihood` (its
network side) or both, and an entry here. Its prior fields are in `priors.py`, where several share them.
Nothing large is imported for this list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ppl_models.data.schema import Column, Kind, Schema

if TYPE_CHECKING:
    from ppl_models.families.base import Emission
    from ppl_models.families.likelihood import Likelihood
    from ppl_models.families.priors import Priors

NUMBERS = (Kind.CONTINUOUS, Kind.COUNT)


@dataclass(frozen=True)
class Family:
    """A family of distributions of the cells of a column.

    Attributes:
        name: as users write it.
        emits: kinds of column that its conjugate side describes; none if it has no such side.
        decodes: kinds of column that its network side describes; none if it has no such side.
        automatic: the kind of column that it is the choice of where none is named.
        read_as: the kind that a column is read as where the family is named for it.
        least: the least value that it describes.
        open: whether values must be above the least.
    """

    name: str
    emits: tuple[Kind, ...] = ()
    decodes: tuple[Kind, ...] = ()
    automatic: Kind | None = None
    read_as: Kind | None = None
    least: float = -float("inf")
    open: bool = False

    def refusal(self, column: Column) -> str:
        """Why a column has values that it cannot describe; nothing if it has none."""
        if column.minimum > self.least or (column.minimum == self.least and not self.open):
            return ""
        bound = "positive" if self.open else f"at least {self.least:g}"
        return f"column {column.name!r} has the value {column.minimum:g}; {self.name} needs values {bound}"

    def emission(self, columns: tuple[int, ...], states: int, schema: Schema, priors: "Priors") -> "Emission":
        """Its conjugate side over the columns of a schema at some positions."""
        return import_module(f"ppl_models.families.{self.name}").emission(columns, states, schema, priors)

    def likelihood(self, columns: Sequence[Column], image: bool) -> "Likelihood":
        """Its network side over some columns, which may be the pixels of an image."""
        return import_module(f"ppl_models.families.{self.name}").likelihood(columns, image)


FAMILIES = {
    family.name: family
    for family in (
        Family("gaussian", emits=NUMBERS, decodes=NUMBERS, automatic=Kind.CONTINUOUS),
        Family("student_t", emits=NUMBERS, decodes=NUMBERS),
        Family("continuous_bernoulli", decodes=NUMBERS),
        Family(
            "bernoulli",
            emits=(Kind.BINARY,),
            decodes=(Kind.BINARY, *NUMBERS),
            automatic=Kind.BINARY,
            read_as=Kind.BINARY,
        ),
        Family(
            "poisson",
            emits=(Kind.COUNT,),
            decodes=(Kind.COUNT,),
            automatic=Kind.COUNT,
            read_as=Kind.COUNT,
        ),
        Family("negative_binomial", emits=(Kind.COUNT,), decodes=(Kind.COUNT,), read_as=Kind.COUNT),
        Family(
            "categorical",
            emits=(Kind.CATEGORICAL, Kind.BINARY),
            decodes=(Kind.CATEGORICAL, Kind.BINARY),
            automatic=Kind.CATEGORICAL,
            read_as=Kind.CATEGORICAL,
        ),
        Family("exponential", emits=NUMBERS, least=0.0),
        Family("gamma", emits=NUMBERS, least=0.0, open=True),
    )
}
"""By name, in the order in which the columns of a network's likelihood stand."""


def names(side: str) -> tuple[str, ...]:
    """The families that have a side: `emits` or `decodes`."""
    return tuple(name for name, family in FAMILIES.items() if getattr(family, side))
