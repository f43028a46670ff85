"""User-defined models that print, exit, loop, raise, and change what is global."""

import shutil
import signal
import time

from torture.forks import Forked, command
from torture.kills import write_data
from torture.trials import Tries, fault, trial

STRANGERS = fault(
    "a user's model that prints, exits, loops, raises or changes what is global",
    "its output is on stderr, results are clean, what it raises is one line; the second Ctrl-C leaves",
)

FILE = '''
from dataclasses import dataclass
import os, sys, time, warnings
import numpy as np
import pyro, pyro.distributions as dist, torch
import ppl_models as ppl
{top}
@dataclass(frozen=True)
class Stranger(ppl.PyroModel):
    """A mean."""

    def model(self, data):
        {before}
        m = pyro.sample("m", dist.Normal(0.0, 10.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(m, 1.0), obs=data["x"])
        {after}
'''

HABITS = {
    "prints": ("print('x' * 100)", 0),
    "writes to descriptor 1": ("os.write(1, b'noise')", 0),
    "warns": ("warnings.warn('noise')", 0),
    "seeds": ("torch.manual_seed(0); np.random.seed(0)", 0),
    "changes directory": ("os.chdir('/')", 0),
    "changes the default dtype": ("torch.set_default_dtype(torch.float32)", 0),
    "clears the parameter store": ("pyro.clear_param_store()", 0),
    "ignores warnings": ("warnings.simplefilter('error')", 0),
    "exits": ("sys.exit(7)", None),
    "exits with a word": ("sys.exit('enough')", None),
    "raises": ("raise RuntimeError('two\\nlines')", None),
    "raises without a word": ("raise Exception", None),
    "raises what is no exception": ("raise KeyboardInterrupt", None),
    "raises what nobody can print": ("raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})()", None),
    "recurses": ("self.model(data)", None),
    "runs out of memory": ("raise MemoryError", None),
    "divides by zero": ("1 / 0", None),
    "asks for a column that is not there": ("data['y z']", None),
    "closes stdout": ("sys.stdout.close()", None),
    "closes descriptor 1": ("os.close(1)", None),
    "gives a nan": ("pyro.factor('f', torch.tensor(float('nan')))", None),
    "uses a name twice": ("pyro.sample('m', dist.Normal(0.0, 1.0))", None),
    "fails at the end of every other call": (
        "if time.time_ns() // 1000 % 2: raise OSError('now and then')",
        None,
    ),
}
"""What a model does, and the exit code that it must have, where there is but one."""


@trial("strangers", STRANGERS, f"a model that: {'; '.join(HABITS)}", len(HABITS), "models")
def strangers(tries: Tries) -> None:
    write_data(tries.place)
    for name, (line, code) in list(HABITS.items())[: tries.number]:
        (tries.place / "stranger.py").write_text(FILE.format(top="", before=line, after="pass"))
        fit = (
            "fit stranger.py:Stranger table.csv --columns x --restarts 1 --steps 20 --json -q --force --out r"
        )
        ended = Forked(command(*fit.split()), cwd=tries.place).end(120)
        codes = (code,) if code is not None else (0, 1, 2, 7, 65, 73, 130)
        wrong = ended.fault(*codes)
        if not wrong and "internal error" in ended.err:
            wrong = ended.err[-300:]
        if not wrong and ended.out and not (ended.out.startswith("{") and ended.out.rstrip().endswith("}")):
            wrong = f"results are not clean: {ended.out[:100]!a}"
        if not wrong and not ended.code and not (tries.place / "r" / "run.json").exists():
            wrong = "there is no run where it was to be"
        shutil.rmtree(tries.place / "r", ignore_errors=True)
        tries.tried(wrong and f"{name}: {wrong}", f"exit code {ended.code}")


LOOPS = {
    "sleeps": "time.sleep(1000)",
    "loops in Python": "while True: pass",
    "loops in torch": "while True: torch.ones(200, 200) @ torch.ones(200, 200)",
    "swallows what is raised": "while True:\n            try: time.sleep(0.01)\n"
    "            except BaseException: pass",
}


@trial(
    "loops", STRANGERS, f"a model that {'; '.join(LOOPS)}; two signals a second apart", 2 * len(LOOPS), "fits"
)
def loops(tries: Tries) -> None:
    write_data(tries.place)
    cases = [(name, number) for name in LOOPS for number in (signal.SIGINT, signal.SIGTERM)]
    for name, number in cases[: tries.number]:
        line = f"open('there', 'w').close()\n        {LOOPS[name]}"
        (tries.place / "stranger.py").write_text(FILE.format(top="", before=line, after="pass"))
        fit = command("fit", "stranger.py:Stranger", "table.csv", "--columns", "x", "--out", "run")
        process, until = Forked(fit, cwd=tries.place), time.monotonic() + 100
        while not (tries.place / "there").exists() and time.monotonic() < until:
            time.sleep(0.05)
        for _ in range(2):
            process.kill(number)
            time.sleep(1.0)
        wrong = process.end(60).fault(128 + number)
        tries.tried(wrong and f"{name}: {wrong}")
        (tries.place / "there").unlink(missing_ok=True)
