"""What two processes gain over one of one thread: passes of a mixture and a regression, and whole fits.

Wall time says it on a machine with two cores that do nothing else. The processor time of the busier process
says it also where others are at work: it is what the wall time would be if they were not.

    python benchmarks/scaling.py [ROWS] [REPEATS]
"""

import os
import sys
import time
from statistics import median

os.environ |= {"PPL_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

import numpy as np
import pandas as pd
import torch

import ppl_models as ppl
from ppl_models import engine
from ppl_models.forming import formed

K, D = 10, 16


def mixture(rows: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = 2.0 * rng.normal(size=(K, D))
    return centres[rng.integers(K, size=rows)] + rng.normal(size=(rows, D))


def classes(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, D))
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(D)])
    frame["y"] = np.where(X @ rng.normal(size=D) + rng.logistic(size=rows) > 0, "yes", "no")
    return frame


def timed(work, repeats: int) -> tuple[float, float]:
    """Median wall and processor seconds of this process, by repeats."""
    work()
    wall, cpu = [], []
    for _ in range(repeats):
        t, c = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - t)
        cpu.append(time.process_time() - c)
    return median(wall), median(cpu)


def passes(model, data, target, repeats: int) -> dict[int, tuple[float, float]]:
    """Of one pass over all rows by one process and by two."""
    found = {}
    for workers in (1, 2):
        with formed(workers) as team:
            read = ppl.read(data, refine=model.types, target=target)
            read = engine.replace(read, schema=model.refer(read))
            bound = model.bind(read.schema).prepare(read)
            if team is not None:
                how = engine.settings_for(model, {"workers": 2})
                read, _ = engine.divided(team, model, bound, read, how, engine.FROM_START)
            batch = bound.dataset_batch(read)
            if target is None:
                begin = torch.from_numpy(np.random.default_rng(0).integers(K, size=(1, len(data))))
                S = bound.from_labels(batch, begin)
                found[workers] = timed(lambda b=batch, S=S, m=bound: m.elbo(b, S), repeats)
            else:
                loc, root = (
                    torch.zeros(bound.glm.dimension).double(),
                    0.1 * torch.eye(bound.glm.dimension).double(),
                )
                found[workers] = timed(lambda b=batch, m=bound, x=loc, L=root: m.glm.expect(b, x, L), repeats)
    return found


def fits(model, data, target) -> dict[int, tuple[float, float]]:
    """Of a whole fit with its checks, the processes running already."""
    found = {}
    for workers in (1, 2):
        with formed(workers):
            t, c = time.perf_counter(), time.process_time()
            ppl.fit(model, data, target, seed=0).check()
            found[workers] = time.perf_counter() - t, time.process_time() - c
    return found


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    print(f"{rows:,} rows of {D} columns; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print("| what | one process, wall s (processor s) | two, wall s (busier one) | wall | processor |")
    print("|---|---|---|---|---|")
    X, frame = mixture(rows), classes(rows)
    gmm, logistic = ppl.GMM(components=K), ppl.Logistic()
    for name, work in (
        (f"a pass of gmm, K = {K}, full covariance", lambda: passes(gmm, X, None, repeats)),
        ("a pass of logistic", lambda: passes(logistic, frame, "y", repeats)),
        ("a whole fit of gmm, with checks", lambda: fits(gmm, X, None)),
        ("a whole fit of logistic, with checks", lambda: fits(logistic, frame, "y")),
    ):
        found = work()
        (one, alone), (two, busier) = found[1], found[2]
        print(
            f"| {name} | {one:.3f} ({alone:.3f}) | {two:.3f} ({busier:.3f}) | {one / two:.2f}× "
            f"| {alone / busier:.2f}× |",
            flush=True,
        )


if __name__ == "__main__":
    main()
