"""Which family each column gets."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ppl_models.data import Column, Kind, Schema
from ppl_models.errors import DataError, UsageError

if TYPE_CHECKING:
    from ppl_models.families.base import Emission

AUTO = {
    Kind.CONTINUOUS: "gaussian",
    Kind.COUNT: "poisson",
    Kind.BINARY: "bernoulli",
    Kind.CATEGORICAL: "categorical",
}
FAMILIES = {
    "gaussian": (Kind.CONTINUOUS, Kind.COUNT),
    "poisson": (Kind.COUNT,),
    "bernoulli": (Kind.BINARY,),
    "categorical": (Kind.CATEGORICAL, Kind.BINARY),
    "exponential": (Kind.CONTINUOUS, Kind.COUNT),
    "gamma": (Kind.CONTINUOUS, Kind.COUNT),
}


def families(emission: str, schema: Schema) -> dict[str, str]:
    """The family of each column by name, from `auto`, one family, or `column=family` pairs."""
    chosen = {column.name: AUTO[column.kind] for column in schema.columns if column.name != schema.target}
    if emission == "auto":
        return chosen
    for part in emission.split(","):
        column, named, family = part.strip().rpartition("=")
        if family != "auto" and family not in FAMILIES:
            known = ", ".join(["auto", *FAMILIES])
            raise UsageError(f"emission {family!r} is not known; choose from {known}")
        if named and column not in chosen:
            names = ", ".join(schema.names)
            raise UsageError(f"emission names the column {column!r}, which is not modelled ({names})")
        if family != "auto":
            chosen.update(dict.fromkeys([column] if named else chosen, family))
    return chosen


def kinds(emission: str, schema: Schema) -> Mapping[str, str]:
    """Columns that must be read as labels because their family was named."""
    wanted = {"categorical": Kind.CATEGORICAL, "bernoulli": Kind.BINARY, "poisson": Kind.COUNT}
    chosen = families(emission, schema)
    return {
        column.name: str(wanted[chosen[column.name]])
        for column in schema.columns
        if column.name in chosen
        and column.kind not in FAMILIES[chosen[column.name]]
        and chosen[column.name] in wanted
    }


def _check(column: Column, family: str) -> None:
    if column.kind not in FAMILIES[family]:
        raise DataError(
            f"column {column.name!r} is {column.kind}, which a {family} emission cannot describe; "
            f"leave it out with --ignore or name another family with --emission"
        )
    if family == "gamma" and column.minimum <= 0 or family == "exponential" and column.minimum < 0:
        bound = "positive" if family == "gamma" else "at least 0"
        raise DataError(
            f"column {column.name!r} has the value {column.minimum:g}; {family} needs values {bound}"
        )


def choose(model: Any, states: int, schema: Schema) -> tuple["Emission", ...]:
    """The emissions of a model over the columns of a schema.

    Args:
        model: has the fields of the priors: `emission`, `covariance`, `mean_precision`, ….
        states: K, of which each class has as many if there is a target.
        schema: the columns; standardising constants come from here.

    Raises:
        DataError: if a column cannot be described by the family named for it.
    """
    import torch

    from ppl_models.families.discrete import Bernoulli, Categorical, Poisson
    from ppl_models.families.full_gaussian import FullGaussian
    from ppl_models.families.gaussian import DiagonalGaussian
    from ppl_models.families.normal_prior import NormalPrior
    from ppl_models.families.positive import Exponential, Gamma

    K, columns = states, schema.columns
    chosen = families(model.emission, schema)
    groups: dict[str, list[int]] = {}
    for i, column in enumerate(columns):
        if column.name == schema.target:
            continue
        _check(column, chosen[column.name])
        groups.setdefault(chosen[column.name], []).append(i)

    def constants(index: tuple[int, ...], field: str) -> torch.Tensor:
        return torch.tensor([getattr(columns[i], field) for i in index], dtype=torch.float64)

    def build(family: str, index: tuple[int, ...]) -> "Emission":
        mean = constants(index, "mean")
        positive = torch.where(mean > 0, mean, torch.ones_like(mean))
        rates = (model.rate_shape, model.rate_rate)
        if family == "gaussian":
            D = len(index)
            dof = D + 2.0 if model.covariance_dof is None else model.covariance_dof
            if model.state_variance is None:
                widest = K ** (-2 / D)
                prior = NormalPrior(model.mean_precision, dof, widest / max(dof, 1.0), widest)
            else:
                prior = NormalPrior(model.mean_precision, dof, model.state_variance)
            if model.covariance in ("full", "tied") and prior.dof <= D - 1:
                raise UsageError(
                    f"covariance_dof must be more than {D - 1} for {D} columns, got {prior.dof:g}"
                )
            sd = constants(index, "sd")
            if model.covariance in ("diag", "spherical") or (D == 1 and model.covariance == "full"):
                return DiagonalGaussian(index, K, mean, sd, prior, model.covariance == "spherical")
            correlation = None
            if schema.correlation:
                correlation = torch.tensor(schema.correlation, dtype=torch.float64)[list(index)][
                    :, list(index)
                ]
            return FullGaussian(index, K, mean, sd, prior, model.covariance == "tied", correlation)
        if family == "poisson":
            return Poisson(index, K, positive, *rates)
        if family == "bernoulli":
            return Bernoulli(index, K, model.level_concentration)
        if family == "categorical":
            levels = tuple(max(len(columns[i].levels), 1) for i in index)
            return Categorical(index, K, levels, model.level_concentration)
        if family == "exponential":
            return Exponential(index, K, positive, *rates)
        return Gamma(index, K, positive, *rates, model.log_shape_sd)

    emissions = [build(family, tuple(index)) for family, index in groups.items()]
    if schema.target is not None:
        emissions.append(_label(schema, K))
    return tuple(emissions)


def _label(schema: Schema, states: int) -> "Emission":
    """The classes of the target, each with as many of the states, class by class."""
    from ppl_models.families.label import Label

    at = schema.names.index(str(schema.target))
    classes = len(schema.columns[at].levels)
    return Label(at, [k * classes // states for k in range(states)], classes)
