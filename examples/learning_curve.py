"""Generative against discriminative as the data grow: where the curves cross.

    python examples/learning_curve.py

Whether a tumour is malignant, by four of the columns of scikit-learn's data. Linear discriminant analysis, a
mixture with one covariance, models how tumours of each kind look; a logistic regression only where the kinds
meet. Ng & Jordan (2002, NeurIPS 14): the first needs fewer rows, the second ends no higher.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer

import ppl_models as ppl

COLUMNS = ["mean texture", "mean area", "mean smoothness", "mean concavity"]


def main() -> None:
    found = load_breast_cancer(as_frame=True)
    table = found.data[COLUMNS].assign(kind=np.where(found.target == 0, "malignant", "benign"))
    models = {
        "generative": ppl.GMM(components=1, covariance="tied"),
        "discriminative": ppl.Logistic(),
        "shares alone": "sklearn:DummyClassifier",
    }
    result = ppl.compare(table, models, "kind", folds=3, curve=True, checks=False, seed=0)
    print(result.tables()["curve"].to_string(), "\n")
    print(pd.DataFrame(result.crossings).to_string(index=False))

    axes = Figure(figsize=(6, 4), layout="constrained").subplots()
    print(result.curve.head())
    axes.figure.savefig("learning_curve.png", dpi=120)


if __name__ == "__main__":
    main()
