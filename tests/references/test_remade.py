"""Tables made once more: by Pyro's NUTS on the package's own programs, not NumPyro's on the definitions."""

import arviz
import numpy as np
import pyro
import pytest
import torch
from pyro.infer import MCMC, NUTS

from ppl_models.data import read
from ppl_models.models.gmm.model import GMM
from ppl_models.models.logistic.model import Logistic
from references.cases import CASES
from references.tables import load

CHAINS, WARMUP, DRAWS = 2, 300, 700

ERRORS = 4.5
"""Monte Carlo errors of a mean or an sd: of 15 numbers one is off by more about once in 10,000 seeds."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["student_t", "gmm1"])
def test_nuts_of_our_program(name: str):
    case, table = CASES[name], load(name)
    model = {"gmm": GMM, "logistic": Logistic}[case.model](**case.fields)
    data = read(case.frame(), **({} if case.target is None else {"target": case.target}))
    bound = model.bind(model.refer(data)).prepare(data)
    chains = []
    for seed in range(CHAINS):
        pyro.set_rng_seed(seed)
        run = MCMC(
            NUTS(model.model, target_accept_prob=0.9), DRAWS, WARMUP, disable_progbar=True, num_chains=1
        )
        run.run(data)
        chains.append(run.get_samples())
    drawn = {site: torch.stack([chain[site] for chain in chains]) for site in chains[0]}
    found = user(bound, {site: value.flatten(0, 1) for site, value in drawn.items()})
    found = {key: value.reshape(CHAINS, DRAWS, *value.shape[1:]) for key, value in found.items()}
    if case.model == "gmm":  # each chain in one labelling, by the mean of the first column
        order = found["mean"][..., 0].mean(1).argsort(-1)
        found = {key: np.stack([x[:, o] for x, o in zip(v, order, strict=True)]) for key, v in found.items()}
    for key, reference in table.posterior.items():
        if key == "probability":
            continue
        draws = found[key].reshape(CHAINS, DRAWS, *reference.mean.shape)
        summary = arviz.summary(arviz.convert_to_dataset({"x": draws}), round_to="none")
        assert (summary["r_hat"] < 1.02).all()
        for of in ("mean", "sd"):
            error = np.hypot(summary[f"mcse_{of}"], getattr(reference, f"mcse_{of}").ravel())
            off = np.abs(summary[of].to_numpy() - getattr(reference, of).ravel())
            assert (off < ERRORS * error).all(), (key, of)


def user(bound, drawn):
    """Variables in the user's units of draws by site."""
    theta: dict[str, dict[str, torch.Tensor]] = {}
    for site, value in drawn.items():
        factor, _, name = site.rpartition(".")
        theta.setdefault(factor or "regression", {})[name] = value.squeeze(1) if factor else value
    return {name: value for name, (_, value) in bound.variables(theta)[0].items()}
