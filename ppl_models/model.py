"""Model: what every model of the toolkit is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from ppl_models.data import Dataset, Schema


@dataclass(frozen=True)
class Model(ABC):
    """A probabilistic model: a frozen dataclass whose fields are its hyperparameters.

    Learned values never live in a model. Fields become options of the command line: their help is the
    string in `Annotated[type, "help"]`, their choices those of a `Literal`.
    """

    name: ClassVar[str]
    """What the command line calls it."""

    summary: ClassVar[str]
    """One line that says what it is."""

    example: ClassVar[str] = ""
    """Options that `ppl fit NAME --help` shows in its example."""

    select: ClassVar[str | None] = None
    """The field that `ppl fit --FIELD 1:6` selects by its evidence, if there is one."""

    settings: ClassVar[tuple[str, ...]] = (
        "restarts", "batch_size", "steps", "tolerance", "guide", "elbo", "particles", "learning_rate",
        "checkpoint_every",
    )  # fmt: skip
    """The settings of training that `ppl fit NAME` has options for."""

    @abstractmethod
    def model(self, data: "Dataset") -> None:
        """The joint density as a Pyro program, line by line."""

    def guide(self, data: "Dataset", fit: Any = None) -> None:
        """The approximation of the posterior as a Pyro program; that of the Gaussian rule if not given."""
        from ppl_models.programs.pair import guide

        guide(self, data, fit)

    def bind(self, schema: "Schema") -> Any:
        """The model over the columns of a table, ready for its update rule: a Pyro program if not given."""
        from ppl_models.programs.bound import Program

        return Program(self, schema)

    def reading(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options of `ppl_models.data.read`, with what the model's own fields say of them."""
        return dict(options)

    def refer(self, data: "Dataset") -> "Schema":
        """The schema with whatever else of the data the priors refer to."""
        return data.schema

    def resolve(self, schema: "Schema", params: Mapping[str, Any]) -> "Model":
        """The model with every field filled in that it leaves to what was learned."""
        return self

    def types(self, schema: "Schema") -> Mapping[str, str]:
        """Columns that the model wants read as another kind than was inferred, by name."""
        return {}
