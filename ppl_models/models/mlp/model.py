"""Network of dense layers for a target given the other columns of a table, with a Bayesian head.

    e_n = embeddings of the cells of row n          numbers piecewise linear, labels from a table
    h_nm = MLP_θ,m(e_n), m = 1 … M                 members with one set of weights and factors of their own
    z_n = the mean of h_nm over m, standardised
    y_n ~ Categorical(softmax(A φ_n)), φ_n = α + Bᵀ z_n, b_j ~ N(c_j, s² I)          a label
    y_n ~ N(α + βᵀ z_n, σ²), β_j ~ N(c_j, σ² s²), σ² ~ InverseGamma(1, 0.05)        a number, in its sds
    y_n ~ p(· | α + βᵀ z_n, ψ), β_j ~ N(c_j, s²), ψ ~ p(ψ)                          a number of another family

c is the network's own output layer. θ is a point estimate by the gradient rule, stopped by held-out rows; the
posterior is that of the head given the features. A missing cell has an embedding of its own, and a row
without its target is left out. (Gorishniy, Kotelnikov & Babenko 2025, TabM, ICLR,
https://arxiv.org/abs/2410.24210; Snoek et al. 2015, Scalable Bayesian optimization using deep neural
networks, ICML, https://arxiv.org/abs/1502.05700.)
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from ppl_models.annotations import layer_sizes
from ppl_models.inference.settings import NetworkSettings, Training
from ppl_models.model import Model
from ppl_models.neural.fields import NeuralFields

if TYPE_CHECKING:
    from ppl_models.bound import Bound
    from ppl_models.data import Schema
    from ppl_models.neural.bound import Neural


@dataclass(frozen=True)
class MLP(NeuralFields, Model):
    """Network of dense layers with a Bayesian head: classes or numbers from the columns of a table.

    Example:
        >>> MLP(hidden=[128, 64]).hidden
        (128, 64)
        >>> MLP(members=0)
        Traceback (most recent call last):
            ...
        ppl_models.errors.UsageError: members must be at least 1, got 0
    """

    hidden: Annotated[tuple[int, ...], "sizes of the hidden layers, separated by commas"] = (96, 96)
    dropout: Annotated[float, "probability that a hidden unit is switched off in training"] = 0.2

    name: ClassVar[str] = "mlp"
    summary: ClassVar[str] = "neural network for tables: classes or numbers, with a Bayesian head"
    example: ClassVar[str] = " --target y"
    settings: ClassVar[type[Training]] = NetworkSettings

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "hidden", layer_sizes(self.hidden, "sizes of at least 1 such as 96,96"))

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """Of labels and of numbers, with and without a head."""
        from ppl_models.models.mlp.bound import BOUNDS

        return tuple(bound for pair in BOUNDS.values() for bound in pair)

    def bind(self, schema: "Schema") -> "Neural":
        """The network over the columns of a schema, by the kind of its target."""
        from ppl_models.models.mlp.bound import bound_of

        return bound_of(self, schema)
