"""Speed of a Gaussian mixture with full covariances against scikit-learn, side by side in one run.

    python benchmarks/gmm_speed.py [--repeats 3] [--only NAME] [--out benchmarks/results/gmm_speed.md]

All get the same simulated rows, in turns, one fit with each seed: scikit-learn with its defaults
(k-means start, until its lower bound changes by less than 1e-3 a row), ppl with its own (several starts,
until it stops by itself). Seconds are those of the whole fit, after a small fit that compiles. Held-out
figures are log densities a row of 50,000 other rows in nats, `score_samples` of scikit-learn's at its
point estimate and `fit.score` of ppl's posterior predictive; the last column is the density that the
rows were drawn from. The worst of the seeds stands in brackets: a start may end in a poor mode.
scikit-learn's variational `BayesianGaussianMixture`, which has a posterior as ours does, gets one seed
where rows are many. pomegranate runs in a process of its own (`benchmarks/peers`); only its fit is
timed.
"""

import argparse
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import peers
import torch
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

import ppl_models as ppl

Fitted = tuple[float, float]
"""Seconds, and log density a held-out row."""

HELD_OUT = 50_000


@dataclass(frozen=True)
class Setting:
    """Rows of a mixture whose means have standard deviation `spread` around 0, in units of about one."""

    name: str
    rows: int
    columns: int
    components: int
    spread: float


SETTINGS = [
    Setting("apart", 500_000, 16, 10, 3.0),
    Setting("overlapping", 500_000, 16, 10, 0.7),
    Setting("thirty", 500_000, 16, 30, 0.7),
    Setting("small", 5_000, 4, 5, 1.5),
]


@dataclass
class Mixture:
    """The density that rows are drawn from."""

    weight: np.ndarray
    mean: np.ndarray
    root: np.ndarray

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """(n, D) rows."""
        z = rng.choice(len(self.weight), size=n, p=self.weight)
        x = rng.normal(size=(n, self.mean.shape[1]))
        for k in range(len(self.weight)):
            x[z == k] = x[z == k] @ self.root[k].T + self.mean[k]
        return x

    def score(self, x: np.ndarray) -> float:
        """Mean log density."""
        terms = []
        for w, m, root in zip(self.weight, self.mean, self.root, strict=True):
            white = np.linalg.solve(root, (x - m).T)
            log_det = np.log(np.diag(root)).sum()
            terms.append(np.log(w) - 0.5 * (white**2).sum(0) - log_det - 0.5 * x.shape[1] * np.log(2 * np.pi))
        return float(logsumexp(terms, axis=0).mean())


def mixture(setting: Setting, rng: np.random.Generator) -> Mixture:
    """Means normal, covariances with correlations and sizes of their own, weights uneven."""
    K, D = setting.components, setting.columns
    A = rng.normal(size=(K, D, D)) / np.sqrt(D)
    covariance = rng.uniform(0.3, 1.5, (K, 1, 1)) * (A @ A.transpose(0, 2, 1) + 0.3 * np.eye(D))
    return Mixture(
        rng.dirichlet(np.full(K, 5.0)),
        setting.spread * rng.normal(size=(K, D)),
        np.linalg.cholesky(covariance),
    )


def ours(X: np.ndarray, Y: np.ndarray, K: int, seed: int) -> Fitted:
    began = time.perf_counter()
    fit = ppl.fit(ppl.GMM(components=K), X, seed=seed)
    seconds = time.perf_counter() - began
    return seconds, float(fit.score(Y)["log_density"].mean())


def sklearn(X: np.ndarray, Y: np.ndarray, K: int, seed: int) -> Fitted:
    return _sklearn(GaussianMixture(K, random_state=seed), X, Y)


def sklearn_variational(X: np.ndarray, Y: np.ndarray, K: int, seed: int) -> Fitted:
    return _sklearn(BayesianGaussianMixture(n_components=K, random_state=seed), X, Y)


def _sklearn(model: GaussianMixture | BayesianGaussianMixture, X: np.ndarray, Y: np.ndarray) -> Fitted:
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 100 iterations are its default
        model.fit(X)
    seconds = time.perf_counter() - began
    return seconds, float(model.score_samples(Y).mean())


def pomegranate(X: np.ndarray, Y: np.ndarray, K: int, seed: int) -> Fitted:
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "data.npz", X=X, Y=Y)
        found = peers.run("pomegranate_gmm", Path(folder) / "data.npz", K, seed)
    if "missing" in found:
        raise ModuleNotFoundError(found["missing"])
    return found["seconds"], found["held_out"]


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, int, int], Fitted]] = {
    "ppl": ours,
    "GaussianMixture": sklearn,
    "BayesianGaussianMixture": sklearn_variational,
    "pomegranate": pomegranate,
}
ONCE = ("BayesianGaussianMixture", "pomegranate")
"""Fitted with one seed where rows are many."""


@dataclass
class Results:
    """Of one method on one setting."""

    seconds: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    missing: str = ""


def measure(setting: Setting, repeats: int) -> tuple[dict[str, Results], float]:
    """Every method in turns, and the held-out log density of the truth."""
    rng = np.random.default_rng(1)
    truth = mixture(setting, rng)
    X, Y = truth.draw(setting.rows, rng), truth.draw(HELD_OUT, rng)
    ours(X[:2_000], Y[:100], setting.components, 0)  # compiles
    results = {name: Results() for name in METHODS}
    for seed in range(repeats):
        for name, method in METHODS.items():
            found = results[name]
            if found.missing or (seed and name in ONCE and setting.rows >= 100_000):
                continue
            try:
                seconds, held_out = method(X, Y, setting.components, seed)
            except ModuleNotFoundError as error:
                found.missing = str(error)
                continue
            found.seconds.append(seconds)
            found.held_out.append(held_out)
    return results, truth.score(Y)


def run(repeats: int, only: str | None) -> str:
    """Measure every setting, and give a Markdown report."""
    lines = [
        f"Gaussian mixtures, full covariance; ppl_models {version('ppl_models')}, scikit-learn "
        f"{version('scikit-learn')}, torch {torch.__version__}, numpy {np.__version__}, Python "
        f"{platform.python_version()}, {torch.get_num_threads()} threads. Medians; how it is measured: see "
        "`benchmarks/gmm_speed.py`.",
        "",
        "| data | rows | D | K | method | fits | s | times ppl's | held-out a row (worst) | − ppl's "
        "| − truth |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for setting in SETTINGS:
        if only not in (None, setting.name):
            continue
        results, truth = measure(setting, repeats)
        base = results["ppl"]
        for name, found in results.items():
            what = f"{setting.name} | {setting.rows:,} | {setting.columns} | {setting.components} | {name}"
            if found.missing:
                lines.append(f"| {what} | not measured: {found.missing} | | | | | |")
                continue
            seconds, held_out = np.median(found.seconds), np.median(found.held_out)
            lines.append(
                f"| {what} | {len(found.seconds)} | {seconds:.2f} | {seconds / np.median(base.seconds):.1f}× "
                f"| {held_out:.4f} ({min(found.held_out):.4f}) "
                f"| {held_out - np.median(base.held_out):+.4f} | {held_out - truth:+.4f} |"
            )
        print("\n".join(lines[-len(METHODS) :]), flush=True)
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=[setting.name for setting in SETTINGS])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = run(options.repeats, options.only)
    print(report)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(report + "\n")
