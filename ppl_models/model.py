"""Model: what every model of the toolkit is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ppl_models.errors import UsageError
from ppl_models.inference.settings import Training

if TYPE_CHECKING:
    from ppl_models.bound import Bound
    from ppl_models.data import Dataset, Schema


@dataclass(frozen=True)
class Model(ABC):
    """A probabilistic model: a frozen dataclass whose fields are its hyperparameters.

    Learned values never live in a model, and it need not have a density: what it can do is said by what
    `bind` gives. Fields become options of the command line: their help is the string in
    `Annotated[type, "help"]`, their choices those of a `Literal`. Users subclass `ppl_models.PyroModel`.
    """

    name: ClassVar[str]
    """What the command line calls it."""

    summary: ClassVar[str]
    """One line that says what it is."""

    example: ClassVar[str] = ""
    """Options that `ppl fit NAME --help` shows in its example."""

    select: ClassVar[str | None] = None
    """The field that `ppl fit --FIELD 1:6` selects by its evidence, if there is one."""

    settings: ClassVar[type[Training]] = Training
    """The settings of its update rule, which are keywords of `fit` and options of `ppl fit NAME`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        ours = cls.__module__.partition(".")[0] == __name__.partition(".")[0]
        if "model" in vars(cls) and cls.bind is Model.bind and not ours:
            raise UsageError(f"{cls.__name__} is a Pyro program: subclass ppl_models.PyroModel, not Model")

    @classmethod
    @abstractmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """The classes that `bind` may give: what the model can do, before there is a schema."""

    @abstractmethod
    def bind(self, schema: "Schema") -> "Bound":
        """The model over the columns of a table, ready for its update rule."""

    def reading(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options of `ppl_models.data.read`, with what the model's own fields say of them."""
        return dict(options)

    def refer(self, data: "Dataset") -> "Schema":
        """The schema with whatever else of the data the priors refer to."""
        return data.schema

    def types(self, schema: "Schema") -> Mapping[str, str]:
        """Columns that the model wants read as another kind than was inferred, by name."""
        return {}

    def with_learned(self, learned: Mapping[str, Any]) -> Self:
        """The model with the fields filled in that it left to the data."""
        own = {field.name for field in fields(self)}
        return replace(self, **{name: value for name, value in learned.items() if name in own})
