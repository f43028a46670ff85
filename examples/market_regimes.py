"""Returns of a market with calm and turbulent regimes: which it is in, and what is ahead.

    python examples/market_regimes.py

Simulated daily returns in per cent: calm for some hundred days, turbulent for some forty. A hidden Markov
model of two states is fitted to the first 900. The 300 others are forecast five at a time, and the
forecasts compared by CRPS with one normal distribution of all returns before, which knows nothing of
regimes.
"""

import numpy as np
import pandas as pd
from scipy.stats import norm

import ppl_models as ppl

MEAN, SD, STAY = np.array([0.08, -0.15]), np.array([0.7, 2.2]), np.array([0.99, 0.975])
FITTED, FOLDS, STEPS = 900, 60, 5


def returns(days: int = FITTED + FOLDS * STEPS) -> tuple[pd.DataFrame, np.ndarray]:
    """The returns and the regimes, 1 the turbulent one."""
    rng, regime = np.random.default_rng(5), np.zeros(days, int)
    for day in range(1, days):
        stays = rng.random() < STAY[regime[day - 1]]
        regime[day] = regime[day - 1] if stays else 1 - regime[day - 1]
    return pd.DataFrame({"day": np.arange(days), "return_pct": rng.normal(MEAN[regime], SD[regime])}), regime


def naive(x: np.ndarray) -> float:
    """CRPS of N(mean, sd²) of the returns before each window (Gneiting & Raftery 2007, equation 21)."""
    found = []
    for start in range(len(x) - FOLDS * STEPS, len(x), STEPS):
        sd, z = x[:start].std(), (x[start : start + STEPS] - x[:start].mean()) / x[:start].std()
        found.append(sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - np.pi**-0.5))
    return float(np.mean(found))


def main() -> None:
    table, regime = returns()
    fit = ppl.fit(ppl.HMM(states=2, order_by="sd"), table[:FITTED], time="day", seed=0)
    p = fit.predict(table)["filtered_1"].to_numpy()
    print(f"days whose regime is known on the day: {np.mean((p > 0.5) == regime):.1%}, "
          f"by the more frequent one alone {max(np.mean(regime), 1 - np.mean(regime)):.1%}")  # fmt: skip

    back = fit.backtest(table, folds=FOLDS, steps=STEPS).iloc[0]
    print(f"CRPS of the last {FOLDS * STEPS} days, {STEPS} ahead: hidden Markov model {back['crps']:.3f} "
          f"± {back['crps_error']:.3f}, one normal {naive(table['return_pct'].to_numpy()):.3f}")  # fmt: skip
    print(f"inside of 50 % and 90 % intervals: {back['coverage_50']:.0%} and {back['coverage_90']:.0%}\n")
    print(fit.forecast(steps=STEPS, data=table).round(2).to_string(index=False))
    fit.plot("states", table, steps=20, file="market_regimes.png")


if __name__ == "__main__":
    main()
