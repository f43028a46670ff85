"""PyroModel: what users subclass to have their own joint density fitted.

    p(x, θ) = Π_i p(θ_i | …) Π_n p(x_n | θ, …)

line by line as a Pyro program; everything else follows from its sites.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from ppl_models.inference.settings import ProgramSettings, Training
from ppl_models.model import Model

if TYPE_CHECKING:
    from ppl_models.bound import Bound
    from ppl_models.data import Schema
    from ppl_models.models.program.bound import ProgramBound


class PyroModel(Model):
    """A joint density written as a Pyro program: a frozen dataclass with a method `model(data)`.

    Sites without `obs` are latent: continuous ones are given a posterior, discrete ones summed out.
    `data["x"]` is a column as a tensor, `len(data)` the number of rows; a plate over the rows says that they
    are independent given the rest. Fields are hyperparameters, and become options of the command line.

    Attributes:
        improper: whether `ImproperUniform` priors are taken; the posterior has to be proper all the same.
        dims: names of dimensions by site, `{"beta": ["predictor"]}`: of all of them, or the last ones.
        coords: labels by dimension, `{"predictor": ["age", "income"]}`.

    Example:
        >>> import pyro, pyro.distributions as dist
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Coin(PyroModel):
        ...     prior: float = 1.0
        ...
        ...     def model(self, data):
        ...         p = pyro.sample("p", dist.Beta(self.prior, self.prior))
        ...         with pyro.plate("flips", len(data)):
        ...             pyro.sample("heads", dist.Bernoulli(p), obs=data["heads"])
        >>> Coin(prior=2.0).prior
        2.0
    """

    settings: ClassVar[type[Training]] = ProgramSettings
    improper: ClassVar[bool] = False
    dims: ClassVar[Mapping[str, Any]] = {}
    coords: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def model(self, data: Any) -> None:
        """The joint density as a Pyro program, line by line."""

    def guide(self, data: Any, fit: Any = None) -> None:
        """The approximation of the posterior as a Pyro program; that of the Gaussian rule if not given."""
        from ppl_models.models.program.pair import guide

        guide(self, data, fit)

    @property
    def own_guide(self) -> bool:
        """Whether it brings a guide of its own."""
        return type(self).guide is not PyroModel.guide

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """One, whatever the program."""
        from ppl_models.models.program.bound import ProgramBound

        return (ProgramBound,)

    def bind(self, schema: "Schema") -> "ProgramBound":
        """The program over the columns of a table, ready for its update rule."""
        from ppl_models.models.program.bound import ProgramBound

        return ProgramBound(self, schema)
