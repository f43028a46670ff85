"""US growth, 1959 to 2009: a Gaussian HMM of three columns, some cells of which are missing.

    python examples/growth_hmm.py

The data comes with statsmodels. Cells are taken out at random, the model is fitted to what is left, and the
cells are filled in again with intervals, so that they can be compared with what was there.
"""

import numpy as np
import pandas as pd
from statsmodels.datasets import macrodata

import ppl_models as ppl

COLUMNS = {"realgdp": "output", "realcons": "consumption", "realinv": "investment"}


def growth() -> pd.DataFrame:
    """Quarterly growth in per cent."""
    table = macrodata.load_pandas().data
    rates = 100 * np.log(table[list(COLUMNS)]).diff().rename(columns=COLUMNS)
    quarters = table["year"].astype(int).astype(str) + "-Q" + table["quarter"].astype(int).astype(str)
    return rates.set_index(quarters).iloc[1:]


def main() -> None:
    complete = growth()
    hidden = np.random.default_rng(1).random(complete.shape) < 0.1
    observed = complete.mask(hidden)
    print(f"{hidden.sum()} of {hidden.size} cells are missing\n")

    # Missing cells are integrated out: no row is dropped, and nothing is filled in before the fit.
    fit = ppl.fit(ppl.HMM(states=2), observed, seed=0)
    print(fit, "\n")

    # Filled in given the states and the other columns of the quarter.
    filled = fit.impute(level=0.9)
    rows = []
    for i, name in enumerate(complete):
        at = hidden[:, i]
        truth, guess = complete[name].to_numpy()[at], filled[name].to_numpy()[at]
        inside = (filled[f"{name}_lower"].to_numpy()[at] <= truth) & (
            truth <= filled[f"{name}_upper"].to_numpy()[at]
        )
        rows.append(
            {
                "column": name,
                "missing": at.sum(),
                "error": np.sqrt(np.mean((guess - truth) ** 2)),
                "error of the mean": np.sqrt(np.mean((observed[name].mean() - truth) ** 2)),
                "inside the 90 % interval": inside.mean(),
            }
        )
    print(pd.DataFrame(rows).round(2).to_string(index=False), "\n")

    # The quarters that were most probably in the first state.
    state = fit.predict().set_index(complete.index)["smoothed_0"]
    print("state 0:", ", ".join(state.index[state > 0.9][-12:]))


if __name__ == "__main__":
    main()
