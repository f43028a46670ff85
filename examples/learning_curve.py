"""Generative against discriminative as the data grow: where the curves cross.

    python examples/learning_curve.py

Simulated rows of twelve columns, normal in each of two classes, and slightly correlated. Naive Bayes models
how rows of each class look, and takes the columns for independent; a logistic regression models only where
the classes meet. Ng & Jordan (2002, NeurIPS 14): the first gets by with fewer rows, the second ends lower
if the first is wrong.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import ppl_models as ppl


def table(rows: int = 600, columns: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(4)
    label = rng.integers(2, size=rows)
    x = rng.normal(size=(rows, columns)) + 0.4 * rng.normal(size=(rows, 1))
    x += 0.8 * (label[:, None] - 0.5) * np.linspace(1.5, 0.5, columns)
    names = [f"x{j}" for j in range(columns)]
    return pd.DataFrame(x, columns=names).assign(label=np.where(label, "yes", "no"))


def main() -> None:
    models = {
        "naive Bayes": ppl.GMM(components=1, covariance="diag"),
        "logistic": ppl.Logistic(),
        "shares alone": "sklearn:DummyClassifier",
    }
    result = ppl.compare(table(), models, "label", folds=3, curve=True, checks=False, seed=0)
    print("log loss of held-out rows, by rows to learn from")
    print(result.tables()["curve"].to_string(index=False), "\n")
    crossing = result.crossings.iloc[0]
    print(f"the regression is ahead from {crossing['size']:.0f} rows on, "
          f"95 % interval {crossing['lower']:.0f} to {crossing['upper']:.0f}")  # fmt: skip

    axes = Figure(figsize=(6, 4), layout="constrained").subplots()
    for name, each in result.curve.groupby("model", sort=False):
        axes.errorbar(
            each["size"], each["log_loss"], each["standard_error"], marker="o", capsize=3, label=name
        )
    axes.set(xscale="log", xlabel="rows to learn from", ylabel="log loss of held-out rows")
    axes.legend()
    axes.figure.savefig("learning_curve.png", dpi=120)


if __name__ == "__main__":
    main()
