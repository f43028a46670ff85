"""Many small requests: rows a second of `ppl predict RUN - --stream`, and how long a row takes over HTTP.

Processor time of the answering process says what wall time would be on a machine that does nothing else.

    python benchmarks/serving.py [ROWS] [REQUESTS]
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd

import ppl_models as ppl

COMMAND = [sys.executable, "-m", "ppl_models"]


def runs(folder: Path) -> dict[str, Path]:
    """A logistic regression and a mixture of 5,000 rows of 8 columns."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5_000, 8)) + 3.0 * rng.integers(3, size=5_000)[:, None]
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    ppl.fit(ppl.GMM(components=3), frame, seed=0).save(folder / "gmm", slim=True)
    frame["y"] = np.where(X @ rng.normal(size=8) + rng.logistic(size=5_000) > 0, "yes", "no")
    ppl.fit(ppl.Logistic(), frame, "y", seed=0).save(folder / "logistic", slim=True)
    return {name: folder / name for name in ("logistic", "gmm")}


def streamed(run: Path, rows: int) -> str:
    """Rows a second of one process, its start left out."""
    rng = np.random.default_rng(1)
    cells = rng.normal(size=(rows, 8)).tolist()
    lines = [json.dumps(dict(zip("abcdefgh", row, strict=True))) for row in cells]
    job = subprocess.Popen(
        [*COMMAND, "predict", str(run), "-", "--stream"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert job.stdin is not None
    assert job.stdout is not None
    job.stdin.write(lines[0].encode() + b"\n")
    job.stdin.flush()
    job.stdout.readline()  # it has started
    t, c = time.perf_counter(), _processor(job.pid)

    def feed() -> None:
        job.stdin.write("\n".join(lines).encode() + b"\n")
        job.stdin.flush()

    threading.Thread(target=feed, daemon=True).start()
    for _ in lines:
        job.stdout.readline()
    wall, cpu = time.perf_counter() - t, _processor(job.pid) - c
    job.stdin.close()
    job.wait()
    return f"{rows / wall:,.0f} rows/s by the clock, {rows / cpu:,.0f} by processor time"


def served(run: Path, requests: int) -> str:
    """How long a request of one row takes."""
    job = subprocess.Popen([*COMMAND, "serve", str(run), "--port", "8766"], stderr=subprocess.PIPE, text=True)
    assert job.stderr is not None
    url = re.search(r"http://\S+/", job.stderr.readline())[0]  # type: ignore[index]
    rng = np.random.default_rng(2)
    taken, used = [], []
    try:
        while True:
            try:
                urlopen(f"{url}health").read()
                break
            except OSError:
                time.sleep(0.2)
        for row in rng.normal(size=(requests, 8)).tolist():
            body = json.dumps({"rows": [dict(zip("abcdefgh", row, strict=True))]}).encode()
            t, c = time.perf_counter(), _processor(job.pid)
            urlopen(Request(f"{url}predict", body, {"content-type": "application/json"})).read()
            taken.append(1e3 * (time.perf_counter() - t))
            used.append(1e3 * (_processor(job.pid) - c))
    finally:
        job.terminate()
        job.wait()
    half, most = np.quantile(taken, (0.5, 0.99))
    return f"median {half:.1f} ms, p99 {most:.1f} ms by the clock; {np.mean(used):.1f} ms of processor time"


def _processor(pid: int) -> float:
    """Seconds that a process has used."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    requests = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        for name, run in runs(Path(folder)).items():
            print(f"{name}, stream: {streamed(run, rows)}", flush=True)
            print(f"{name}, served: {served(run, requests)}", flush=True)
    print(f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024} MB at most")


if __name__ == "__main__":
    main()
