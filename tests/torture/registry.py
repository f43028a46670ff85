"""All trials and faults, in the order of the page."""

from importlib import import_module

from torture import trials

KINDS = (
    "kills", "damage", "fuzzing", "tables", "streams", "disks", "crowds", "strangers", "sequences",
    "existing",
)  # fmt: skip
"""Modules that declare trials when they are imported."""

for _kind in KINDS:
    import_module(f"torture.{_kind}")

TRIALS = dict(
    sorted(trials.TRIALS.items(), key=lambda item: KINDS.index(item[1].body.__module__.rpartition(".")[2]))
)
FAULTS = {trial.fault: trials.FAULTS[trial.fault] for trial in TRIALS.values()}
