"""Fisher's irises: a mixture and a logistic regression on the same splits, with and without missing cells.

    python examples/iris_classes.py

A mixture with a target is a generative classifier: it models how the flowers of each species look, and takes
any cells that there are. A logistic regression is discriminative: it models only where species meet, and
needs every predictor. Each flower is predicted by fits that did not see it, in three folds.
"""

from pathlib import Path

import numpy as np
import pandas as pd

import ppl_models as ppl

DATA = Path(__file__).with_name("iris.csv")

MODELS = {
    "mixture, a covariance each (quadratic)": ppl.GMM(components=1),
    "mixture, one covariance (linear)": ppl.GMM(components=1, covariance="tied"),
    "logistic regression": ppl.Logistic(),
}


def held_out(model: ppl.Model, table: pd.DataFrame, folds: int = 3) -> pd.DataFrame:
    """Log probability of the true species, and whether it was predicted, row by row."""
    fold = np.arange(len(table)) % folds
    parts = []
    for k in range(folds):
        fit = ppl.fit(model, table[fold != k], target="species", seed=0)
        test = table[fold == k]
        log_probability = np.asarray(fit.score(test).iloc[:, -1])  # the last column, of either model
        right = np.asarray(fit.predict(test)["class"]) == np.asarray(test["species"])
        parts.append(pd.DataFrame({"log probability": log_probability, "right": right}, index=test.index))
    return pd.concat(parts).sort_index()


def lines(found: dict[str, pd.DataFrame], rows: np.ndarray) -> str:
    """A line for each model: how many of `rows` it predicts, and how well."""
    table = []
    for name, each in found.items():
        some = each[rows].dropna()
        error = some["log probability"].std() / len(some) ** 0.5
        table.append(
            {
                "model": name,
                "predicted": f"{len(some)} of {rows.sum()}",
                "log probability": f"{some['log probability'].mean():.3f} ± {error:.3f}",
                "accuracy": f"{some['right'].mean():.3f}",
            }
        )
    return pd.DataFrame(table).to_string(index=False)


def main() -> None:
    table = pd.read_csv(DATA)
    every = np.ones(len(table), dtype=bool)
    found = {name: held_out(model, table) for name, model in MODELS.items()}
    print(f"all cells there\n{lines(found, every)}\n")

    # A quarter of the cells is lost. The regression can neither learn from such flowers nor predict them.
    hidden = np.random.default_rng(1).random(table.shape) < 0.25
    hidden[:, list(table).index("species")] = False
    gaps = table.mask(hidden)
    found = {name: held_out(model, gaps) for name, model in MODELS.items()}
    print(f"{hidden.sum()} of {table.size - len(table)} cells missing\n{lines(found, every)}\n")
    whole = gaps.notna().all(axis=1).to_numpy()
    print(f"of these, the flowers without missing cells\n{lines(found, whole)}")


if __name__ == "__main__":
    main()
