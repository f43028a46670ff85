"""Every family in a hidden Markov model and a mixture, from the fit to the verbs."""

import numpy as np
import pytest
import torch
from family_cases import CASES
from test_exact_posterior import model_of, table

import ppl_models as ppl
from ppl_models.inference.conjugate import ConjugateRule


@pytest.mark.parametrize("missing", [0.0, 0.15], ids=["complete", "missing"])
@pytest.mark.parametrize("name", CASES)
def test_elbo_never_falls(name, missing):
    data = table(CASES[name], 60, missing)
    joint = model_of(CASES[name], ppl.HMM, states=2).bind(data.schema)
    batch, rule = joint.dataset_batch(data), ConjugateRule()
    labels = torch.randint(2, (3, data.rows), generator=torch.Generator().manual_seed(0))
    state, elbos = rule.init(joint.from_labels(batch, labels)), []
    for _ in range(20):
        state, info = rule.step(joint, state, batch)
        elbos.append(info.elbo)
    elbo = torch.stack(elbos)
    assert torch.isfinite(elbo).all()
    assert (elbo.diff(dim=0) >= -1e-9 * elbo.abs().max()).all()
    assert (elbo[-1] > elbo[0]).all()


DEAR = {"negative_binomial", "student_t"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in DEAR else ())
        for name in CASES
        if "-" not in name or name == "gaussian-full"
    ],
)
def test_verbs_work_from_end_to_end(name, tmp_path):
    """On two columns in one state, where the calibration takes no time."""
    data = table(CASES[name], 40).frame()[["x0", "x1"]]
    kind = dict.fromkeys(("x0", "x1"), str(CASES[name].kind))
    fit = ppl.fit(model_of(CASES[name], ppl.HMM, states=1), data, restarts=1, types=kind)
    assert np.isfinite(fit.elbo)
    assert fit.status == "converged"
    assert np.isfinite(fit.score()["log_density"]).all()
    assert not fit.impute()[["x0", "x1"]].isna().to_numpy().any()
    assert len(fit.sample(5)) == 5
    assert len(fit.forecast(3)) >= 3
    assert fit.summary()["mean"].notna().all()
    assert fit.check().verdict != "not trusted"
    again = ppl.load(fit.save(tmp_path / "run"))
    np.testing.assert_array_equal(again.score()["log_density"], fit.score()["log_density"])
