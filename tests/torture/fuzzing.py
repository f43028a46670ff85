"""Damaged files for each reader: success, or one line and exit code 65.

`ppl data FILE` runs in a forked process that reads one file after the other, and says which one it is at: if
it ends by a signal, or does not go on, the file is known, kept, and another process goes on with the next.
"""

import os
from collections.abc import Callable
from pathlib import Path

from torture import files
from torture.forks import heard, many
from torture.trials import Tries, fault, trial

FILE = fault(
    "a damaged or malformed file",
    "it is read, or refused in one line with 65; nothing that is called ends the process by a signal",
)
MEMORY = 4 << 30


def _large() -> None:
    """Everything is larger than what is held in memory: read in blocks."""
    from ppl_models.data import spill, streaming

    streaming.STREAMED, streaming.HEAD, streaming.BLOCK, streaming.LINES = 0, 2_000, 1_500, 37
    spill.SPILL_BYTES = 0


def _fuzz(tries: Tries, suffix: str, before: Callable[[], None] | None = None) -> None:
    path = tries.place / ("images" if suffix == ".png" else "") / f"a{suffix}"
    path.parent.mkdir(exist_ok=True)
    files.sound(suffix)

    def one(number: int) -> tuple[str | None, str]:
        path.write_bytes(files.damaged(suffix, number))
        ended = heard("data", path.parent if suffix == ".png" else path)
        wrong = ended.fault(0, 65)
        if not wrong and any(not c.isprintable() for c in ended.err.replace("\n", "")):
            wrong = f"unprintable: {ended.err!a}"
        return wrong, "refused" if ended.code else "read"

    def kept(number: int) -> Path:
        place = Path(os.environ.get("TORTURE_KEPT", "/tmp/torture-kept"))
        place.mkdir(exist_ok=True)
        (place / f"{number}{suffix}").write_bytes(files.damaged(suffix, number))
        return place / f"{number}{suffix}"

    many(tries, one, kept=kept, memory=MEMORY, before=before)


NAMES = {
    ".csv": "CSV", ".tsv": "TSV", ".csv.gz": "packed CSV", ".jsonl": "JSON lines", ".json": "JSON",
    ".parquet": "Parquet", ".arrow": "Arrow", ".npy": "NumPy", ".npz": "NumPy archive", ".idx": "IDX",
    ".png": "PNG folder", ".xlsx": "Excel", ".xls": "old Excel", ".duckdb": "DuckDB",
}  # fmt: skip


def _declare(suffix: str, large: bool) -> None:
    name, ending = NAMES[suffix], " in blocks, as where it is larger than memory" if large else ""

    @trial(
        f"fuzz{suffix}{'-large' if large else ''}",
        FILE,
        f"`ppl data` on damaged {name} files{ending}",
        1_000,
        "files",
    )
    def body(tries: Tries) -> None:
        _fuzz(tries, suffix, _large if large else None)


for _suffix in NAMES:
    _declare(_suffix, False)
    if _suffix in (".csv", ".jsonl", ".parquet", ".arrow"):
        _declare(_suffix, True)
