"""What the columns of a table are: stored with a fit, and what later data is checked against."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal

Meaning = Literal["counts", "importance"]
"""What weights of rows are."""


class Kind(StrEnum):
    """The four kinds of column that models know."""

    CONTINUOUS = "continuous"
    COUNT = "count"
    BINARY = "binary"
    CATEGORICAL = "categorical"


LABELLED = frozenset({Kind.BINARY, Kind.CATEGORICAL})
"""The kinds whose values are codes that stand for labels."""


@dataclass(frozen=True)
class Column:
    """One modelled column, as it was when the model was fitted.

    Attributes:
        name: The column's name in the data.
        kind: How it is modelled.
        levels: For binary and categorical columns, the labels of the codes 0, 1, …
        integer: Whether every value was a whole number.
        mean: Mean of the observed values, in the user's units; 0 for categories.
        sd: Their standard deviation (divisor n); 1 for categories and for a constant column.
        minimum: The smallest observed value (a code, for categories).
        maximum: The largest observed value.
        missing: How many cells were missing.
        resolution: The step of its values when the model was fitted, kept where a prior refers to it; else 0.
        shares: Of each level in the observed cells, kept where a prior refers to it.
    """

    name: str
    kind: Kind
    levels: tuple[str, ...] = ()
    integer: bool = False
    mean: float = 0.0
    sd: float = 1.0
    minimum: float = 0.0
    maximum: float = 0.0
    missing: int = 0
    resolution: float = 0.0
    shares: tuple[float, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether the values are codes that stand for labels."""
        return self.kind in LABELLED

    def to_dict(self) -> dict[str, Any]:
        """The column as plain JSON values."""
        lists = {"levels": list(self.levels), "shares": list(self.shares)}
        return asdict(self) | {"kind": self.kind.value} | lists

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Column":
        """The inverse of `to_dict`."""
        lists = {name: tuple(fields.get(name, ())) for name in ("levels", "shares")}
        return cls(**fields | {"kind": Kind(fields["kind"])} | lists)


@dataclass(frozen=True)
class Schema:
    """The modelled columns in order, and the names of the columns that say how to take the rows.

    Attributes:
        columns: The modelled columns; the target, if there is one, is the last.
        sequence: The column whose runs of equal values were the sequences.
        time: The column that increased within each sequence.
        correlation: (C, C) of the columns when the model was fitted, kept where a prior refers to it.
        target: The column, of whatever kind, that is to be predicted from the others.
        weights: The column of the weights of the rows.
        weights_are: What its weights were taken for: counts, or importance.
        shape: Of rows that are images: height, width and, if there are several, channels. The columns but
            the target are their pixels, row after row, the channels of a pixel side by side.
    """

    columns: tuple[Column, ...]
    sequence: str | None = None
    time: str | None = None
    correlation: tuple[tuple[float, ...], ...] = ()
    target: str | None = None
    weights: str | None = None
    weights_are: Meaning | None = None
    shape: tuple[int, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the modelled columns."""
        return tuple(column.name for column in self.columns)

    def to_dict(self) -> dict[str, Any]:
        """The schema as plain JSON values."""
        columns = [column.to_dict() for column in self.columns]
        correlation = [list(row) for row in self.correlation]
        return {
            "columns": columns,
            "sequence": self.sequence,
            "time": self.time,
            "correlation": correlation,
            "target": self.target,
            "weights": self.weights,
            "weights_are": self.weights_are,
            "shape": None if self.shape is None else list(self.shape),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Schema":
        """The inverse of `to_dict`.

        Example:
            >>> schema = Schema((Column("kind", Kind.BINARY, ("no", "yes")),), time="day")
            >>> Schema.from_dict(schema.to_dict()) == schema
            True
        """
        columns = tuple(Column.from_dict(column) for column in fields["columns"])
        correlation = tuple(tuple(map(float, row)) for row in fields.get("correlation", ()))
        named = {name: fields.get(name) for name in ("sequence", "time", "target", "weights", "weights_are")}
        shape = fields.get("shape")
        shape = None if shape is None else tuple(map(int, shape))
        return cls(columns, correlation=correlation, shape=shape, **named)
