"""The fields of the priors: what families leave to the user, each once though several families share it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from ppl_models.annotations import Positive


@dataclass(frozen=True)
class NormalPriors:
    """Of the means and variances of Gaussian and Student-t columns, in standardised units."""

    covariance: Annotated[Literal["full", "diag", "tied", "spherical"], "covariance of Gaussian columns"] = (
        "full"
    )
    mean_precision: Annotated[
        float, "prior weight of the overall mean on a Gaussian's, in rows", Positive()
    ] = 0.01
    covariance_dof: Annotated[
        float | None,
        "prior weight on a Gaussian's covariance, in rows; columns + 2 if not given",
        Positive(),
    ] = None
    state_variance: Annotated[
        float | None,
        "prior scale of a Gaussian's variance, 1/E[precision]; learned if not given",
        Positive(),
    ] = None


@dataclass(frozen=True)
class RatePriors:
    """Of rates, relative to the mean of the column."""

    rate_shape: Annotated[
        float, "shape of the gamma prior of rates (Poisson, exponential, gamma)", Positive()
    ] = 1.0
    rate_rate: Annotated[float, "rate of the gamma prior of rates", Positive()] = 1.0


@dataclass(frozen=True)
class ShapePriors:
    """Of the shape of gamma columns, and of the size of negative binomial ones."""

    log_shape_sd: Annotated[float, "prior sd of the log of a gamma's shape", Positive()] = 2.0


@dataclass(frozen=True)
class LevelPriors:
    """Of the probabilities of labels."""

    level_concentration: Annotated[
        float, "Dirichlet prior of levels (categorical, Bernoulli)", Positive()
    ] = 1.0


@dataclass(frozen=True)
class TailPriors:
    """Of the tails of Student-t columns."""

    tail_dof: Annotated[
        float | None, "degrees of freedom of Student-t columns; learned if not given", Positive()
    ] = None


@dataclass(frozen=True)
class Priors(TailPriors, LevelPriors, ShapePriors, RatePriors, NormalPriors):
    """All of them: what the emissions of a mixture or a chain are built with."""
