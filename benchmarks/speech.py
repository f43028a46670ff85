"""Spoken digits: a hidden Markov model a class beside a mixture a class, on the same frames.

    python benchmarks/speech.py FILE [--parts official,george,…] [--dev]

FILE is a table of frames with `recording`, `speaker`, `digit`, `index`, `split` (`train` or `test`), `frame`
and features `m0`, `m1`, … of each frame (cepstra and their slopes), made from the Free Spoken Digit Dataset
(https://github.com/Jakobovski/free-spoken-digit-dataset). Each feature is centred and scaled within its
recording first; nothing else is done to it. `official` trains on one part and tests on the other; the name of
a speaker trains on all others' recordings and tests on theirs. `--dev` tests on a fifth of the official
training part instead, which is what settings were chosen by.

The chain is `HMM(states=16, topology="left-right", width=2, covariance="diag")` with the digit as its target,
and a recording has the class of the largest p(y | x) over `DRAWS` draws of the guide. The mixture has eight
diagonal components for each digit (scikit-learn's), and sums the log densities of frames as if these were
independent.
"""

import argparse
import time
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch
from sklearn.mixture import GaussianMixture

import ppl_models as ppl

DRAWS, COMPONENTS = 20, 8
SETTINGS = {"states": 16, "topology": "left-right", "width": 2, "covariance": "diag"}


def frames(path: str) -> tuple[pd.DataFrame, list[str]]:
    """Rows in order, features in units of their recording."""
    table = pd.read_parquet(path).sort_values(["recording", "frame"]).reset_index(drop=True)
    names = [name for name in table if name[0] == "m" and name[1:].isdigit()]
    own = table.groupby("recording")[names]
    table[names] = (table[names] - own.transform("mean")) / own.transform("std")
    return table.assign(digit=table["digit"].astype(str)), names


def parts(table: pd.DataFrame, part: str, dev: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test rows."""
    if dev:
        table = table[table["split"] == "train"]
        held = table["index"] % 5 == 0
    else:
        held = table["split"] == "test" if part == "official" else table["speaker"] == part
    return table[~held], table[held]


def chain(train: pd.DataFrame, test: pd.DataFrame, names: list[str]) -> tuple[float, float]:
    """Accuracy and log loss over recordings."""
    fit = ppl.fit(
        ppl.HMM(**SETTINGS), train[["recording", "digit", *names]],
        sequence="recording", target="digit", restarts=1, steps=40,
    )  # fmt: skip
    rows = ppl.read(test[["recording", "digit", *names]], schema=fit.data.schema)
    torch.manual_seed(0)
    log_p = fit.bound.by_sequence(fit.bound.rows(rows), fit.bound.draw(fit.params, DRAWS)).numpy()
    y = fit.bound.label_of_sequences(rows).astype(int)
    return float((log_p.argmax(1) == y).mean()), float(-log_p[np.arange(len(y)), y].mean())


def mixtures(train: pd.DataFrame, test: pd.DataFrame, names: list[str]) -> float:
    """Accuracy over recordings."""
    digits = sorted(train["digit"].unique())
    score = {}
    for digit in digits:
        own = train.loc[train["digit"] == digit, names]
        found = GaussianMixture(COMPONENTS, covariance_type="diag", random_state=0).fit(own.to_numpy())
        score[digit] = found.score_samples(test[names].to_numpy())
    total = pd.DataFrame(score, index=test.index).groupby(test["recording"]).sum()
    return float((total.idxmax(axis=1) == test.groupby("recording")["digit"].first()).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--parts", default="official,george,jackson,lucas,nicolas")
    parser.add_argument("--dev", action="store_true")
    options = parser.parse_args()
    table, names = frames(options.file)
    print(f"ppl {version('ppl_models')}, scikit-learn {version('scikit-learn')}, torch {version('torch')}\n")
    print("| part | test recordings | mixture a digit | chain a digit | log loss of the chain | CPU s |")
    print("|---|---|---|---|---|---|")
    for part in options.parts.split(","):
        train, test = parts(table, part, options.dev)
        before, began = mixtures(train, test, names), time.process_time()
        accuracy, loss = chain(train, test, names)
        print(
            f"| {part} | {test['recording'].nunique()} | {100 * before:.1f} % | {100 * accuracy:.1f} % | "
            f"{loss:.2f} | {time.process_time() - began:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
