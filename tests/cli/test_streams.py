"""Streams that are closed or gone, models that print, and signals that are swallowed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PPL = [sys.executable, "-c", "from ppl_models.cli import script; script()"]

LOUD = '''
from dataclasses import dataclass
import os
import pyro, pyro.distributions as dist
import ppl_models as ppl

print("imported")
os.write(1, b"imported, to the descriptor")

@dataclass(frozen=True)
class Loud(ppl.PyroModel):
    """A mean."""

    def model(self, data):
        print("executed")
        os.write(1, b"executed, to the descriptor")
        m = pyro.sample("m", dist.Normal(0.0, 10.0))
        with pyro.plate("rows", len(data["x"])):
            pyro.sample("x", dist.Normal(m, 1.0), obs=data["x"])
'''

STUBBORN = '''
from dataclasses import dataclass
import time
import ppl_models as ppl

@dataclass(frozen=True)
class Stubborn(ppl.PyroModel):
    """Goes round for ever."""

    def model(self, data):
        open("there", "w").close()
        while True:
            try:
                time.sleep(0.01)
            except BaseException:
                pass
'''


def shell(line: str, **env: str) -> subprocess.CompletedProcess:
    program = " ".join(f"'{part}'" for part in PPL)
    return subprocess.run(
        ["bash", "-c", line.replace("ppl", program, 1)],
        capture_output=True, text=True, timeout=60, env=os.environ | env,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("ppl data - <&-", 65, "stdin: is closed"),
        ("ppl data data.csv >&-", 73, "standard output is closed"),
        ("ppl data data.csv 2>&-", 0, ""),
        ("ppl data data.csv > /dev/full", 73, "standard output cannot be written"),
        ("ppl --version > /dev/full", 73, "standard output cannot be written"),
        ("ppl data data.csv --encoding undefined", 2, "'undefined' is not known"),
        ("ppl fit '~nobody-is-called-this/m.py:M' data.csv", 2, "cannot be a file"),
        ("ppl data '~nobody-is-called-this/a.csv'", 65, "no such file"),
        ("PYTHONOPTIMIZE=2 ppl data data.csv", 2, "use -O"),
        ("mkfifo pipe.csv; ppl data pipe.csv", 65, "is a pipe or a device"),
    ],
)
def test_what_is_not_there_is_one_line(line, code, said):
    done = shell(line)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == (code != 0)


def test_without_a_locale():
    Path("ünï.csv").write_text("größe,x\n1.5,2.5\n2.5,3.5\n", encoding="utf-8")
    done = shell("ppl data ünï.csv", LC_ALL="POSIX", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_what_a_model_prints_is_no_result():
    Path("loud.py").write_text(LOUD)
    done = shell("ppl fit loud.py:Loud data.csv --restarts 1 --steps 5 --json -q")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "loud"
    for said in ("imported\n", "imported, to", "executed\n", "executed, to"):
        assert said in done.stderr


@pytest.mark.slow
def test_a_second_signal_ends_what_swallows_the_first():
    Path("stubborn.py").write_text(STUBBORN)
    process = subprocess.Popen([*PPL, "fit", "stubborn.py:Stubborn", "data.csv"], stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not Path("there").exists() and time.monotonic() < until:
        time.sleep(0.05)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, b"ppl: stopped at once\n")
