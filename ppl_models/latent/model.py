"""What mixtures and hidden Markov models share: emissions, their priors, and the Pyro pair."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from ppl_models.annotations import check_fields, whole
from ppl_models.data.marginals import Chosen
from ppl_models.data.steps import resolution, shares
from ppl_models.families.choose import Choice, checked, correlated, explicit, help_text, kinds
from ppl_models.families.registry import Priors
from ppl_models.inference.settings import ConjugateSettings, Training
from ppl_models.model import Model

if TYPE_CHECKING:
    from ppl_models.data import Column, Dataset, Schema


@dataclass(frozen=True)
class Emissions:
    """The families of the columns, before the fields of their priors."""

    emission: Annotated[Choice, help_text("emission")] = "auto"
    marginals: Chosen = "plain"
    order_by: Annotated[
        str, "how states are numbered: auto, mean or sd of the first column, share, or the name of a column"
    ] = "auto"


@dataclass(frozen=True)
class LatentModel(Priors, Emissions, Model):
    """A joint density of rows and their discrete latents, with emissions over the columns.

    Its fields are `emission` and those of the priors of all families (`ppl_models.families.registry`).
    Priors of Gaussian emissions are in standardised units (each column with mean 0 and sd 1), those of rates
    relative to the mean of the column, so that the defaults are weak on any data.
    """

    settings: ClassVar[type[Training]] = ConjugateSettings

    def _check(self, number: str) -> None:
        """Refuse fields that cannot be meant; `number` is the field that counts states or components.

        Raises:
            UsageError: naming the field.
        """
        object.__setattr__(self, number, whole(number, getattr(self, number)))
        object.__setattr__(self, "emission", checked("emission", self.emission))
        check_fields(self)

    @property
    def priors(self) -> Any:
        """The fields of the priors alone."""
        return Priors(**{field.name: getattr(self, field.name) for field in fields(Priors)})

    def types(self, schema: "Schema") -> Mapping[str, str]:
        """Label-like families want their columns as levels."""
        return kinds("emission", self.emission, schema)

    def refer(self, data: "Dataset") -> "Schema":
        """Transforms of columns; steps of numbers, shares of levels and, where priors may, correlations."""
        from ppl_models.data.inside import Inside, with_marginals

        def referred(column: "Column") -> "Column":
            cells = data.column(column.name)
            if column.labelled:
                return replace(column, shares=shares(cells, len(column.levels)))
            return replace(column, resolution=resolution(cells, column.sd, data.rows))

        columns = tuple(map(referred, data.schema.columns))
        schema = replace(data.schema, columns=columns)
        schema = with_marginals(replace(data, schema=schema), self.marginals, explicit(self.emission, schema))
        if not correlated(self.priors) or not 1 < len(data.names) <= 256:
            return schema
        inside = Inside(schema).dataset(replace(data, schema=schema), noise=True)
        return replace(schema, correlation=tuple(map(tuple, inside.correlation().tolist())))

    def model(self, data: "Dataset") -> None:
        """Parameters at sites `FACTOR.SITE`, then z at `z_LABEL` and the rows at `x_LABEL_FAMILY`.

        Sizes of the prior that are left to the data are at the most they may be, learned in `Fit.resolved`.
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

        values = torch.as_tensor(joint.inside.dataset(data, noise=True).values)
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
