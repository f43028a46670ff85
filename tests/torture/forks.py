"""A function, or a command line, in a forked process: a thousand of them cost one import of torch.

Only where the fault may lie in the imports themselves (locales, closed streams, -O) is Python started anew.
"""

import ctypes
import faulthandler
import io
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torture.trials import Tries

PPL = [sys.executable, "-c", "from ppl_models.cli import script; script()"]


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; minus the signal that ended it.
        out: what it wrote to stdout.
        err: what it wrote to stderr.
        late: whether it was ended because its time was up.
        peak: the most memory it had, in MiB, of which a fork shares much with its parent.
    """

    code: int
    out: str
    err: str
    late: bool = False
    peak: float = 0.0

    def fault(self, *codes: int) -> str | None:
        """What is wrong with a process that must end with one of these codes, and with one line if it failed.

        Notes may stand before that line. A signal, a traceback, an internal error and a time that is up are
        always wrong.
        """
        said = " / ".join(self.err.strip().splitlines()[-3:])[-400:]
        if self.late:
            return f"did not end ({said})"
        if self.code not in codes:
            return f"exit code {self.code} instead of {' or '.join(map(str, codes))} ({said})"
        if "Traceback" in self.err or "internal error" in self.err:
            return f"a traceback ({said})"
        if self.code and sum(line.startswith("ppl: ") for line in self.err.splitlines()) > 1:
            return f"more than one line ({said})"
        return None


class Forked:
    """A process that is running; `end` waits for it."""

    def __init__(
        self,
        body: Callable[[], int | None],
        *,
        cwd: Path | None = None,
        memory: int | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._child(body, cwd, memory, before)

    def _child(
        self,
        body: Callable[[], int | None],
        cwd: Path | None,
        memory: int | None,
        before: Callable[[], None] | None,
    ) -> None:
        code = 1
        try:
            os.setpgid(0, 0)
            faulthandler.disable()  # of pytest: what ends by a signal is told by its code
            with suppress(OSError, AttributeError):  # Linux: it goes with its parent
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            nowhere = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nowhere, 0)
            os.dup2(self._out.fileno(), 1)
            os.dup2(self._err.fileno(), 2)
            sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
            sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)
            if cwd is not None:
                os.chdir(cwd)
            if memory is not None:
                resource.setrlimit(resource.RLIMIT_AS, (_size() + memory,) * 2)
            if before is not None:
                before()
            code = body() or 0
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError, AttributeError):
                    stream.flush()
            os._exit(code)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def end(self, seconds: float = 120.0) -> Ended:
        """Wait until it ends, and end it if that takes longer."""
        until, late, pause = time.monotonic() + seconds, False, 0.001
        while True:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > until and not late:
                late = True
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        said = []
        for file in (self._out, self._err):
            file.seek(0)
            said.append(file.read().decode("utf-8", "replace"))
            file.close()
        return Ended(os.waitstatus_to_exitcode(status), *said, late, usage.ru_maxrss / 1024)


def forked(body: Callable[[], int | None], *, seconds: float = 120.0, **options) -> Ended:
    """Run a function in a forked process, to its end."""
    return Forked(body, **options).end(seconds)


def command(*arguments: object) -> Callable[[], int | None]:
    """A command line, as a function for a forked process."""

    def run() -> None:
        from ppl_models.cli import main

        sys.argv = ["ppl", *map(str, arguments)]
        main()

    return run


def ppl(*arguments: object, **options) -> Ended:
    """Run a command line in a forked process, to its end."""
    return forked(command(*arguments), **options)


def _size() -> int:
    """Bytes of address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def many(
    tries: Tries,
    one: Callable[[int], tuple[str | None, str]],
    *,
    seconds: float = 30.0,
    kept: Callable[[int], object] = lambda number: "",
    **options: Any,
) -> None:
    """Try the numbers 0 … `tries.number` − 1 in a forked process, one after the other.

    A line before each says which it is at, and one after it what came of it: if the process ends, or does not
    go on, it is known at which, and another process goes on with the next.

    Args:
        tries: where they are counted.
        one: tries a number; what is wrong, if anything, and what the outcome was.
        seconds: after which it does not go on any more.
        kept: where to find what went wrong.
        options: of `Forked`.
    """

    def worker() -> None:
        for number in range(first, tries.number):
            os.write(writing, f"{number}\n".encode())
            wrong, outcome = one(number)
            os.write(writing, f"{('wrong ' + ascii(wrong)) if wrong else outcome}"[:1000].encode() + b"\n")

    first = 0
    while first < tries.number:
        reading, writing = os.pipe()
        process = Forked(worker, **options)
        os.close(writing)
        first = _followed(tries, process, reading, seconds, kept) + 1
        os.close(reading)


def _followed(
    tries: Tries, process: Forked, reading: int, seconds: float, kept: Callable[[int], object]
) -> int:
    """Count what a worker tells, until it ends; the number that it was at."""
    at, rest, busy, late = -1, b"", False, False
    while True:
        if not late and not select.select([reading], [], [], seconds)[0]:
            late = True
            process.kill()
        piece = os.read(reading, 65536)
        if not piece:
            break
        *lines, rest = (rest + piece).split(b"\n")
        for line in map(bytes.decode, lines):
            busy = line.isdigit()
            if busy:
                at = int(line)
            elif line.startswith("wrong "):
                tries.tried(f"{at}: {line[6:]} {kept(at)}", "wrong")
            else:
                tries.tried(outcome=line)
    ended = process.end(5.0)
    if busy:
        how = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
        what = f"not done after {seconds:.0f} s" if late else f"{how} ({ended.err.strip()[-200:]})"
        tries.tried(f"{at}: {what} {kept(at)}", "hung" if late else "crashed")
    elif ended.code:
        tries.faults.append(f"after {at}: exit code {ended.code} ({ended.err[-300:]})")
    return at if at >= 0 else tries.number


def heard(*arguments: object) -> Ended:
    """Run a command line in this process; what it would have said."""
    from ppl_models.cli.root import ppl as group

    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    try:
        code = group._run("ppl", [*map(str, arguments)], {})
        return Ended(code, sys.stdout.getvalue(), sys.stderr.getvalue())
    finally:
        sys.stdout, sys.stderr = kept


def prepare() -> None:
    """Import what commands import. Nothing is run, as threads of libraries do not live through a fork."""
    import sklearn.ensemble
    import sklearn.model_selection  # noqa: F401

    import ppl_models

    for name in ppl_models.__all__:
        getattr(ppl_models, name)
