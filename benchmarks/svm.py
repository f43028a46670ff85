"""Support vector machines beside scikit-learn's: accuracy, log loss and CPU time.

    python benchmarks/svm.py DATA [splits|adult] [NUMBER]

DATA holds `svm/*.npz` (Rätsch's benchmark: `X`, `y`, `train_idx` of 20 splits) and `tables/adult_*.csv.gz`.
The peer is GridSearchCV(SVC) over 5 × 5 values of C and gamma in five folds on standardised columns, then
CalibratedClassifierCV of the best. CPU seconds of one thread each: the machine may be shared. A row of JSON a
split.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import ppl_models as ppl

NAMES = ("banana", "german", "heart", "ringnorm", "waveform")


def peer(X: np.ndarray, y: np.ndarray, rows: np.ndarray, folds: int = 5):
    """Probabilities of the second class, and seconds of the fit and of the prediction."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    start = time.process_time()
    grid = {"svc__C": [0.25, 1, 4, 16, 64], "svc__gamma": [g / X.shape[1] for g in (0.0625, 0.25, 1, 4, 16)]}
    search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), grid, cv=folds).fit(X, y)
    model = CalibratedClassifierCV(search.best_estimator_, cv=folds).fit(X, y)
    middle = time.process_time()
    p = model.predict_proba(rows)[:, 1]
    return p, middle - start, time.process_time() - middle


def ours(train: pd.DataFrame, test: pd.DataFrame, second: str, **fields):
    """The same by `svm`."""
    start = time.process_time()
    fit = ppl.fit(ppl.SVM(**fields), train, target="y")
    middle = time.process_time()
    found = fit.predict(test, unseen="missing")
    p = found[f"probability_{second}"].to_numpy()
    return p, middle - start, time.process_time() - middle


def figures(p: np.ndarray, y: np.ndarray, fit: float, predict: float) -> dict[str, float]:
    """Of probabilities of the second class."""
    own = np.where(y, p, 1 - p).clip(1e-15)
    return {"accuracy": float(((p >= 0.5) == y).mean()), "log_loss": float(-np.log(own).mean()),
            "fit": fit, "predict": predict}  # fmt: skip


def splits(data: Path, number: int) -> None:
    """Every set, split by split."""
    warm = pd.DataFrame({"x": np.sin(np.arange(20.0)), "y": ["a", "b"] * 10})
    ppl.fit(ppl.SVM(), warm, target="y").predict(warm)
    for k in range(number):
        for name in NAMES:
            with np.load(data / "svm" / f"{name}.npz") as held:
                X, y, train = held["X"], held["y"] > 0, held["train_idx"][k]
            test = np.setdiff1d(np.arange(len(y)), train)
            table = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
            table["y"] = np.where(y, "b", "a")
            line = {"set": name, "split": k}
            p, *seconds = ours(table.iloc[train], table.iloc[test], "b")
            line["ppl"] = figures(p, y[test], *seconds)
            p, *seconds = peer(X[train], y[train], X[test])
            line["peer"] = figures(p, y[test], *seconds)
            print(json.dumps(line), flush=True)


def adult(data: Path, rows: int) -> None:
    """The official split, ours on all rows, the peer on some of them."""
    train, test = (pd.read_csv(data / "tables" / f"adult_{part}.csv.gz") for part in ("train", "test"))
    target = train.columns[-1]
    for table in (train, test):
        table["y"] = table.pop(target).str.rstrip(".").map({"<=50K": "low", ">50K": "more"})
    y = (test["y"] == "more").to_numpy()
    torch.set_num_threads(2)
    start = time.perf_counter()
    o = ours(train, test, "more")
    line = {"ppl": figures(o[0], y, *o[1:]), "wall": time.perf_counter() - start}
    print(json.dumps(line), flush=True)
    both = pd.get_dummies(pd.concat([train, test]).drop(columns="y").fillna("missing")).to_numpy(float)
    some = np.random.default_rng(0).choice(len(train), rows, replace=False)
    o = peer(both[some], (train["y"] == "more").to_numpy()[some], both[len(train) :], 3)
    print(json.dumps({"peer": figures(o[0], y, *o[1:]), "rows": rows}), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    where, what, *number = Path(sys.argv[1]), *sys.argv[2:]
    if what == "adult":
        adult(where, int(number[0]) if number else 4_000)
    else:
        splits(where, int(number[0]) if number else 10)
