"""Joint against conditional models by `compare`: learning curves, missing cells, help, and the time it takes.

    python benchmarks/compare.py classical [DATA [SET ...]]
    python benchmarks/compare.py crossing [DATA [SET ...]]
    python benchmarks/compare.py missing [DATA [SET ...]]
    python benchmarks/compare.py help [DATA]
    python benchmarks/compare.py adult DATA

prints Markdown, of all sets but the large ones (digits, census), or of those that are named. DATA is a
directory with penguins.csv, titanic.csv, german_credit.csv, tables/adult_train.csv.gz and svm/*.npz; without
it only the data sets of scikit-learn are used. The classical pair of Ng & Jordan (2002) is Gaussian naive
Bayes and logistic regression without a penalty; ours are a diagonal normal distribution a class, and the
regression with its prior.
"""

import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

import ppl_models as ppl
from ppl_models.comparison.result import _markdown

JOINT, CONDITIONAL = "gmm:components=1,covariance=diag,restarts=1", "logistic"
CLASSICAL = ["sklearn:GaussianNB", "sklearn:LogisticRegression:C=1000000,max_iter=300"]


def sklearn_sets() -> dict[str, pd.DataFrame]:
    """Classification sets that come with scikit-learn."""
    from sklearn import datasets

    found = {}
    for name in ("breast_cancer", "wine", "digits"):
        bunch = getattr(datasets, f"load_{name}")(as_frame=True)
        table = bunch.frame.rename(columns={"target": "y"})
        table["y"] = "c" + table["y"].astype(str)
        found[name] = table.loc[:, table.nunique() > 1]
    return found


def all_sets(where: Path | None) -> dict[str, pd.DataFrame]:
    """These and those of the directory."""
    found = sklearn_sets()
    if where is not None:
        for name in ("heart", "german", "waveform"):
            held = np.load(where / "svm" / f"{name}.npz")
            columns = [f"x{j}" for j in range(held["X"].shape[1])]
            found[name] = pd.DataFrame(held["X"].astype(float), columns=columns)
            found[name]["y"] = np.where(held["y"] > 0, "yes", "no")
        penguins = pd.read_csv(where / "penguins.csv").dropna()
        found["penguins"] = penguins.rename(columns={"species": "y"})
        credit = pd.read_csv(where / "german_credit.csv")
        target = next(
            c for c in credit if c.lower() in ("y", "target", "class", "risk", "default", "credit_risk")
        )
        found["german_credit"] = credit.rename(columns={target: "y"})
        found["german_credit"]["y"] = "c" + found["german_credit"]["y"].astype(str)
        titanic = pd.read_csv(where / "titanic.csv")[["survived", *"pclass sex age sibsp parch fare".split()]]
        found["titanic"] = titanic.dropna().rename(columns={"survived": "y"})
        found["titanic"]["y"] = np.where(found["titanic"]["y"] > 0, "yes", "no")
        census = pd.read_csv(where / "tables" / "adult_train.csv.gz").dropna()
        found["census"] = census.rename(columns={"class": "y"}).drop(columns=["fnlwgt", "native_country"])
    large = {"digits", "census"}  # of which a learning curve takes minutes
    return {n: table for n, table in found.items() if (n in sys.argv[3:] if sys.argv[3:] else n not in large)}


def classical(where: Path | None) -> None:
    """Learning curves of the pair of Ng & Jordan, 5 folds 4 times."""
    for name, table in all_sets(where).items():
        curves(name, table, CLASSICAL, 4)


def crossing(where: Path | None) -> None:
    """Learning curves of ours, 5 folds."""
    for name, table in all_sets(where).items():
        curves(name, table, [JOINT, CONDITIONAL], 1)


def curves(name: str, table: pd.DataFrame, models: list[str], repeats: int) -> None:
    """Print where two curves cross, and the curves."""
    print(f"\n## {name}: {len(table):,} rows, {table.shape[1] - 1} columns\n", flush=True)
    found = ppl.compare(table, models, "y", folds=5, repeats=repeats, curve=True, checks=False)
    show = found.crossings.drop(columns=["first", "second"])
    show = show.rename(columns={"first_early": "joint clearly ahead before"})
    show = show.rename(columns={"second_late": "conditional clearly ahead at the end"})
    print(_markdown(show), flush=True)
    print("\n" + _markdown(found.tables()["curve"]) + "\n", flush=True)


def missing(where: Path | None) -> None:
    """Test cells and labels going missing."""
    for name, table in all_sets(where).items():
        if name == "german_credit":
            continue
        models = ["gmm:components=1,restarts=1", JOINT, CONDITIONAL, "sklearn:RandomForestClassifier"]
        found = ppl.compare(
            table, models, "y", folds=3, missing_cells=True, missing_labels=name != "wine", checks=False
        )
        print(f"\n## {name}: {len(table):,} rows\n")
        for title in ("table", "missing_cells", "missing_labels"):
            if title in found.tables():
                print(_markdown(found.tables()[title]) + "\n", flush=True)


def rare(table: pd.DataFrame, label: str, number: int) -> pd.DataFrame:
    """All other classes as one, and only some rows of the class."""
    own = table["y"] == label
    some = table[own].sample(number, random_state=0)
    found = pd.concat([table[~own], some]).sort_index()
    found["y"] = np.where(found["y"] == label, "rare", "usual")
    return found


def help_(where: Path | None) -> None:
    """Rows and features of a joint model for a conditional one, on problems with a rare class."""
    sets = sklearn_sets()
    problems = {
        "breast cancer, 20 malignant of 377": rare(sets["breast_cancer"], "c0", 20),
        "wine, 15 of the third cultivar of 145": rare(sets["wine"], "c2", 15),
    }
    for name, table in problems.items():
        models = [
            "logistic",
            f"logistic@{JOINT},balance=true",
            f"logistic@{JOINT}",
            "logistic+gmm:components=4,restarts=1",
        ]
        found = ppl.compare(table, models, "y", folds=5, checks=False)
        print(f"\n## {name}\n")
        print(_markdown(found.tables()["table"]) + "\n\n" + _markdown(found.gains), flush=True)


def adult(where: Path) -> None:
    """Four systems in five folds on the census data."""
    began, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    models = ["gmm:restarts=1", "logistic", "svm", "sklearn:HistGradientBoostingClassifier"]
    path = where / "tables" / "adult_train.csv.gz"
    target = pd.read_csv(path, nrows=2).columns[-1]

    def say(text: str) -> None:
        print(f"{time.perf_counter() - began:.0f} s {text}", file=sys.stderr, flush=True)

    found = ppl.compare(str(path), models, target, folds=5, progress=say)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
    print(f"\n## adult: {time.perf_counter() - began:.0f} s, {used:.0f} s of CPU, checks included\n")
    print(found.markdown(), flush=True)


if __name__ == "__main__":
    import sklearn
    import torch

    warnings.simplefilter("ignore")
    place = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    print(f"NumPy {np.__version__}, torch {torch.__version__}, scikit-learn {sklearn.__version__}")
    parts = {"classical": classical, "crossing": crossing, "missing": missing, "help": help_, "adult": adult}
    parts[sys.argv[1]](place)
