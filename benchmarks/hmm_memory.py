"""Memory of a fit: the peak over what the process held before, as a multiple of the data.

    python benchmarks/hmm_memory.py [--out benchmarks/results/hmm_memory.md]

A small fit comes first, so that libraries and compiled code are loaded. The data itself counts as one.
"""

import argparse
import threading
import time
from pathlib import Path

import numpy as np
import psutil

import ppl_models as ppl

SETTINGS = [(1_000_000, 4, 4), (1_000_000, 2, 8)]


def peak_of(work) -> int:
    """The most bytes the process holds while `work` runs."""
    process, peak, done = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return peak[0]


def run() -> str:
    lines = [
        "# Memory of hidden Markov models",
        "",
        "| rows | columns | states | data, MB | peak with data / data | s |",
        "|---|---|---|---|---|---|",
    ]
    rng = np.random.default_rng(0)
    for n, D, K in SETTINGS:
        model = ppl.HMM(states=K, covariance="diag")
        ppl.fit(model, rng.normal(size=(20_000, D)), steps=5)
        X = (rng.normal(size=(K, D)) * 2)[np.repeat(rng.integers(K, size=n // 50), 50)]
        X += rng.normal(size=(n, D))
        before, began = psutil.Process().memory_info().rss - X.nbytes, time.perf_counter()
        peak = peak_of(lambda model=model, X=X: ppl.fit(model, X))
        seconds = time.perf_counter() - began
        ratio = (peak - before) / X.nbytes
        lines.append(f"| {n:,} | {D} | {K} | {X.nbytes / 1e6:.0f} | {ratio:.2f} | {seconds:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = run()
    print(report)
    if options.out:
        options.out.write_text(report + "\n")
