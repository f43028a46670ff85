"""Small jobs: whole processes of `ppl`, and fits of a few thousand rows beside scikit-learn and hmmlearn.

    python benchmarks/small.py [--repeat 5] [-o benchmarks/results/small.md]

Wall time of whole processes, from the shell to the exit; of fits and predictions within one process that
has imported everything, each the median of some repeats in turn, ours and theirs, on one thread each. CPU
time beside it is what is used on a machine that has other work to do. Peers that are not installed are left
out.
"""

import argparse
import importlib.metadata
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PPL_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402

ROOT = Path(__file__).parent.parent


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def blobs(rows: int, columns: int, components: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 4, (components, columns))
    return centres[rng.integers(0, components, rows)] + rng.normal(size=(rows, columns))


def chain(rows: int, columns: int, states: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres, state, path = rng.normal(0, 3, (states, columns)), 0, []
    for _ in range(rows):
        if rng.random() < 0.05:
            state = int(rng.integers(states))
        path.append(state)
    return centres[path] + rng.normal(size=(rows, columns))


def csv(path: Path, values: np.ndarray, labels: np.ndarray | None = None) -> Path:
    names = [f"x{i}" for i in range(values.shape[1])] + (["y"] if labels is not None else [])
    with path.open("w") as file:
        print(",".join(names), file=file)
        for i, row in enumerate(values):
            print(",".join([*map(str, row), *([labels[i]] if labels is not None else [])]), file=file)
    return path


def process(*arguments: str) -> tuple[float, float]:
    """Wall and CPU seconds of Python with these arguments; bytecode is cached, as it is once installed."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=environment,
    )  # fmt: skip
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


PEER = """
import numpy as np
x = np.loadtxt({path!r}, delimiter=",", skiprows=1)
from {module} import {name}
print({name}({states}, random_state=0).fit(x).score(x))
"""


def processes(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """What is timed: its name, and the arguments of Python; the runs are fitted first."""
    cli = str(ROOT / "cli.py")
    yield "`import torch`", ["-c", "import torch"]
    yield "`ppl --help`", [cli, "--help"]
    rng = np.random.default_rng(0)
    x = blobs(300, 3, 3, 1)
    label = np.where(x[:, 0] + rng.normal(size=300) > 0, "yes", "no")
    small, one = csv(folder / "small.csv", x), csv(folder / "one.csv", x[:1])
    labelled = csv(folder / "labelled.csv", x, label)
    series = csv(folder / "series.csv", chain(300, 2, 3, 2))
    first = csv(folder / "first.csv", chain(300, 2, 3, 2)[:1])
    fits = {
        "gmm": ["gmm", str(small), "--components", "3"],
        "hmm": ["hmm", str(series), "--states", "3"],
        "logistic": ["logistic", str(labelled), "--target", "y"],
    }
    for name, arguments in fits.items():
        out = str(folder / name)
        yield f"`ppl fit {name}`, 300 rows", [cli, "fit", *arguments, "-q", "--force", "--out", out]
    quakes = [str(ROOT / "examples" / "earthquakes.csv"), "--time", "year"]
    out = str(folder / "quakes")
    yield (
        "`ppl fit hmm examples/earthquakes.csv`",
        [cli, "fit", "hmm", *quakes, "-q", "--force", "--out", out],
    )
    rows = {"gmm": one, "hmm": first, "logistic": one}
    for name in fits:
        yield f"`ppl predict`, one row, {name}", [cli, "predict", str(folder / name), str(rows[name])]
    if version("scikit-learn"):
        text = PEER.format(path=str(small), module="sklearn.mixture", name="GaussianMixture", states=3)
        yield "scikit-learn, a mixture of 300 rows, one start", ["-c", text]
    if version("hmmlearn"):
        text = PEER.format(path=str(series), module="hmmlearn.hmm", name="GaussianHMM", states=3)
        yield "hmmlearn, a chain of 300 rows, one start", ["-c", text]


def jobs() -> Iterator[tuple[str, dict[str, Callable[[], object]]]]:
    """Fits and predictions in one process: name -> who -> what is done."""
    import ppl_models as ppl

    x, series = blobs(10_000, 4, 5, 3)[:5_000], chain(2_000, 2, 3, 4)
    data = ppl.read(x)
    ours: dict[str, Callable[[], object]] = {"ppl": lambda: ppl.fit(ppl.GMM(components=5), data)}
    wide, many = chain(50_000, 2, 20, 5), blobs(50_000, 2, 20, 6)
    if version("scikit-learn"):
        from sklearn.mixture import GaussianMixture

        ours["scikit-learn, one start"] = lambda: GaussianMixture(5, random_state=0).fit(x)
        ours["scikit-learn, n_init=8"] = lambda: GaussianMixture(5, n_init=8, random_state=0).fit(x)
    yield "mixture, 5,000 × 4, K = 5, fit", ours
    ours = {"ppl": lambda: ppl.fit(ppl.HMM(states=3), series)}
    if version("hmmlearn"):
        from hmmlearn.hmm import GaussianHMM

        ours["hmmlearn, one start"] = lambda: GaussianHMM(3, "full", n_iter=200, tol=1e-3).fit(series)
    yield "chain, 2,000 × 2, K = 3, fit", ours
    fit = ppl.fit(ppl.HMM(states=20), wide, restarts=1, steps=30)
    fit.draws  # noqa: B018  (they are stored with a run)
    ours = {"ppl": lambda: fit.predict(wide)}
    if version("hmmlearn"):
        from hmmlearn.hmm import GaussianHMM

        peer = GaussianHMM(20, "full", n_iter=5).fit(wide)
        ours["hmmlearn, decode and posteriors"] = lambda: (peer.predict(wide), peer.predict_proba(wide))
    yield "chain, 50,000 × 2, K = 20, predict", ours
    mixture = ppl.fit(ppl.GMM(components=20), many, restarts=1, steps=30)
    mixture.draws  # noqa: B018
    ours = {"ppl": lambda: mixture.predict(many)}
    if version("scikit-learn"):
        peer_mixture = GaussianMixture(20, max_iter=5, random_state=0).fit(many)
        ours["scikit-learn, predict_proba"] = lambda: peer_mixture.predict_proba(many)
    yield "mixture, 50,000 × 2, K = 20, predict", ours


def quality() -> list[str]:
    """Mean held-out log density of the mixture, ours and scikit-learn's: a table."""
    import ppl_models as ppl

    every = blobs(10_000, 4, 5, 3)
    x, new = every[:5_000], every[5_000:]
    found = {"ppl": float(np.mean(ppl.fit(ppl.GMM(components=5), x).score(new)["log_density"]))}
    if version("scikit-learn"):
        from sklearn.mixture import GaussianMixture

        for starts in (1, 8):
            peer = GaussianMixture(5, n_init=starts, random_state=0).fit(x)
            found[f"scikit-learn, n_init={starts}"] = float(peer.score(new))
    table = ["| mixture, 5,000 new rows | mean log density |", "|---|---|"]
    return [*table, *(f"| {who} | {value:.4f} |" for who, value in found.items())]


def timed(job: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("-o", "--output")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = ["| whole process | wall, s | CPU, s | least CPU, s |", "|---|---|---|---|"]
    began = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in processes(Path(folder)):
            process(*arguments)  # kernels are compiled and files are cached
            each = [process(*arguments) for _ in range(options.repeat)]
            wall, cpu = (statistics.median(values) for values in zip(*each, strict=True))
            lines.append(f"| {name} | {wall:.2f} | {cpu:.2f} | {min(c for _, c in each):.2f} |")
    lines += ["", "| in one process | who | wall, s | CPU, s | least CPU, s |", "|---|---|---|---|---|"]
    for name, who in jobs():
        for job in who.values():
            job()
        each = {peer: [] for peer in who}
        for _ in range(options.repeat):
            for peer, job in who.items():
                each[peer].append(timed(job))
        for peer, found in each.items():
            wall, cpu = (statistics.median(values) for values in zip(*found, strict=True))
            least = min(c for _, c in found)
            lines.append(f"| {name} | {peer} | {wall:.3f} | {cpu:.3f} | {least:.3f} |")
    lines += ["", *quality()]
    packages = ("torch", "numpy", "numba", "scikit-learn", "hmmlearn")
    versions = ", ".join(f"{p} {version(p)}" for p in packages if version(p))
    text = "\n".join(
        [
            "# Small jobs",
            "",
            f"Medians of {options.repeat} by `benchmarks/small.py`, on one thread; Python "
            f"{platform.python_version()}, {versions}; {os.cpu_count()} processors, load {began:.1f} before "
            f"and {os.getloadavg()[0]:.1f} after.",
            "",
            *lines,
            "",
        ]
    )
    print(text)
    if options.output:
        Path(options.output).write_text(text)


if __name__ == "__main__":
    main()
