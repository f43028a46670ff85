"""The hyperparameters of a generalised linear model."""

import difflib
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from ppl_models.errors import UsageError
from ppl_models.regression.fields import RegressionFields

Family = Literal["normal", "student_t", "poisson", "negative_binomial", "binomial", "gamma", "ordinal"]


@dataclass(frozen=True)
class GLMFields(RegressionFields):
    """What a generalised linear model leaves to the user beside predictors and their prior.

    Raises:
        UsageError: a field cannot be meant.
    """

    family: Annotated[Family, "distribution of the target"] = "normal"
    link: Annotated[str | None, "of its mean: identity, log, softplus, logit, probit or cloglog"] = None
    offset: Annotated[str | None, "column that is added to the linear predictor"] = None
    exposure: Annotated[str | None, "column whose logarithm is added to the linear predictor"] = None
    trials: Annotated[str | None, "column of the trials (binomial)"] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.family not in get_args(Family):
            close = difflib.get_close_matches(str(self.family), get_args(Family), 1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(get_args(Family))}"
            raise UsageError(f"glm has no family {self.family!r}; {hint}")
        if self.trials is not None and self.family != "binomial":
            raise UsageError(f"trials are of --family binomial, and this is {self.family}")
