"""Speed of Bayesian logistic regression, and how right its posterior is, against others in one run.

    PEERS_PYTHON=peers/bin/python python benchmarks/logistic_speed.py [--repeats 5] [--only NAME] [--out FILE]

dense: 100,000 × 20, binary. ppl with its defaults; NumPyro's SVI with a full-rank Gaussian, 2,000 steps
of Adam on the whole data, compiling included; scikit-learn's point estimate at the same prior,
standardising included. All in turns, after a small fit that compiles ours. The reference is independent
of all: Newton's mode and Hessian in NumPy, and 2,048 Sobol draws of that Gaussian weighted by the exact
posterior density. "Off" is the worst |mean − reference| over the coefficients in posterior standard
deviations, "sd ratio" the range of sd over the reference's. Ours are estimated from the fit's draws,
which adds about 3/√draws to "off".

large: 1,000,000 × 50 in a Parquet file, in a process of its own: seconds of the fit from the file, and
the process's peak memory beside that after its imports.

process: 3,000 × 3 in a CSV file, from the start of the interpreter to the summary, ours and Bambi's with
each of its samplers of NUTS (1,000 draws of warm-up and 1,000 kept, two or four chains as it chooses).
"""

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import peers
import torch
from scipy.special import ndtri
from scipy.stats import qmc
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import ppl_models as ppl

SCALES = np.array([10.0, 2.5])
"""Prior standard deviations of the intercept and of coefficients, columns standardised."""


def simulate(n: int, p: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated columns in several units, and labels."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, p))
    z += 0.7 * rng.normal(size=(n, 1))
    effects = rng.normal(size=p) * 0.4
    y = rng.random(n) < 1 / (1 + np.exp(0.8 - z @ effects))
    return z * 10.0 ** rng.uniform(-1, 2, p) + rng.normal(size=p), y.astype(np.int64)


@dataclass(frozen=True)
class Moments:
    """Means and sds (p + 1,), the intercept first, in standardised units."""

    mean: np.ndarray
    sd: np.ndarray


def standardised(X: np.ndarray) -> np.ndarray:
    """(n, p + 1) with a column of ones in front."""
    return np.concatenate([np.ones((len(X), 1)), (X - X.mean(0)) / X.std(0)], 1)


def reference(X: np.ndarray, y: np.ndarray, draws: int = 2_048) -> tuple[Moments, float]:
    """Moments by importance sampling from the Laplace approximation, and the share of effective draws."""
    Z, d = standardised(X), X.shape[1] + 1
    prior = 1 / np.append(SCALES[0], np.full(d - 1, SCALES[1])) ** 2
    mode = np.zeros(d)
    for _ in range(30):
        mu = 1 / (1 + np.exp(-Z @ mode))
        H = (Z * (mu * (1 - mu))[:, None]).T @ Z + np.diag(prior)
        step = np.linalg.solve(H, Z.T @ (y - mu) - prior * mode)
        mode += step
        if np.abs(step).max() < 1e-10:
            break
    uniform = qmc.Sobol(d, rng=np.random.default_rng(0)).random(draws)
    t = ndtri(uniform.clip(1e-12, 1 - 1e-12))
    theta = mode + np.linalg.solve(np.linalg.cholesky(H).T, t.T).T
    log_w = 0.5 * (t**2).sum(1) - 0.5 * (prior * theta**2).sum(1)
    sign = np.where(y == 1, -1.0, 1.0)
    for lo in range(0, draws, 64):
        log_w[lo : lo + 64] -= np.logaddexp(0, sign[:, None] * (Z @ theta[lo : lo + 64].T)).sum(0)
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    mean = w @ theta
    return Moments(mean, np.sqrt(w @ (theta - mean) ** 2)), float(1 / (w**2).sum() / draws)


# Methods on arrays: seconds, moments (no sd for a point), and a name with its version


def ours(X: np.ndarray, y: np.ndarray) -> tuple[float, Moments]:
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])]).assign(y=y)
    began = time.perf_counter()
    fit = ppl.fit(ppl.Logistic(), frame, target="y", seed=0)
    seconds = time.perf_counter() - began
    theta = fit.posterior_draws.theta["regression"]
    draws = np.concatenate([theta["intercept"].numpy(), theta["coefficient"].numpy()[..., 0]], 1)
    return seconds, Moments(draws.mean(0), draws.std(0))


def numpyro(X: np.ndarray, y: np.ndarray) -> tuple[float, Moments]:
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "data.npz", Z=standardised(X)[:, 1:], y=y)
        found = peers.run("numpyro_svi", Path(folder) / "data.npz", 2_000)
    if "missing" in found:
        raise ModuleNotFoundError(found["missing"])
    return found["seconds"], Moments(np.array(found["mean"]), np.array(found["sd"]))


def sklearn(X: np.ndarray, y: np.ndarray) -> tuple[float, Moments]:
    model = LogisticRegression(C=SCALES[1] ** 2)
    pipe = make_pipeline(StandardScaler(), model)
    began = time.perf_counter()
    pipe.fit(X, y)
    seconds = time.perf_counter() - began
    return seconds, Moments(np.append(model.intercept_, model.coef_[0]), np.array([]))


METHODS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[float, Moments]]] = {
    "ppl": ours,
    "scikit-learn, point": sklearn,
    "NumPyro SVI, 2,000 steps": numpyro,
}


def dense(repeats: int) -> list[str]:
    """Rows of 100,000 × 20."""
    X, y = simulate(100_000, 20, seed=1)
    truth, effective = reference(X, y)
    ours(X[:2_000], y[:2_000])  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    moments: dict[str, Moments] = {}
    missing: dict[str, str] = {}
    for turn in range(repeats):
        for name, method in METHODS.items():
            if name in missing or (name.startswith("NumPyro") and turn >= 3):
                continue
            try:
                spent, moments[name] = method(X, y)
                seconds[name].append(spent)
            except ModuleNotFoundError as error:
                missing[name] = str(error)
    lines = [
        f"100,000 × 20, binary. The reference's draws are {effective:.1%} effective.",
        "",
        "| method | fits | s | times ppl's | off, sd | sd ratio |",
        "|---|---|---|---|---|---|",
    ]
    base = np.median(seconds["ppl"])
    for name in METHODS:
        if name in missing:
            lines.append(f"| {name} | not measured: {missing[name]} | | | | |")
            continue
        m, median = moments[name], np.median(seconds[name])
        off = np.abs((m.mean - truth.mean) / truth.sd).max()
        ratio = m.sd / truth.sd if len(m.sd) else np.array([])
        spread = f"{ratio.min():.2f} to {ratio.max():.2f}" if len(ratio) else "none"
        lines.append(
            f"| {name} | {len(seconds[name])} | {median:.3f} | {median / base:.1f}× | {off:.2f} | {spread} |"
        )
    return lines


def large(repeats: int) -> list[str]:
    """A Parquet file of 1,000,000 × 50."""
    n, p = 1_000_000, 50
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.parquet"
        X, y = simulate(n, p, seed=2)
        pd.DataFrame(X, columns=[f"x{j}" for j in range(p)]).assign(y=y).to_parquet(path, index=False)
        del X, y
        small = Path(folder) / "small.parquet"
        pd.read_parquet(path).iloc[:2_000].to_parquet(small, index=False)
        base = peers.run("ppl_logistic", small, "y", python=sys.executable)
        found = [peers.run("ppl_logistic", path, "y", python=sys.executable) for _ in range(repeats)]
    failed = [f["missing"] for f in [base, *found] if "missing" in f]
    if failed:
        return [f"1,000,000 × 50 from Parquet: not measured: {failed[0]}"]
    fit, whole, peak = (np.median([f[key] for f in found]) for key in ("seconds", "process", "peak"))
    return [
        f"1,000,000 × 50 in Parquet ({8 * n * (p + 1) / 1e6:.0f} MB as float64), median of {repeats}: "
        f"fit {fit:.1f} s, whole process with summary {whole:.1f} s, peak memory {peak / 1e6:,.0f} MB, of "
        f"a process with 2,000 of the rows {base['peak'] / 1e6:,.0f} MB."
    ]


def process(repeats: int) -> list[str]:
    """A CSV file of 3,000 × 3, whole processes."""
    lines = ["3,000 × 3 from a CSV file, whole processes:", "", "| method | runs | s | times ppl's |"]
    lines.append("|---|---|---|---|")
    X, y = simulate(3_000, 3, seed=3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.csv"
        pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=y).to_csv(path, index=False)
        programs = {"ppl": ("ppl_logistic", path, "y")}
        programs |= {f"Bambi, {s}": ("bambi_nuts", path, s) for s in ("pymc", "nutpie", "numpyro")}
        seconds: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(repeats):
            for name, arguments in programs.items():
                python = sys.executable if name == "ppl" else peers.PYTHON
                found = peers.run(*arguments, python=python)
                if "missing" in found:
                    lines.append(f"| {name} | not measured: {found['missing']} | | |")
                    programs = {n: a for n, a in programs.items() if n != name}
                else:
                    seconds[name].append(found["process"])
    base = np.median(seconds["ppl"]) if seconds["ppl"] else np.nan
    for name, spent in seconds.items():
        if spent:
            median = np.median(spent)
            lines.append(f"| {name} | {len(spent)} | {median:.1f} | {median / base:.1f}× |")
    return lines


PARTS = {"dense": dense, "large": large, "process": process}


def run(repeats: int, only: str | None) -> str:
    """Measure, and give a Markdown report."""
    others = peers.versions("numpyro", "jax", "bambi", "pymc", "nutpie")
    lines = [
        f"Logistic regression; ppl_models {version('ppl_models')}, scikit-learn {version('scikit-learn')}, "
        f"torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}, "
        f"{torch.get_num_threads()} threads; peers: {others}. "
        "Medians; how it is measured: see `benchmarks/logistic_speed.py`.",
    ]
    for name, part in PARTS.items():
        if only in (None, name):
            lines += ["", *part(repeats if name == "dense" else min(repeats, 3))]
            print("\n".join(lines), flush=True)
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=list(PARTS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report = run(options.repeats, options.only)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(report + "\n")
