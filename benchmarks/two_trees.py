"""The same work by two checkouts of the package, in turn: whether a change made anything slower.

    python benchmarks/two_trees.py PATH_OF_THE_OTHER --out benchmarks/results/two_trees.md

Each case is a process of its own in each tree, A B B A A B … , and its figure the time that the case itself
takes (imports and first compilations not counted, unless the case is a whole process). Reported are medians,
the ratio of this tree to the other pair by pair, and the ELBO or log density of both, which must be the same.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]

SET_UP = """
import sys, time, json, warnings
import numpy as np, pandas as pd
warnings.simplefilter("ignore")
import ppl_models as ppl
rng = np.random.default_rng(0)
def chain(n, K, D, apart=3.0):
    z = rng.integers(K, size=n)[np.maximum.accumulate(np.where(rng.random(n) < 0.05, np.arange(n), 0))]
    return apart * z[:, None] + rng.normal(size=(n, D))
def clusters(n, K, D, apart=1.2):
    return apart * rng.normal(size=(K, D))[rng.integers(K, size=n)] + rng.normal(size=(n, D))
"""

CASES = {
    "hmm, 1 × 100,000 × 2, K=3": (
        "x = chain(100_000, 3, 2)",
        "f = ppl.fit(ppl.HMM(states=3, covariance='diag'), x)",
        "f.elbo",
    ),
    "hmm, 500 × 200 × 4, K=4, full": (
        "x = chain(100_000, 4, 4)",
        "f = ppl.fit(ppl.HMM(states=4), x, lengths=[200] * 500)",
        "f.elbo",
    ),
    "hmm, predict and score of these": (
        "x = chain(20_000, 3, 2); f = ppl.fit(ppl.HMM(states=3, covariance='diag'), x); f.posterior_draws",
        "f.predict(); s = f.score()",
        "float(s.log_density.sum())",
    ),
    "mixture, 200,000 × 16, K=10, full": (
        "x = clusters(200_000, 10, 16)",
        "f = ppl.fit(ppl.GMM(components=10), x)",
        "f.elbo",
    ),
    "mixture, 5,000 × 4, K=5, full": (
        "x = clusters(5_000, 5, 4)",
        "f = ppl.fit(ppl.GMM(components=5), x)",
        "f.elbo",
    ),
    "mixture, checked, 2,000 × 3, K=3": (
        "x = clusters(2_000, 3, 3, 3.0)",
        "f = ppl.fit(ppl.GMM(components=3), x); f.check()",
        "f.elbo",
    ),
    "logistic, 100,000 × 20": (
        "X = rng.normal(size=(100_000, 20)); b = rng.normal(size=20) / 3\n"
        "d = pd.DataFrame(X, columns=[f'x{i}' for i in range(20)])\n"
        "d['y'] = np.where(rng.logistic(size=100_000) < X @ b, 'yes', 'no')",
        "f = ppl.fit(ppl.Logistic(), d, target='y')",
        "f.elbo",
    ),
    "logistic, summary and predict, 3,000 × 5": (
        "X = rng.normal(size=(3_000, 5)); d = pd.DataFrame(X, columns=list('abcde'))\n"
        "d['y'] = np.where(rng.logistic(size=3_000) < X.sum(1), 'yes', 'no')\n"
        "f = ppl.fit(ppl.Logistic(), d, target='y'); f.posterior_draws",
        "f.summary(); p = f.predict()",
        "float(p.probability_yes.sum())",
    ),
    "vae, 300 steps, 5,000 × 784": (
        "x = (rng.random((5_000, 28, 28)) < 0.3).astype(np.uint8)",
        "f = ppl.fit(ppl.VAE(latent=20, hidden='400', likelihood='bernoulli'), x, steps=300)",
        "f.elbo",
    ),
}
"""What is made before, what is timed, and the number that must be the same."""

PROCESSES = {
    "`ppl fit hmm`, 107 rows": (
        "fit hmm {tree}/examples/earthquakes.csv --time year --states 3 --force --out run -q"
    ),
    "`ppl fit logistic`, 150 rows": (
        "fit logistic {tree}/examples/iris.csv --target species --force --out reg -q"
    ),
    "`ppl predict`, 107 rows": "predict run",
    "`ppl --help`": "--help",
}
"""Whole processes: arguments of the command line."""


def seconds(tree: Path, case: str) -> tuple[float, str]:
    """The time of a case in a tree, the best of three in one process, and its number."""
    before, timed, number = CASES[case]
    repeated = (
        f"times = []\nfor _ in range(3):\n    t = time.perf_counter()\n    {timed}\n"
        "    times.append(time.perf_counter() - t)\n"
    )
    code = f"{SET_UP}\n{before}\n{repeated}\nprint(json.dumps([min(times), repr(round({number}, 4))]))"
    import json

    value, shown = json.loads(_run([sys.executable, "-c", code], tree))
    return float(value), shown


def process(tree: Path, case: str, folder: str) -> float:
    """The wall time of a whole process."""
    arguments = PROCESSES[case].format(tree=tree).split()
    began = time.perf_counter()
    _run([sys.executable, "-c", "from ppl_models.cli import main; main()", *arguments], tree, folder)
    return time.perf_counter() - began


def _run(command: list[str], tree: Path, folder: str | None = None) -> str:
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1] if done.stdout else ""


def main() -> None:
    """Time every case in both trees."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    trees = {"this": HERE, "other": options.other.resolve()}
    lines = ["| case | this, s | other, s | this / other | numbers |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for name in trees:
            Path(folder, name).mkdir()
        for case in [c for c in (*CASES, *PROCESSES) if options.only in c]:
            found: dict[str, list[float]] = {name: [] for name in trees}
            numbers = {}
            for i in range(options.rounds + 1):  # the first warms caches up
                for name in list(trees)[:: 1 if i % 2 else -1]:
                    if case in CASES:
                        value, numbers[name] = seconds(trees[name], case)
                    else:
                        value = process(trees[name], case, str(Path(folder, name)))
                    if i:
                        found[name].append(value)
            ratios = [a / b for a, b in zip(found["this"], found["other"], strict=True)]
            same = "the same" if len({*numbers.values()}) == 1 else " / ".join(numbers.values())
            row = [
                statistics.median(found["this"]),
                statistics.median(found["other"]),
                statistics.median(ratios),
            ]
            spread = f"{row[2]:.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            said = same if case in CASES else ""
            lines.append(f"| {case} | {row[0]:.3f} | {row[1]:.3f} | {spread} | {said} |")
            print(lines[-1], flush=True)
    if options.out is not None:
        revision = [_revision(tree) for tree in trees.values()]
        title = f"# This tree ({revision[0]}) against another ({revision[1]})"
        text = [title, "", f"{options.rounds} rounds, medians.", "", *lines, ""]
        options.out.write_text("\n".join(text), encoding="utf-8")


def _revision(tree: Path) -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=tree, capture_output=True, text=True)
    return done.stdout.strip() or "no revision"


if __name__ == "__main__":
    main()
