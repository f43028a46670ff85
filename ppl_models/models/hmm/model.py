"""Hidden Markov model.

    π ~ Dirichlet(α_start),  A_k ~ Dirichlet(α_transition + stickiness · e_k)
    φ_k ~ the conjugate prior of the emission
    z_1 ~ Categorical(π),    z_t | z_{t−1} ~ Categorical(A_{z_{t−1}})
    x_t | z_t ~ Π_e emission_e(φ_{z_t})

    p(x, z, π, A, φ) = p(π) Π_k p(A_k) p(φ_k) · Π_seq π_{z_1} Π_{t>1} A_{z_{t−1} z_t} Π_t p(x_t | φ_{z_t})

The guide is q(π) Π_k q(A_k) q(φ_k) · q(z), with the exact q(z) given the others: variational Bayes for
HMMs (MacKay 1997, Ensemble learning for hidden Markov models; Beal 2003, ch. 3,
https://cse.buffalo.edu/faculty/mbeal/thesis/). Rabiner (1989) is the tutorial on the model itself.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from ppl_models.annotations import Positive
from ppl_models.errors import UsageError
from ppl_models.latent.model import LatentModel

if TYPE_CHECKING:
    from ppl_models.bound import Bound
    from ppl_models.data import Schema
    from ppl_models.models.hmm.bound import ChainBound

ROW = 6
"""Transitions that the prior of a row weighs at most: one to each of dozens of states outweighs the data."""


@dataclass(frozen=True)
class HMM(LatentModel):
    """Hidden Markov model over the rows of one or more sequences.

    Priors of Gaussian emissions are in standardised units (each column with mean 0 and sd 1), those of
    rates relative to the mean of the column, so that the defaults are weak on any data.

    Example:
        >>> HMM(states=3, covariance="diag").states
        3
        >>> HMM(states=0)
        Traceback (most recent call last):
            ...
        ppl_models.errors.UsageError: states must be at least 1, got 0
    """

    name: ClassVar[str] = "hmm"
    summary: ClassVar[str] = "hidden Markov model: sequences that switch between states"
    select: ClassVar[str | None] = "states"

    states: Annotated[int, "number of hidden states"] = 2
    start_concentration: Annotated[float, "Dirichlet prior of the first state", Positive()] = 1.0
    transition_concentration: Annotated[
        float | None,
        f"Dirichlet prior of each row of transitions; 1 if not given, and {ROW}/states beyond {ROW} states",
        Positive(),
    ] = None
    stickiness: Annotated[float, "extra prior weight of staying in a state, in transitions"] = 0.0

    def __post_init__(self) -> None:
        self._check("states")
        if not self.stickiness >= 0:
            raise UsageError(f"stickiness must be at least 0, got {self.stickiness}")

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """A chain."""
        from ppl_models.models.hmm.bound import ChainBound

        return (ChainBound,)

    def bind(self, schema: "Schema") -> "ChainBound":
        """A chain over the rows of each sequence."""
        from ppl_models.families.choose import emissions
        from ppl_models.latent.markov import Chain
        from ppl_models.models.hmm.bound import ChainBound

        if schema.target is not None:
            raise UsageError("hmm has no target: its states are hidden; use gmm or logistic to classify rows")
        each = self.transition_concentration
        each = min(1.0, ROW / self.states) if each is None else each
        structure = Chain(self.states, self.start_concentration, each, self.stickiness)
        return ChainBound(
            structure, emissions(self.emission, self.priors, self.states, schema), schema, self.order_by
        )
