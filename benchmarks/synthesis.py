"""Systems as synthesisers of a mixed table: adult, the official split.

    python benchmarks/synthesis.py DIR SPEC [SPEC ...]

DIR holds `adult_train.csv.gz` and `adult_test.csv.gz`. A SPEC is a system and its fields or settings of the
training, such as `gmm:components=200,covariance=diag,marginals=scores,restarts=1`. A model is fitted to all
32,561 rows of the training part with the class as one column among the others, and as many rows are drawn:

    C2ST    1 − (2 max(AUC, ½) − 1) of gradient boosting that tells drawn rows from those of the training
            part, three folds (the detection score of sdmetrics); 1 where they cannot be told apart
    trend   of all pairs of columns, sdmetrics' mean of 1 − |ρ − ρ'|/2 and, with a label among them,
            1 − ½ Σ |p − p'|, numbers in ten bins of equal width
    AUC     of the test part's classes, by gradient boosting trained on the drawn rows alone
    nats    mean log density of a row of the test part, in the user's units

It prints a row of a Markdown table for each SPEC, with seconds of fitting and drawing, and the peak of
memory. `baseline` in place of a SPEC gives the figures of the training part itself: the best there is.
"""

import resource
import sys
import time
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

TARGET = "class"


def adult(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two parts; unknown cells are a level of their own, as in what is published."""
    train, test = (
        pd.read_csv(folder / f"adult_{part}.csv.gz", keep_default_na=False, skipinitialspace=True)
        for part in ("train", "test")
    )
    train, test = (part.replace("NA", "unknown") for part in (train, test))
    test[TARGET] = test[TARGET].str.rstrip(".")
    return train, test


def numbers(table: pd.DataFrame, like: pd.DataFrame) -> tuple[np.ndarray, list[bool]]:
    """A table as gradient boosting takes it: codes for labels, by the levels of `like`; which are labels."""
    columns, labels = [], []
    for name in like:
        label = not pd.api.types.is_numeric_dtype(like[name])
        labels.append(label)
        if label:
            levels = {level: float(i) for i, level in enumerate(sorted(like[name].dropna().unique()))}
            columns.append(table[name].map(levels).astype(float))
        else:
            columns.append(table[name].astype(float))
    return np.column_stack(columns), labels


def two_sample(real: pd.DataFrame, drawn: pd.DataFrame) -> float:
    """How hard drawn rows are to tell from real ones, 0 to 1."""
    x, labels = numbers(pd.concat([real, drawn], ignore_index=True), real)
    y = np.repeat([0, 1], [len(real), len(drawn)])
    model = HistGradientBoostingClassifier(categorical_features=labels, random_state=0)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    told = cross_val_predict(model, x, y, cv=folds, method="predict_proba")[:, 1]
    return 1 - (max(float(roc_auc_score(y, told)), 0.5) * 2 - 1)


def trend(real: pd.DataFrame, drawn: pd.DataFrame, bins: int = 10) -> float:
    """How alike the columns of two tables hang together in pairs, 0 to 1."""
    plain = {name: pd.api.types.is_numeric_dtype(real[name]) for name in real}
    binned = {}
    for name in real:
        if plain[name]:
            edges = np.histogram_bin_edges(real[name].dropna(), bins)[1:-1]
            binned[name] = tuple(pd.Series(np.digitize(t[name], edges)) for t in (real, drawn))
        else:
            binned[name] = tuple(t[name].reset_index(drop=True) for t in (real, drawn))
    found = []
    for a, b in combinations(real, 2):
        if plain[a] and plain[b]:
            one, other = (t[[a, b]].corr().iloc[0, 1] for t in (real, drawn))
            found.append(1 - abs(one - other) / 2)
            continue
        tables = [pd.crosstab(binned[a][i], binned[b][i], normalize=True).stack() for i in (0, 1)]
        one, other = tables[0].align(tables[1], fill_value=0.0)
        found.append(1 - 0.5 * float((one - other).abs().sum()))
    return float(np.mean(found))


def trained_on(drawn: pd.DataFrame, test: pd.DataFrame, like: pd.DataFrame) -> float:
    """AUC of the test part by a classifier that has seen only drawn rows."""
    features = [name for name in like if name != TARGET]
    x, labels = numbers(drawn[features], like[features])
    positive = sorted(like[TARGET].unique())[-1]
    model = HistGradientBoostingClassifier(categorical_features=labels, random_state=0)
    model.fit(x, drawn[TARGET] == positive)
    told = model.predict_proba(numbers(test[features], like[features])[0])[:, 1]
    return float(roc_auc_score(test[TARGET] == positive, told))


def figures(train: pd.DataFrame, test: pd.DataFrame, drawn: pd.DataFrame) -> dict[str, float]:
    """All that is said of drawn rows."""
    return {
        "C2ST": two_sample(train, drawn),
        "trend": trend(train, drawn),
        "AUC": trained_on(drawn, test, train),
    }


def value(text: str) -> Any:
    """A field's value: a number where it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def run(spec: str, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Any]:
    """One row of the table."""
    if spec == "baseline":
        return {"system": "the training part itself", **figures(train, test, train)}
    import ppl_models as ppl
    from ppl_models.annotations import hints
    from ppl_models.registry import find

    name, _, rest = spec.partition(":")
    given = {k: value(v) for k, _, v in (part.partition("=") for part in rest.split(",") if part)}
    model = find(name)
    fields = {k: v for k, v in given.items() if k in hints(model)}
    options = {k: v for k, v in given.items() if k not in fields}
    began, clock = time.perf_counter(), time.process_time()
    fit = ppl.fit(model(**fields), train, **options)
    fitted = time.perf_counter()
    drawn = fit.sample(rows=len(train), seed=1)[list(train.columns)]
    done = time.perf_counter()
    row: dict[str, Any] = {
        "system": spec, **figures(train, test, drawn),
        "fit s": fitted - began, "sample s": done - fitted, "CPU s": time.process_time() - clock,
        "status": str(fit.status),
    }  # fmt: skip
    row["GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    try:
        row["nats"] = float(fit.score(test)["log_density"].mean())
    except ppl.PplError as error:
        row["nats"] = str(error).partition(";")[0]
    return row


def main(folder: str, *specs: str) -> None:
    """A table, row by row."""
    warnings.simplefilter("ignore")
    train, test = adult(Path(folder))
    names = ("system", "C2ST", "trend", "AUC", "nats", "fit s", "sample s", "CPU s", "GB", "status")
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}", flush=True)
    for spec in specs:
        row = run(spec, train, test)
        cells = (row.get(name, "") for name in names)
        print(f"| {' | '.join(f'{c:.4g}' if isinstance(c, float) else str(c) for c in cells)} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
