"""All trials: importing this declares them, in the order of the page."""

from torture import fuzzing  # noqa: F401 - declares
from torture.trials import FAULTS, TRIALS

__all__ = ["FAULTS", "TRIALS"]
