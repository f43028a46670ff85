"""The tables are of these data and these densities, and the runs behind them converged."""

import numpy as np
import pytest
import torch
from pyro import poutine

from ppl_models.data import read
from ppl_models.models.glm.model import GLM
from ppl_models.models.gmm.model import GMM
from ppl_models.models.hmm.model import HMM
from ppl_models.models.logistic.model import Logistic
from references.cases import CASES
from references.tables import HERE, load

SITES = {
    "start": ("start",),
    "transition": ("transition",),
    "weight": ("weight",),
    "gaussian": ("precision", "mean"),
    "poisson": ("rate",),
}
MODELS = {"gmm": GMM, "hmm": HMM}


def test_every_case_has_a_table():
    assert {path.stem for path in HERE.glob("*.json")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_data_is_what_the_table_is_of(name: str):
    case, about = CASES[name], load(name).about
    assert case.digest() == about["sha256"]
    assert (case.model, dict(case.fields)) == (about["model"], about["fields"])


@pytest.mark.parametrize("name", CASES)
def test_run_converged(name: str):
    table = load(name)
    assert table.about["chains"] >= 4
    assert table.about["draws"] >= 10_000
    assert table.about["divergent"] <= 1e-4 * table.about["chains"] * table.about["draws"]
    assert table.about["switched"] < 0.01 or name == "earthquakes3"  # goes between labellings
    for quantity, variable in table.posterior.items():
        assert (variable.r_hat < 1.005).all()
        assert (np.minimum(variable.ess_bulk, variable.ess_tail) > 4_000).all()
        assert (variable.mcse_mean < 0.01 * variable.sd).all()
        if quantity != "probability":  # its tails are long where it is next to nothing
            assert (variable.mcse_sd < 0.025 * variable.sd).all()
        assert (variable.q05 < variable.q95).all()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.model in MODELS])
def test_density_is_ours(name: str):
    """Two programs, one density: log p(x, θ) at draws of the other."""
    case = CASES[name]
    model, data = MODELS[case.model](**case.fields), read(case.frame())
    bound = model.bind(model.refer(data))
    for point in load(name).points:
        theta = {
            factor: {site: torch.tensor(point.theta[site])[None] for site in SITES[factor]}
            for factor in bound.factors
        }
        found = bound.log_prior(theta) + bound.log_evidence(bound.dataset_batch(data), theta)
        assert float(found) == pytest.approx(point.log_joint, abs=1e-8)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.model == "glm"])
def test_density_of_a_generalised_linear_model_is_ours(name: str):
    """Theirs is of σ, gaps, τ and u/τ in standardised units, ours of logarithms and u in the target's."""
    case = CASES[name]
    model, data = GLM(**case.fields), read(case.frame(), target=case.target, types=case.kinds)
    bound = model.bind(model.refer(data)).prepare(data)
    for point in load(name).points:
        site = {key: np.asarray(value, float) for key, value in point.theta.items()}
        log_shared = np.log(
            np.concatenate([np.ravel(site.get(key, [])) for key in ("sigma", "gap", "group_sd")])
        )
        u = site["group_sd"][:, None] * site["direction"] if "direction" in site else np.zeros((0, 0))
        volume = (
            log_shared.sum() - (u.shape[1] * np.log(site["group_sd"])).sum() if u.size else log_shared.sum()
        )
        coefficients = np.concatenate(
            [np.ravel(site["intercept"]), np.ravel(site["coefficient"]), np.ravel(u)]
        )
        theta = bound.theta(torch.tensor(np.concatenate([coefficients, log_shared]))[None])
        found = bound.log_prior(theta) + bound.log_evidence(bound.dataset_batch(data), theta)
        expected = point.log_joint + volume - len(case.frame()) * bound.log_unit
        assert float(found) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.model == "logistic"])
def test_density_of_a_regression_is_ours(name: str):
    case = CASES[name]
    model, data = Logistic(**case.fields), read(case.frame(), target=case.target)
    for point in load(name).points:
        theta = {site: torch.tensor(value) for site, value in point.theta.items()}
        p, K = len(load(name).names), len(point.theta["intercept"])
        theta["coefficient"] = theta["coefficient"].reshape(p, K)
        trace = poutine.trace(poutine.condition(model.model, data=theta)).get_trace(data)
        assert float(trace.log_prob_sum()) == pytest.approx(point.log_joint, abs=1e-8)
