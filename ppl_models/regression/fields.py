"""The hyperparameters of a regression."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from ppl_models.errors import UsageError

Prior = Literal["normal", "student_t", "horseshoe"]
ClassWeight = Literal["none", "balanced"]
MissingRows = Literal["level", "impute", "drop"]
Covariance = Literal["auto", "full", "low_rank", "diag"]


Kernel = Literal["linear", "rbf", "matern32", "matern52"]


@dataclass(frozen=True, kw_only=True)
class KernelFields:
    """What is left to the user of a kernel over the predictors.

    Raises:
        UsageError: a field cannot be meant.
    """

    learns_amplitude: ClassVar[bool] = False
    """Whether the scale of a linear kernel is learned too."""

    kernel: Annotated[Kernel, "of the predictors; all but linear make it a Gaussian process"] = "linear"
    inducing: Annotated[int, "inducing points of the kernel at most"] = 256
    length_scale: Annotated[float | None, "of the kernel, of standardised columns; learned if not given"] = (
        None
    )
    amplitude: Annotated[float | None, "sd of the function under the kernel; learned if not given"] = None

    def check_kernel(self) -> None:
        """Whether the fields can be meant."""
        if self.kernel not in get_args(Kernel):
            raise UsageError(f"kernel must be linear, rbf, matern32 or matern52, got {self.kernel!r}")
        if self.inducing < 1:
            raise UsageError(f"inducing must be at least 1, got {self.inducing}")
        for field in ("length_scale", "amplitude"):
            value = getattr(self, field)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{field} must be positive and finite, got {value}")


@dataclass(frozen=True, kw_only=True)
class ClassFields:
    """What is left to the user of a target of classes."""

    class_weight: Annotated[ClassWeight, "balanced: every class weighs the same in total"] = "none"

    def check_classes(self) -> None:
        """Whether the field can be meant."""
        if self.class_weight not in get_args(ClassWeight):
            raise UsageError(f"class_weight must be none or balanced, got {self.class_weight!r}")


@dataclass(frozen=True)
class RegressionFields(KernelFields):
    """What a regression leaves to the user: predictors, their prior, weights, the form of the posterior.

    Raises:
        UsageError: a field cannot be meant.
    """

    formula: Annotated[str | None, "predictors, as in 'y ~ a*C(b) + np.log(c)'; all columns if not given"] = (
        None
    )
    prior: Annotated[Prior, "prior of the coefficients"] = "normal"
    prior_scale: Annotated[float, "its scale (normal and student_t)"] = 2.5
    prior_df: Annotated[float, "degrees of freedom of student_t"] = 4.0
    intercept_scale: Annotated[
        float, "sd of the normal prior of the intercept, where predictors are average"
    ] = 10.0
    autoscale: Annotated[bool, "scales are those of standardised columns, not of the data's units"] = True
    expected_nonzero: Annotated[
        float | None, "coefficients expected to matter (horseshoe); the root of their number if not given"
    ] = None
    slab_scale: Annotated[float, "scale of coefficients that matter (horseshoe)"] = 2.5
    group_scale: Annotated[
        float, "scale of the half-normal prior of the sds of groups, (1 | g) in the formula"
    ] = 1.0
    missing_rows: Annotated[
        MissingRows,
        "rows with missing predictors: level: a missing label is a level, a missing number the mean with an "
        "indicator; impute: filled in from the other predictors; drop: neither used nor predicted",
    ] = "level"
    covariance: Annotated[Covariance, "form of the posterior covariance; auto: by what fits"] = "auto"

    def __post_init__(self) -> None:
        for field, allowed in (
            ("prior", Prior),
            ("missing_rows", MissingRows),
            ("covariance", Covariance),
        ):
            if getattr(self, field) not in get_args(allowed):
                *others, last = get_args(allowed)
                raise UsageError(
                    f"{field} must be {', '.join(others)} or {last}, got {getattr(self, field)!r}"
                )
        positive = "prior_scale prior_df intercept_scale expected_nonzero slab_scale group_scale"
        for field in positive.split():
            value = getattr(self, field)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{field} must be positive and finite, got {value}")
        self.check_kernel()
        if self.kernel != "linear" and self.prior != "normal":
            raise UsageError(f"kernel {self.kernel} has a normal prior, and prior is {self.prior}")
        if not isinstance(self.autoscale, bool):
            raise UsageError(f"autoscale must be true or false, got {self.autoscale!r}")
        if self.formula is not None and not self.formula.strip():
            raise UsageError("formula is empty; leave it out to use every column")
