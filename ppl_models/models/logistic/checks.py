"""What is checked of regressions alone: that the data, not only the prior, limits the coefficients."""

from ppl_models.checks import Check
from ppl_models.inference.loop import Trained


def separation(trained: Trained) -> Check:
    """Whether classes can be told apart without error: only the prior then keeps coefficients finite."""
    if not trained.separated:
        reason = "no combination of predictors tells the classes apart without error"
        return Check("separation", False, "ok", reason)
    said = next((note for note in trained.notes if "separat" in note), "the classes are separated")
    return Check("separation", True, "warn", said)
