"""Transformer: the joint density of rows, sequences or texts, one value after the other.

    p(x_1, …, x_T) = Π_t p(x_t | x_1, …, x_{t−1}),   x_t a byte, a label, or a number by its bin

A value is of a field (the bytes; a column), and what is asked for is of one field, whose values alone have a
probability (`ppl_models.networks.attention`). A number has the density of its bin, and one within it
(`ppl_models.models.transformer.bins`). Missing cells are passed over.

A table has rows that are independent, and columns without an order. One network is trained on all orders σ,
so that p(x_j | x_S) is there for any columns S (Uria, Murray & Larochelle 2014, A deep and tractable density
estimator, ICML, https://arxiv.org/abs/1310.1757). What is said of a row is an average over K of them:

    p(x) = (1/K) Σ_k Π_j p(x_σ_k(j) | x_σ_k(1), …, x_σ_k(j−1))     score: a density, as each part is one
    p(y | x) = (1/K) Σ_k p(y | x_σ_k(1), …, x_σ_k(C−1))            predict

Orders need not agree, as they would for a network that is right: log p(x) is never below the mean over orders
of the log densities, and rises with K. Rows of sequences have their columns in order, row after row:

    p(x_1, …, x_T) = Π_t Π_j p(x_tj | x_1, …, x_{t−1}, x_t1, …, x_t,j−1)

and, where there are several sequences, the end as a further value of the first column. (Vaswani et al. 2017,
Attention is all you need, NeurIPS, https://arxiv.org/abs/1706.03762; Radford et al. 2019, Language models are
unsupervised multitask learners.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ppl_models.inference.settings import NetworkSettings, Training
from ppl_models.model import Model
from ppl_models.models.transformer.fields import TransformerFields

if TYPE_CHECKING:
    from ppl_models.bound import Bound
    from ppl_models.data import Schema


@dataclass(frozen=True)
class Transformer(TransformerFields, Model):
    """Transformer over the bytes of a text, the events of sequences, or the cells of rows in any order.

    Example:
        >>> Transformer(width=64, layers=2).width
        64
        >>> Transformer(width=100, heads=3)
        Traceback (most recent call last):
            ...
        ppl_models.errors.UsageError: width must be a multiple of twice the heads, got 100 and 3 heads
    """

    name: ClassVar[str] = "transformer"
    summary: ClassVar[str] = (
        "transformer: densities, samples and conditionals of texts, event sequences, series and tables"
    )
    settings: ClassVar[type[Training]] = NetworkSettings

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """Of tables without and with a target, of sequences, and of texts."""
        from ppl_models.models.transformer.sequence import SequenceBound, TextBound
        from ppl_models.models.transformer.table import TableBound, TableClasses, TableNumbers

        return TableBound, TableClasses, TableNumbers, SequenceBound, TextBound

    def reading(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What is text."""
        return dict(options) | ({} if self.text == "none" else {"as_bytes": self.text})

    def bind(self, schema: "Schema") -> "Bound":
        """The network over the columns of a schema."""
        from ppl_models.models.transformer.sequence import SequenceBound, TextBound
        from ppl_models.models.transformer.table import TableBound, TableClasses, TableNumbers

        if schema.text is not None:
            return TextBound(self, schema)
        ordered = schema.sequence is not None or schema.time is not None
        if self.rows_are == "sequence" or (self.rows_are == "auto" and ordered):
            return SequenceBound(self, schema)
        if schema.target is None:
            return TableBound(self, schema)
        labelled = schema.columns[schema.names.index(schema.target)].labelled
        return (TableClasses if labelled else TableNumbers)(self, schema)
