"""Hidden Markov model.

    π ~ Dirichlet(α_start),  A_k ~ Dirichlet(α_transition + stickiness · e_k)
    φ_k ~ the conjugate prior of the emission
    z_1 ~ Categorical(π),    z_t | z_{t−1} ~ Categorical(A_{z_{t−1}})
    x_t | z_t ~ Π_e emission_e(φ_{z_t}),   or x_t | z_t, x_{t−1} where `autoregressive`

    p(x, z, π, A, φ) = p(π) Π_k p(A_k) p(φ_k) · Π_seq π_{z_1} Π_{t>1} A_{z_{t−1} z_t} Π_t p(x_t | φ_{z_t})

Transitions may be forbidden, and the start fixed: `topology`, `forbid` and `start`. Rows of π and A are then
Dirichlet over what is left, and the rest is zero.

With a target y that is constant in every sequence there is such a chain for each class,

    y ~ Categorical(w),    x_{1:T} | y ~ the chain of y,    p(y | x_{1:T}) ∝ w_y p(x_{1:T} | y)

and sequences are classified by Bayes' rule. With `labels` the states have names, known of some of the rows.

The guide is q(π) Π_k q(A_k) q(φ_k) · q(z), with the exact q(z) given the others: variational Bayes for
HMMs (MacKay 1997, Ensemble learning for hidden Markov models; Beal 2003, ch. 3,
https://cse.buffalo.edu/faculty/mbeal/thesis/). Rabiner (1989) is the tutorial on the model itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from ppl_models.annotations import Positive, whole
from ppl_models.errors import UsageError
from ppl_models.latent.model import LatentModel

if TYPE_CHECKING:
    from ppl_models.bound import Bound
    from ppl_models.data import Schema
    from ppl_models.latent.topology import Topology
    from ppl_models.models.hmm.bound import Chains

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
    summary: ClassVar[str] = (
        "hidden Markov model: sequences that switch between states; their classes with --target"
    )
    select: ClassVar[str | None] = "states"

    states: Annotated[int, "number of hidden states; of each class, with a target"] = 2
    start_concentration: Annotated[float, "Dirichlet prior of the first state", Positive()] = 1.0
    transition_concentration: Annotated[
        float | None,
        f"Dirichlet prior of each row of transitions; 1 if not given, and {ROW}/states beyond {ROW} states",
        Positive(),
    ] = None
    stickiness: Annotated[float, "extra prior weight of staying in a state, in transitions"] = 0.0

    topology: Annotated[
        Literal["full", "left-right", "banded"],
        "which states may follow a state: all, itself and later ones, or its neighbours",
    ] = "full"
    width: Annotated[
        int | None,
        "how many states on a step may lead, left-right (0: to any later one) or banded; 1 if not given",
    ] = None
    forbid: Annotated[
        str, "transitions that there are not: A>B, with commas between them, or FILE.csv of them"
    ] = ""
    start: Annotated[
        str, "states that a sequence may begin in: any, first, or their names; first if left-right"
    ] = "any"
    class_prior: Annotated[
        str,
        "probabilities of the classes of a target: empirical (learned), uniform, or CLASS=P,...",
    ] = "empirical"
    autoregressive: Annotated[
        bool, "whether Gaussian columns follow the row before: on a line of their own in each state"
    ] = False
    labels: Annotated[
        str | None, "column of the states' own names, empty in rows whose state is to be inferred"
    ] = None

    def __post_init__(self) -> None:
        self._check("states")
        if not self.stickiness >= 0:
            raise UsageError(f"stickiness must be at least 0, got {self.stickiness}")
        if self.autoregressive and self.marginals != "plain":
            raise UsageError("autoregressive goes with --marginals plain, in which rows follow one another")
        if self.forbid.lower().endswith(".csv") and ">" not in self.forbid:
            from ppl_models.latent.forbidden import transitions

            object.__setattr__(self, "forbid", transitions(self.forbid))  # a run needs no further file
        if self.width is not None:
            object.__setattr__(self, "width", whole("width", self.width, 0))

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """A chain, one a class, and one whose states have names."""
        from ppl_models.models.hmm.bound import ChainBound
        from ppl_models.models.hmm.classes import ClassesBound
        from ppl_models.models.hmm.named import NamedBound

        return ChainBound, ClassesBound, NamedBound

    def reading(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The names of the states are read as a target is: later rows may do without.

        Raises:
            UsageError: there is a target as well.
        """
        found = dict(options)
        if self.labels is None:
            return found
        if found.get("target") is not None:
            raise UsageError("target is the class of whole sequences, labels names states: give one of them")
        return found | {"target": self.labels}

    def bind(self, schema: "Schema") -> "Chains":
        """A chain over the rows of each sequence.

        Raises:
            UsageError: a field speaks of states or classes that there are not.
        """
        from ppl_models.families.choose import emissions
        from ppl_models.latent.markov import Chain
        from ppl_models.models.hmm.bound import ChainBound
        from ppl_models.models.hmm.classes import ClassesBound
        from ppl_models.models.hmm.named import NamedBound

        if self.labels is not None and schema.target != self.labels:
            raise UsageError(
                f"labels is {self.labels!r}, and the data was read with {schema.target!r} as target"
            )
        levels = schema.columns[schema.names.index(schema.target)].levels if schema.target else ()
        kind: type[Chains] = ChainBound
        classes, states, owner = 1, self.states, None
        if self.labels is not None:
            kind, states = NamedBound, max(self.states, len(levels))
            owner = [k if k < len(levels) else -1 for k in range(states)]
        elif schema.target is not None:
            kind, classes = ClassesBound, len(levels)
        prior = self._prior(levels if classes > 1 or kind is ClassesBound else ())
        each = self.transition_concentration
        each = min(1.0, ROW / states) if each is None else each
        structure = Chain(
            states * classes, self.start_concentration, each, self.stickiness,
            self._allowed(states, classes, levels if owner else ()), prior,
        )  # fmt: skip
        return kind(
            structure,
            emissions(self.emission, self.priors, states * classes, schema, owner, self.autoregressive),
            schema,
            self.order_by,
        )

    def _allowed(self, states: int, classes: int, levels: Sequence[str]) -> "Topology | None":
        """What may begin and follow, None for everything."""
        from ppl_models.latent.topology import state_names, topology

        names = state_names(levels, states)
        found = topology(names, self.topology, self.width, self.forbid, self.start)
        if found.told and self.order_by != "auto":
            raise UsageError("order_by is of states that are alike; what may follow them tells these apart")
        return None if found.full and classes == 1 else found.copies(classes)

    def _prior(self, levels: Sequence[str]) -> list[float] | None:
        """The probabilities of the classes, None where they are learned.

        Raises:
            UsageError: they are not of these classes, or no probabilities.
        """
        given = self.class_prior.strip()
        if given == "empirical":
            return None
        if not levels:
            raise UsageError("class_prior is of the classes of a target, and there is none")
        if given == "uniform":
            return [1 / len(levels)] * len(levels)
        found: dict[str, float] = {}
        for part in given.split(","):
            name, _, value = part.strip().rpartition("=")
            try:
                found[name] = float(value)
            except ValueError:
                found[name] = float("nan")
        p = [found.get(level, float("nan")) for level in levels]
        if set(found) != set(levels) or not all(0 < each <= 1 for each in p) or abs(sum(p) - 1) > 1e-6:
            raise UsageError(
                f"class_prior must be empirical, uniform, or a positive probability for each of "
                f"{', '.join(levels)} that sum to 1, as in {levels[0]}=0.3,…; got {self.class_prior!r}"
            )
        return [each / sum(p) for each in p]
