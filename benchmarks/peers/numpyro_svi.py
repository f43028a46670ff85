"""NumPyro's SVI on logistic regression: full-rank Gaussian, Adam, whole data each step.

python numpyro_svi.py FILE.npz STEPS: Z (n, p) standardised, y (n,); normal(0, 2.5) and normal(0, 10) priors.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal
from scipy.special import ndtr

data, steps = np.load(sys.argv[1]), int(sys.argv[2])
Z, y = jnp.asarray(data["Z"], jnp.float32), jnp.asarray(data["y"], jnp.int32)


def model() -> None:
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 10.0))
    coefficient = numpyro.sample("coefficient", dist.Normal(0.0, 2.5).expand([Z.shape[1]]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=intercept + Z @ coefficient), obs=y)


guide = AutoMultivariateNormal(model)
svi = SVI(model, guide, numpyro.optim.Adam(0.005), Trace_ELBO())
began = time.perf_counter()
result = svi.run(jax.random.key(0), steps, progress_bar=False)
mean = guide.median(result.params)
below = guide.quantiles(result.params, float(ndtr(-1.0)))  # of a Gaussian: one standard deviation
seconds = time.perf_counter() - began


def flat(values: dict[str, np.ndarray]) -> np.ndarray:
    return np.append(values["intercept"], values["coefficient"])


print(
    json.dumps(
        {
            "seconds": seconds,
            "mean": flat(mean).tolist(),
            "sd": (flat(mean) - flat(below)).tolist(),
            "version": f"NumPyro {numpyro.__version__}",
        }
    )
)
