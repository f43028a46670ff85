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

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from ppl_models.emissions.choose import choose, kinds
from ppl_models.errors import UsageError
from ppl_models.model import Model

if TYPE_CHECKING:
    from ppl_models.data import Dataset, Schema
    from ppl_models.models.joint import Joint


@dataclass(frozen=True)
class HMM(Model):
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
    emission: Annotated[
        str,
        "family of every column (auto, gaussian, poisson, bernoulli, categorical, exponential, gamma), "
        "or column=family pairs separated by commas",
    ] = "auto"
    covariance: Annotated[
        Literal["full", "diag", "tied", "spherical"], "covariance of Gaussian columns within a state"
    ] = "full"
    start_concentration: Annotated[float, "Dirichlet prior of the first state"] = 1.0
    transition_concentration: Annotated[float, "Dirichlet prior of each row of transitions"] = 1.0
    stickiness: Annotated[float, "extra prior weight of staying in a state, in transitions"] = 0.0
    mean_precision: Annotated[float, "prior weight of the overall mean on a Gaussian's, in rows"] = 0.01
    covariance_dof: Annotated[
        float | None, "prior weight on a Gaussian's covariance, in rows; columns + 2 if not given"
    ] = None
    state_variance: Annotated[
        float | None, "prior scale of a Gaussian's variance; states^(-2/columns) if not given"
    ] = None
    rate_shape: Annotated[float, "shape of the gamma prior of rates (Poisson, exponential, gamma)"] = 1.0
    rate_rate: Annotated[float, "rate of the gamma prior of rates"] = 1.0
    log_shape_sd: Annotated[float, "prior sd of the log of a gamma's shape"] = 2.0
    level_concentration: Annotated[float, "Dirichlet prior of levels (categorical, Bernoulli)"] = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.states, bool) or not isinstance(self.states, int):
            raise UsageError(f"states must be a whole number, got {self.states!r}")
        if self.states < 1:
            raise UsageError(f"states must be at least 1, got {self.states}")
        if self.covariance not in ("full", "diag", "tied", "spherical"):
            raise UsageError(f"covariance must be full, diag, tied or spherical, got {self.covariance!r}")
        if not self.stickiness >= 0:
            raise UsageError(f"stickiness must be at least 0, got {self.stickiness}")
        for field in (
            "start_concentration", "transition_concentration", "mean_precision", "covariance_dof",
            "state_variance", "rate_shape", "rate_rate", "log_shape_sd", "level_concentration",
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

    def bind(self, schema: "Schema") -> "Joint":
        """A chain with the emissions of the columns."""
        from ppl_models.latent.structure import Chain
        from ppl_models.models.joint import Joint

        chain = Chain(self.states, self.start_concentration, self.transition_concentration, self.stickiness)
        return Joint(chain, choose(self, schema), schema)

    def model(self, data: "Dataset") -> None:
        """Parameters at sites `FACTOR.SITE`, then every z_t and x_t at `z_t` and `x_t_FAMILY`."""
        import pyro
        import torch

        joint = self.bind(data.schema)
        theta = {
            name: factor.sites(factor.zeros(1), partial(_sample, name))
            for name, factor in joint.factors.items()
        }
        theta = {f: {s: v[0] for s, v in sites.items()} for f, sites in theta.items()}
        values = torch.as_tensor(data.values)

        def observe(row: int, z: torch.Tensor) -> None:
            for e in joint.emissions:
                at = {s: v[z] if v.shape[0] == self.states else v[0] for s, v in theta[e.name].items()}
                density, value = e.observe(at, values[row])
                pyro.sample(f"x_{row}_{e.name}", density, obs=value)

        joint.structure.pyro_latents(theta["start"] | theta["transition"], data.lengths.tolist(), observe)

    def guide(self, data: "Dataset", fit: Any) -> None:
        """q(θ | S) site by site, then q(z) as a chain with its own transition probabilities at every step."""
        import torch

        joint, statistics = fit.joint, fit.statistics
        for name, factor in joint.factors.items():
            factor.sites(statistics[name], partial(_sample, name))
        if joint.states > 1:
            natural = joint.expected_natural(statistics)
            batch = joint.dataset_batch(data)
            log_b = torch.empty(1, data.rows, joint.states, dtype=torch.float64)
            joint.density(batch, natural)(slice(0, data.rows), log_b)
            joint.structure.pyro_path(log_b[0], natural, data.lengths.tolist())


def _sample(factor: str, site: str, distribution: Any) -> Any:
    import pyro

    return pyro.sample(f"{factor}.{site}", distribution.to_event(len(distribution.batch_shape)))
