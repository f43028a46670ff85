"""Credit: a loan that fails costs five times what a good customer turned away costs.

    python examples/credit_costs.py

Simulated applicants, of whom about one in six does not pay back. Where probabilities are right, the cheapest
threshold follows from the costs alone: a loan is refused from p = c / (c + C) on, c the cost of a refusal,
C that of a failure (Elkan 2001, The foundations of cost-sensitive learning, IJCAI).
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import ppl_models as ppl

REFUSED, FAILED = 1.0, 5.0


def applicants(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    income, debt = rng.lognormal(3.3, 0.4, rows), rng.gamma(2.0, 0.15, rows)
    late, years = rng.poisson(0.6, rows), rng.exponential(5.0, rows)
    logit = -1.6 - 1.2 * np.log(income / 27) + 2.5 * (debt - 0.3) + 0.7 * late - 0.15 * years
    failed = rng.random(rows) < 1 / (1 + np.exp(-logit))
    return pd.DataFrame({"income": income, "debt": debt, "late_payments": late, "years_in_job": years,
                         "outcome": np.where(failed, "fails", "pays")})  # fmt: skip


def cost(refused: np.ndarray, failed: np.ndarray) -> float:
    """Mean cost of an applicant."""
    return float(np.mean(REFUSED * (refused & ~failed) + FAILED * (~refused & failed)))


def main() -> None:
    table = applicants(3000)
    train, test = table[:1000], table[1000:]
    failed = (test["outcome"] == "fails").to_numpy()
    fit = ppl.fit(ppl.Logistic(), train, target="outcome", seed=0)

    # The threshold is of the second class in order of names: pays. Lend only if it is likely enough.
    lend = 1 - REFUSED / (REFUSED + FAILED)
    rows = {"lend to all": np.zeros(len(test), bool)}
    for name, threshold in (("threshold 0.5", 0.5), (f"threshold {lend:.3f} by the costs", lend)):
        rows[name] = (fit.predict(test, threshold=threshold)["class"] == "fails").to_numpy()
    print(f"{len(test)} new applicants, {failed.mean():.1%} fail; mean cost of one")
    for name, refused in rows.items():
        print(f"{name:>30} {cost(refused, failed):.3f} ({refused.mean():.0%} refused)")

    p = fit.predict(test)["probability_pays"].to_numpy()
    grid = np.linspace(0.3, 0.99, 70)
    left, right = Figure(figsize=(9, 4), layout="constrained").subplots(1, 2)
    fit.plot("calibration", test, ax=left)
    right.plot(grid, [cost(p < at, failed) for at in grid])
    right.axvline(lend, color="k", linestyle=":", label="threshold by the costs")
    right.set(xlabel="lend if the probability of paying is at least", ylabel="mean cost of an applicant")
    right.legend()
    right.figure.savefig("credit_costs.png", dpi=120)


if __name__ == "__main__":
    main()
