"""The hyperparameters of a generative adversarial network."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from ppl_models.annotations import Positive, check_fields, layer_sizes, whole
from ppl_models.data.marginals import How
from ppl_models.errors import UsageError

NetworkKind = Literal["auto", "mlp", "conv"]


@dataclass(frozen=True)
class GANFields:
    """Latents, networks, and the weight of the penalties.

    Raises:
        UsageError: a field cannot be meant.
    """

    latent: Annotated[int, "dimensions of the latent z"] = 64
    hidden: Annotated[tuple[int, ...], "sizes of the hidden layers, separated by commas"] = (256, 256)
    network: Annotated[NetworkKind, "layers; auto is conv for images, else mlp"] = "auto"
    penalty: Annotated[float, "weight of the gradient penalties on real and generated rows", Positive()] = 1.0
    marginals: Annotated[
        How, "what numbers are to the networks: normal scores, those that auto asks for, or standardised"
    ] = "scores"
    distinct: Annotated[
        int, "numbers with at most so many different values are drawn among these; 0 for none"
    ] = 128

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "latent", whole("latent", self.latent))
        object.__setattr__(self, "distinct", whole("distinct", self.distinct, 0))
        object.__setattr__(self, "hidden", layer_sizes(self.hidden, "sizes of at least 1 such as 256,256"))
        if self.network not in get_args(NetworkKind):
            raise UsageError(f"network must be auto, mlp or conv, got {self.network!r}")
