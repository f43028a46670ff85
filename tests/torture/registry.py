"""All trials: importing this declares them, in the order of the page."""

from torture import (  # noqa: F401 - declare
    kills,
    damage,
    fuzzing,
    tables,
    streams,
    disks,
    crowds,
    strangers,
    sequences,
    existing,
)
from torture.trials import FAULTS, TRIALS

__all__ = ["FAULTS", "TRIALS"]
