"""A rare class: do made-up rows of it help a classifier?

    python examples/rare_class.py

Breast tumours, which come with scikit-learn, by four columns that leave something to learn. Eight times 300
are drawn, 15 of them malignant. A mixture with a target learns both classes and makes up malignant rows
until there are as many as benign ones; gradient boosting is trained with and without them, and judged by
average precision on the tumours that were not drawn.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import t
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score

import ppl_models as ppl

COLUMNS = ["mean texture", "mean smoothness", "mean symmetry", "mean fractal dimension"]
REPEATS = 8


def tumours() -> pd.DataFrame:
    found = load_breast_cancer(as_frame=True)
    return found.data[COLUMNS].assign(kind=np.where(found.target == 0, "malignant", "benign"))


def precision(train: pd.DataFrame, test: pd.DataFrame) -> float:
    model = HistGradientBoostingClassifier(random_state=0).fit(train[COLUMNS], train["kind"])
    return average_precision_score(test["kind"] == "malignant", model.predict_proba(test[COLUMNS])[:, 1])


def main() -> None:
    table, rows = tumours(), []
    for repeat in range(REPEATS):
        parts = [table[table["kind"] == kind].sample(n, random_state=repeat)
                 for kind, n in (("benign", 285), ("malignant", 15))]  # fmt: skip
        train = pd.concat(parts)
        test = table.drop(train.index)
        fit = ppl.fit(ppl.GMM(components=1), train, target="kind", seed=repeat)
        made = fit.augment(balance="kind")
        repeated = pd.concat([train, parts[1].sample(270, replace=True, random_state=repeat)])
        rows.append({
            "as it is": precision(train, test),
            "rare rows repeated": precision(repeated, test),
            "made-up rows": precision(pd.concat([train, made]), test),
            "the mixture itself": average_precision_score(
                test["kind"] == "malignant", fit.predict(test)["probability_malignant"]),
        })  # fmt: skip
    found = pd.DataFrame(rows)
    print("average precision, mean of", REPEATS, "samples\n" + found.mean().round(3).to_string(), "\n")
    # The repeats share rows: the standard error is corrected for that (Nadeau & Bengio 2003).
    better = found[["as it is", "rare rows repeated"]].mean().idxmax()
    gain = found["made-up rows"] - found[better]
    half = t.ppf(0.95, REPEATS - 1) * gain.std() * (1 / REPEATS + len(test) / len(train)) ** 0.5
    verdict = "help" if gain.mean() > half else "harm" if gain.mean() < -half else "make no difference"
    print(f"gain of made-up rows over {better!r}: {gain.mean():.3f} ± {half:.3f} (90 %): they {verdict}")

    axes = Figure(figsize=(6, 3.5), layout="constrained").subplots()
    axes.boxplot([found[name] for name in found], orientation="horizontal", tick_labels=list(found))
    axes.set_xlabel("average precision of the rare class")
    axes.figure.savefig("rare_class.png", dpi=120)


if __name__ == "__main__":
    main()
