"""Mixtures as detectors of anomalies on the ADBench sets, beside PyOD's detectors in the same run.

    PEERS_PYTHON=peers/bin/python python benchmarks/anomalies.py DATA [FILE.jsonl] [SET ...]

DATA holds `anomaly/*.npz` (`X`, and `y` with 1 for an anomaly). Two protocols: `all` fits and scores all
rows; `normal` fits the first half of the normal rows in the order of the file, and scores the others and all
anomalies. Columns are standardised on the rows of the fit. Sets of more than 5,000 rows are a random 5,000;
a fit of ours has a random 2,000 of its rows. AUC, one setting for all sets: everything at its default but

    gmm 1, gmm 8       surprise under a mixture of 1 and of 8 components, one restart
    average            the mean of both, −log p in nats
    robust             the same with --robust 0.1: a tenth of the rows left out

An average over sizes needs no choice of one (Emmott, Das, Dietterich, Fern & Wong 2015,
https://arxiv.org/abs/1503.01158). Densities are means over 40 draws of the guide, uncalibrated, which takes
less time and changes the order of rows little. Each set and protocol is appended to FILE.jsonl as it is done,
so that the run can be cut off and gone on with; the table is printed at the end.
"""

import json
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from peers import run
from sklearn.metrics import roc_auc_score

import ppl_models as ppl

ROWS, FITTED = 5_000, 2_000
SIZES, ROBUST = (1, 8), 0.1
OURS = [*(f"gmm {k}" for k in SIZES), "average", *(f"gmm {k} robust" for k in SIZES), "average robust"]
PEERS = ["IForest", "ECOD", "KNN", "LOF"]


def split(X: np.ndarray, y: np.ndarray, protocol: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the fit and rows that are scored."""
    if protocol == "all":
        return np.arange(len(y)), np.arange(len(y))
    normal = np.flatnonzero(y == 0)
    half = normal[: len(normal) // 2]
    return half, np.setdiff1d(np.arange(len(y)), half)


def surprise(fit: ppl.Fit, Y: np.ndarray) -> np.ndarray:
    """−log p of rows, by draws of the guide."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theta = fit.bound.draw(fit.params, 40)
    rows = fit.bound.rows(ppl.read(Y, schema=fit.data.schema))
    return -fit.bound.log_mean_density(rows, theta).numpy()


def fitted(k: int, X: np.ndarray, robust: float) -> ppl.Fit:
    """A mixture of k; the plain one where rows that a robust fit keeps have no spread in some direction."""
    try:
        return ppl.fit(ppl.GMM(components=k), X, restarts=1, robust=robust)
    except ppl.DataError:
        return ppl.fit(ppl.GMM(components=k), X, restarts=1)


def ours(X: np.ndarray, Y: np.ndarray, y: np.ndarray) -> dict[str, dict[str, float]]:
    """AUC and CPU seconds of each of ours."""
    some = np.sort(np.random.default_rng(1).permutation(len(X))[:FITTED])
    found: dict[str, dict[str, float]] = {}
    for robust in (0.0, ROBUST):
        name, scores, total = " robust" if robust else "", [], 0.0
        for k in SIZES:
            began = time.process_time()
            fit = fitted(k, X[some], robust)
            scores.append(surprise(fit, Y))
            seconds = time.process_time() - began
            found[f"gmm {k}{name}"] = {"auc": roc_auc_score(y, scores[-1]), "seconds": seconds}
            total += seconds
        found[f"average{name}"] = {"auc": roc_auc_score(y, np.mean(scores, 0)), "seconds": total}
    return found


def one(path: Path, protocol: str) -> dict[str, object]:
    """All detectors on one set."""
    data = np.load(path)
    X, y = data["X"].astype(float), data["y"].astype(int)
    kept = np.sort(np.random.default_rng(0).permutation(len(y))[:ROWS])
    X, y = X[kept], y[kept]
    train, test = split(X, y, protocol)
    sd = X[train].std(0)
    X = (X - X[train].mean(0)) / np.where(sd > 0, sd, 1.0)
    X = X[:, sd > 0]
    found: dict[str, object] = {
        "set": path.stem,
        "protocol": protocol,
        "rows": len(train),
        "columns": X.shape[1],
    }
    found |= ours(X[train], X[test], y[test])
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "split.npz"
        np.savez(file, X=X[train], Y=X[test], y=y[test], same=protocol == "all")
        return found | run("pyod_scores", file)


def table(rows: list[dict], protocol: str) -> str:
    """A row for each set, and the means."""
    names = [*OURS, *PEERS]
    own = [r for r in rows if r["protocol"] == protocol]
    lines = ["| set | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for r in own:
        cells = [f"{100 * r[n]['auc']:.1f}" if n in r else "" for n in names]
        lines.append(f"| {r['set']} | " + " | ".join(cells) + " |")
    mean = [np.mean([r[n]["auc"] for r in own if n in r]) for n in names]
    time_of = [np.sum([r[n]["seconds"] for r in own if n in r]) for n in names]
    lines.append(f"| mean of {len(own)} | " + " | ".join(f"{100 * m:.2f}" for m in mean) + " |")
    lines.append("| CPU s | " + " | ".join(f"{t:.0f}" for t in time_of) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what is not in the file yet, and print both tables."""
    warnings.simplefilter("ignore")
    root = Path(sys.argv[1]) / "anomaly"
    file = Path(sys.argv[2] if len(sys.argv) > 2 else "anomalies.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(r["set"], r["protocol"]) for r in rows}
    paths = sorted(root.glob("*.npz"), key=lambda path: path.stat().st_size)
    for path in paths:
        for protocol in ("all", "normal"):
            if (path.stem, protocol) not in done and path.stem in (sys.argv[3:] or [path.stem]):
                rows.append(one(path, protocol))
                with file.open("a") as out:
                    out.write(json.dumps(rows[-1]) + "\n")
                print(path.stem, protocol, file=sys.stderr, flush=True)
    rows.sort(key=lambda r: r["set"].lower())
    for protocol in ("all", "normal"):
        print(f"\nProtocol `{protocol}`, AUC × 100:\n\n{table(rows, protocol)}")
    print("\n", {r.get("version", r.get("missing")) for r in rows}, sep="")


if __name__ == "__main__":
    main()
