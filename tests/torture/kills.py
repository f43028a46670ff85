"""kill -9, SIGTERM and Ctrl-C at random moments of a fit, which then goes on to the same numbers."""

import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ppl_models import store
from ppl_models.errors import RunError
from torture.forks import Ended, Forked, command, ppl
from torture.trials import Tries, fault, trial

KILLED = fault(
    "killed (-9) at any moment, then resumed",
    "the last complete run or checkpoint loads; what resumes has the numbers of a fit that was left alone",
)
STOPPED = fault(
    "Ctrl-C or SIGTERM at any moment",
    "the step is finished, the command that goes on is printed, 130 or 143; resumed, the same numbers",
)

COMPARED = ("params.safetensors", "draws.safetensors")
"""Files of a run that must be the same to the bit."""

MEAN = '''
from dataclasses import dataclass
import pyro, pyro.distributions as dist
import ppl_models as ppl

@dataclass(frozen=True)
class Mean(ppl.PyroModel):
    """A mean and a scale."""

    def model(self, data):
        m = pyro.sample("m", dist.Normal(0.0, 10.0))
        s = pyro.sample("s", dist.HalfNormal(5.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(m, s), obs=data["x"])
'''

FITS: dict[str, list[str]] = {
    "gmm": "gmm table.csv --columns x,y --components 2 --covariance diag --restarts 2".split(),
    "gmm-batches": "gmm table.csv --columns x,y --components 2 --restarts 1 --steps 99".split()
    + ["--batch-size", "20"],
    "hmm": "hmm table.csv --columns x,y --states 2 --restarts 2".split(),
    "logistic": "logistic table.csv --target kind".split(),
    "glm": "glm table.csv --target count".split(),
    "svm": "svm table.csv --target kind --kernel rbf --inducing 10".split(),
    "vae": "vae table.csv --columns x,y --latent 1 --hidden 8 --steps 300 --batch-size 16".split(),
    "gan": "gan table.csv --columns x,y --latent 2 --hidden 8 --steps 120 --batch-size 16".split(),
    "transformer": "transformer table.csv --columns x,kind --width 8 --layers 1 --heads 1 --orders 1".split()
    + ["--steps", "80"],
    "mlp": "mlp table.csv --target kind --hidden 8 --members 2 --steps 200 --batch-size 16".split(),
    "cnn": "cnn images.npz --target y --members 2 --steps 40 --batch-size 16".split(),
    "rnn": "rnn table.csv --columns x --units 4 --members 2 --steps 60".split(),
    "own-model": "mean.py:Mean table.csv --columns x --steps 200 --restarts 1".split(),
}
"""Small fits, of a second or two, of everything that `ppl resume` goes on with."""


def write_data(place: Path) -> None:
    """The files that `FITS` name."""
    rng = np.random.default_rng(0)
    level = np.repeat([0.0, 4.0, 0.0, 4.0], 20)
    table = pd.DataFrame(
        {
            "x": rng.normal(level).round(3),
            "y": rng.normal(-level).round(3),
            "count": rng.poisson(1 + level),
            "kind": np.where(rng.normal(level - 2, 2) > 0, "u", "v"),
        }
    )
    table.to_csv(place / "table.csv", index=False)
    images = rng.integers(0, 99, (60, 8, 8)).astype(np.uint8)
    labels = rng.integers(0, 2, 60)
    images[labels == 1, :4] += 99
    np.savez(place / "images.npz", X=images, y=labels)
    (place / "mean.py").write_text(MEAN)


def fit_arguments(name: str, out: str) -> list[str]:
    """The command line of a fit that keeps a checkpoint all the time."""
    from ppl_models import PyroModel
    from ppl_models.registry import find

    kind = FITS[name][0]
    steps = "checkpoint_every" in (PyroModel if ":" in kind else find(kind)).settings.__dataclass_fields__
    return ["fit", *FITS[name], *(["--checkpoint-every", "0.02"] if steps else []), "--out", out, "--quiet"]


def numbers(run: Path) -> dict[str, str]:
    """The checksums of what a fit learned, and its ELBO."""
    manifest = store.read_run(run).manifest
    found = {name: manifest["files"][name]["sha256"] for name in COMPARED if name in manifest["files"]}
    return found | {"elbo": repr(manifest["elbo"]), "status": manifest["status"]}


def _own(name: str) -> list[str]:
    return ["--model", FITS[name][0]] if ":" in FITS[name][0] else []


def _reference(tries: Tries, name: str) -> tuple[dict[str, str], float]:
    """The numbers of a fit that is left alone, and how long it takes."""
    write_data(tries.place)
    ppl(*fit_arguments(name, "warm"), cwd=tries.place)  # kernels are compiled into their cache
    began = time.monotonic()
    ended = ppl(*fit_arguments(name, "never"), cwd=tries.place)
    if wrong := ended.fault(0):
        raise AssertionError(f"the fit that is left alone: {wrong}")
    lasts = time.monotonic() - began
    return numbers(tries.place / "never"), lasts


def _stopped(tries: Tries, name: str, out: str, after: float, number: int) -> Ended:
    process = Forked(command(*fit_arguments(name, out)), cwd=tries.place)
    time.sleep(after)
    process.kill(number)
    return process.end()


def _goes_on(tries: Tries, name: str, out: str, never: dict[str, str]) -> tuple[str | None, str]:
    """What is wrong with what a fit that was stopped left, if anything, and what it was."""
    run, place = tries.place / out, tries.place
    left = [each.name for each in place.iterdir() if out in each.name]
    if not run.exists():
        again = ppl(*fit_arguments(name, out), cwd=place)
        if wrong := again.fault(0):
            return f"nothing was written, and the same command does not work ({left}): {wrong}", "nothing yet"
        return (None if numbers(run) == never else _differs(run, never)), "nothing yet"
    try:
        store.read_run(run).verify()
    except RunError as error:
        return f"what is there is not whole ({left}): {error}", "damaged"
    state = store.read_run(run).manifest["status"]
    if state != "interrupted" and not (wrong := _unlike(run, never)):
        return None, "already saved"
    shown = ppl("check", out, "--json", *_own(name), cwd=place)
    if wrong := shown.fault(0, 3, 74):  # 74: networks that have no predictions yet, which it says
        return f"`ppl check` of what is there ({state}): {wrong}", state
    resumed = ppl("resume", out, "--quiet", *_own(name), cwd=place)
    if wrong := resumed.fault(0):
        return f"`ppl resume` of what is there ({state}): {wrong}", state
    return _unlike(run, never), "went on from a checkpoint"


def _unlike(run: Path, never: dict[str, str]) -> str | None:
    return None if numbers(run) == never else _differs(run, never)


def _differs(run: Path, never: dict[str, str]) -> str:
    now = numbers(run)
    unlike = [
        f"{key} {never.get(key, '')[:24]} → {now.get(key, '')[:24]}"
        for key in never
        if now.get(key) != never[key]
    ]
    return f"not the numbers of a fit that was left alone: {', '.join(unlike)}"


def _tidy(place: Path, out: str) -> None:
    for each in place.iterdir():
        if out in each.name:
            shutil.rmtree(each) if each.is_dir() else each.unlink()


def _declare(name: str) -> None:
    @trial(
        f"kill-{name}",
        KILLED,
        f"`ppl fit {' '.join(FITS[name])}`, killed after a random share of its time, then `ppl resume`",
        50,
        "kills",
    )
    def kills(tries: Tries) -> None:
        never, lasts = _reference(tries, name)
        for turn in range(tries.number):
            ended = _stopped(tries, name, "run", tries.random.uniform(0, 1.05 * lasts), signal.SIGKILL)
            wrong, outcome = _goes_on(tries, name, "run", never)
            if ended.code not in (-signal.SIGKILL, 0):
                wrong = f"the fit itself: {ended.fault(0)}"
            tries.tried(wrong and f"kill {turn}: {wrong}", outcome)
            _tidy(tries.place, "run")

    @trial(
        f"stop-{name}",
        STOPPED,
        f"`ppl fit {FITS[name][0]} …`, SIGINT or SIGTERM after a random share of its time, then `ppl resume`",
        10,
        "signals",
    )
    def stops(tries: Tries) -> None:
        never, lasts = _reference(tries, name)
        for turn in range(tries.number):
            number = (signal.SIGINT, signal.SIGTERM)[turn % 2]
            ended = _stopped(tries, name, "run", tries.random.uniform(0, lasts), number)
            wrong, outcome = _told(ended, number, tries.place / "run"), "ended before the signal"
            if ended.code and not wrong:
                wrong, outcome = _goes_on(tries, name, "run", never)
            tries.tried(wrong and f"signal {turn}: {wrong}", outcome)
            _tidy(tries.place, "run")


def _told(ended: Ended, number: int, run: Path) -> str | None:
    if ended.code == 0:
        return None
    if wrong := ended.fault(128 + number):
        return wrong
    if run.exists() and not re.search(r"ppl resume \S*run", ended.err):
        return f"there is a run, and no command to go on ({ended.err.strip()})"
    return None


for _name in FITS:
    _declare(_name)
