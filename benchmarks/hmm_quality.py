"""Held-out quality of HMMs against hmmlearn: real series and simulated ones.

    python benchmarks/hmm_quality.py [--out benchmarks/results/hmm_quality.md] [--only NAME]
    python benchmarks/hmm_quality.py --csv FILE --columns A,B [--states 2,3] [--covariance full,diag]

ppl is `ppl.fit` with its defaults and seed 0. hmmlearn is the best, by the likelihood of the training rows,
of ten random starts (seeds 0 to 9, 500 iterations at most, tolerance 1e-4). A real series is cut into ten
blocks in a row; each is held out once, and the rest are the training sequences. A simulated set is drawn ten
times, 500 rows to train on and 5,000 to test. The figures are means over the ten, with the standard error of
the mean of the ten paired differences; as blocks share training rows it is on the small side. "First 70 %"
and "last 70 %" are ppl − hmmlearn on single splits of a series, trained on that part and tested on the rest.

Both are scored by one function: hmmlearn's, at point estimates (for ppl its posterior means), with the
stationary distribution of the chain as the start of a held-out block, since what one training sequence starts
with says nothing of another. Beside it stands ppl's own answer, the posterior predictive density of
`fit.score`, which integrates the parameters out and uses its own start. "Oracle" is the start of the ten that
does best on the held-out rows themselves, which nobody could have known.
"""

import argparse
import logging
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from hmmlearn.hmm import GaussianHMM, PoissonHMM
from numpy.typing import NDArray

import ppl_models as ppl

Array = NDArray[np.float64]
Split = tuple[Array, list[int], Array]
"""Training rows, the lengths of their sequences, and held-out rows."""

ROOT = Path(__file__).resolve().parents[1]
FOLDS = 10
SEEDS = 10


@dataclass(frozen=True)
class Setting:
    """A series, a number of states and a family."""

    name: str
    states: int
    family: str
    splits: Callable[[], Iterator[Split]]
    halves: Callable[[], Iterator[Split]] = lambda: iter(())


@dataclass(frozen=True)
class Result:
    """Held-out log likelihoods a step on one split, and how the fits went."""

    ppl: float
    hmmlearn: float
    oracle: float
    predictive: float
    k_hat: float
    failed: int
    seconds: tuple[float, float]


# Series


def growth(columns: list[str]) -> Array:
    """Quarterly growth in per cent, US 1959 to 2009."""
    from statsmodels.datasets import macrodata

    return 100 * np.diff(np.log(macrodata.load_pandas().data[columns].to_numpy(float)), axis=0)


def earthquakes() -> Array:
    """Major earthquakes a year."""
    return pd.read_csv(ROOT / "examples" / "earthquakes.csv")[["earthquakes"]].to_numpy(float)


def nile() -> Array:
    """Flow of the Nile a year."""
    from statsmodels.datasets import nile as data

    return data.load_pandas().data[["volume"]].to_numpy(float)


def sunspots() -> Array:
    """Square root of sunspots a year."""
    from statsmodels.datasets import sunspots as data

    return np.sqrt(data.load_pandas().data[["SUNACTIVITY"]].to_numpy(float))


def elnino() -> Array:
    """Sea surface temperature by month, less the mean of the month."""
    from statsmodels.datasets import elnino as data

    table = data.load_pandas().data.iloc[:, 1:].to_numpy(float)
    return (table - table.mean(0)).reshape(-1, 1)


def carbon_dioxide() -> Array:
    """Weekly changes of CO2 at Mauna Loa, weeks without a measurement left out, as hmmlearn needs."""
    from statsmodels.datasets import co2 as data

    return np.diff(data.load_pandas().data["co2"].dropna().to_numpy(float))[:, None]


def blocks(x: Array) -> Iterator[Split]:
    """Each of ten blocks in a row held out once."""
    edges = np.linspace(0, len(x), FOLDS + 1).round().astype(int)
    for lo, hi in zip(edges[:-1], edges[1:], strict=True):
        lengths = [n for n in (lo, len(x) - hi) if n]
        yield np.concatenate([x[:lo], x[hi:]]), [int(n) for n in lengths], x[lo:hi]


def ends(x: Array) -> Iterator[Split]:
    """The first 70 % to train on and the rest to test, and the last 70 % and the rest."""
    n, m = round(0.7 * len(x)), round(0.3 * len(x))
    yield x[:n], [n], x[n:]
    yield x[m:], [len(x) - m], x[:m]


def simulated(emit: Callable[[np.random.Generator, NDArray[np.int64]], Array]) -> Iterator[Split]:
    """Ten draws of 500 rows to train on and 5,000 to test."""
    A = np.array([[0.9, 0.06, 0.04], [0.05, 0.9, 0.05], [0.1, 0.05, 0.85]])
    for seed in range(FOLDS):
        rng = np.random.default_rng(seed)
        parts = []
        for length in (500, 5_000):
            state = np.zeros(length, np.int64)
            for t in range(1, length):
                state[t] = rng.choice(3, p=A[state[t - 1]])
            parts.append(emit(rng, state))
        yield parts[0], [500], parts[1]


def overlapping_gaussian(rng: np.random.Generator, state: NDArray[np.int64]) -> Array:
    """Three Gaussians in the plane, about one standard deviation apart, with different covariances."""
    mean = np.array([[0.0, 0.0], [1.2, 0.0], [0.4, 1.0]])[state]
    root = np.array([[[1.0, 0.0], [0.5, 0.8]], [[0.6, 0.0], [-0.3, 0.6]], [[1.4, 0.0], [0.0, 0.5]]])[state]
    return mean + (root @ rng.normal(size=(len(state), 2, 1)))[..., 0]


def overlapping_poisson(rng: np.random.Generator, state: NDArray[np.int64]) -> Array:
    """Three Poisson rates close to each other, and a second column that hardly helps."""
    return rng.poisson(np.array([[4.0, 2.0], [7.0, 2.5], [11.0, 2.0]])[state]).astype(float)


def settings() -> list[Setting]:
    """What is compared."""
    gdp, three = growth(["realgdp"]), growth(["realgdp", "realcons", "realinv"])
    found = []

    def add(name: str, x: Array, states: tuple[int, ...], families: tuple[str, ...]) -> None:
        found.extend(
            Setting(name, K, f, lambda: blocks(x), lambda: ends(x)) for f in families for K in states
        )

    add("earthquakes", earthquakes(), (2, 3), ("poisson",))
    add("US growth, 1 column", gdp, (2, 3), ("full",))
    add("US growth, 3 columns", three, (2, 3), ("full", "diag"))
    add("Nile", nile(), (2, 3), ("diag",))
    add("sunspots, square root", sunspots(), (2, 3), ("diag",))
    add("El Niño anomalies", elnino(), (2, 3), ("diag",))
    add("CO2, weekly change", carbon_dioxide(), (2, 3), ("diag",))
    for family in ("full", "diag"):
        found.append(Setting("simulated, Gaussian", 3, family, lambda: simulated(overlapping_gaussian)))
    found.append(Setting("simulated, Poisson", 3, "poisson", lambda: simulated(overlapping_poisson)))
    return found


# Fits


def blank(states: int, family: str, seed: int = 0) -> GaussianHMM | PoissonHMM:
    """Hmmlearn's model."""
    options = {"random_state": seed, "n_iter": 500, "tol": 1e-4}
    if family == "poisson":
        return PoissonHMM(states, **options)
    return GaussianHMM(states, covariance_type=family, **options)


def held_out(model: GaussianHMM | PoissonHMM, test: Array) -> float:
    """Log likelihood a step, from the stationary distribution of the chain."""
    K = len(model.transmat_)
    system = np.vstack([model.transmat_.T - np.eye(K), np.ones(K)])
    start = np.linalg.lstsq(system, np.append(np.zeros(K), 1.0), rcond=None)[0].clip(0.0)
    before, model.startprob_ = model.startprob_, start / start.sum()
    score = model.score(test) / len(test)
    model.startprob_ = before
    return score


def posterior_means(fit: ppl.Fit, family: str) -> GaussianHMM | PoissonHMM:
    """Hmmlearn's model at the posterior means of a fit."""
    posterior = fit.posterior.posterior
    mean = {name: posterior[name].mean(("chain", "draw")).to_numpy() for name in posterior.data_vars}
    model = blank(fit.bound.states, family)
    model.startprob_, model.transmat_ = mean["start"], mean["transition"]
    if family == "poisson":
        model.lambdas_ = mean["rate"]
        model.n_features = model.lambdas_.shape[1]
        return model
    model.means_, model.n_features = mean["mean"], mean["mean"].shape[1]
    if family == "diag":
        model.covars_ = (posterior["sd"] ** 2).mean(("chain", "draw")).to_numpy()
    else:
        sd = posterior["sd"].to_numpy()[0]
        single = np.ones((*sd.shape, 1))  # one column has no correlations
        correlation = posterior["correlation"].to_numpy()[0] if "correlation" in posterior else single
        model.covars_ = (correlation * sd[..., None] * sd[..., None, :]).mean(0)
    return model


def compare(setting: Setting, split: Split) -> Result:
    """Both on one split."""
    train, lengths, test = split
    counts = setting.family == "poisson"
    family = {"emission": "poisson"} if counts else {"emission": "gaussian", "covariance": setting.family}
    x, y = (train.astype(int), test.astype(int)) if counts else (train, test)
    began = time.perf_counter()
    fit = ppl.fit(ppl.HMM(states=setting.states, **family), x, lengths=lengths)
    middle = time.perf_counter()
    models, failed = [], 0
    for seed in range(SEEDS):
        model = blank(setting.states, setting.family, seed)
        try:
            model.fit(x, lengths)
            found = (model.score(x, lengths), held_out(model, y))
        except ValueError:  # a covariance that is not positive definite, or a state that lost all rows
            failed += 1
            continue
        if np.isfinite(found).all():
            models.append(found)
        else:
            failed += 1
    ended = time.perf_counter()
    best = max(models, default=(np.nan, np.nan))
    predictive = float(fit.score(y, by="sequence")["log_density_per_step"].iloc[0])
    return Result(
        ppl=held_out(posterior_means(fit, setting.family), y),
        hmmlearn=best[1],
        oracle=max((score for _, score in models), default=np.nan),
        predictive=predictive,
        k_hat=fit.posterior_draws.k_hat,
        failed=failed,
        seconds=(middle - began, ended - middle),
    )


# Report


def difference(ours: Array, theirs: Array) -> str:
    """Mean of the paired differences and its standard error, bold where it is beyond two of them."""
    d = ours - theirs
    mean, error = d.mean(), d.std(ddof=1) / np.sqrt(len(d))
    text = f"{mean:+.4f} ± {error:.4f}"
    return f"**{text}**" if abs(mean) > 2 * error else text


COLUMNS = (
    "data", "K", "family", "ppl", "hmmlearn", "ppl − hmmlearn", "predictive − hmmlearn", "ppl − oracle",
    "first 70 %", "last 70 %", "k̂", "failed starts",
)  # fmt: skip
HEAD = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]


def line(setting: Setting, results: list[Result], halves: list[Result]) -> str:
    """One row of the table."""
    ours, theirs, oracle, predictive = (
        np.array([getattr(r, name) for r in results]) for name in ("ppl", "hmmlearn", "oracle", "predictive")
    )
    cells = [
        setting.name,
        setting.states,
        setting.family,
        f"{ours.mean():.4f}",
        f"{theirs.mean():.4f}",
        difference(ours, theirs),
        difference(predictive, theirs),
        difference(ours, oracle),
        *([f"{half.ppl - half.hmmlearn:+.4f}" for half in halves] or ["", ""]),
        f"{np.median([r.k_hat for r in results]):.2f}",
        sum(r.failed for r in results),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def from_csv(options: argparse.Namespace) -> list[Setting]:
    """Settings for a file of one's own."""
    columns = options.columns.split(",") if options.columns else None
    x = pd.read_csv(options.csv, usecols=columns).dropna().to_numpy(float)
    states = [int(K) for K in options.states.split(",")]
    families = options.covariance.split(",")
    return [
        Setting(options.csv.stem, K, f, lambda: blocks(x), lambda: ends(x)) for f in families for K in states
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the report here, too")
    parser.add_argument("--only", default="", help="settings whose name contains this")
    parser.add_argument("--csv", type=Path, help="a series of your own instead")
    parser.add_argument("--columns", help="its columns; all if not given")
    parser.add_argument("--states", default="2,3")
    parser.add_argument("--covariance", default="full,diag", help="full, diag or poisson")
    parser.add_argument("--splits", action="store_true", help="print every split, too")
    options = parser.parse_args()
    logging.getLogger("hmmlearn").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore", RuntimeWarning)
    names = ("ppl_models", "hmmlearn", "torch", "numpy", "statsmodels")
    report = [
        "# Quality of hidden Markov models beside hmmlearn",
        "",
        f"Held-out log likelihood a step, in nats, Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in names)
        + ". Bold: beyond two standard errors. How it is measured: see `benchmarks/hmm_quality.py`.",
        "",
        *HEAD,
    ]
    print("\n".join(report), flush=True)
    for setting in from_csv(options) if options.csv else settings():
        if options.only not in setting.name:
            continue
        results = [compare(setting, split) for split in setting.splits()]
        report.append(line(setting, results, [compare(setting, split) for split in setting.halves()]))
        print(report[-1], flush=True)
        if options.splits:
            for each in results:
                print(f"    {each}", flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(report) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
