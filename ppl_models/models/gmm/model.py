"""Gaussian mixture model, and mixtures of every other family of emission.

    π ~ Dirichlet(α, …, α)
      or, as a Dirichlet process cut off at K,  π_k = v_k Π_{j<k} (1 − v_j),  v_k ~ Beta(1, α)
    φ_k ~ the conjugate prior of the emission
    z_n ~ Categorical(π)
    x_n | z_n ~ Π_e emission_e(φ_{z_n})

    p(x, z, π, φ) = p(π) Π_k p(φ_k) · Π_n π_{z_n} p(x_n | φ_{z_n})

With a target y each class has components of its own, and p(y_n | z_n) = 1 if z_n is one of them: a joint
density of rows and labels, whose conditional p(y | x) classifies. One component a class is quadratic
discriminant analysis, and with a tied covariance linear discriminant analysis.

The guide is q(π) Π_k q(φ_k) · q(z), with the exact q(z) given the others: variational Bayes for mixtures
(Attias 1999; Bishop 2006, PRML, §10.2), for the process Blei & Jordan (2006, Bayesian Analysis 1,
https://doi.org/10.1214/06-BA104). McLachlan & Peel (2000) is the book on the model itself.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from ppl_models.annotations import Positive
from ppl_models.latent.model import LatentModel

if TYPE_CHECKING:
    from ppl_models.bound import Bound
    from ppl_models.data import Schema
    from ppl_models.models.gmm.bound import ClassesBound, MixtureBound


@dataclass(frozen=True)
class GMM(LatentModel):
    """Mixture over the rows of a table; with `target`, a generative classifier.

    Priors of Gaussian emissions are in standardised units (each column with mean 0 and sd 1), those of
    rates relative to the mean of the column, so that the defaults are weak on any data.

    Example:
        >>> GMM(components=3, covariance="diag").components
        3
        >>> GMM(components=0)
        Traceback (most recent call last):
            ...
        ppl_models.errors.UsageError: components must be at least 1, got 0
    """

    name: ClassVar[str] = "gmm"
    summary: ClassVar[str] = "mixture model: clusters, densities, a generative classifier with --target"
    select: ClassVar[str | None] = "components"

    components: Annotated[int, "number of components; of each class, with a target"] = 2
    weight_prior: Annotated[
        Literal["dirichlet", "process"],
        "prior of the weights; a process leaves components empty that it does not need",
    ] = "dirichlet"
    weight_concentration: Annotated[float, "concentration of the prior of the weights", Positive()] = 1.0

    def __post_init__(self) -> None:
        self._check("components")

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """Without and with a target."""
        from ppl_models.models.gmm.bound import ClassesBound, MixtureBound

        return MixtureBound, ClassesBound

    def bind(self, schema: "Schema") -> "MixtureBound | ClassesBound":
        """Independent rows, with components for each class where there is a target."""
        from ppl_models.families.choose import emissions
        from ppl_models.latent.independent import Independent
        from ppl_models.models.gmm.bound import ClassesBound, MixtureBound

        classes = (
            1 if schema.target is None else len(schema.columns[schema.names.index(schema.target)].levels)
        )
        states, process = self.components * classes, self.weight_prior == "process"
        structure = Independent(states, self.weight_concentration, process)
        bound = MixtureBound if schema.target is None else ClassesBound
        return bound(structure, emissions(self.emission, self.priors, states, schema), schema, self.order_by)
