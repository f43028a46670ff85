"""Fits of networks with heads: resuming, what they learn, what they refuse, and forecasts."""

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_models as ppl
from ppl_models.errors import DataError, RunError, UsageError


def table(n=300, seed=0):
    rng = np.random.default_rng(seed)
    x, kind = rng.normal(size=(n, 2)), rng.choice(["a", "b"], n)
    f = np.sin(2 * x[:, 0]) + (kind == "a") * x[:, 1]
    return pd.DataFrame(
        {
            "u": x[:, 0],
            "v": x[:, 1],
            "kind": kind,
            "y": f + 0.2 * rng.normal(size=n),
            "z": np.where(f > 0, "yes", "no"),
        }
    )


SMALL = ppl.MLP(hidden=32, members=2, dropout=0.0)


@pytest.fixture(scope="module")
def fitted():
    return ppl.fit(SMALL, table(), target="y", ignore="z", steps=500)


def test_a_number_is_learned_with_intervals_that_hold_it(fitted):
    new = table(1_000, 1)
    found = fitted.predict(new)
    y = new["y"].to_numpy()
    assert np.sqrt(np.mean((found["mean"] - y) ** 2)) < 0.5 * y.std()
    inside = ((found["lower"] < y) & (y < found["upper"])).mean()
    assert 0.8 < inside < 0.97
    assert (found["mean_lower"] > found["lower"]).all()
    assert (found["mean_upper"] < found["upper"]).all()
    assert fitted.posterior_draws.k_hat < 0.1


def test_rows_that_are_unlike_the_fit_are_far(fitted):
    far = table(200, 2)
    far[["u", "v"]] *= 20
    near = fitted.transform(table(200, 3))["distance"]
    assert near.mean() == pytest.approx(1.0, abs=0.25)
    assert fitted.transform(far)["distance"].mean() > 3 * near.mean()


def test_rows_out_of_all_reason_are_predicted_and_drawn(fitted):
    far = table(5, 2).assign(u=[1e30, -1e300, 1e300, 0.0, 1e12])
    assert np.isfinite(fitted.predict(far).to_numpy()).all()
    assert np.isfinite(fitted.sample(far)["y"]).all()


def test_columns_that_matter_have_importance(fitted):
    summary = fitted.summary()["mean"]
    assert summary["importance[u]"] > 0.1
    noise = table().assign(noise=np.random.default_rng(9).normal(size=300))
    with_noise = ppl.fit(SMALL, noise, target="y", ignore="z", steps=300).summary()["mean"]
    assert with_noise["importance[noise]"] < 0.3 * with_noise["importance[u]"]


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (ppl.MLP(hidden=8, members=2), {"target": "z"}),
        pytest.param(ppl.MLP(hidden=8, posterior="natural"), {"target": "y"}, marks=pytest.mark.slow),
        pytest.param(
            ppl.MLP(hidden=8, members=2, family="student_t"), {"target": "y"}, marks=pytest.mark.slow
        ),
        (ppl.RNN(units=4, members=2), {"target": "z"}),
        (ppl.RNN(units=4), {"ignore": "kind,z"}),
    ],
    ids=["mlp", "natural", "family", "rnn", "forecast"],
)
def test_a_fit_that_was_stopped_goes_on_to_the_same_numbers(tmp_path, model, options):
    data = table(120)
    data.to_csv(tmp_path / "data.csv", index=False)
    whole = ppl.fit(model, tmp_path / "data.csv", steps=20, **options)
    half = ppl.fit(model, tmp_path / "data.csv", steps=9, **options)
    again = ppl.resume(half.save(tmp_path / "run"), steps=20)
    assert again.elbo == whole.elbo
    for name, value in whole.params.items():
        assert torch.equal(again.params[name], value), name


def test_missing_cells_are_cells_and_missing_targets_are_left_out():
    data = table(200)
    data.loc[::3, "u"] = np.nan
    data.loc[::5, "kind"] = None
    data.loc[:19, "z"] = None
    fit = ppl.fit(SMALL, data, target="z", ignore="y", steps=60)
    assert fit.predict()["class"].notna().all()
    assert fit.score()["log_probability"].isna().sum() == 20
    assert any("20 rows without z" in note for note in fit.trained.notes)


def test_classes_are_balanced_where_that_is_asked_for():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"x": rng.normal(size=400), "y": np.where(rng.random(400) < 0.1, "rare", "usual")})
    plain, even = (
        ppl.fit(ppl.MLP(hidden=4, members=1, class_weight=w), data, target="y", steps=150)
        for w in ("none", "balanced")
    )
    assert plain.predict()["probability_rare"].mean() == pytest.approx(0.1, abs=0.06)
    assert even.predict()["probability_rare"].mean() == pytest.approx(0.5, abs=0.15)


def test_every_row_of_a_sequence_has_its_class():
    rng = np.random.default_rng(0)
    parts = []
    for i in range(60):
        up = i % 2
        x = (2 * up - 1) * np.arange(rng.integers(3, 9)) + rng.normal(size=1)
        parts.append(pd.DataFrame({"id": str(i), "x": x, "y": "du"[up]}))
    data = pd.concat(parts)
    fit = ppl.fit(ppl.RNN(units=8, members=2), data, sequence="id", target="y", steps=120)
    found = fit.predict()
    assert (found["class"].to_numpy() == data["y"].to_numpy()).mean() > 0.9
    assert (found.groupby("id")["probability_u"].nunique() == 1).all()
    assert (fit.sample().groupby("id")["y"].nunique() == 1).all()


@pytest.mark.slow
def test_a_season_is_forecast_within_its_intervals():
    rng = np.random.default_rng(0)
    t = np.arange(600)
    x = 5 + 3 * np.sin(2 * np.pi * t / 12) + 0.3 * rng.normal(size=600)
    fit = ppl.fit(ppl.RNN(units=16), x[:576, None], steps=300)
    found = fit.forecast(24)
    truth = 5 + 3 * np.sin(2 * np.pi * t[576:] / 12)
    assert np.abs(found["x0"] - truth).mean() < 0.5
    inside = (found["x0_lower"] < x[576:]) & (x[576:] < found["x0_upper"])
    assert inside.mean() > 0.75
    pd.testing.assert_frame_equal(fit.forecast(24), found)
    short = fit.forecast(3, pd.DataFrame({"x0": x[:5]}))  # less than a season of the past
    assert short[["x0_lower", "x0_upper"]].notna().all().all()


@pytest.mark.parametrize(
    ("model", "data", "options", "error", "message"),
    [
        (ppl.MLP(), table(), {}, UsageError, "a network needs a target: name the column .* with --target"),
        (ppl.MLP(), table()[["y"]], {"target": "y"}, UsageError, "nothing to predict y from"),
        (ppl.MLP(), table().assign(z="yes"), {"target": "z"}, DataError, "all rows are of one class, 'yes'"),
        (ppl.MLP(), table().iloc[:1], {"target": "y"}, DataError, "fewer than two rows have a target"),
        (ppl.MLP(family="poisson"), table(), {"target": "y"}, DataError, "the target y has .* --family"),
        (ppl.MLP(family="gamma"), table(), {"target": "y"}, DataError, "the target y has .* --family normal"),
        (ppl.CNN(), table(), {"target": "z"}, UsageError, "cnn takes numbers, and 'kind' is a label"),
        (ppl.RNN(), table(), {}, UsageError, "rnn forecasts numbers, and 'kind' is a label"),
        (ppl.RNN(), table()[["u"]].iloc[:3], {}, DataError, "the longest sequence has 3 rows; a forecast"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(model, data, options, error, message):
    with pytest.raises(error, match=message) as refused:
        ppl.fit(model, data, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ppl.MLP(hidden="8,x"), "hidden must be sizes of at least 1"),
        (lambda: ppl.MLP(dropout=1.0), "dropout must be at least 0 and below 1, got 1.0"),
        (lambda: ppl.MLP(members=0), "members must be at least 1, got 0"),
        (lambda: ppl.MLP(posterior="both"), "posterior must be head, members or natural, got 'both'"),
        (lambda: ppl.MLP(tempering=0), "tempering must be above 0 and at most 1, got 0"),
        (lambda: ppl.MLP(family="poison"), "family must be auto, normal, .* or gamma, got 'poison'"),
        (lambda: ppl.CNN(shift=-1), "shift must be at least 0, got -1"),
        (lambda: ppl.RNN(season=0), "season must be at least 1, got 0"),
    ],
)
def test_fields_that_cannot_be_meant_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_a_verb_that_is_only_there_without_a_target_says_so(fitted):
    fit = ppl.fit(ppl.RNN(units=4, members=2), table(60), target="z", steps=5)
    with pytest.raises(ppl.PplError, match="rnn has forecast only without a target"):
        fit.forecast(3)


def test_a_fit_that_died_before_its_head_was_there_says_so(fitted):
    bare = {n: v for n, v in fitted.params.items() if not n.startswith(("head", "feature", "temperature"))}
    with pytest.raises(RunError, match="stopped before its predictions were ready"):
        fitted.bound.at({"networks": bare}).temperature  # noqa: B018


def test_counts_are_predicted_as_counts():
    rng = np.random.default_rng(0)
    data = table(200)
    data["y"] = rng.poisson(np.exp(1 + np.sin(2 * data["u"])))
    fit = ppl.fit(ppl.MLP(hidden=16, members=2, family="poisson"), data, target="y", ignore="z", steps=300)
    found = fit.predict()
    assert np.sqrt(np.mean((found["mean"] - data["y"]) ** 2)) < 0.8 * data["y"].std()
    assert (found[["lower", "upper"]] % 1 == 0).all().all()
    assert (found["lower"] >= 0).all()
    assert (fit.sample()["y"] % 1 == 0).all()
    assert fit.posterior_draws.k_hat < 0.7 or fit.posterior_draws.even > 0.95
    assert "calibration" in str(fit.check())
    wide = ppl.fit(ppl.MLP(hidden=4, members=1, family="negative_binomial"), data, target="y", steps=5)
    assert wide.summary().loc["dispersion", "mean"] > 0


@pytest.fixture(scope="module")
def natural():
    model = ppl.MLP(hidden=16, posterior="natural")
    return ppl.fit(model, table(), target="z", ignore="y", steps=600)


@pytest.mark.slow
def test_draws_of_all_weights_classify_rows_that_were_not_seen(natural):
    new = table(500, 1)
    found = natural.predict(new)
    assert (found["class"] == new["z"]).mean() > 0.8
    assert natural.score(new)["log_probability"].mean() > -0.45
    # probabilities are averages over the draws, each a pass through the network
    rows = natural.bound.rows(ppl.read(new, schema=natural.data.schema))
    draws = {"weights": {"value": natural.draws["weights"]["value"][:7]}}
    net, own = natural.bound.network(natural.params), []
    for value in draws["weights"]["value"].float():
        for p, part in zip(net.parameters(), value.split([p.numel() for p in net.parameters()]), strict=True):
            p.data = part.reshape(p.shape)
        logits = net(rows.source.inputs)[:, 0].double()
        own.append((logits / natural.bound.temperature).softmax(-1))
    wanted = torch.stack(own).mean(0).numpy()
    np.testing.assert_allclose(natural.bound.predictive(rows, draws), wanted, atol=1e-6)


@pytest.mark.slow
def test_a_gaussian_over_all_weights_is_not_trusted_where_it_is_not_the_posterior(natural):
    assert natural.posterior_draws.k_hat > 1
    report = natural.check()
    assert report.verdict == "not trusted"
    assert {"k-hat", "held-out rows", "calibration"} <= {check.name for check in report.checks}


def test_the_evidence_bound_of_a_gaussian_over_all_weights_is_that_of_its_draws(natural):
    theta, bound = natural.draws, natural.bound
    parts = (bound.log_evidence(natural.batch, theta), bound.log_prior(theta))
    each = sum(parts) - bound.log_q(theta, natural.params)
    assert natural.elbo == pytest.approx(float(each.mean()), abs=5 * float(each.std()) / 20**0.5)
    mean, sd = natural.params["output.weight"], natural.params["sd.output.weight"]
    assert mean.shape == sd.shape
    assert (sd > 0).all()


@pytest.mark.slow
def test_numbers_without_labels_beside_them_are_predicted_by_draws_of_all_weights(tmp_path):
    data = table(80)[["u", "v", "y"]]
    fit = ppl.fit(ppl.MLP(hidden=4, posterior="natural"), data, target="y", steps=30)
    assert {"sigma", "weights"} <= set(fit.summary().index)
    again = ppl.load(fit.save(tmp_path / "run"))
    pd.testing.assert_frame_equal(again.predict(data), fit.predict(data))
    assert fit.posterior.posterior["weight_rms"].notnull().all()


@pytest.mark.slow
def test_steps_of_sequences_are_labelled_by_draws_of_all_weights():
    data = table(120).assign(id=np.repeat(["a", "b", "c"], [50, 30, 40]))
    options = {"target": "z", "sequence": "id", "ignore": "y", "steps": 40}
    fit = ppl.fit(ppl.RNN(units=4, posterior="natural"), data, **options)
    whole = fit.predict()["probability_yes"].to_numpy()
    assert len(whole) == 120
    last = fit.predict(data[80:])["probability_yes"].to_numpy()
    np.testing.assert_allclose(last, whole[80:], atol=1e-5)
    assert fit.posterior_draws.log_likelihood.shape[1] == 3
