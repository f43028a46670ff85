"""The families of distributions that there are. A further one is a file beside this one, and a line here."""

from dataclasses import make_dataclass
from typing import Any

from ppl_models.families.bernoulli import BERNOULLI
from ppl_models.families.categorical import CATEGORICAL
from ppl_models.families.continuous_bernoulli import CONTINUOUS_BERNOULLI
from ppl_models.families.exponential import EXPONENTIAL
from ppl_models.families.family import Family, Prior, Side
from ppl_models.families.gamma import GAMMA
from ppl_models.families.gaussian import GAUSSIAN
from ppl_models.families.negative_binomial import NEGATIVE_BINOMIAL
from ppl_models.families.poisson import POISSON
from ppl_models.families.student_t import STUDENT_T

FAMILIES: tuple[Family, ...] = (
    GAUSSIAN,
    CONTINUOUS_BERNOULLI,
    BERNOULLI,
    POISSON,
    CATEGORICAL,
    EXPONENTIAL,
    GAMMA,
    STUDENT_T,
    NEGATIVE_BINOMIAL,
)
"""All families. The outputs of a stored decoder are in this order: a further family goes to the end."""


def having(side: Side) -> dict[str, Family]:
    """The families that have a side, by name."""
    return {family.name: family for family in FAMILIES if family.side(side) is not None}


def listed(side: Side) -> str:
    """What may be named for a column: `auto, gaussian, …`."""
    return ", ".join(["auto", *having(side)])


_FIELDS = dict.fromkeys(family.fields for family in FAMILIES if family.fields is not Prior)

# The fields of a dataclass are those of its bases from the last to the first, then its own. What several
# families share is one base, and occurs once.
Priors: Any = make_dataclass(
    "Priors", [], bases=tuple(reversed(_FIELDS)), frozen=True, namespace={"__module__": __name__}
)
"""The fields of the priors of all families."""
