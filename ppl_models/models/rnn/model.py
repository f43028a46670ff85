"""Recurrent network for the class or the number of a sequence, or of its steps, with a Bayesian head.

    h_t = GRU_θ(x_t, h_{t−1}) forwards and backwards
    z_n = the mean over members of dense_θ,m([mean_t h_t, max_t h_t])      a target constant in every sequence
    z_t = the mean over members of dense_θ,m(h_t)                          one that varies
    y ~ Categorical(softmax(A φ)), φ = α + Bᵀ z, b_j ~ N(0, s² I)          a label
    y ~ N(α + βᵀ z, σ²), β_j ~ N(0, σ² s²), σ² ~ InverseGamma(1, 0.05)     a number, in its sds

Numbers enter in units of their column and of their sequence, missing cells as 0 with a flag. θ is a point
estimate by the gradient rule, stopped by held-out sequences; the posterior is that of the head given the
features. (Cho et al. 2014, EMNLP, https://arxiv.org/abs/1406.1078; Snoek et al. 2015, ICML,
https://arxiv.org/abs/1502.05700.)
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from ppl_models.annotations import whole
from ppl_models.inference.settings import NetworkSettings, Training
from ppl_models.model import Model
from ppl_models.neural.fields import NeuralFields

if TYPE_CHECKING:
    from ppl_models.bound import Bound
    from ppl_models.data import Schema


@dataclass(frozen=True)
class RNN(NeuralFields, Model):
    """Recurrent network with a Bayesian head: classes or numbers of sequences, or of their steps.

    Example:
        >>> RNN(units=32).units
        32
    """

    members: Annotated[int, "dense layers that share their weights but for factors of rank one"] = 4
    units: Annotated[int, "units of the recurrent layer, in each direction"] = 64
    layers: Annotated[int, "recurrent layers"] = 1

    name: ClassVar[str] = "rnn"
    summary: ClassVar[str] = (
        "recurrent network: classes or numbers of sequences or steps, with a Bayesian head"
    )
    example: ClassVar[str] = " --target y --sequence id"
    settings: ClassVar[type[Training]] = NetworkSettings

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "units", whole("units", self.units))
        object.__setattr__(self, "layers", whole("layers", self.layers))

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """Of labels and of numbers, with and without a head."""
        from ppl_models.models.rnn.bound import BOUNDS

        return BOUNDS

    def bind(self, schema: "Schema") -> "Bound":
        """The network over the columns of a schema, by the kind of its target."""
        from ppl_models.models.rnn.bound import bound_of

        return bound_of(self, schema)
