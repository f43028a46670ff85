"""What is checked of regressions alone: that the data, not only the prior, limits the coefficients."""

from typing import TYPE_CHECKING

from ppl_models.diagnostics.checks import Check

if TYPE_CHECKING:
    from ppl_models.fitting import Fit


def checks(fit: "Fit") -> list[Check]:
    """What the rows say of the coefficients, or leave to the prior."""
    t = fit.trained
    if not t.separated:
        return [
            Check(
                "separation",
                False,
                "ok",
                "no combination of predictors tells the classes apart without error",
            )
        ]
    said = next((note for note in t.notes if "separat" in note), "the classes are separated")
    return [Check("separation", True, "warn", said)]
