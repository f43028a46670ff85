"""How true made-up rows are to real ones, and whether they are copies of them.

All of it is of matrices (n, C) of numbers, codes for labels, NaN where missing:

    column             1 − max |F_made − F_real| of numbers, 1 − ½ Σ_c |p_made(c) − p_real(c)| of labels
    pair               1 − |r_made − r_real| / 2 of two numbers; of others 1 − ½ Σ |difference| of tables,
                       numbers cut at deciles of the real rows (Patki, Wedge & Veeramachaneni 2016, DSAA)
    two_sample         AUC of a classifier of made-up against real rows that it has not seen: ½ if it cannot
                       tell (Lopez-Paz & Oquab 2017, ICLR, https://arxiv.org/abs/1610.06545)
    made_to_real       score on real rows of a predictor that was trained on made-up ones (Esteban, Hyland &
                       Rätsch 2017, https://arxiv.org/abs/1706.02633), beside one trained on real ones
    exact_copies       share of made-up rows that are a training row, cell by cell
    nearer             share of made-up rows nearer to their nearest training row than a share of 5 % of real
                       rows that are not among them is: .05 where nothing is copied
    nearest_is_training    share of made-up rows that are nearer to some training row than to any of as many
                       held-out rows: .5 where nothing is copied

Distances are Euclidean, numbers in sds of the training rows, labels as 0 or 1 whether they differ; a missing
cell is at the mean, or a level of its own.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ppl_models.data import Column

ROWS = 5_000
"""Rows of each kind that are looked at, at most."""

NEAR = 0.05
"""Share of real rows that are nearer than the distance by which copies are told."""

PAIRS = 40
"""Columns up to which all pairs are looked at."""


def report(
    columns: tuple[Column, ...],
    made: np.ndarray,
    train: np.ndarray,
    test: np.ndarray | None,
    outcome: int | None,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """The figures as rows of a table.

    Args:
        columns: of the matrices.
        made: (m, C) made-up rows.
        train: (n, C) rows of the fit.
        test: real rows that the fit has not seen, or None.
        outcome: position of the column that predictors are trained for, or None.
        seed: of the rows that are looked at, and of the classifiers.
    """
    rng = np.random.default_rng(seed)
    made, train = (_some(x, rng) for x in (made, train))
    real = train if test is None else _some(test, rng)
    for j, column in enumerate(columns):
        value = _column(column, made[:, j], real[:, j])
        yield {"figure": "column", "column": column.name, "value": value}
    if len(columns) <= PAIRS:
        for i in range(len(columns)):
            for j in range(i):
                value = _pair(columns[j], columns[i], made[:, [j, i]], real[:, [j, i]])
                yield {"figure": "pair", "column": columns[j].name, "other": columns[i].name, "value": value}
    yield _two_sample(columns, made, real, rng)
    if outcome is not None:
        yield from _made_to_real(columns, made, train, test, outcome, seed)
    yield from _copies(columns, made, train, test, rng)


def _some(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At most `ROWS` of the rows, in a random order."""
    return x[rng.permutation(len(x))[:ROWS]]


def _column(column: Column, made: np.ndarray, real: np.ndarray) -> float:
    made, real = made[~np.isnan(made)], real[~np.isnan(real)]
    if not len(made) or not len(real):
        return float("nan")
    if column.labelled:
        shares = [np.bincount(x.astype(int), minlength=len(column.levels)) / len(x) for x in (made, real)]
        return float(1 - 0.5 * np.abs(shares[0] - shares[1]).sum())
    at = np.unique(np.concatenate([made, real]))
    below = [np.searchsorted(np.sort(x), at, side="right") / len(x) for x in (made, real)]
    return float(1 - np.abs(below[0] - below[1]).max())


def _pair(first: Column, second: Column, made: np.ndarray, real: np.ndarray) -> float:
    made, real = made[~np.isnan(made).any(1)], real[~np.isnan(real).any(1)]
    if len(made) < 2 or len(real) < 2:
        return float("nan")
    if not first.labelled and not second.labelled:
        if min(made.std(0).min(), real.std(0).min()) == 0:
            return float("nan")
        r = [np.corrcoef(x.T)[0, 1] for x in (made, real)]
        return float(1 - abs(r[0] - r[1]) / 2)
    tables = []
    cuts = [
        None if c.labelled else np.unique(np.quantile(real[:, j], np.arange(1, 10) / 10))
        for j, c in enumerate((first, second))
    ]
    sizes = [
        len(c.levels) if cut is None else len(cut) + 1 for c, cut in zip((first, second), cuts, strict=True)
    ]
    for x in (made, real):
        codes = [
            x[:, j].astype(int) if cut is None else np.searchsorted(cut, x[:, j], side="right")
            for j, cut in enumerate(cuts)
        ]
        tables.append(np.bincount(codes[0] * sizes[1] + codes[1], minlength=sizes[0] * sizes[1]) / len(x))
    return float(1 - 0.5 * np.abs(tables[0] - tables[1]).sum())


def _boosting(columns: tuple[Column, ...], regression: bool, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    labels = [c.labelled and len(c.levels) <= 255 for c in columns]
    return kind(categorical_features=labels, random_state=seed, early_stopping=False, max_iter=50)


def _two_sample(
    columns: tuple[Column, ...], made: np.ndarray, real: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    """The AUC over two halves, each judged by a classifier of the other, with its error were it ½."""
    from sklearn.metrics import roc_auc_score

    n = min(len(made), len(real))
    x, y = np.concatenate([made[:n], real[:n]]), np.repeat([0, 1], n)
    half, found = np.concatenate([rng.permutation(n) % 2, rng.permutation(n) % 2]), []
    if n < 10:
        return {"figure": "two_sample", "value": float("nan"), "rows": 2 * n}
    for k in (0, 1):
        model = _boosting(columns, False, k).fit(x[half == k], y[half == k])
        found.append(roc_auc_score(y[half != k], model.predict_proba(x[half != k])[:, 1]))
    error = ((2 * n + 1) / (12 * n * n)) ** 0.5
    return {"figure": "two_sample", "value": float(np.mean(found)), "standard_error": error, "rows": 2 * n}


def _made_to_real(
    columns: tuple[Column, ...], made: np.ndarray, train: np.ndarray, test: np.ndarray | None, outcome: int,
    seed: int,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """AUC of two classes, accuracy of more, R² of a number; without a test part on the rows of the fit."""
    from sklearn.metrics import accuracy_score, r2_score, roc_auc_score

    target, judged = columns[outcome], train if test is None else test
    others = [j for j in range(len(columns)) if j != outcome]
    rest = tuple(columns[j] for j in others)
    judged = judged[~np.isnan(judged[:, outcome])]
    real = train[~np.isnan(train[:, outcome])]
    y, number = judged[:, outcome], not target.labelled
    name = "r2" if number else "auc" if len(np.unique(y)) == 2 == len(target.levels) else "accuracy"
    for figure, rows in (("made_to_real", made), ("real_to_real", real if test is not None else None)):
        if rows is None:
            continue
        if not number and len(np.unique(rows[:, outcome])) < 2:
            continue
        model = _boosting(rest, number, seed).fit(rows[:, others], rows[:, outcome])
        if name == "r2":
            value = r2_score(y, model.predict(judged[:, others]))
        elif name == "auc":
            value = roc_auc_score(
                y == 1, model.predict_proba(judged[:, others])[:, list(model.classes_).index(1)]
            )
        else:
            value = accuracy_score(y, model.predict(judged[:, others]))
        yield {
            "figure": figure,
            "column": target.name,
            "other": name,
            "value": float(value),
            "rows": len(judged),
        }


def _space(columns: tuple[Column, ...], x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Rows in which distances are taken: one column for a number, as many as levels for a label."""
    parts = []
    for j, column in enumerate(columns):
        cells = x[:, j]
        if column.labelled:
            codes = np.where(np.isnan(cells), len(column.levels), cells).astype(int)
            parts.append(np.eye(len(column.levels) + 1)[codes] / 2**0.5)
        else:
            own = train[:, j][~np.isnan(train[:, j])]
            mean, sd = (own.mean(), own.std()) if len(own) else (0.0, 1.0)
            parts.append((np.where(np.isnan(cells), mean, cells)[:, None] - mean) / (sd or 1.0))
    return np.concatenate(parts, 1)


def _copies(
    columns: tuple[Column, ...], made: np.ndarray, train: np.ndarray, test: np.ndarray | None,
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    from scipy.spatial import cKDTree

    known = {row.tobytes() for row in np.ascontiguousarray(train)}

    def copies(x: np.ndarray) -> float:
        return float(np.mean([row.tobytes() in known for row in np.ascontiguousarray(x)]))

    yield {"figure": "exact_copies", "value": copies(made), "rows": len(made)}
    if test is not None:
        yield {"figure": "exact_copies_held_out", "value": copies(test), "rows": len(test)}
    at = _space(columns, train, train)
    tree, new = cKDTree(at), _space(columns, made, train)
    if test is None:
        usual = tree.query(at, k=min(2, len(at)))[0].reshape(len(at), -1)[:, -1]
    else:
        usual = tree.query(_space(columns, test, train))[0]
    near = tree.query(new)[0]
    limit = np.quantile(usual, NEAR)
    yield {"figure": "distance", "value": float(np.median(near)), "rows": len(made)}
    yield {
        "figure": "distance_held_out" if test is not None else "distance_training",
        "value": float(np.median(usual)),
    }
    share = float((near < limit).mean())
    error = (NEAR * (1 - NEAR) * (1 / len(made) + 1 / len(usual))) ** 0.5
    yield {"figure": "nearer", "value": share, "standard_error": error, "rows": len(made)}
    if test is not None:
        n = min(len(train), len(test))
        first = cKDTree(at[rng.permutation(len(at))[:n]]).query(new)[0]
        second = cKDTree(_space(columns, test[rng.permutation(len(test))[:n]], train)).query(new)[0]
        share = float(((first < second) + 0.5 * (first == second)).mean())
        yield {"figure": "nearest_is_training", "value": share, "rows": len(made)}
