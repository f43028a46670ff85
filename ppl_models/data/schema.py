"""What the columns of a table are: stored with a fit, and what later data is checked against."""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from ppl_models.data.marginals import Marginal

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
        dtype: The pandas type that its cells came as, such as `int64` or `boolean`; "" for text.
        categories: Of a categorical all of its categories in order, also those that no cell has.
        ordered: Whether these are ordered.
        marginal: What the model has in its place; None where it has the column as it is.
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
    dtype: str = ""
    categories: tuple[str, ...] = ()
    ordered: bool = False
    marginal: Marginal | None = None

    @property
    def labelled(self) -> bool:
        """Whether the values are codes that stand for labels."""
        return self.kind in LABELLED

    def to_dict(self) -> dict[str, Any]:
        """The column as plain JSON values."""
        names = ("levels", "shares", "categories")
        lists = {name: list(getattr(self, name)) for name in names}
        own = asdict(replace(self, marginal=None)) | {"kind": self.kind.value} | lists
        del own["marginal"]
        return own if self.marginal is None else own | {"marginal": self.marginal.to_dict()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Column":
        """The inverse of `to_dict`."""
        typed: dict[str, Any] = {"kind": Kind(fields["kind"])}
        typed |= {name: tuple(fields.get(name, ())) for name in ("levels", "shares", "categories")}
        if fields.get("marginal") is not None:
            typed["marginal"] = Marginal.from_dict(fields["marginal"])
        return cls(**fields | typed)


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
        text: Of rows that are the bytes of texts, the column that they were; "" if a file was one.
        words: The columns of texts whose words are counted; the counts are columns `text[word]`.
    """

    columns: tuple[Column, ...]
    sequence: str | None = None
    time: str | None = None
    correlation: tuple[tuple[float, ...], ...] = ()
    target: str | None = None
    weights: str | None = None
    weights_are: Meaning | None = None
    shape: tuple[int, ...] | None = None
    text: str | None = None
    words: tuple[str, ...] = ()

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
            "text": self.text,
            "words": list(self.words),
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
        plain = ("sequence", "time", "target", "weights", "weights_are", "text")
        named = {name: fields.get(name) for name in plain}
        shape = fields.get("shape")
        shape = None if shape is None else tuple(map(int, shape))
        words = tuple(fields.get("words", ()))
        return cls(columns, correlation=correlation, shape=shape, words=words, **named)
