"""The verbs of a regression, and its horseshoe, against direct computations."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fits import by_hand
from sklearn.datasets import load_iris

from ppl_models.data import read
from ppl_models.errors import UsageError
from ppl_models.models.logistic.model import Logistic
from ppl_models.regression.fitting import fit_regression
from ppl_models.regression.forms import from_params


def fitted(model, frame, draws=400, **options):
    data = read(frame, target="y", **options)
    bound = model.bind(data.schema)
    result = fit_regression(bound, data)
    torch.manual_seed(1)
    fit = by_hand(model, data, result.params, result.elbo)
    drawn = SimpleNamespace(theta=bound.draw(result.params, draws), draws=draws)
    fit.__dict__ |= {"posterior_draws": drawn, "result": result}
    return fit


def people(n=150, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"age": rng.normal(40, 10, n), "kind": rng.choice(["a", "b"], n), "fare": rng.gamma(2, 5, n)}
    )
    f = 0.08 * (frame.age - 40) + 1.2 * (frame.kind == "b") - 0.5
    frame["y"] = np.where(rng.logistic(size=n) < f, "yes", "no")
    return frame


@pytest.fixture(scope="module")
def binary():
    frame = people()
    frame.loc[2, "age"] = np.nan
    return fitted(Logistic(missing_rows="drop"), frame)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return fitted(Logistic(), pd.DataFrame(X, columns=list("abcd")).assign(y=[f"k{v}" for v in y]))


def by_formula(fit, frame):
    """p (S, n, 2) from the coefficients in the user's units."""
    alpha, beta = fit.bound.user(fit.posterior_draws.theta)
    X = np.column_stack([frame.age, frame.kind == "b", frame.fare]).astype(float)
    f = alpha + np.einsum("np,spk->sn", X, beta)
    second = 1 / (1 + np.exp(-f))
    return np.stack([1 - second, second], -1)


def test_predictions_are_averages_and_quantiles_of_probabilities(binary):
    frame = people().iloc[5:25].reset_index(drop=True)
    table = binary.predict(frame.drop(columns="y"), level=0.8)
    p = by_formula(binary, frame)
    np.testing.assert_allclose(table["probability_yes"], p[..., 1].mean(0))
    np.testing.assert_allclose(table["probability_no_lower"], np.quantile(p[..., 0], 0.1, axis=0))
    np.testing.assert_allclose(table["probability_yes_upper"], np.quantile(p[..., 1], 0.9, axis=0))
    assert (table["class"] == np.where(p[..., 1].mean(0) >= 0.5, "yes", "no")).all()
    strict = binary.predict(frame, threshold=0.9)["class"]
    assert (strict == np.where(p[..., 1].mean(0) >= 0.9, "yes", "no")).all()


def test_rows_without_a_predictor_have_empty_cells(binary):
    table = binary.predict()
    assert table.isna().any(axis=1).to_numpy().nonzero()[0].tolist() == [2]
    assert np.flatnonzero(binary.score().log_probability.isna()).tolist() == [2]
    assert np.flatnonzero(binary.transform().isna().any(axis=1)).tolist() == [2]


def test_score_is_the_log_of_the_mean_probability(binary):
    frame = people().iloc[5:25].reset_index(drop=True)
    p = by_formula(binary, frame)
    own = np.where(frame.y == "yes", p[..., 1], p[..., 0]).mean(0)
    np.testing.assert_allclose(binary.score(frame).log_probability, np.log(own))


@pytest.mark.parametrize("threshold", [-0.1, 1.5])
def test_a_threshold_that_is_no_probability(binary, threshold):
    with pytest.raises(UsageError, match="threshold"):
        binary.predict(threshold=threshold)


def test_a_threshold_for_three_classes(iris):
    with pytest.raises(UsageError, match="3 classes"):
        iris.predict(threshold=0.5)


def test_three_classes(iris):
    table = iris.predict()
    p = table[[f"probability_k{c}" for c in range(3)]].to_numpy()
    np.testing.assert_allclose(p.sum(1), 1)
    assert (table["class"] == [f"k{c}" for c in p.argmax(1)]).all()
    assert (table["class"] == [iris.bound.levels[int(c)] for c in iris.data.values[:, -1]]).mean() > 0.95
    f = iris.transform()
    assert list(f) == [
        "linear_predictor_k1",
        "linear_predictor_k1_sd",
        "linear_predictor_k2",
        "linear_predictor_k2_sd",
    ]
    summary = iris.summary()
    effects = summary.loc[[f"a → k{c}" for c in range(3)], "effect"]
    assert abs(effects.sum()) < 1e-9  # probabilities sum to one


def test_samples_have_the_probabilities_of_the_rows(binary):
    p = binary.predict()["probability_yes"]
    drawn = np.mean([binary.sample(seed=s).y == "yes" for s in range(60)], axis=0)
    known = p.notna()
    assert abs(drawn[known].mean() - p[known].mean()) < 0.02
    assert np.corrcoef(drawn[known], p[known])[0, 1] > 0.8
    assert binary.sample().y.isna().to_numpy().nonzero()[0].tolist() == [2]
    again = binary.bound.replicate(binary.data, binary.posterior_draws.theta)
    assert abs(np.nanmean(again[..., -1]) - p.mean()) < 0.02


def test_the_summary_in_the_users_units(binary):
    table = binary.summary(level=0.9)
    _, beta = binary.bound.user(binary.posterior_draws.theta)
    row = table.loc["age"]
    assert row["mean"] == pytest.approx(beta[:, 0, 0].mean())
    assert row["odds_ratio_upper"] == pytest.approx(np.exp(np.quantile(beta[:, 0, 0], 0.95)))
    sd = binary.bound.design.sd[0]
    assert row["odds_ratio_sd"] == pytest.approx(np.exp(np.median(beta[:, 0, 0]) * sd))
    frame = people().drop(index=2).reset_index(drop=True)
    p = by_formula(binary, frame)
    slope = (p[..., 1] * p[..., 0] * beta[:, 0]).mean(1)  # dp/dx = p (1 − p) β
    assert row["effect"] == pytest.approx(slope.mean(), rel=1e-5)
    assert row["effect_lower"] == pytest.approx(np.quantile(slope, 0.05), rel=1e-4)
    levels = [by_formula(binary, frame.assign(kind=kind)) for kind in "ab"]
    change = (levels[1] - levels[0])[..., 1].mean(1)
    assert table.loc["kind[b]", "effect"] == pytest.approx(change.mean())


def test_effects_follow_a_formula():
    frame = people()
    fit = fitted(Logistic(formula="y ~ np.log(age)*kind"), frame)
    alpha, beta = fit.bound.user(fit.posterior_draws.theta)
    b = {name: beta[:, j, 0][:, None] for j, name in enumerate(fit.bound.names)}
    kind = (frame.kind == "b").to_numpy()
    slope = b["np.log(age)"] + b["np.log(age):kind[b]"] * kind
    f = alpha + slope * np.log(frame.age.to_numpy()) + b["kind[b]"] * kind
    p = 1 / (1 + np.exp(-f))
    expected = (p * (1 - p) * slope / frame.age.to_numpy()).mean()
    assert fit.summary().loc["age", "effect"] == pytest.approx(expected, rel=1e-4)


def test_numbers_as_categories_have_the_effects_of_levels():
    frame = people().assign(size=np.tile([1, 2, 5], 50))
    fit = fitted(Logistic(formula="C(size) + age"), frame)
    summary = fit.summary()
    assert {"size[2]", "size[5]"} <= set(summary.index)
    assert summary.loc["size[5]", "effect"] != 0
    assert "size" not in summary.index


def test_a_separated_class_has_a_finite_posterior_and_a_note():
    frame = people().assign(copy=lambda f: (f.y == "yes").map({True: "on", False: "out"}))
    fit = fitted(Logistic(), frame)
    assert fit.result.separated
    assert any("copy[out]" in note for note in fit.result.notes)
    assert np.isfinite(fit.result.elbo)
    assert fit.summary().drop(columns=["odds_ratio_upper"]).loc["age"].notna().all()


@pytest.mark.slow
def test_the_horseshoe_finds_the_few_that_matter():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(400, 12))
    y = np.where(rng.logistic(size=400) < X[:, 0] * 2 - X[:, 1] * 1.5, "yes", "no")
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(12)]).assign(y=y)
    fit = fitted(Logistic(prior="horseshoe", expected_nonzero=2.0), frame)
    plain = fitted(Logistic(), frame)
    mean = fit.bound.user(fit.posterior_draws.theta)[1].mean(0)[:, 0]
    loose = plain.bound.user(plain.posterior_draws.theta)[1].mean(0)[:, 0]
    assert mean[0] > 1.5
    assert mean[1] < -1.0
    assert np.abs(mean[2:]).max() < 0.6 * np.abs(loose[2:]).max()
    exact = fit.bound.exact(fit.params)
    assert exact is not None
    sd = exact["regression"]["coefficient"].std(0)
    gap = (
        exact["regression"]["coefficient"].mean(0)
        - torch.as_tensor(
            fit.bound.theta(from_params({k: v[0] for k, v in fit.params.items()}).mean[None])["regression"][
                "coefficient"
            ][0]
        )
    ) / sd
    assert float(gap.abs().max()) < 0.2


@pytest.mark.slow
def test_the_evidence_of_a_horseshoe_is_that_of_importance_sampling():
    fit = fitted(Logistic(prior="horseshoe"), people(60), draws=4_000)
    theta, params = fit.posterior_draws.theta, fit.params
    batch = fit.bound.dataset_batch(fit.data)
    log_w = fit.bound.log_evidence(batch, theta) + fit.bound.log_prior(theta) - fit.bound.log_q(theta, params)
    evidence = float(log_w.logsumexp(0) - np.log(4_000))
    assert fit.result.elbo == pytest.approx(evidence, abs=0.15)


# NumPyro 0.22, NUTS with 2 chains of 20,000 draws (seed 0, target_accept_prob 0.98): over 15,000
# effective draws of every coefficient, of the model and data of the test below
NUTS_MEAN = [
    1.852,
    -4.045,
    -0.161,
    0.086,
    0.16,
    0.063,
    -0.042,
    0.046,
    -0.531,
    0.286,
    -0.223,
    0.22,
    0.149,
    -0.325,
    -0.028,
    -0.096,
    0.285,
    -0.115,
    -0.059,
    0.03,
    -0.004,
    0.231,
    0.212,
    -0.045,
    -0.019,
    0.107,
    -0.057,
    0.1,
    -0.143,
    0.079,
]
NUTS_SD = [
    2.792,
    3.229,
    0.776,
    0.786,
    0.819,
    0.693,
    0.684,
    0.718,
    1.433,
    1.072,
    0.925,
    0.849,
    0.858,
    1.039,
    0.678,
    0.73,
    1.024,
    0.749,
    0.684,
    0.768,
    0.713,
    0.886,
    0.931,
    0.664,
    0.701,
    0.687,
    0.792,
    0.766,
    0.777,
    0.804,
]


@pytest.mark.slow
def test_the_horseshoe_with_fewer_rows_than_columns_agrees_with_nuts():
    rng = np.random.default_rng(11)
    X = rng.normal(size=(20, 30))
    y = np.where(rng.logistic(size=20) < 3 * X[:, 0] - 2 * X[:, 1], "yes", "no")
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(30)]).assign(y=y)
    data = read(frame, target="y")
    bound = Logistic(prior="horseshoe", expected_nonzero=3.0).bind(data.schema)
    result = fit_regression(bound, data)
    draws = bound.exact(result.params)
    assert draws is not None
    coefficient = draws["regression"]["coefficient"][..., 0].numpy()
    gap = (coefficient.mean(0) - NUTS_MEAN) / NUTS_SD
    assert np.abs(gap).max() < 0.2
    assert np.sqrt((gap**2).mean()) < 0.1
    ep = bound.theta(bound.form(result.params).mean[None])["regression"]["coefficient"][0, :, 0].numpy()
    assert np.abs((ep - NUTS_MEAN) / NUTS_SD).max() < 0.3
    assert 0.5 < np.min(coefficient.std(0) / NUTS_SD)
    assert np.max(coefficient.std(0) / NUTS_SD) < 1.8
