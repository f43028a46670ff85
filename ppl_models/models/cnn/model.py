"""Convolutional network for a target given an image, or a signal, with a Bayesian head.

    h_nm = dense_θ,m(blocks_θ(x_n)), m = 1 … M      blocks of two convolutions and pooling, members on top
    z_n = the mean of h_nm over m, standardised
    y_n ~ Categorical(softmax(A φ_n)), φ_n = α + Bᵀ z_n, b_j ~ N(c_j, s² I)          a label
    y_n ~ N(α + βᵀ z_n, σ²), β_j ~ N(c_j, σ² s²), σ² ~ InverseGamma(1, 0.05)        a number, in its sds
    y_n ~ p(· | α + βᵀ z_n, ψ), β_j ~ N(c_j, s²), ψ ~ p(ψ)                          a number of another family

Rows are images where they were read as such; else the columns in their order are a signal. c is the network's
own output layer. θ is a point estimate by the gradient rule, stopped by
held-out rows; the posterior is that of the head given the features. (LeCun, Bottou, Bengio & Haffner 1998,
Gradient-based learning applied to document recognition, Proc. IEEE 86, https://doi.org/10.1109/5.726791;
Snoek et al. 2015, ICML, https://arxiv.org/abs/1502.05700.)
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
    from ppl_models.neural.bound import Neural


@dataclass(frozen=True)
class CNN(NeuralFields, Model):
    """Convolutional network with a Bayesian head: classes or numbers from images or signals.

    Example:
        >>> CNN(shift=2).shift
        2
    """

    members: Annotated[int, "dense layers that share their weights but for factors of rank one"] = 4
    shift: Annotated[int, "pixels that images are moved by at random in training"] = 0

    name: ClassVar[str] = "cnn"
    summary: ClassVar[str] = "convolutional network for images and signals, with a Bayesian head"
    example: ClassVar[str] = " --target y"
    settings: ClassVar[type[Training]] = NetworkSettings

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "shift", whole("shift", self.shift, 0))

    @classmethod
    def bounds(cls) -> "tuple[type[Bound], ...]":
        """Of labels and of numbers, with and without a head."""
        from ppl_models.models.cnn.bound import BOUNDS

        return tuple(bound for pair in BOUNDS.values() for bound in pair)

    def bind(self, schema: "Schema") -> "Neural":
        """The network over the pixels of a schema, by the kind of its target."""
        from ppl_models.models.cnn.bound import bound_of

        return bound_of(self, schema)
