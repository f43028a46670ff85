"""Damaged files for each reader: success, or one line and exit code 65.

`ppl data FILE` runs in a forked process that reads one file after the other, and says which one it is at: if it
ends by a signal, or does not go on, the file is known, kept, and another process goes on with the next.
"""

import io
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

from torture import files
from torture.forks import Forked
from torture.trials import Tries, fault, trial

FILE = fault(
    "a damaged or malformed file",
    "it is read, or refused in one line with 65; nothing that is called ends the process by a signal",
)
SECONDS = 30.0
"""A file that takes longer hangs."""

MEMORY = 4 << 30


def _large() -> None:
    """Everything is larger than what is held in memory: read in blocks."""
    from ppl_models.data import spill, streaming

    streaming.STREAMED, streaming.HEAD, streaming.BLOCK, streaming.LINES = 0, 2_000, 1_500, 37
    spill.SPILL_BYTES = 0


def _fault_of(code: int, out: str, err: str) -> str | None:
    if code not in (0, 65):
        return f"exit code {code} ({err.strip()[-300:]})"
    if "Traceback" in err or "internal error" in err or (code and len(err.splitlines()) != 1):
        return f"not one line ({err.strip()[-300:]})"
    if not err.isprintable() and any(not c.isprintable() and c not in "\n" for c in err):
        return f"unprintable ({err!a})"
    return None


def _worker(
    path: Path, content: Callable[[int], bytes], first: int, last: int, told: int
) -> Callable[[], None]:
    """Reads files of these numbers; a line before each says which, and one after it what came of it."""

    def read() -> None:
        from ppl_models.cli.base import prepare_process
        from ppl_models.cli.root import ppl

        prepare_process()
        target = path.parent if path.suffix == ".png" else path
        for number in range(first, last):
            path.write_bytes(content(number))
            os.write(told, f"{number}\n".encode())
            sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
            code = ppl._run("ppl", ["data", str(target)], {})
            wrong = _fault_of(code, sys.stdout.getvalue(), sys.stderr.getvalue())
            said = f"wrong {ascii(wrong)}" if wrong else "refused" if code else "read"
            os.write(told, f"{said[:1000]}\n".encode())

    return read


def _fuzz(tries: Tries, suffix: str, before: Callable[[], None] | None = None) -> None:
    path = tries.place / ("images" if suffix == ".png" else "") / f"a{suffix}"
    path.parent.mkdir(exist_ok=True)
    files.sound(suffix)
    number = 0
    while number < tries.number:
        reading, writing = os.pipe()
        process = Forked(
            _worker(path, lambda i: files.damaged(suffix, i), number, tries.number, writing),
            memory=MEMORY,
            before=before,
        )
        os.close(writing)
        number = _followed(tries, process, reading, suffix)
        os.close(reading)


def _followed(tries: Tries, process: Forked, reading: int, suffix: str) -> int:
    """Count what a worker tells, until it ends; the number of the file to go on with."""
    at, rest, busy = -1, b"", False
    while True:
        if not select.select([reading], [], [], SECONDS)[0]:
            process.kill()
        piece = os.read(reading, 65536)
        if not piece:
            break
        *lines, rest = (rest + piece).split(b"\n")
        for line in map(bytes.decode, lines):
            if line.isdigit():
                at, busy = int(line), True
            elif line.startswith("wrong "):
                tries.tried(f"file {at}: {line[6:]} [{_kept(suffix, at)}]", "wrong")
                busy = False
            else:
                tries.tried(outcome=line)
                busy = False
    ended = process.end(5.0)
    if busy:
        what = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
        tries.tried(f"file {at}: {what} ({ended.err.strip()[-300:]}) [{_kept(suffix, at)}]", "crashed")
    elif ended.code:
        tries.faults.append(f"after file {at}: exit code {ended.code} ({ended.err[-300:]})")
    return at + 1


def _kept(suffix: str, number: int) -> Path:
    """The file that went wrong, made once more."""
    place = Path(os.environ.get("TORTURE_KEPT", "/tmp/torture-kept"))
    place.mkdir(exist_ok=True)
    kept = place / f"{number}{suffix}"
    kept.write_bytes(files.damaged(suffix, number))
    return kept


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
