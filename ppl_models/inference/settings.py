"""How to train, apart from what to fit: a dataclass for each update rule.

A model names the class of its rule's settings (`Model.settings`); the keywords of `ppl_models.fit` and the
options of `ppl fit NAME` are made from their fields, so that a further setting is a further field here. The
help of an option is the text in `Annotated`, beside which stand the bounds that the value is checked against.

    Training                       every rule: seed, device, steps, tolerance
    ├── ConjugateSettings          conjugate natural gradient: gmm, hmm
    ├── GaussianSettings           Gaussian natural gradient on a likelihood of moments: logistic
    └── GradientSettings           stochastic gradients
        ├── NetworkSettings        of a network, stopped by held-out rows: vae
        ├── AdversarialSettings    of a generator against a critic: gan
        └── ProgramSettings        of user-defined models, which the Gaussian rule or a guide may fit
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal

from ppl_models.annotations import AtLeast, Hint, Metavar, Positive, checked, hints
from ppl_models.errors import UsageError

STARTS, MANY = 8, 50
"""Starts that race if nothing is said, and states from which on there is one."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What every update rule has to be told.

    Attributes:
        seed: of starts, draws and batches. Equal seeds give equal fits on one machine.
        device: where to compute: `auto`, `cpu` or `cuda`.
        steps: at most; by the rule if None.
        tolerance: nats a parameter that may be left to gain; of a network, nats a row that count as a gain.
        workers: processes on this machine that share the fit; see `ppl_models.distributed`.
        method: where draws of the posterior come from: `variational`, the guide that training left, corrected
            as far as it has to be; or `nuts`, Markov chains, of user-defined models, logistic and glm.
        objective: what the rule raises, as people read it.

    Raises:
        UsageError: a value cannot be meant; it names the setting.
    """

    objective: ClassVar[str] = "ELBO"

    seed: Annotated[int, "Seed of starts, draws and batches.", AtLeast(0)] = 0
    device: Annotated[str, "Where to compute.", Metavar("auto|cpu|cuda")] = "auto"
    steps: Annotated[int | None, "Steps at most; by the update rule if not given.", AtLeast(1)] = None
    tolerance: Annotated[
        float, "Stop when so many nats a parameter are left to gain; a row, of a network.", Positive()
    ] = 1e-3
    workers: Annotated[int, "Processes on this machine that share the fit.", AtLeast(1)] = 1
    method: Annotated[
        Literal["variational", "nuts"],
        "Where draws come from: the fitted guide, or Markov chains (own models, logistic, glm).",
    ] = "variational"

    def __post_init__(self) -> None:
        for name, about in hints(type(self)).items():
            value = getattr(self, name)
            if value is not None or not about.optional:
                object.__setattr__(self, name, checked(name, value, about))

    def most(self, otherwise: int) -> int:
        """Steps at most: `otherwise` if none are given."""
        return otherwise if self.steps is None else self.steps


@dataclass(frozen=True, kw_only=True)
class ConjugateSettings(Training):
    """Of the conjugate natural-gradient rule.

    Attributes:
        restarts: starts that race; the best is kept. If None eight, and one of more than fifty states.
        batch_size: rows of a mini-batch; all rows at once if None and they fit into memory.
        robust: share of rows, the least likely, that the fit leaves out; see `ppl_models.latent.trimmed`.
    """

    restarts: Annotated[
        int | None, "Starts that race, the best is kept; 8, or 1 of over 50 states, if not given.", AtLeast(1)
    ] = None
    batch_size: Annotated[
        int | None, "Rows of a mini-batch; by the rule if not given.", Metavar("ROWS"), AtLeast(1)
    ] = None
    robust: Annotated[
        float, "Share of rows, the least likely, that the fit leaves out as outliers.", Metavar("SHARE")
    ] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            share = float(self.robust)
        except (TypeError, ValueError):
            share = float("nan")
        if isinstance(self.robust, bool) or not 0 <= share <= 0.5:
            raise UsageError(f"robust must be a share of rows between 0 and 0.5, got {self.robust}")
        object.__setattr__(self, "robust", share)

    def starts(self, states: int) -> int:
        """How many starts race: many states have no two starts alike, and one costs what eight of few do."""
        return self.restarts or (STARTS if states <= MANY else 1)


@dataclass(frozen=True, kw_only=True)
class GaussianSettings(Training):
    """Of the Gaussian natural-gradient rule: nothing more."""


@dataclass(frozen=True, kw_only=True)
class GradientSettings(Training):
    """Of the rule of stochastic gradients.

    Attributes:
        batch_size: rows of a mini-batch; by the model if None.
        learning_rate: step size; by the model if None.
        checkpoint_every: seconds between two checkpoints.
    """

    batch_size: Annotated[
        int | None, "Rows of a mini-batch; by the rule if not given.", Metavar("ROWS"), AtLeast(1)
    ] = None
    learning_rate: Annotated[
        float | None,
        "Step size of stochastic gradients; by the model if not given.",
        Metavar("SIZE"),
        Positive(),
    ] = None
    checkpoint_every: Annotated[
        float,
        "How often to write what there is, for `ppl resume` should the process die.",
        Metavar("SECONDS"),
        Positive(),
    ] = 60.0


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(GradientSettings):
    """Of stochastic gradients for a network, stopped by held-out rows.

    Attributes:
        patience: looks at the held-out ELBO without a gain before the step size is cut.
        precision: of matrix products: `float32`, or `bfloat16` by automatic mixed precision.
        compile: compile the loss with `torch.compile`.
    """

    patience: Annotated[
        int, "Looks at held-out rows without a gain before the step size is cut.", AtLeast(1)
    ] = 10
    precision: Annotated[Literal["float32", "bfloat16"], "Of the matrix products of a network."] = "float32"
    compile: Annotated[bool, "Compile the network with torch.compile."] = False


@dataclass(frozen=True, kw_only=True)
class AdversarialSettings(GradientSettings):
    """Of a generator against a critic, stopped by a two-sample test of held-out rows.

    Attributes:
        patience: looks at the test without a gain before the step size is cut.
        tolerance: of the two-sample score, what counts as a gain.
    """

    objective: ClassVar[str] = "two-sample score"

    patience: Annotated[
        int, "Looks at held-out rows without a gain before the step size is cut.", AtLeast(1)
    ] = 10


@dataclass(frozen=True, kw_only=True)
class ProgramSettings(GradientSettings):
    """Of user-defined models.

    Attributes:
        restarts: points of the prior that searches set out from.
        guide: the approximation of the posterior: `auto` is the Gaussian rule where it can be, else `own` or
            `normal`.
        elbo: what stochastic gradients ascend: `auto` is `enum` with discrete latents, else `trace`.
        particles: draws of the guide a step, of stochastic gradients.
        draws: of the posterior; by the size of the data if None.
        init: values of sites that one more search sets out from, others as they are drawn from the prior: a
            mapping, or a .json file of one object.
        budget: seconds that a fit may take, about; what is reached by then is kept.
    """

    restarts: Annotated[int, "Starts that race; the best is kept.", AtLeast(1)] = 8
    guide: Annotated[
        Literal["auto", "own", "normal", "full-rank", "low-rank", "flow"],
        "The approximation of the posterior; auto is the Gaussian rule where it can be.",
    ] = "auto"
    elbo: Annotated[
        Literal["auto", "trace", "mean-field", "enum", "renyi"], "What stochastic gradients ascend."
    ] = "auto"
    particles: Annotated[int, "Draws of the guide a step, of stochastic gradients.", AtLeast(1)] = 1
    draws: Annotated[
        int | None, "Draws of the posterior; by the size of the data if not given.", AtLeast(1)
    ] = None
    init: Annotated[
        Mapping[str, Any] | str | None,
        "Values of sites that a search sets out from: a .json file of one object.",
        Metavar("FILE"),
    ] = None
    budget: Annotated[float | None, "Seconds that a fit may take, about.", Metavar("SECONDS"), Positive()] = (
        None
    )


RULES: tuple[type[Training], ...] = (
    ConjugateSettings,
    GaussianSettings,
    NetworkSettings,
    AdversarialSettings,
    ProgramSettings,
)
"""What `Model.settings` may be."""


def every_setting() -> dict[str, tuple[Hint, Any]]:
    """All settings of all rules, each once: their types and defaults, those of every rule first."""
    found: dict[str, tuple[Hint, Any]] = {}
    for rule in (Training, *RULES):
        for field in fields(rule):
            found.setdefault(field.name, (hints(rule)[field.name], field.default))
    return found


def settings_of(rule: type[Training], given: Mapping[str, Any]) -> Training:
    """The settings of a rule from names and values; those of other rules are left out.

    Raises:
        UsageError: a value cannot be meant.
    """
    return rule(**{name: value for name, value in given.items() if name in hints(rule)})
