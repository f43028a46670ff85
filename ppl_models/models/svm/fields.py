"""The hyperparameters of a support vector machine."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, get_args

from ppl_models.errors import UsageError
from ppl_models.regression.fields import ClassFields, Kernel, KernelFields, MissingRows


@dataclass(frozen=True)
class SVMFields(ClassFields, KernelFields):
    """What a support vector machine leaves to the user.

    Raises:
        UsageError: a field cannot be meant.
    """

    learns_amplitude: ClassVar[bool] = True
    prior: ClassVar[str] = "normal"
    prior_scale: ClassVar[float] = 1.0
    prior_df: ClassVar[float] = 4.0
    autoscale: ClassVar[bool] = True
    expected_nonzero: ClassVar[float | None] = None
    slab_scale: ClassVar[float] = 2.5
    group_scale: ClassVar[float] = 1.0
    covariance: ClassVar[str] = "full"

    kernel: Annotated[Kernel, "of the predictors"] = "rbf"
    formula: Annotated[str | None, "predictors; all columns if not given"] = None
    intercept_scale: Annotated[float, "sd of the normal prior of the intercept"] = 3.0
    missing_rows: Annotated[
        MissingRows,
        "rows with missing predictors: level: a missing label is a level, a missing number the mean with an "
        "indicator; impute: filled in from the other predictors; drop: neither used nor predicted",
    ] = "level"

    def __post_init__(self) -> None:
        self.check_kernel()
        self.check_classes()
        if self.missing_rows not in get_args(MissingRows):
            raise UsageError(f"missing_rows must be level, impute or drop, got {self.missing_rows!r}")
        if not 0 < self.intercept_scale < float("inf"):
            raise UsageError(f"intercept_scale must be positive and finite, got {self.intercept_scale}")
