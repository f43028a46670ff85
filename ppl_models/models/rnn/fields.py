"""The hyperparameters of a recurrent network."""

from dataclasses import dataclass
from typing import Annotated

from ppl_models.annotations import whole
from ppl_models.neural.fields import NeuralFields


@dataclass(frozen=True)
class RNNFields(NeuralFields):
    """Members, units, layers, and the season of a forecast.

    Raises:
        UsageError: a field cannot be meant.
    """

    members: Annotated[int, "dense layers that share their weights but for factors of rank one"] = 4
    units: Annotated[int, "units of the recurrent layer, in each direction"] = 64
    layers: Annotated[int, "recurrent layers"] = 1
    season: Annotated[
        int | None, "steps of a season, where there is no target; from the data if not given"
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "units", whole("units", self.units))
        object.__setattr__(self, "layers", whole("layers", self.layers))
        if self.season is not None:
            object.__setattr__(self, "season", whole("season", self.season))
