"""The tables of a comparison, from what came of its entries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ppl_models.comparison.contest import Contestant, Judge
from ppl_models.comparison.entries import OnFeatures, OnRows
from ppl_models.comparison.figures import corp
from ppl_models.comparison.folds import Fold
from ppl_models.comparison.resampling import crossing, difference, spread

if TYPE_CHECKING:
    import pandas as pd


FIGURES = ("log_loss", "brier", "auc", "accuracy", "crps", "rmse", "log_density")
"""Columns of the table, after the one that decides."""


def headline(found: list[Contestant], loss: str, ratio: float) -> "pd.DataFrame":
    """A row for each entry, best first, those that failed last.

    Args:
        found: all entries.
        loss: the figure that decides.
        ratio: n_test / n_train.
    """
    import pandas as pd

    done = [one for one in found if one.folds]
    best = min(done, key=lambda one: one.losses(loss).mean())
    rows = []
    for one in sorted(done, key=lambda one: one.losses(loss).mean()):
        gap = difference(one.losses(loss), best.losses(loss), ratio)
        against = "best" if one is best else "worse" if gap.clear else "no difference"
        row: dict[str, Any] = {"model": one.name, loss: float(one.losses(loss).mean())}
        row |= {"difference": gap.mean, "standard_error": np.nan if one is best else gap.standard_error}
        row |= {"against_best": against}
        row |= {name: float(one.losses(name).mean()) for name in FIGURES if name != loss}
        row |= {"seconds": float(np.mean([made.seconds for made in one.folds]))}
        row |= {"memory_mb": float(np.max([made.memory for made in one.folds]))}
        rows.append(row | _parts(one) | {"verdict": one.verdict, "failed": ""})
    rows += [{"model": one.name, "failed": one.failed} for one in found if not one.folds]
    order = ["model", loss, "difference", "standard_error", "against_best", "brier", "miscalibration"]
    order += ["discrimination", "uncertainty", *(f for f in FIGURES if f not in (loss, "brier"))]
    order += ["seconds", "memory_mb", "verdict", "failed"]
    table = pd.DataFrame(rows).reindex(columns=order)
    text = table.select_dtypes(exclude="number").columns
    table[text] = table[text].fillna("").infer_objects()
    return table.set_index("model")


def _parts(one: Contestant) -> dict[str, float]:
    """Of all held-out rows, each fold with the same weight, so that they add up to the mean Brier score."""
    if "brier" not in one.folds[0].figures:
        return {}
    p, y, w = [], [], []
    for made in one.folds:
        at = made.fold.test
        own = np.asarray(one.data.column(str(one.data.schema.target)))[at]
        weight = np.ones(len(at)) if one.data.weight is None else one.data.weight[at]
        known = ~np.isnan(own) & (weight > 0)
        p.append(made.answer.p[known])  # type: ignore[index]
        y.append(own[known].astype(int))
        w.append(weight[known] / weight[known].sum())
    return corp(np.concatenate(p), np.concatenate(y), np.concatenate(w))._asdict()


def by_fold(done: Sequence[Contestant]) -> "pd.DataFrame":
    """A row for each entry and fold, with all figures."""
    import pandas as pd

    return pd.DataFrame(
        [
            {"model": one.name, "fold": j, "train": len(made.fold.train), "test": len(made.fold.test)}
            | made.figures
            | {"seconds": made.seconds, "memory_mb": made.memory}
            for one in done
            for j, made in enumerate(one.folds)
        ]
    )


def gains(done: Sequence[Contestant], loss: str, ratio: float) -> "pd.DataFrame":
    """A row for each entry that is helped and each figure: what it gains, with its interval of two errors.

    Args:
        done: the entries that were fitted.
        loss: the figure that decides.
        ratio: n_test / n_train.
    """
    import pandas as pd

    rows = []
    for one in done:
        if not isinstance(one.entry, OnFeatures | OnRows):
            continue
        alone = next((each for each in done if each.entry == one.entry.first), None)
        for name in dict.fromkeys([loss, "brier", "auc", "accuracy"]) if alone is not None else ():
            if name not in one.folds[0].figures:
                continue
            before, after = alone.losses(name), one.losses(name)  # type: ignore[union-attr]
            up = name in ("auc", "accuracy")
            gap = difference(after, before, ratio) if up else difference(before, after, ratio)
            says = "no difference" if not gap.clear else "gain" if gap.mean > 0 else "loss"
            reach = 2 * gap.standard_error
            rows.append(
                {"model": one.name, "alone": alone.name, "figure": name, "gain": gap.mean}  # type: ignore[union-attr]
                | {"lower": gap.mean - reach, "upper": gap.mean + reach, "says": says}
            )
    return pd.DataFrame(rows)


def summed(done: Sequence[Contestant], name: str, over: list[str], loss: str, ratio: float) -> "pd.DataFrame":
    """Means over folds of a table by size or share, with corrected standard errors of the loss.

    Args:
        done: entries with the table.
        name: of it.
        over: its columns beside the figures.
        loss: the figure that decides.
        ratio: n_test / n_train.
    """
    import pandas as pd

    rows = []
    for one in done:
        table = pd.DataFrame(one.extra[name])
        for key, part in table.groupby(over, sort=False):
            own = part[loss].to_numpy()
            row: dict[str, Any] = dict(zip(over, tuple(key), strict=True))  # type: ignore[arg-type]
            row = {"model": one.name, **row, loss: own.mean(), "standard_error": spread(own, ratio)}
            rows.append(row | {f: part[f].to_numpy().mean() for f in FIGURES if f in part and f != loss})
    return pd.DataFrame(rows)


def crossings(done: Sequence[Contestant], parts: Sequence[Fold]) -> "pd.DataFrame | None":
    """A row for each joint and conditional entry and figure: from how many rows the second is better.

    Args:
        done: entries with learning curves.
        parts: the folds.
    """
    import pandas as pd

    rows = []
    for first in done:
        for second in done:
            if not first.joint or second.joint or "curve" not in second.extra or "curve" not in first.extra:
                continue
            for name in ("log_loss", "error"):
                a, b = (_grid(one, name) for one in (first, second))
                if a is None or b is None:
                    continue
                sizes = a.columns.to_numpy(float)
                ratio = np.full(len(sizes), np.mean([len(f.test) / len(f.train) for f in parts]))
                found = crossing(sizes, a.to_numpy(), b.to_numpy(), ratio)
                rows.append({"first": first.name, "second": second.name, "figure": name, **found._asdict()})
    return pd.DataFrame(rows) if rows else None


def _grid(one: Contestant, name: str) -> "pd.DataFrame | None":
    """Folds by sizes."""
    import pandas as pd

    table = pd.DataFrame(one.extra["curve"])
    if name == "error" and "accuracy" in table:
        table["error"] = 1 - table["accuracy"]
    return table.pivot(index="fold", columns="size", values=name) if name in table else None


def probabilities(done: Sequence[Contestant], said: Judge) -> "pd.DataFrame | None":
    """Held-out rows with their classes and probabilities.

    Args:
        done: the entries that were fitted.
        said: who judged them.
    """
    import pandas as pd

    if not said.labels:
        return None
    tables = []
    for one in done:
        for j, made in enumerate(one.folds):
            y = np.asarray(one.data.column(str(said.target)))[made.fold.test]
            known = ~np.isnan(y)
            table = pd.DataFrame(
                {
                    "model": one.name,
                    "fold": j,
                    "row": made.fold.test[known],
                    "class": [said.labels[c] for c in y[known].astype(int)],
                }
            )
            for c, label in enumerate(said.labels):
                table[f"probability_{label}"] = made.answer.p[known, c]  # type: ignore[index]
            tables.append(table)
    return pd.concat(tables, ignore_index=True)
