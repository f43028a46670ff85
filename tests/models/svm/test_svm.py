"""Support vector machines: against scikit-learn's, and what their verbs promise."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_models as ppl


def rings(rows: int, classes: int = 2, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 2))
    radius = np.sqrt((X**2).sum(1)) + rng.normal(0, 0.1, rows)
    edges = np.quantile(radius, np.arange(1, classes) / classes)
    return pd.DataFrame(X, columns=["a", "b"]).assign(
        y=np.array(["one", "three", "two"])[np.digitize(radius, edges)]
    )


@pytest.fixture(scope="module")
def fit():
    return ppl.fit(ppl.SVM(inducing=40), rings(120), target="y")


@pytest.fixture(scope="module")
def three():
    return ppl.fit(ppl.SVM(inducing=30), rings(150, 3), target="y")


def test_the_mean_of_f_with_given_kernel_is_near_scikit_learns_decision_function():
    from sklearn.svm import SVC

    table = rings(80)
    X, a, length = table[["a", "b"]].to_numpy(), 20.0, 1.0
    Z = (X - X.mean(0)) / X.std(0)
    fit = ppl.fit(ppl.SVM(length_scale=length, amplitude=a), table, target="y")
    peer = SVC(C=2 * a**2, gamma=1 / (2 * length**2 * 2)).fit(Z, table["y"])
    found = fit.transform(table)["decision_function"]
    assert np.corrcoef(found, peer.decision_function(Z))[0, 1] > 0.9
    assert ((found > 0) == (peer.decision_function(Z) > 0)).mean() > 0.95


def test_classes_are_found_on_new_rows(fit, three):
    for fitted, classes, least in ((fit, 2, 0.8), (three, 3, 0.7)):
        new = rings(200, classes, 1)
        assert (fitted.predict(new)["class"] == new["y"]).mean() > least


@pytest.mark.parametrize("which", ["fit", "three"])
def test_predictions_agree_with_their_probabilities(which, request):
    fitted = request.getfixturevalue(which)
    found = fitted.predict(rings(100, 2, 2))
    names = [f"probability_{label}" for label in fitted.bound.labels()]
    p = found[names].to_numpy()
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-9)
    assert (found["class"] == np.array(fitted.bound.labels())[p.argmax(1)]).all()


def test_calibration_does_not_lose_on_rows_left_out_and_is_checked(fit):
    slope = fit.bound.slope
    assert slope.after <= slope.before + 0.01
    check = next(c for c in fit.report.checks if c.name == "calibration")
    assert check.level == "ok"
    assert f"{slope.before:.3f}" in check.reason
    assert f"{slope.after:.3f}" in check.reason


def test_support_vectors_are_rows_within_the_margin(fit):
    f = fit.transform()["decision_function"].to_numpy()
    sign = np.where(rings(120)["y"] == fit.bound.labels()[1], 1, -1)
    found = fit.summary()
    found = found.set_index("parameter") if "parameter" in found else found
    assert found.loc["support_vectors", "mean"] == pytest.approx((sign * f < 1).sum(), abs=2)
    assert found.loc["C", "mean"] == pytest.approx(2 * found.loc["amplitude", "mean"] ** 2)


def test_a_linear_kernel_has_coefficients_in_units():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(0, 100, 150), "b": rng.normal(size=150)})
    table["y"] = np.where(table["a"] / 100 + rng.normal(0, 0.3, 150) > 0, "yes", "no")
    found = ppl.fit(ppl.SVM(kernel="linear"), table, target="y").summary()
    found = found.set_index("parameter") if "parameter" in found else found
    assert found.loc["a", "lower" if "lower" in found else found.columns[2]] > 0
    assert abs(found.loc["b", "mean"]) < 100 * abs(found.loc["a", "mean"])


def test_a_run_that_is_saved_says_the_same(fit, tmp_path):
    fit.save(tmp_path / "run")
    new = rings(20, 2, 3)
    pd.testing.assert_frame_equal(ppl.load(tmp_path / "run").predict(new), fit.predict(new))


def test_a_row_left_out_in_closed_form_is_near_a_fit_without_it(fit):
    from ppl_models.models.svm.held_out import left_out
    from ppl_models.regression.newton import fit_glm

    bound = fit.bound
    batch = bound.dataset_batch(fit.data)
    rows = batch.whole()
    form = bound.form(fit.params)
    mean, variance = left_out(bound.response, form, rows)
    far, moved = [], []
    for n in range(0, 120, 12):
        fewer = dataclasses.replace(batch, index=np.delete(batch.index, n), _kept={})
        found = fit_glm(bound.glm.at(bound.response.parts[0], bound.glm.prior), fewer)
        far.append(float(mean[n, 0] - rows.Z[n] @ found.loc) / float(variance[n, 0]) ** 0.5)
        moved.append(float(rows.Z[n] @ (form.parts[0].loc - found.loc)) / float(variance[n, 0]) ** 0.5)
    assert np.abs(far).max() < 0.2
    assert np.abs(far).mean() < 0.5 * np.abs(moved).mean()


def test_probabilities_are_those_of_draws_without_their_noise(fit, three):
    for fitted in (fit, three):
        bound, labels = fitted.bound, fitted.bound.labels()
        torch.manual_seed(0)
        drawn = next(bound.by_draw(fitted.data, bound.draw(fitted.params, 20_000))).values
        own = next(bound.probabilities(fitted.data, bound.direct(fitted.params))).values[:, : drawn.shape[1]]
        np.testing.assert_allclose(own.mean(0), drawn.mean(0), atol=0.01)
        ends = [np.quantile(p.numpy(), [0.05, 0.95], axis=0) for p in (own, drawn)]
        np.testing.assert_allclose(*ends, atol=0.04)
        found = fitted.predict()[[f"probability_{label}" for label in labels]]
        np.testing.assert_allclose(found.to_numpy()[: drawn.shape[1]], own.mean(0))


def test_draws_are_averaged_over_where_they_are_asked_for(fit):
    theta = {name: {site: v[:5] for site, v in sites.items()} for name, sites in fit.draws.items()}
    expected = next(fit.bound.by_draw(fit.data, theta)).values.mean(0)[:, 1]
    second = fit.predict(draws=5)[f"probability_{fit.bound.labels()[1]}"]
    np.testing.assert_allclose(second, expected)


def test_classes_told_apart_without_error_are_no_surer_than_the_rows_warrant():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"x": np.r_[rng.uniform(-2, -1, 40), rng.uniform(1, 2, 40)], "y": ["a"] * 40 + ["b"] * 40}
    )
    p = ppl.fit(ppl.SVM(kernel="linear"), table, target="y").predict()["probability_a"].to_numpy()
    assert p[:40].mean() == pytest.approx(41 / 42, abs=0.02)
    assert (p[:40] > 0.8).all()


@pytest.mark.slow
def test_many_classes_are_shown_in_part():
    table = rings(40).assign(y=[f"k{i % 20:02d}" for i in range(40)])
    fit = ppl.fit(ppl.SVM(inducing=5), table, target="y", steps=3)
    assert len(fit.summary()) > len(fit.bound.glance(fit)) == 40
