"""A survey with gaps: the mean of an answer that the educated leave out.

    python examples/survey_gaps.py

Answers of the American National Election Studies of 1996, which come with statsmodels. Income is taken out
more often the more educated someone is, so that the incomes that are left are too low. A mixture fills the
cells in five times; the five answers are combined by Rubin's rules. The truth is the mean of the complete
table, not of all voters, so that right intervals cover it more often than their level says.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from statsmodels.datasets import anes96

import ppl_models as ppl

COLUMNS = ["income", "educ", "age", "PID"]
PATTERNS = 10


def interval(mean: float, variance: float, rows: int) -> tuple[float, float]:
    half = 1.645 * (variance / rows) ** 0.5
    return mean - half, mean + half


def main() -> None:
    table = anes96.load_pandas().data[COLUMNS].astype(float)
    types, truth, found = dict.fromkeys(COLUMNS, "continuous"), table["income"].mean(), []
    for pattern in range(PATTERNS):
        rng = np.random.default_rng(pattern)
        hidden = rng.random(len(table)) < np.where(table["educ"] >= 5, 0.6, 0.1)
        gaps = table.assign(income=table["income"].mask(hidden))
        left = gaps["income"].dropna()
        filled = gaps["income"].fillna(left.mean())

        fit = ppl.fit(ppl.GMM(components=1), gaps, types=types, seed=pattern)
        copies = fit.impute(copies=5).groupby("copy")["income"]
        pooled = ppl.pool(copies.mean(), copies.var() / copies.size(), dof=len(table) - 1)
        for way, mean, (lower, upper) in (
            ("complete cases", left.mean(), interval(left.mean(), left.var(), len(left))),
            ("mean imputation", filled.mean(), interval(filled.mean(), filled.var(), len(filled))),
            ("five imputations", float(pooled.estimate), pooled.interval(0.9)),
        ):
            found.append({"way": way, "mean": mean, "lower": float(lower), "upper": float(upper)})
    found = pd.DataFrame(found)
    found["error"] = (found["mean"] - truth).abs()
    found["covers"] = (found["lower"] <= truth) & (truth <= found["upper"])
    print(f"mean income class of all {len(table)}: {truth:.2f}; {PATTERNS} patterns of gaps, 90 % intervals")
    print(found.groupby("way", sort=False)[["error", "covers"]].mean().round(3).to_string())

    axes = Figure(figsize=(6, 4), layout="constrained").subplots()
    for shift, (way, each) in enumerate(found.groupby("way", sort=False)):
        x = np.arange(PATTERNS) + 0.25 * (shift - 1)
        axes.errorbar(x, each["mean"], [each["mean"] - each["lower"], each["upper"] - each["mean"]],
                      fmt="o", markersize=3, color=f"C{shift}", label=way)  # fmt: skip
    axes.axhline(truth, color="k", label="mean of all")
    axes.set(xlabel="pattern of gaps", ylabel="mean income class")
    axes.legend(fontsize=8)
    axes.figure.savefig("survey_gaps.png", dpi=120)


if __name__ == "__main__":
    main()
