"""Which likelihood each column gets, by its kind or by what the user named."""

import math
from collections.abc import Mapping, Sequence

from ppl_models.data import Column, Kind, Schema
from ppl_models.errors import DataError, UsageError

AUTO = {
    Kind.CONTINUOUS: "gaussian",
    Kind.COUNT: "poisson",
    Kind.BINARY: "bernoulli",
    Kind.CATEGORICAL: "categorical",
}
FAMILIES = {
    "gaussian": (Kind.CONTINUOUS, Kind.COUNT),
    "continuous_bernoulli": (Kind.CONTINUOUS, Kind.COUNT),
    "bernoulli": (Kind.BINARY, Kind.CONTINUOUS, Kind.COUNT),
    "poisson": (Kind.COUNT,),
    "categorical": (Kind.CATEGORICAL, Kind.BINARY),
}
"""Family -> the kinds of column that it describes."""

UNIT = ("bernoulli", "continuous_bernoulli")
"""Families over the unit interval."""


def modelled(schema: Schema) -> list[int]:
    """The positions of all columns but the target."""
    return [i for i, column in enumerate(schema.columns) if column.name != schema.target]


def check_names(likelihood: str) -> None:
    """Refuse families that do not exist, before there are columns.

    Raises:
        UsageError: naming the family.
    """
    for part in likelihood.split(","):
        family = part.strip().rpartition("=")[2]
        if family != "auto" and family not in FAMILIES:
            raise UsageError(
                f"likelihood {family!r} is not known; choose from {', '.join(['auto', *FAMILIES])}"
            )


def families(likelihood: str, schema: Schema) -> dict[str, str]:
    """The family of each column by name, from `auto`, one family, or `column=family` pairs.

    Raises:
        UsageError: if a family or column is not known.
    """
    check_names(likelihood)
    columns = [schema.columns[i] for i in modelled(schema)]
    chosen = {column.name: AUTO[column.kind] for column in columns}
    if schema.shape is not None:
        pixels = [c for c in columns if not c.labelled]
        family = "bernoulli" if all(map(two_valued, pixels)) else "continuous_bernoulli"
        chosen |= {c.name: family for c in pixels}
    for part in likelihood.split(","):
        column, named, family = part.strip().rpartition("=")
        if named and column not in chosen:
            names = ", ".join([*chosen][:12])
            raise UsageError(f"likelihood names the column {column!r}, which is not modelled ({names})")
        if family != "auto":
            chosen.update(dict.fromkeys([column] if named else chosen, family))
    return chosen


def kinds(likelihood: str, schema: Schema) -> Mapping[str, str]:
    """Columns that must be read as another kind because their family was named."""
    wanted = {"categorical": Kind.CATEGORICAL, "poisson": Kind.COUNT}
    chosen = families(likelihood, schema)
    return {
        c.name: str(wanted[chosen[c.name]])
        for c in schema.columns
        if c.name in chosen and chosen[c.name] in wanted and c.kind not in FAMILIES[chosen[c.name]]
    }


def grouped(likelihood: str, schema: Schema) -> dict[str, tuple[int, ...]]:
    """Family -> the positions of its columns, in the order of `FAMILIES`.

    Raises:
        DataError: if a column cannot be described by the family named for it.
    """
    chosen = families(likelihood, schema)
    groups: dict[str, list[int]] = {family: [] for family in FAMILIES}
    for i in modelled(schema):
        column = schema.columns[i]
        family = chosen[column.name]
        if column.kind not in FAMILIES[family]:
            raise DataError(
                f"column {column.name!r} is {column.kind}, which a {family} likelihood cannot describe; "
                "leave it out with --ignore or name another family with --likelihood"
            )
        groups[family].append(i)
    return {family: tuple(index) for family, index in groups.items() if index}


def two_valued(column: Column) -> bool:
    """Whether a column has at most two different values, by its moments alone.

    Variance ≤ (max − mean)(mean − min), with equality for two values only (Bhatia & Davis 2000, A better
    bound on the variance, American Mathematical Monthly 107, https://doi.org/10.1080/00029890.2000.12005203).
    """
    low, high = column.minimum, column.maximum
    if low == high:
        return True
    most = (high - column.mean) * (column.mean - low)
    return math.isclose(column.sd**2, most, rel_tol=0.0, abs_tol=1e-9 * (high - low) ** 2)


def unit_intervals(columns: Sequence[Column], image: bool) -> list[tuple[float, float]]:
    """What becomes 0 and 1 of each column, for a family over the unit interval.

    Pixels of an image share one range: [0, 1], [0, 255] of eight bits, or [0, their maximum]. Other columns
    have their own from the smallest to the largest value of the fit, unless they are within [0, 1] anyway.
    """
    if image:
        low = min(0.0, *(c.minimum for c in columns))
        high = max(c.maximum for c in columns)
        bytes_ = all(c.integer for c in columns) and 127 < high <= 255
        return [(low, 255.0 if bytes_ else max(high, 1.0))] * len(columns)
    unit = [c.labelled or (c.minimum >= 0 and c.maximum <= 1) for c in columns]
    return [
        (0.0, 1.0) if inside else (c.minimum, c.maximum if c.maximum > c.minimum else c.minimum + 1)
        for c, inside in zip(columns, unit, strict=True)
    ]
