"""The hyperparameters that all systems with a network and a head share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from ppl_models.annotations import check_fields, whole
from ppl_models.errors import UsageError

if TYPE_CHECKING:
    from ppl_models.data import Schema

PosteriorKind = Literal["head", "members", "natural"]
Family = Literal["auto", "normal", "student_t", "poisson", "negative_binomial", "gamma"]
ClassWeight = Literal["none", "balanced"]


@dataclass(frozen=True)
class NeuralFields:
    """Whose uncertainty there is, of what a target is, how many members, dropout, weights of the classes.

    Raises:
        UsageError: a field cannot be meant.
    """

    posterior: Annotated[
        PosteriorKind, "whose uncertainty: of the Bayesian head, of the members, or of all weights (natural)"
    ] = "head"
    family: Annotated[
        Family, "distribution of the target; auto: a softmax of a label, a normal of a number"
    ] = "auto"
    members: Annotated[int, "networks that share their weights but for factors of rank one"] = 16
    dropout: Annotated[float, "probability that a hidden unit is switched off in training"] = 0.1
    weight_decay: Annotated[float, "decoupled decay of the weights"] = 3e-4
    tempering: Annotated[
        float, "of natural: the likelihood counts to the power of 1/tempering; 1 is the posterior itself"
    ] = 0.02
    class_weight: Annotated[ClassWeight, "balanced: every class weighs the same in total"] = "none"

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "members", whole("members", self.members))
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if not 0 <= self.weight_decay < float("inf"):
            raise UsageError(f"weight_decay must be at least 0 and finite, got {self.weight_decay}")
        if not 0 < self.tempering <= 1:
            raise UsageError(f"tempering must be above 0 and at most 1, got {self.tempering}")

    def types(self, schema: "Schema") -> Mapping[str, str]:
        """The target is a number where a family of numbers was asked for."""
        target = getattr(schema, "target", None)
        return {} if target is None or self.family == "auto" else {target: "continuous"}
