"""All trials: importing a module declares its own, in the order of the page."""

from importlib import import_module

from torture.trials import FAULTS, TRIALS

__all__ = ["FAULTS", "TRIALS"]

KINDS = (
    "kills", "damage", "fuzzing", "tables", "streams", "disks", "crowds", "strangers", "sequences",
    "existing",
)  # fmt: skip

for _kind in KINDS:
    import_module(f"torture.{_kind}")
