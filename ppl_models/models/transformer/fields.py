"""The hyperparameters of a transformer."""

from dataclasses import dataclass
from typing import Annotated, Literal

from ppl_models.annotations import check_fields, whole
from ppl_models.errors import UsageError

Rows = Literal["auto", "independent", "sequence"]


@dataclass(frozen=True)
class TransformerFields:
    """Width, layers, heads, context, bins, and what the rows are.

    Raises:
        UsageError: a field cannot be meant.
    """

    width: Annotated[int, "size of the vectors of values and of the layers"] = 128
    layers: Annotated[int, "blocks of attention and dense layers"] = 4
    heads: Annotated[int, "heads of the attention, which divide the width"] = 4
    context: Annotated[int, "values that one is predicted from at most, in texts and sequences"] = 256
    dropout: Annotated[float, "share of the outputs of layers that is dropped in training"] = 0.0
    bins: Annotated[int, "bins at most of a column of numbers"] = 128
    orders: Annotated[int, "orders of the columns that what is said of a row of a table is averaged over"] = 8
    passes: Annotated[
        int | None, "passes over the rows in which the step size falls to zero; by their number if not given"
    ] = None
    rows_are: Annotated[
        Rows, "independent rows, or sequences of them; auto is sequences with --sequence or --time"
    ] = "auto"
    text: Annotated[
        str, "the column whose cells are texts; auto: a .txt file is a text, other data tables; or none"
    ] = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("width", "layers", "heads", "context", "bins", "orders"):
            object.__setattr__(self, name, whole(name, getattr(self, name)))
        if self.passes is not None:
            object.__setattr__(self, "passes", whole("passes", self.passes))
        if self.width % (2 * self.heads):
            raise UsageError(
                f"width must be a multiple of twice the heads, got {self.width} and {self.heads} heads"
            )
        if self.bins < 2:
            raise UsageError(f"bins must be at least 2, got {self.bins}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be at least 0 and below 1, got {self.dropout}")
