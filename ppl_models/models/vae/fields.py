"""The hyperparameters of a variational autoencoder."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from ppl_models.annotations import layer_sizes, whole
from ppl_models.data.marginals import Chosen, How
from ppl_models.errors import UsageError
from ppl_models.families.choose import Choice, checked, help_text

NetworkKind = Literal["auto", "mlp", "conv"]


@dataclass(frozen=True)
class VAEFields:
    """Latents, networks, likelihoods and the weights of the objective.

    Raises:
        UsageError: a field cannot be meant.
    """

    latent: Annotated[int, "dimensions of the latent z"] = 10
    hidden: Annotated[tuple[int, ...], "sizes of the hidden layers, separated by commas"] = (400, 400)
    network: Annotated[NetworkKind, "layers; auto is mlp, conv needs images"] = "auto"
    likelihood: Annotated[Choice, help_text("likelihood")] = "auto"
    marginals: Chosen = "plain"
    beta: Annotated[float, "weight of the KL divergence once warm; 1 is the evidence lower bound"] = 1.0
    warm_up: Annotated[float, "passes over the data in which that weight rises from 0"] = 10.0
    classification_weight: Annotated[
        float, "weight of log q(y | x) of labelled rows against the bound of all rows, with a target"
    ] = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "latent", whole("latent", self.latent))
        object.__setattr__(self, "hidden", layer_sizes(self.hidden, "whole numbers such as 400,400"))
        if self.network not in get_args(NetworkKind):
            raise UsageError(f"network must be auto, mlp or conv, got {self.network!r}")
        if self.marginals not in get_args(How):
            raise UsageError(f"marginals must be auto, plain or scores, got {self.marginals!r}")
        object.__setattr__(self, "likelihood", checked("likelihood", self.likelihood))
        if not 0 < self.beta < float("inf"):
            raise UsageError(f"beta must be positive and finite, got {self.beta}")
        for field in ("warm_up", "classification_weight"):
            if not 0 <= getattr(self, field) < float("inf"):
                raise UsageError(f"{field} must be at least 0 and finite, got {getattr(self, field)}")
