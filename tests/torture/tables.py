"""Tables that no model can be fitted to, or hardly, and later data that does not go with a run."""

import os
from collections.abc import Callable

import numpy as np
import pandas as pd

from torture.forks import heard, many, ppl
from torture.trials import Tries, fault, trial

TABLES = fault(
    "a table without rows, with one row, constant, duplicated, empty or huge columns, one class, K > n",
    "fitted and checked, or refused in one line with what the model needs",
)
LATER = fault(
    "later data that lacks a column, has other types, new levels or nothing at all",
    "refused by name, or the stated policy; every verb",
)

QUICK: dict[str, str] = {
    "gmm": "gmm T --components 3 --covariance diag --restarts 1",
    "gmm-full": "gmm T --components 2 --restarts 1",
    "hmm": "hmm T --states 2 --restarts 1",
    "logistic": "logistic T --target kind",
    "glm": "glm T --target x",
    "svm": "svm T --target kind --inducing 5",
    "vae": "vae T --latent 1 --hidden 4 --steps 10",
    "gan": "gan T --latent 1 --hidden 4 --steps 10",
    "transformer": "transformer T --width 8 --layers 1 --heads 1 --orders 1 --steps 5",
    "mlp": "mlp T --target kind --hidden 4 --members 2 --steps 10",
    "rnn": "rnn T --units 2 --members 2 --steps 5",
}


def table(rows: int = 24) -> pd.DataFrame:
    """A sound table."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=rows).round(3)
    return pd.DataFrame({"x": x, "y": rng.normal(x).round(3), "kind": np.where(x > 0, "u", "v")})


CASES: dict[str, Callable[[pd.DataFrame], pd.DataFrame | str]] = {
    "empty file": lambda t: "",
    "header only": lambda t: t.iloc[:0],
    "one row": lambda t: t.iloc[:1],
    "two rows": lambda t: t.iloc[:2],
    "three rows": lambda t: t.iloc[:3],
    "constant column": lambda t: t.assign(y=1.5),
    "all columns constant": lambda t: t.assign(x=1.5, y=1.5),
    "duplicated column": lambda t: t.assign(y=t.x),
    "all rows equal": lambda t: pd.concat([t.iloc[:1]] * 20),
    "one class": lambda t: t.assign(kind="u"),
    "one of a class": lambda t: t.assign(kind=["v"] + ["u"] * (len(t) - 1)),
    "a class for each row": lambda t: t.assign(kind=[f"k{i}" for i in range(len(t))]),
    "missing column": lambda t: t.assign(y=np.nan),
    "all but one cell missing": lambda t: t.assign(y=[1.5] + [np.nan] * (len(t) - 1)),
    "missing row": lambda t: pd.concat([t, pd.DataFrame([{"x": None, "y": None, "kind": None}])]),
    "missing target": lambda t: t.assign(kind=[None] * len(t)),
    "every second cell missing": lambda t: t.assign(x=t.x.where(np.arange(len(t)) % 2 == 0)),
    "huge values": lambda t: t.assign(x=t.x * 1e300),
    "tiny values": lambda t: t.assign(x=t.x * 1e-300),
    "huge offset": lambda t: t.assign(x=1e15 + t.x),
    "outlier": lambda t: t.assign(x=[1e12, *t.x[1:]]),
    "infinite": lambda t: t.assign(x=[np.inf, *t.x[1:]]),
    "two values": lambda t: t.assign(x=(t.x > 0) * 1.0),
    "one column": lambda t: t[["x"]],
    "separated": lambda t: t.assign(y=np.where(t.kind == "u", 10.0, -10.0)),
}


def _declare(name: str) -> None:
    @trial(
        f"tables-{name}",
        TABLES,
        f"`ppl fit {QUICK[name]}` on each table, and `ppl check`",
        len(CASES),
        "tables",
    )
    def body(tries: Tries) -> None:
        os.chdir(tries.place)
        cases = list(CASES)

        def one(number: int) -> tuple[str | None, str]:
            case = cases[number]
            made = CASES[case](table())
            text = made if isinstance(made, str) else made.to_csv(index=False)
            (tries.place / "t.csv").write_text(text)
            fit = QUICK[name].replace("T", "t.csv", 1).split()
            ended = heard("fit", *fit, "--out", "run", "--force", "--quiet")
            wrong, code = ended.fault(0, 2, 65), ended.code
            if not wrong and not code:
                wrong = heard("check", "run").fault(0, 3)
            return wrong and f"{case}: {wrong}", f"exit code {code}"

        many(tries, one, seconds=300.0)


for _name in QUICK:
    _declare(_name)

CHANGES: dict[str, Callable[[pd.DataFrame], pd.DataFrame | str]] = {
    "lacks a column": lambda t: t.drop(columns="y"),
    "lacks the target": lambda t: t.drop(columns="kind"),
    "words for numbers": lambda t: t.assign(y=["a word"] * len(t)),
    "numbers for words": lambda t: t.assign(kind=range(len(t))),
    "a new level": lambda t: t.assign(kind="new"),
    "more columns": lambda t: t.assign(z=1.0),
    "another order": lambda t: t[["kind", "y", "x"]],
    "other names": lambda t: t.rename(columns={"x": "X"}),
    "infinite": lambda t: t.assign(x=np.inf),
    "huge": lambda t: t.assign(x=1e300),
    "missing cells": lambda t: t.assign(x=np.nan, y=np.nan, kind=None),
    "one row": lambda t: t.iloc[:1],
    "no rows": lambda t: t.iloc[:0],
    "an empty file": lambda t: "",
}
VERBS = (
    "predict",
    "score",
    "evaluate",
    "forecast",
    "impute",
    "sample",
    "reconstruct",
    "transform",
    "anomalies",
    "augment",
)


def _declare_later(name: str) -> None:
    number = len(CHANGES) * len(VERBS)

    @trial(f"later-{name}", LATER, f"every verb of a run of `{name}` on each of these files", number, "calls")
    def body(tries: Tries) -> None:
        os.chdir(tries.place)
        table().to_csv("t.csv", index=False)
        fit = QUICK[name].replace("T", "t.csv", 1).split()
        if wrong := ppl("fit", *fit, "--out", "run", "--quiet", cwd=tries.place).fault(0):
            raise AssertionError(wrong)
        cases = [(change, verb) for change in CHANGES for verb in VERBS]
        tries.random.shuffle(cases)

        def one(turn: int) -> tuple[str | None, str]:
            change, verb = cases[turn]
            made = CHANGES[change](table())
            (tries.place / "later.csv").write_text(
                made if isinstance(made, str) else made.to_csv(index=False)
            )
            ended = heard(verb, "run", "later.csv")
            wrong = ended.fault(0, 2, 65)
            return wrong and f"{verb}, {change}: {wrong}", f"exit code {ended.code}"

        many(tries, one, seconds=300.0)


for _name in ("gmm", "hmm", "logistic", "glm", "svm", "vae", "transformer", "mlp"):
    _declare_later(_name)
