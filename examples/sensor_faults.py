"""Faults in sensor data: which rows, and which of the sensors.

    python examples/sensor_faults.py

Six simulated sensors follow two things that drive them, each in its own direction. In 20 of 600 readings one
sensor has the value of another reading: nothing unusual by itself, but not beside these values of the others.
A mixture of one component is fitted to all rows, without being told which they are.
"""

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

import ppl_models as ppl

SENSORS = ["inlet", "outlet", "pressure", "flow", "power", "vibration"]


def readings(rows: int = 600, faults: int = 20) -> tuple[pd.DataFrame, np.ndarray]:
    """The readings, and for each row the sensor that is at fault, -1 for none."""
    rng = np.random.default_rng(3)
    angle = np.pi * np.arange(6) / 6
    values = rng.normal(size=(rows, 2)) @ [np.cos(angle), np.sin(angle)] + 0.25 * rng.normal(size=(rows, 6))
    at = np.full(rows, -1)
    at[rng.choice(rows, faults, replace=False)] = rng.integers(6, size=faults)
    for row in np.flatnonzero(at >= 0):
        values[row, at[row]] = rng.choice(values[:, at[row]])
    return pd.DataFrame(values, columns=SENSORS), at


def main() -> None:
    table, at = readings()
    faulty = at >= 0
    fit = ppl.fit(ppl.GMM(components=1), table, seed=0, robust=0.03)
    found = fit.anomalies(explain=len(table))
    surprise = found["surprise"].sort_index().to_numpy()

    forest = -IsolationForest(random_state=0).fit(table).score_samples(table)
    print(f"AUC of the faults: mixture {roc_auc_score(faulty, surprise):.3f}, "
          f"IsolationForest {roc_auc_score(faulty, forest):.3f}")  # fmt: skip
    named = found["column"].sort_index().to_numpy()[faulty]
    right = named == np.array(SENSORS)[at[faulty]]
    print(f"the faulty sensor is named in {right.sum()} of {faulty.sum()} rows, 1 in 6 by chance")
    listed = fit.anomalies(fdr=0.1).index
    print(f"listed at a false discovery rate of 10 %: {len(listed)}, of them {faulty[listed].sum()} faulty\n")
    print(found[["surprise", "p_value", "why"]].head(5).round(4).to_string())

    axes = fit.plot("groups", columns=["inlet", "outlet"])[0]
    axes.scatter(
        *table.loc[faulty, ["inlet", "outlet"]].to_numpy().T, s=60, facecolors="none", edgecolors="k"
    )
    axes.figure.suptitle("Readings, with the planted faults circled")
    axes.figure.savefig("sensor_faults.png", dpi=120)


if __name__ == "__main__":
    main()
