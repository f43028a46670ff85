"""`ppl` as a process: pipes, terminals, signals and encodings."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PPL = [sys.executable, "-c", "from ppl_models.cli import script; script()"]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX")


def ppl(*args, env=None, **settings) -> subprocess.CompletedProcess:
    settings = {"capture_output": True, "text": True, "timeout": 120} | settings
    return subprocess.run([*PPL, *map(str, args)], env={**os.environ, **(env or {})}, **settings)


def test_from_a_clone():
    script = Path(__file__).resolve().parents[2] / "cli.py"
    done = subprocess.run([sys.executable, script, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ppl ")


@POSIX
@pytest.mark.parametrize(
    "args", ["data wide.csv", *(pytest.param(a, marks=pytest.mark.slow) for a in ("models", "runs --json"))]
)
def test_a_closed_pipe_is_quiet(args, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    names = [f"column_{i}" for i in range(3000)]  # more than a pipe holds
    Path("wide.csv").write_text(
        "\n".join([",".join(names), *(",".join([f"{j}.5"] * 3000) for j in range(3))])
    )
    line = " ".join(f"'{part}'" for part in [*PPL, *args.split()])
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line} | head -1 > /dev/null"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        ["bash", "-c", f"{line} | true; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "env", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_any_encoding(env):
    Path("ünï.csv").write_text(
        "größe,x\n" + "".join(f"{i % 5}.5,{i % 3}.25\n" for i in range(30)), encoding="utf-8"
    )
    done = ppl("data", "ünï.csv", env=env, text=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    done = ppl("data", "schön.csv", env=env, text=False)
    assert done.returncode == 65
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") == 1


def in_terminal(args: list[str], columns: int, env: dict[str, str]) -> tuple[int, str]:
    """Run `ppl` in a terminal of its own; its exit code and all that was drawn."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    whole = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")} | env
    process = subprocess.Popen([*PPL, *args], stdin=theirs, stdout=theirs, stderr=theirs, env=whole)
    os.close(theirs)
    drawn = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        drawn += piece
    os.close(ours)
    return process.wait(), drawn.decode()


@pytest.mark.slow
@POSIX
def test_a_terminal():
    code, drawn = in_terminal(["fit", "hmm", "data.csv", "--restarts", "1"], 40, {"TERM": "xterm-256color"})
    assert code == 0, drawn
    assert "restarts" in drawn
    assert "checking and saving" in drawn
    code, drawn = in_terminal(["runs"], 20, {"TERM": "dumb"})
    assert code == 0
    assert "\x1b" not in drawn
    assert "name: hmm-data-001" in drawn


@POSIX
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal(number, code):
    """Wherever it arrives, there is one line, and either a whole run or none."""
    process = subprocess.Popen(
        [*PPL, "fit", "hmm", "-", "--out", "r"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 60
    while not Path(".r.ppl-lock").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(0.2)  # it waits for stdin, or imports torch
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert out == b""
    assert err.decode().splitlines() == ["ppl: stopped before there was anything to save"]
    assert not Path("r").exists()
    assert not Path(".r.ppl-lock").exists()


def test_the_end_is_quick_and_runs_what_is_registered(tmp_path):
    """Before the interpreter takes its modules apart, but after `atexit` and the last line."""
    code = """
import atexit, pathlib, sys
class Late:
    def __del__(self, mark=pathlib.Path(sys.argv[1])):
        mark.touch()
late = Late()
atexit.register(print, "registered")
from ppl_models.cli import {0}
sys.argv = ["ppl", *sys.argv[2:]]
{0}()
"""
    for name in ("script", "main"):
        for arguments, status in ((["--version"], 0), (["--nothing"], 2)):
            mark = tmp_path / f"{name}{status}"
            done = subprocess.run(
                [sys.executable, "-c", code.format(name), mark, *arguments], capture_output=True, text=True
            )
            assert (done.returncode, done.stdout.splitlines()[-1]) == (status, "registered")
            assert done.stdout.startswith("ppl ") == (status == 0)
            assert mark.exists() == (name == "main")
