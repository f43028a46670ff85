"""Makes `nuts.json`: moments by NUTS of the posteriors of models of one's own.

    pip install numpyro "arviz<1" pandas
    PYTHONPATH=tests python tests/models/program/nuts.py

The densities are written in NumPyro from their definitions, with discrete latents summed out by hand, sharing
no code with the package. Each table has the posterior mean and sd of some variables, with the Monte Carlo
error of the worst mean in sds, the worst R-hat and the number of divergences.
"""

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parents[2] / "examples"


def schools() -> dict[str, Any]:
    """Rubin (1981)."""
    return json.loads((EXAMPLES / "own_models" / "eight_schools.json").read_text())


def column(path: str, name: str) -> np.ndarray:
    """A column of one of the examples' files."""
    import csv

    with open(EXAMPLES / path, encoding="utf-8") as file:
        return np.array([float(row[name]) for row in csv.DictReader(file)])


def two_bumps() -> np.ndarray:
    """250 rows of two normals, two sds apart."""
    rng = np.random.default_rng(11)
    z = rng.random(250) < 0.35
    return np.where(z, -1.0, 1.2) + rng.normal(size=250)


def eight_schools():
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    data = schools()
    y, sigma = jnp.array(data["y"], float), jnp.array(data["sigma"], float)
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    z = numpyro.sample("z", dist.Normal(0, 1).expand([8]))
    theta = numpyro.deterministic("theta", mu + tau * z)
    numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


def change_point():
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    y = jnp.array(column("own_models/nile.csv", "volume"))
    early = numpyro.sample("early", dist.Normal(900, 400))
    late = numpyro.sample("late", dist.Normal(900, 400))
    noise = numpyro.sample("noise", dist.HalfNormal(200))
    a, b = dist.Normal(early, noise).log_prob(y), dist.Normal(late, noise).log_prob(y)
    before = jnp.concatenate([jnp.zeros(1), jnp.cumsum(a)[:-1]])
    after = jnp.cumsum(b[::-1])[::-1]
    numpyro.factor("y", jax.nn.logsumexp(before + after) - jnp.log(len(y)))


def ordered_hmm():
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    y = jnp.array(column("earthquakes.csv", "earthquakes"))
    A = numpyro.sample("transition", dist.Dirichlet(jnp.ones((2, 2))).to_event(1))
    x = numpyro.sample("x", dist.Normal(0, 1).expand([2]).to_event(1))
    log_rate = jnp.stack([x[0], x[0] + jnp.exp(x[1])])
    rate = numpyro.deterministic("rate", 20.0 * jnp.exp(log_rate / jnp.sqrt(2.0)))
    emission = dist.Poisson(rate).log_prob(y[:, None])

    def step(alpha, e):
        return jax.nn.logsumexp(alpha[:, None] + jnp.log(A), 0) + e, None

    alpha, _ = jax.lax.scan(step, jnp.log(jnp.ones(2) / 2) + emission[0], emission[1:])
    numpyro.factor("y", jax.nn.logsumexp(alpha))


def mixture():
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    y = jnp.array(two_bumps())
    w = numpyro.sample("weight", dist.Beta(2, 2))
    low = numpyro.sample("low", dist.Normal(0, 3))
    gap = numpyro.sample("gap", dist.HalfNormal(3))
    sd = numpyro.sample("sd", dist.LogNormal(0, 0.5))
    means = jnp.stack([low, low + gap])
    each = jnp.log(jnp.stack([w, 1 - w])) + dist.Normal(means, sd).log_prob(y[:, None])
    numpyro.factor("y", jax.nn.logsumexp(each, 1).sum())


CASES = {
    "eight_schools": (eight_schools, ("mu", "tau", "z", "theta")),
    "change_point": (change_point, ("early", "late", "noise")),
    "ordered_hmm": (ordered_hmm, ("transition", "rate")),
    "mixture": (mixture, ("weight", "low", "gap", "sd")),
}


def make(name: str, draws: int = 10_000, chains: int = 4) -> dict[str, Any]:
    """One table."""
    import arviz
    import jax
    from numpyro.infer import MCMC, NUTS

    program, wanted = CASES[name]
    began = time.perf_counter()
    kernel = NUTS(program, target_accept_prob=0.95)
    run = MCMC(kernel, num_warmup=2_000, num_samples=draws, num_chains=chains, progress_bar=False)
    run.run(jax.random.key(0), extra_fields=("diverging",))
    sites = {
        k: np.asarray(v, np.float64) for k, v in run.get_samples(group_by_chain=True).items() if k in wanted
    }
    data = arviz.convert_to_dataset(sites)
    error = {k: arviz.mcse(data, method="mean")[k].to_numpy() / v.std((0, 1)) for k, v in sites.items()}
    rhat = arviz.rhat(data)
    return {
        "posterior": {
            k: {"mean": v.mean((0, 1)).tolist(), "sd": v.reshape(-1, *v.shape[2:]).std(0).tolist()}
            for k, v in sites.items()
        },
        "mcse_max": max(float(np.max(e)) for e in error.values()),
        "r_hat_max": max(float(rhat[k].max()) for k in sites),
        "divergent": int(np.asarray(run.get_extra_fields()["diverging"]).sum()),
        "draws": draws * chains,
        "seconds": round(time.perf_counter() - began, 1),
        "versions": {n: version(n) for n in ("numpyro", "jax", "numpy", "arviz")},
    }


if __name__ == "__main__":
    import jax
    import numpyro

    jax.config.update("jax_enable_x64", True)
    numpyro.set_platform("cpu")
    found = {}
    for name in CASES:
        found[name] = make(name)
        print(name, {k: v for k, v in found[name].items() if k != "posterior"}, flush=True)
    (HERE / "nuts.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
