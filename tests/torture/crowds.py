"""Many processes into one directory, many threads in one process, many fits after one another."""

import random
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from torture.forks import Forked, command, forked
from torture.kills import write_data
from torture.trials import Tries, fault, trial

CROWD = fault(
    "20 processes into one runs directory; 8 threads in one process",
    "all complete, names are distinct, what is global is as it was",
)
FORKED = fault("a process that is forked after a fit", "fits there work as well, and give the same numbers")
MEMORY = fault("200 fits in one process", "resident memory grows by 5 % at most after the first ten")


@trial("processes", CROWD, "20 times `ppl fit glm` at once, without --out", 20, "processes")
def processes(tries: Tries) -> None:
    write_data(tries.place)
    fit = command("fit", "glm", "table.csv", "--columns", "x,y", "--target", "x", "--quiet")
    running = [Forked(fit, cwd=tries.place) for _ in range(tries.number)]
    for number, process in enumerate(running):
        wrong = process.end(600).fault(0)
        tries.tried(wrong and f"process {number}: {wrong}")
    names = sorted(path.name for path in (tries.place / "runs").iterdir())
    expected = [f"glm-table-{i + 1:03d}" for i in range(tries.number)]
    if names != expected:
        tries.faults.append(f"the directory holds {names}")


def _globals() -> dict[str, Any]:
    """What a library must leave alone."""
    import pyro
    import torch

    return {
        "torch's generator": torch.random.get_rng_state().numpy().tobytes(),
        "NumPy's generator": str(np.random.get_state()),  # noqa: NPY002 - it is what must not change
        "Python's generator": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "threads of torch": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "parameter store": sorted(pyro.get_param_store().keys()),
        "validation of Pyro": pyro.settings.get("validate_distributions_pyro"),
        "validation of torch": torch.distributions.Distribution._validate_args,
        "handlers of signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "filters of warnings": list(warnings.filters),
        "printing of NumPy": str(np.get_printoptions()),
        "errors of NumPy": str(np.geterr()),
    }


def _models() -> list[tuple[Any, dict[str, Any]]]:
    import ppl_models as ppl

    return [
        (ppl.GMM(components=2, covariance="diag"), {"restarts": 1, "ignore": "c"}),
        (ppl.HMM(states=2), {"restarts": 1, "ignore": "c"}),
        (ppl.Logistic(), {"target": "c"}),
        (ppl.GLM(), {"target": "b"}),
        (ppl.SVM(), {"target": "c"}),
        (ppl.VAE(latent=1, hidden="4"), {"steps": 30, "ignore": "c"}),
        (ppl.MLP(hidden="4", members=2), {"steps": 30, "target": "c"}),
        (ppl.GAN(latent=1, hidden="4"), {"steps": 20, "ignore": "c"}),
    ]


def _table(rows: int = 60) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    a = rng.normal(3.0 * (np.arange(rows) // 15 % 2))
    return {"a": a, "b": rng.normal(a), "c": np.where(a + rng.normal(size=rows) > 1.5, "u", "v").tolist()}


@trial(
    "threads", CROWD, "8 threads, each fits another model, checks and predicts; and each alone", 8, "threads"
)
def threads(tries: Tries) -> None:
    def body() -> int:
        import ppl_models as ppl

        def work(i: int, found: dict[int, Any]) -> None:
            model, options = models[i % len(models)]
            try:
                fit = ppl.fit(model, table, **options)
                said = fit.sample(3) if model.name == "gan" else fit.score()
                found[i] = (fit.elbo, fit.check().verdict, said.to_numpy(object).tolist())
            except Exception as error:
                found[i] = f"{type(error).__name__}: {error}"

        warnings.simplefilter("ignore")
        models, table, alone, together = _models(), _table(), {}, {}
        for i in range(tries.number):
            work(i, alone)  # first, as libraries set filters of warnings when they are imported
        before = _globals()
        at_once = [threading.Thread(target=work, args=(i, together)) for i in range(tries.number)]
        for each in at_once:
            each.start()
        for each in at_once:
            each.join()
        changed = [name for name, value in _globals().items() if value != before[name]]
        for i in range(tries.number):
            name = models[i % len(models)][0].name
            if isinstance(together[i], str):
                print(f"{name}: {together[i]}")
            elif together[i][:2] != alone[i][:2] or str(together[i][2]) != str(alone[i][2]):
                print(f"{name}: {together[i][:2]} in a thread, {alone[i][:2]} alone")
            else:
                print("ok")
        changed += [
            name for name, value in _globals().items() if value != before[name] and name not in changed
        ]
        for name in changed:
            print(f"{name}: changed")
        return 0

    ended = forked(body, seconds=1800)
    _count(tries, ended.out, ended.fault(0))


def _count(tries: Tries, out: str, wrong: str | None) -> None:
    for line in out.splitlines():
        if line == "ok":
            tries.tried(outcome="the same numbers")
        elif line.endswith(": changed"):
            tries.faults.append(line)
        elif ": " in line:
            tries.tried(line)
    if wrong:
        tries.faults.append(wrong)


@trial(
    "forks", FORKED, "each model is fitted, then in a fork, in a process with a forked parent", 8, "models"
)
def forks(tries: Tries) -> None:
    def body() -> int:
        import ppl_models as ppl

        warnings.simplefilter("ignore")
        for model, options in _models()[: tries.number]:
            here = ppl.fit(model, _table(), **options).elbo
            there = forked(
                lambda m=model, o=options: print(repr(ppl.fit(m, _table(), **o).elbo)), seconds=120
            )
            said = there.out.strip()
            print(
                "ok" if said == repr(here) else f"{model.name}: {here!r}, in a fork {said or there.fault(0)}"
            )
        return 0

    ended = forked(body, seconds=1800)
    _count(tries, ended.out, ended.fault(0))


def _resident() -> float:
    """Resident memory of this process, in MiB."""
    import os

    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _declare_memory(index: int, name: str) -> None:
    @trial(
        f"memory-{name}",
        MEMORY,
        f"{name} is fitted, scored and saved, resident memory after each, which goes up and down with "
        "what malloc keeps: growth of its median from fits 6 to 15 to the last ten",
        200,
        "fits",
    )
    def body(tries: Tries) -> None:
        def fits() -> int:
            import gc

            import ppl_models as ppl

            warnings.simplefilter("ignore")
            model, options = _models()[index]
            for _ in range(tries.number):
                fit = ppl.fit(model, _table(), **options | ({"steps": 3} if "steps" in options else {}))
                fit.score()
                fit.save(tries.place / "run", force=True)
                del fit
                gc.collect()
                print(f"{_resident():.2f}", flush=True)
            return 0

        ended = forked(fits, seconds=3600)
        sizes = [float(line) for line in ended.out.split()]
        tries.done = len(sizes)
        if wrong := ended.fault(0):
            tries.faults.append(wrong)
        if len(sizes) > 15:
            before, after = (float(np.median(some)) for some in (sizes[5:15], sizes[-10:]))
            growth, most = after / before - 1, max(sizes[10:])
            said = f"growth {100 * growth:.1f} %, {before:.0f} MiB after ten, {most:.0f} at most"
            tries.seen[said] = 1
            if growth > 0.05:
                tries.faults.append(said)


for _index, _name in enumerate(("gmm", "hmm", "logistic", "glm", "svm", "vae", "mlp")):
    _declare_memory(_index, _name)
