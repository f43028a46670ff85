"""Makes the tables anew.

    pip install numpyro "arviz<1" pandas scikit-learn statsmodels
    PYTHONPATH=tests python tests/references/make.py [NAME ...] [--draws 20000] [--chains 4]

A table takes a few minutes on one core. Chains start from random values. Components are put in order of the
mean of the first column by one permutation for a whole chain, and "switched" is the share of draws in which
that order does not hold. Where it is over 1 % the chain went from one labelling to another, and every draw is
put in order by itself: then the table is of the posterior restricted to that order. What does not suit a
reference is R-hat of 1.005 or more, effective sizes under 4,000, Monte Carlo errors over 0.01 standard
deviations, or divergences.
"""

import argparse
import json
import re
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import arviz
import jax
import numpy as np
import numpyro
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import log_density

from references.cases import CASES, Case
from references.densities import Draws, Posterior, posterior

HERE = Path(__file__).resolve().parent
WARMUP = 2_000
DRAWS = {"gmm1": 30_000, "earthquakes3": 40_000, "horseshoe": 40_000}
"""Of each chain; 20,000 elsewhere."""
ACCEPT = {"horseshoe": 0.98}
"""The acceptance probability aimed for; 0.9 elsewhere."""

jax.config.update("jax_enable_x64", True)


def sample(case: Case, target: Posterior, chains: int, draws: int) -> tuple[Draws, int]:
    """Draws of the sites in their own units, and the number of divergent transitions."""
    kernel = NUTS(target.model, target_accept_prob=ACCEPT.get(case.name, 0.9))
    run = MCMC(
        kernel,
        num_warmup=WARMUP,
        num_samples=draws,
        num_chains=chains,
        chain_method="sequential",
        progress_bar=False,
    )
    run.run(jax.random.key(0), extra_fields=("diverging",))
    sites = {name: np.asarray(value) for name, value in run.get_samples(group_by_chain=True).items()}
    return sites, int(np.asarray(run.get_extra_fields()["diverging"]).sum())


def ordered(sites: Draws, user: Draws, key: str | None) -> tuple[Draws, Draws, float]:
    """Components by the key, as the head of this file says, and the share of draws that switched."""
    if key is None:
        return sites, user, 0.0
    values = user[key][..., 0]  # (chain, draw, K)
    order = np.broadcast_to(values.mean(1, keepdims=True).argsort(-1), values.shape)
    switched = (np.diff(np.take_along_axis(values, order, -1), axis=-1) < 0).any(-1).mean()
    if switched > 0.01:
        order = values.argsort(-1)

    def permute(draws: Draws) -> Draws:
        moved = {}
        for name, value in draws.items():
            by = order.reshape(*order.shape, *[1] * (value.ndim - 3))
            moved[name] = np.take_along_axis(value, by, 2)
            if name == "transition":
                moved[name] = np.take_along_axis(moved[name], order[:, :, None], 3)
        return moved

    return permute(sites), permute(user), float(switched)


def summarise(x: np.ndarray) -> dict[str, Any]:
    """Of a variable, (chain, draw, ...)."""
    flat = x.reshape(*x.shape[:2], -1)
    both = flat.reshape(-1, flat.shape[-1])
    data = arviz.convert_to_dataset({"x": flat})
    found = {
        "mean": both.mean(0),
        "sd": both.std(0, ddof=1),
        "q05": np.quantile(both, 0.05, axis=0),
        "q95": np.quantile(both, 0.95, axis=0),
        "mcse_mean": arviz.mcse(data, method="mean")["x"].to_numpy(),
        "mcse_sd": arviz.mcse(data, method="sd")["x"].to_numpy(),
        "ess_bulk": arviz.ess(data, method="bulk")["x"].to_numpy(),
        "ess_tail": arviz.ess(data, method="tail")["x"].to_numpy(),
        "r_hat": arviz.rhat(data)["x"].to_numpy(),
    }
    return {name: rounded(value.reshape(x.shape[2:])) for name, value in found.items()}


def rounded(x: np.ndarray, digits: int = 8) -> Any:
    """Nested lists of so many significant digits."""
    if x.ndim:
        return [rounded(row, digits) for row in x]
    return float(f"{float(x):.{digits}g}")


def points(target: Posterior, sites: Draws, number: int = 3) -> list[dict[str, Any]]:
    """The log joint density at some draws; digits enough to find it again."""
    chosen = np.linspace(0, sites[target.sites[0]].shape[1] - 1, number).round().astype(int)
    found = []
    for draw in chosen:
        theta = {site: sites[site][0, draw] for site in target.sites}
        if "local_scale" in theta:
            theta["coefficient"] = theta["coefficient"].reshape(-1)
        value, _ = log_density(target.joint, (), {}, theta)
        listed = {site: rounded(np.asarray(v), 17) for site, v in theta.items()}
        found.append({"theta": listed, "log_joint": float(value)})
    return found


def make(case: Case, chains: int, draws: int) -> dict[str, Any]:
    """Sample, order, summarise and write one table."""
    target, began = posterior(case), time.perf_counter()
    sites, divergent = sample(case, target, chains, draws)
    sites, user, switched = ordered(sites, target.user(sites), target.key)
    summaries = {name: summarise(value) for name, value in user.items()}

    def worst(pick: Any, key: str) -> float:
        return float(pick([pick(np.array(s[key])) for s in summaries.values()]))

    error = max(float((np.array(s["mcse_mean"]) / np.array(s["sd"])).max()) for s in summaries.values())
    about = {
        "case": case.name,
        "model": case.model,
        "fields": dict(case.fields),
        "data": (case.frame.__doc__ or "").strip(),
        "sha256": case.digest(),
        "chains": chains,
        "draws": draws,
        "warmup": WARMUP,
        "divergent": divergent,
        "switched": switched,
        "r_hat_max": worst(np.max, "r_hat"),
        "ess_min": min(worst(np.min, "ess_bulk"), worst(np.min, "ess_tail")),
        "mcse_max": error,
        "seconds": round(time.perf_counter() - began, 1),
        "versions": {name: version(name) for name in ("numpyro", "jax", "numpy", "arviz")},
    }
    table = {"about": about, "names": target.names, "posterior": summaries, "points": points(target, sites)}
    text = re.sub(r"\[[^\[\]{}]*\]", lambda row: " ".join(row[0].split()), json.dumps(table, indent=1))
    (HERE / f"{case.name}.json").write_text(text + "\n", encoding="utf-8")
    return about


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(CASES))
    parser.add_argument("--draws", type=int)
    parser.add_argument("--chains", type=int, default=4)
    options = parser.parse_args()
    numpyro.set_platform("cpu")
    print("case                  R-hat    ESS  MCSE/sd  divergent  switched  seconds")
    for name in options.names:
        a = make(CASES[name], options.chains, options.draws or DRAWS.get(name, 20_000))
        print(
            f"{name:20} {a['r_hat_max']:6.4f} {a['ess_min']:6.0f}  {a['mcse_max']:7.4f}  {a['divergent']:9d} "
            f"{a['switched']:9.5f}  {a['seconds']:7.0f}",
            flush=True,
        )
