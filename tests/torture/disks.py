"""Disks that are full, and directories that may not be written to."""

import os
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from torture.forks import command, forked, heard, ppl
from torture.kills import write_data
from torture.trials import Tries, fault, trial

FULL = fault(
    "a full disk, a read-only directory",
    "one line and exit code 73, what was there before is intact, nothing half-written is left",
)

WRITERS = {
    "fit --out": "fit glm table.csv --target x --out run --force --quiet",
    "predict --output": "predict run --output out/old.csv",
    "predict --output .parquet": "predict run --output out/old.parquet",
    "sample --output .jsonl": "sample run --output out/old.jsonl",
    "report": "report run --output out/old.html",
    "plot": "plot run --output out/old.png",
}
NOBODY = 65534


def _prepared(place: Path) -> dict[str, bytes]:
    """A run and older outputs; what each file holds."""
    write_data(place)
    for line in ("fit glm table.csv --target x --out run --quiet", *list(WRITERS.values())[1:]):
        (place / "out").mkdir(exist_ok=True)
        ppl(*line.split(), cwd=place)
    return _held(place)


def _held(place: Path) -> dict[str, bytes]:
    return {str(p.relative_to(place)): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}


def _tried(tries: Tries, name: str, held: dict[str, bytes], before: Callable[[], None], what: str) -> None:
    ended = forked(command(*WRITERS[name].split()), cwd=tries.place, before=before)
    wrong, now = ended.fault(0, 73), _held(tries.place)
    if not wrong and ended.code == 73 and now != held:
        unlike = sorted(k for k in held.keys() | now.keys() if held.get(k) != now.get(k))
        unlike = [k for k in unlike if not k.endswith(".ppl-lock")]
        wrong = f"refused, and not as before: {unlike[:6]}" if unlike else None
    tries.tried(wrong and f"{name}, {what}: {wrong}", f"exit code {ended.code}")
    if ended.code == 0 or wrong:
        for each in sorted(now.keys() - held.keys()):
            (tries.place / each).unlink(missing_ok=True)
        for each, content in held.items():
            (tries.place / each).parent.mkdir(parents=True, exist_ok=True)
            (tries.place / each).write_bytes(content)


@trial("disk-full", FULL, f"RLIMIT_FSIZE at random sizes for: {', '.join(WRITERS)}", 120, "writes")
def full(tries: Tries) -> None:
    held = _prepared(tries.place)
    largest = max(map(len, held.values()))
    for number in range(tries.number):
        name = list(WRITERS)[number % len(WRITERS)]
        size = 0 if number < len(WRITERS) else int(largest ** tries.random.uniform(0.2, 1.0))

        def limit(size: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        _tried(tries, name, held, limit, f"{size} bytes")


@trial(
    "read-only",
    FULL,
    f"directories without permission to write, as another user, for: {', '.join(WRITERS)}",
    6,
    "writes",
)
def read_only(tries: Tries) -> None:
    held = _prepared(tries.place)
    for directory in [tries.place, *(p for p in tries.place.rglob("*") if p.is_dir())]:
        directory.chmod(0o555)
    tries.place.parent.chmod(0o755) if tries.place.parent.name.startswith("read-only") else None

    def other(line: str) -> None:
        if os.geteuid() == 0:
            with TemporaryDirectory() as elsewhere:  # as nobody imports where Python lies below /root
                heard(
                    *line.replace("--out ", f"--out {elsewhere}/").replace(" out/", f" {elsewhere}/").split()
                )
            os.setgid(NOBODY)
            os.setuid(NOBODY)

    try:
        for name in list(WRITERS)[: tries.number]:
            line = WRITERS[name]
            ended = forked(command(*line.split()), cwd=tries.place, before=partial(other, line))
            wrong = ended.fault(73) or (None if _held(tries.place) == held else "not as before")
            tries.tried(wrong and f"{name}: {wrong}", f"exit code {ended.code}")
    finally:
        for directory in [tries.place, *(p for p in tries.place.rglob("*") if p.is_dir())]:
            directory.chmod(0o755)
