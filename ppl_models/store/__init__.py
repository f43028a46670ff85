"""Run directories: what a fit leaves on disk, whole or not at all.

    hmm-returns-001/
        run.json             the manifest: what the caller says, and sha256 and size of every other file
        params.safetensors   arrays by name
        history.jsonl        one JSON object a line
        …                    whatever else the caller wrote, for example posterior.nc

This layer knows nothing of models: it stores and returns dictionaries, arrays and files.

A run is built in a hidden sibling (`.NAME.ppl-new`), every file is synced, the manifest is written last,
and a rename puts it in place. To replace a run, the old one is renamed away (`.NAME.ppl-old`), the new one
renamed in, and only then is the old one removed. A process killed at any point leaves one of the two
complete: if it dies between the two renames, the next reader or writer puts the old one back.
`.NAME.ppl-lock` carries the OS lock of whoever is writing, and is removed with it. The next write in the
same parent clears what a killed process left.

Nothing that is read is executed: there is no pickle, names are plain, links are refused, sizes are capped,
and a file that does not match its checksum is refused by name. The checksums find damage; they are no
signature, so a run from a stranger is as true as the stranger.
"""

from ppl_models.store._layout import SCHEMA_VERSION
from ppl_models.store._locking import lock
from ppl_models.store._reading import DamagedRun, StoredRun, list_runs, read_run
from ppl_models.store._writing import check_target, next_run_directory, pack, write_run

__all__ = [
    "SCHEMA_VERSION",
    "DamagedRun",
    "StoredRun",
    "check_target",
    "list_runs",
    "lock",
    "next_run_directory",
    "pack",
    "read_run",
    "write_run",
]
