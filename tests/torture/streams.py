"""Streams that are closed, full or gone; processes without a locale, a home or docstrings: every command."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from torture.forks import PPL, Ended, command, forked, ppl
from torture.kills import write_data
from torture.trials import Tries, fault, trial

STREAMS = fault(
    "stdin, stdout or stderr closed, full, or a pipe that is gone; SIGPIPE ignored",
    "works, or one line and its exit code",
)
BARE = fault(
    "`python -O`, `-OO`, a POSIX locale, no HOME, a temporary directory that is not there",
    "works, or one line and its exit code",
)

COMMANDS = {
    "models": "models",
    "data": "data table.csv",
    "data -": "data -",
    "fit": "fit glm table.csv --target x --out other --force",
    "resume": "resume run",
    "runs": "runs",
    "compare": "compare --help",
    "recommend": "recommend --help",
    "select": "select --help",
    "sbc": "sbc --help",
    "serve": "serve --help",
    "completion": "completion bash",
    "new": "new thing --force",
    "export": "export run --to onnx --output graph",
    "report": "report run --output page.html",
    "plot": "plot run --output plot.png",
    **{verb: f"{verb} run" for verb in ("predict", "score", "evaluate", "forecast", "impute", "sample")},
    **{verb: f"{verb} run" for verb in ("reconstruct", "transform", "anomalies", "augment", "backtest")},
    "summary": "summary run",
    "check": "check run",
}
"""Every command there is, as briefly as it can be had."""

CODES = (0, 2, 3, 65, 73, 74)


def _other(number: int, path: str, flags: int) -> Callable[[], None]:
    """Put another file in the place of a descriptor, as a shell does before Python starts."""

    def put() -> None:
        handle = os.open(path, flags)
        os.dup2(handle, number)
        _reopen(number)

    return put


def _closed(number: int) -> Callable[[], None]:
    def close() -> None:
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)

    return close


def _gone(number: int) -> Callable[[], None]:
    def put() -> None:
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, number)
        os.close(writing)
        _reopen(number)

    return put


def _reopen(number: int) -> None:
    if number:
        name = ("stdin", "stdout", "stderr")[number]
        setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))


def _ignoring() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    _gone(1)()


SETTINGS: dict[str, Callable[[], None]] = {
    "stdin closed": _closed(0),
    "stdout closed": _closed(1),
    "stderr closed": _closed(2),
    "stdout full": _other(1, "/dev/full", os.O_WRONLY),
    "stderr full": _other(2, "/dev/full", os.O_WRONLY),
    "stdout gone": _gone(1),
    "stderr gone": _gone(2),
    "stdout gone, SIGPIPE ignored": _ignoring,
}


def _run(place: Path) -> None:
    write_data(place)
    fit = "fit gmm table.csv --columns x,y --covariance diag --components 1 --restarts 1 --out run --quiet"
    if wrong := ppl(*fit.split(), cwd=place).fault(0):
        raise AssertionError(wrong)


@trial(
    "streams",
    STREAMS,
    f"each of {len(COMMANDS)} commands with each of: {', '.join(SETTINGS)}",
    len(COMMANDS) * len(SETTINGS),
    "processes",
)
def streams(tries: Tries) -> None:
    _run(tries.place)
    cases = [(s, c) for c in COMMANDS for s in SETTINGS]
    tries.random.shuffle(cases)
    for setting, name in cases[: tries.number]:
        ended = forked(
            command(*COMMANDS[name].split()), cwd=tries.place, before=SETTINGS[setting], seconds=120
        )
        wrong = ended.fault(*CODES)
        if (
            not wrong
            and "stdout full" in setting
            and ended.code == 0
            and name in ("data", "summary", "predict")
        ):
            wrong = "exit code 0, and what it had to say is lost"
        if not wrong and "gone" in setting and "stdout" in setting and ended.code not in (0, 2, 65):
            wrong = ended.fault(0)
        tries.tried(wrong and f"{name}, {setting}: {wrong}", f"exit code {ended.code}")


ENVIRONMENTS: dict[str, tuple[list[str], dict[str, str | None]]] = {
    "-O": (["-O"], {}),
    "-OO": (["-OO"], {}),
    "POSIX": ([], {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
    "no HOME": ([], {"HOME": None, "USER": None, "LOGNAME": None, "XDG_CACHE_HOME": None}),
    "HOME that is not there": ([], {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent/c"}),
    "TMPDIR that is not there": ([], {"TMPDIR": "/nonexistent"}),
    "no terminal, 20 columns": ([], {"TERM": "dumb", "COLUMNS": "20"}),
}


@trial(
    "bare",
    BARE,
    f"each of {len(COMMANDS)} commands, Python started anew, with each of: {', '.join(ENVIRONMENTS)}",
    len(COMMANDS) * len(ENVIRONMENTS),
    "processes",
)
def bare(tries: Tries) -> None:
    _run(tries.place)
    cases = [(s, c) for c in COMMANDS for s in ENVIRONMENTS]
    tries.random.shuffle(cases)
    for setting, name in cases[: tries.number]:
        flags, changes = ENVIRONMENTS[setting]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        for key, value in changes.items():
            environment.pop(key, None)
            if value is not None:
                environment[key] = value
        done = subprocess.run(
            [PPL[0], *flags, *PPL[1:], *COMMANDS[name].split()],
            cwd=tries.place, env=environment, capture_output=True, text=True, timeout=300,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        ended = Ended(done.returncode, done.stdout, done.stderr)
        tries.tried(
            (wrong := ended.fault(*CODES)) and f"{name}, {setting}: {wrong}", f"exit code {ended.code}"
        )
