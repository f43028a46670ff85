"""All trials: importing this declares them, in the order of the page."""

from torture import damage, fuzzing, kills  # noqa: F401 - declare
from torture.trials import FAULTS, TRIALS

__all__ = ["FAULTS", "TRIALS"]
