"""What mixtures and hidden Markov models share: emissions, their priors, and the Pyro pair."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from ppl_models.annotations import whole
from ppl_models.errors import UsageError
from ppl_models.families.choose import kinds
from ppl_models.inference.settings import ConjugateSettings, Training
from ppl_models.model import Model

if TYPE_CHECKING:
    from ppl_models.data import Dataset, Schema

COVARIANCES = ("full", "diag", "tied", "spherical")


@dataclass(frozen=True)
class LatentModel(Model):
    """A joint density of rows and their discrete latents, with emissions over the columns.

    Priors of Gaussian emissions are in standardised units (each column with mean 0 and sd 1), those of
    rates relative to the mean of the column, so that the defaults are weak on any data.
    """

    settings: ClassVar[type[Training]] = ConjugateSettings

    emission: Annotated[
        str,
        "family of every column (auto, gaussian, poisson, bernoulli, categorical, exponential, gamma), "
        "or column=family pairs separated by commas",
    ] = "auto"
    covariance: Annotated[Literal["full", "diag", "tied", "spherical"], "covariance of Gaussian columns"] = (
        "full"
    )
    mean_precision: Annotated[float, "prior weight of the overall mean on a Gaussian's, in rows"] = 0.01
    covariance_dof: Annotated[
        float | None, "prior weight on a Gaussian's covariance, in rows; columns + 2 if not given"
    ] = None
    state_variance: Annotated[
        float | None,
        "prior scale of a Gaussian's variance, 1/E[precision]; learned if not given",
    ] = None
    rate_shape: Annotated[float, "shape of the gamma prior of rates (Poisson, exponential, gamma)"] = 1.0
    rate_rate: Annotated[float, "rate of the gamma prior of rates"] = 1.0
    log_shape_sd: Annotated[float, "prior sd of the log of a gamma's shape"] = 2.0
    level_concentration: Annotated[float, "Dirichlet prior of levels (categorical, Bernoulli)"] = 1.0

    def _check(self, number: str, *positive: str) -> None:
        """Refuse fields that cannot be meant.

        Raises:
            UsageError: naming the field.
        """
        object.__setattr__(self, number, whole(number, getattr(self, number)))
        if self.covariance not in COVARIANCES:
            raise UsageError(f"covariance must be full, diag, tied or spherical, got {self.covariance!r}")
        for field in (
            *positive, "mean_precision", "covariance_dof", "state_variance", "rate_shape", "rate_rate",
            "log_shape_sd", "level_concentration",
        ):  # fmt: skip
            value = getattr(self, field)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{field} must be positive and finite, got {value}")

    def types(self, schema: "Schema") -> Mapping[str, str]:
        """Label-like families want their columns as levels."""
        return kinds(self.emission, schema)

    def refer(self, data: "Dataset") -> "Schema":
        """The prior of a full covariance has the correlations of the data, where they can be kept."""
        if self.covariance not in ("full", "tied") or not 1 < len(data.names) <= 256:
            return data.schema
        return replace(data.schema, correlation=tuple(map(tuple, data.correlation().tolist())))

    def model(self, data: "Dataset") -> None:
        """Parameters at sites `FACTOR.SITE`, then z at `z_LABEL` and the rows at `x_LABEL_FAMILY`.

        A `state_variance` that is left to the data is at the least it may be; `Fit.resolved` has it learned.
        """
        import pyro
        import torch

        joint: Any = self.bind(data.schema)
        theta = {
            name: factor.sites(factor.zeros(1), partial(_sample, name))
            for name, factor in joint.factors.items()
        }
        theta = {f: {s: v[0] for s, v in sites.items()} for f, sites in theta.items()}

        def observe(label: str, rows: torch.Tensor, z: torch.Tensor) -> None:
            for e in joint.emissions:
                at = {s: v[z] if v.shape[0] == joint.states else v[0] for s, v in theta[e.name].items()}
                density, value = e.observe(at, rows)
                pyro.sample(f"x_{label}_{e.name}", density, obs=value)

        values = torch.as_tensor(data.values)
        joint.structure.pyro_latents(joint.structure_theta(theta), values, data.lengths.tolist(), observe)

    def guide(self, data: "Dataset", fit: Any) -> None:
        """q(θ | S) site by site, then the exact q(z) given the expectations of the others."""
        import torch

        joint, statistics = fit.bound, fit.params
        for name, factor in joint.factors.items():
            factor.sites(statistics[name], partial(_sample, name))
        if joint.states > 1:
            natural = joint.expected_natural(statistics)
            batch = joint.dataset_batch(data)
            log_b = torch.empty(1, data.rows, joint.states, dtype=torch.float64)
            joint.density(batch, natural)(slice(0, data.rows), log_b)
            joint.structure.pyro_path(log_b[0], natural, batch.values, data.lengths.tolist())


def _sample(factor: str, site: str, distribution: Any) -> Any:
    import pyro

    return pyro.sample(f"{factor}.{site}", distribution.to_event(len(distribution.batch_shape)))
