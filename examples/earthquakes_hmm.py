"""Major earthquakes a year, 1900 to 2006: a Poisson HMM.

    python examples/earthquakes_hmm.py [--plots DIR]

The series is that of Zucchini & MacDonald (2009), Hidden Markov Models for Time Series, Table 1.1, who
fit one to four states by maximum likelihood and settle for three (by AIC) or two (by BIC).
"""

import argparse
from pathlib import Path

import pandas as pd

import ppl_models as ppl

DATA = Path(__file__).with_name("earthquakes.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plots", type=Path, help="draw the states and a forecast into this directory")
    options = parser.parse_args()

    # How many states? One fit for each number, compared by their evidence; the best is kept.
    fit = ppl.select(ppl.HMM(), DATA, {"states": range(1, 6)}, time="year")
    shown = ["states", "evidence", "log_likelihood", "parameters", "bic"]
    print(pd.DataFrame(fit.candidates)[shown].round(1).to_string(index=False), "\n")

    # The model, the states and the verdict.
    print(fit, "\n")

    # Every parameter with its interval.
    print(fit.summary().round(2), "\n")

    # Which state each year was in, and how sure that is.
    years = fit.predict()
    print(years.tail(5).round(2).to_string(index=False), "\n")

    # The next five years.
    coming = fit.forecast(5)
    print(coming.round(2).to_string(index=False))

    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        draw(fit, years, coming, options.plots / "earthquakes.png")


def draw(fit: ppl.Fit, years: pd.DataFrame, coming: pd.DataFrame, path: Path) -> None:
    """The series with the rate of its states, the probabilities of the states, and the forecast."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    series = pd.read_csv(DATA)
    rates = fit.posterior.posterior["rate"].mean(("chain", "draw")).values[:, 0]
    probabilities = years[[f"smoothed_{k}" for k in range(len(rates))]].to_numpy()
    colours = plt.colormaps["viridis"]([0.15, 0.5, 0.8, 0.9, 1.0])[: len(rates)]

    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(8, 5), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    top.plot(series["year"], series["earthquakes"], color="0.6", lw=1, marker="o", ms=3, label="observed")
    top.plot(series["year"], probabilities @ rates, color="C3", lw=1.8, label="smoothed rate")
    top.plot(coming["year"], coming["earthquakes"], color="C0", lw=1.8, label="forecast, 90 %")
    top.fill_between(
        coming["year"], coming["earthquakes_lower"], coming["earthquakes_upper"], color="C0", alpha=0.2, lw=0
    )
    top.set_ylabel("major earthquakes")
    top.legend(frameon=False, ncols=3, loc="upper right")
    top.set_ylim(0, 48)
    labels = [f"state {k}: {rate:.0f} a year" for k, rate in enumerate(rates)]
    bottom.stackplot(series["year"], probabilities.T, colors=colours, labels=labels, lw=0)
    bottom.set(ylabel="probability", xlabel="year", ylim=(0, 1))
    handles, names = bottom.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(rates), frameon=False)
    for axis in (top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlim(series["year"].min(), coming["year"].max())
    figure.savefig(path, dpi=130)
    print(f"\ndrawn: {path}")


if __name__ == "__main__":
    main()
