"""Kernels as designs, for every regression: against scikit-learn's kernels and Gaussian processes."""

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_models as ppl
from ppl_models.regression.kernels import places
from ppl_models.regression.tuning import SPREAD


def wave(rows: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-3, 3, rows))
    return pd.DataFrame({"x": x, "y": np.sin(2 * x) + rng.normal(0, 0.2, rows)})


@pytest.mark.parametrize(("kernel", "nu"), [("rbf", np.inf), ("matern32", 1.5), ("matern52", 2.5)])
def test_features_reproduce_the_kernel_where_every_row_is_an_inducing_point(kernel, nu):
    from sklearn.gaussian_process.kernels import Matern

    table = wave(30).assign(z=np.random.default_rng(1).normal(size=30))
    fields = {"length_scale": 0.7, "amplitude": 1.0}
    model = ppl.GLM(kernel=kernel, **fields)
    data = ppl.read(table, target="y")
    design = model.bind(data.schema).prepare(data).design
    features = design.standardised(data.values)[:, 1:]
    Z = places(design.coding.base, data.values)
    expected = Matern(0.7 * np.sqrt(2), nu=nu)(Z)
    np.testing.assert_allclose(features @ features.T, expected, atol=1e-6)


def test_a_glm_with_a_kernel_is_gaussian_process_regression():
    from scipy.optimize import minimize
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    table, new = wave(), pd.DataFrame({"x": np.linspace(-2.5, 2.5, 9)})
    fit = ppl.fit(ppl.GLM(kernel="rbf"), table, target="y")
    found = fit.predict(new)["mean"]
    z, scale = (table["x"] - table["x"].mean()) / table["x"].std(ddof=0), table["y"].std(ddof=0)
    kernel = (
        ConstantKernel(1.0) * RBF(1.0)
        + WhiteKernel(0.1)
        + ConstantKernel(fit.bound.model.intercept_scale**2, "fixed")
    )
    peer = GaussianProcessRegressor(kernel, optimizer=None).fit(
        z.to_numpy()[:, None], (table["y"] - table["y"].mean()) / scale
    )

    def against(logs):  # of l, a and sigma, with the priors of them
        length, a, sigma = logs
        of_sigma = float(fit.bound.log_prior_shared(torch.tensor([[sigma]]).double())[0])
        prior = of_sigma - (length**2 + a**2) / (2 * SPREAD**2)
        return -peer.log_marginal_likelihood(np.array([2 * a, length, 2 * sigma])) - prior

    best = minimize(against, [-0.5, 0.5, -1.3])
    tuned = fit.bound.tuned
    logs = np.log([tuned.length_scale, tuned.amplitude])
    assert against([*logs, best.x[2]]) < best.fun + 0.05
    assert logs[0] == pytest.approx(best.x[0], abs=0.1)
    peer.kernel_.theta = np.array([2 * best.x[1], best.x[0], 2 * best.x[2]])
    peer = GaussianProcessRegressor(peer.kernel_, optimizer=None).fit(peer.X_train_, peer.y_train_)
    at = ((new["x"] - table["x"].mean()) / table["x"].std(ddof=0)).to_numpy()[:, None]
    np.testing.assert_allclose(found, peer.predict(at) * scale + table["y"].mean(), atol=0.03)


def test_logistic_regression_with_a_kernel_finds_a_circle():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 2))
    table = pd.DataFrame(X, columns=["a", "b"]).assign(y=np.where((X**2).sum(1) < 1.4, "in", "out"))
    fit = ppl.fit(ppl.Logistic(kernel="matern52", inducing=30), table.iloc[:100], target="y")
    assert (fit.predict(table.iloc[100:])["class"] == table["y"].iloc[100:].to_numpy()).mean() > 0.85


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kernel": "poly"}, "kernel must be linear, rbf, matern32 or matern52, got 'poly'"),
        ({"inducing": 0}, "inducing must be at least 1, got 0"),
        ({"kernel": "rbf", "length_scale": -1.0}, "length_scale must be positive and finite, got -1.0"),
        ({"kernel": "rbf", "prior": "horseshoe"}, "kernel rbf has a normal prior, and prior is horseshoe"),
    ],
)
def test_fields_that_cannot_be_meant_are_refused(fields, said):
    with pytest.raises(ppl.UsageError, match=said):
        ppl.Logistic(**fields)


def test_only_inducing_points_that_add_something_are_used():
    table = wave(60)
    fit = ppl.fit(ppl.GLM(kernel="rbf", length_scale=1.0, amplitude=1.0), table, target="y")
    design = fit.bound.design
    assert len(fit.bound.names) < 20
    whole = design.coding.at(1.0)
    assert len(whole.points) == 60
    few, all_ = design.coding.matrix(fit.data.values), whole.matrix(fit.data.values)
    np.testing.assert_allclose(few @ few.T, all_ @ all_.T, atol=1e-4)


@pytest.mark.parametrize("model", [ppl.GLM, ppl.Logistic, ppl.SVM])
def test_the_program_of_a_kernel_has_what_was_learned(model):
    """log p(y, θ) by Pyro, of the model with the length scale and amplitude that were learned, is ours."""
    from pyro import poutine

    table = wave(60)
    if model is not ppl.GLM:
        table["y"] = np.where(table["y"] > table["y"].median(), "high", "low")
    fit = ppl.fit(model(kernel="matern52", inducing=15), table, target="y")
    theta = {k: {site: v[:1] for site, v in sites.items()} for k, sites in fit.posterior_draws.theta.items()}
    values = fit.bound.pyro_values(theta)
    trace = poutine.trace(poutine.condition(fit.resolved.model, data=values)).get_trace(fit.data)
    ours = fit.bound.log_prior(theta) + fit.bound.log_evidence(fit.batch, theta)
    assert float(trace.log_prob_sum()) == pytest.approx(float(ours), rel=1e-9)
    assert {"length_scale", "amplitude", "inducing_points"} <= {*fit.summary().index}
    assert not any("matern52" in name for name in fit.summary().index)
