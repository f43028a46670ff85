"""A chain a class: sequences classified by Bayes' rule, against enumeration and known models."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

import ppl_models as ppl
from ppl_models.errors import DataError, UsageError
from ppl_models.latent import calibrate

SHARE = 0.75


def table(number, seed):
    """Sequences of one column: `up` goes 0, 3, 6, `down` back to 0 again; one in eight without a label."""
    rng, parts = np.random.default_rng(seed), []
    for i in range(number):
        c, T = int(rng.random() > SHARE), rng.integers(4, 9)
        mean = np.array([[0.0, 3.0, 6.0], [0.0, 3.0, 0.0]])[c][np.arange(T) * 3 // T]
        label = None if i % 8 == 7 else ["up", "down"][c]
        parts.append(pd.DataFrame({"id": f"s{i}", "x": rng.normal(mean, 1.3), "y": label, "true": c}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def data():
    return table(40, 0)


@pytest.fixture(scope="module")
def fit(data):
    model = ppl.HMM(states=3, topology="left-right")
    found = ppl.fit(model, data[["id", "x", "y"]], sequence="id", target="y", restarts=2)
    with pytest.MonkeyPatch.context() as patch:  # draws of linear response will do
        patch.setattr(calibrate, "RULE_WORK", 0)
        patch.setattr(calibrate, "MOVE_WORK", 0)
        assert found.draws
    return found


@pytest.fixture(scope="module")
def later():
    return table(30, 1)


def test_new_sequences_are_classified_one_row_each(fit, later):
    found = fit.predict(later[["id", "x"]])
    assert list(found.columns) == ["id", "steps", "class", "probability_down", "probability_up"]
    true = later.groupby("id", sort=False)["true"].first().map({0: "up", 1: "down"})
    assert len(found) == 30
    assert (found["class"].to_numpy() == true.to_numpy()).mean() > 0.85
    np.testing.assert_allclose(found[["probability_down", "probability_up"]].sum(axis=1), 1.0)


def test_probabilities_are_bayes_rule_with_the_parameters_integrated_out(fit):
    """Every path of every class is written out, for each draw."""
    x = np.array([0.2, 2.5, 4.0])
    post, S = fit.posterior.posterior, 40
    mean, sd, start, A = (post[n].values[0, :S] for n in ("mean", "sd", "start", "transition"))
    total = np.zeros(2)
    for s in range(S):
        for z in itertools.product(range(6), repeat=3):
            p = start[s, z[0]] * np.prod([A[s, i, j] for i, j in itertools.pairwise(z)])
            index = list(z)
            total[z[0] // 3] += p * np.prod(norm.pdf(x, mean[s, index, 0], sd[s, index, 0]))
    found = fit.predict(pd.DataFrame({"id": "a", "x": x}), draws=S)
    expected = total / total.sum()
    np.testing.assert_allclose(found[["probability_down", "probability_up"]].iloc[0], expected, rtol=1e-9)


def test_scores_are_of_sequence_and_class_together(fit, later):
    known = later.assign(y=later["true"].map({0: "up", 1: "down"}))[["id", "x", "y"]]
    joint = fit.score(known, by="sequence", draws=50)
    each = [
        fit.score(known.assign(y=label), by="sequence", draws=50)["log_density"] for label in ("up", "down")
    ]
    without = fit.score(known[["id", "x"]], by="sequence", draws=50)["log_density"]
    np.testing.assert_allclose(np.logaddexp(*each), without, rtol=1e-9)  # p(x) = Σ_y p(x, y)
    np.testing.assert_allclose(joint["log_probability"], joint["log_density"] - without, atol=1e-8)
    rows = fit.score(known, draws=50)
    each = rows["log_probability"].groupby(known["id"].to_numpy(), sort=False)
    np.testing.assert_allclose(each.first(), joint["log_probability"])
    assert (each.nunique() == 1).all()
    np.testing.assert_allclose(
        rows.groupby(known["id"], sort=False)["log_density"].sum(), joint["log_density"]
    )
    for by, expected in (("sequence", [30, 30]), ("step", [len(known), 30])):
        assert list(fit.score(known, by=by, summary=True)["rows"]) == expected


def test_evaluation_counts_each_sequence_once(fit, later):
    known = later.assign(y=later["true"].map({0: "up", 1: "down"}))[["id", "x", "y"]]
    found = fit.evaluate(known)
    label = known.groupby("id", sort=False)["y"].first().to_numpy()
    right = (fit.predict(known)["class"] == label).mean()
    assert found.loc["accuracy", "rows"] == 30
    assert found.loc["accuracy", "value"] == pytest.approx(right)


def test_priors_of_the_classes(fit, data):
    """Learned from the sequences, or given, and then the same in every draw."""
    counts = fit.params["start"][0].reshape(2, 3).sum(-1)
    labelled = data.groupby("id", sort=False)["y"].first().value_counts()
    assert float(counts.sum()) == pytest.approx(40)
    assert labelled["down"] - 1e-6 <= float(counts[0]) <= labelled["down"] + 5 + 1e-6
    for prior, expected in (("down=0.9,up=0.1", [0.9, 0.1]), ("uniform", [0.5, 0.5])):
        bound = ppl.HMM(states=3, topology="left-right", class_prior=prior).bind(fit.data.schema)
        start = bound.draw(fit.params, 4)["start"]["start"].reshape(4, 2, 3).sum(-1)
        torch.testing.assert_close(start, torch.tensor([expected] * 4, dtype=torch.float64))
        log_odds = np.diff(bound.by_sequence(fit.batch, bound.draw(fit.params, 1)))
        assert log_odds.shape == (40, 1)


@pytest.mark.filterwarnings("ignore:.*not in the data")
def test_samples_of_a_class(fit):
    found = fit.sample(6, sequences=25, given={"y": "down"}, seed=3)
    assert set(found["y"]) == {"down"}
    assert set(found["state"]) <= {0, 1, 2}
    with pytest.raises(UsageError, match="class of a sequence alone"):
        fit.sample(6, given={"x": 1.0})
    free = fit.sample(6, sequences=200, seed=3)
    assert (free.groupby("id")["y"].nunique() == 1).all()
    assert 0.1 < (free["y"] == "down").mean() < 0.45


def test_a_full_chain_a_class_classifies_by_transitions_alone():
    """Two classes with the same rows in another order: no mixture of rows could tell them apart."""
    rng, parts = np.random.default_rng(2), []
    for i in range(30):
        c = i % 2
        z = np.arange(12) % 2 if c else np.arange(12) // 6
        parts.append(pd.DataFrame({"id": i, "x": rng.normal(5.0 * z, 1.0), "y": "ab"[c]}))
    data = pd.concat(parts, ignore_index=True)
    fit = ppl.fit(ppl.HMM(states=2), data[data["id"] < 20], sequence="id", target="y", restarts=2)
    rows = ppl.read(data[data["id"] >= 20], schema=fit.data.schema)
    log_p = fit.bound.by_sequence(fit.bound.rows(rows), fit.bound.draw(fit.params, 5))
    assert (log_p.argmax(1).numpy() == fit.bound.label_of_sequences(rows)).all()


def test_states_are_shown_by_class(fit):
    glance = fit.bound.glance(fit)
    assert list(glance["y"]) == ["down"] * 3 + ["up"] * 3
    assert glance.loc[2, "stays"] == np.inf


@pytest.mark.slow
def test_a_run_comes_back(fit, later, tmp_path):
    fit.save(tmp_path / "run")
    pd.testing.assert_frame_equal(
        ppl.load(tmp_path / "run").predict(later[["id", "x"]]), fit.predict(later[["id", "x"]])
    )


def test_what_is_no_class_of_sequences_is_refused(data):
    mixed = data.assign(y=np.where(np.arange(len(data)) % 2, "up", "down"))[["id", "x", "y"]]
    with pytest.raises(DataError, match="several values in sequence s0; hmm classifies whole sequences"):
        ppl.fit(ppl.HMM(), mixed, sequence="id", target="y")
    with pytest.raises(DataError, match="one sequence has one class"):
        ppl.fit(ppl.HMM(), data[["x", "y"]], target="y")
    for prior in ("up=0.5", "up=0.5,down=0.6", "up=1,down=0", "up=a,down=b"):
        with pytest.raises(UsageError, match="class_prior must be empirical, uniform"):
            ppl.fit(ppl.HMM(class_prior=prior), data[["id", "x", "y"]], sequence="id", target="y")


def test_gradients_of_the_exact_density(fit):
    """Those that calibration moves draws by, with weights and zeros in the parameters."""
    from ppl_models.latent.unconstrained import ExactPosterior

    exact = ExactPosterior(fit.bound, fit.batch)
    torch.manual_seed(0)
    u = exact.space.point(fit.bound.draw(fit.params, 1))
    _, slope = exact(u)
    for i in (0, 3, exact.dimension - 1):
        step = torch.zeros_like(u)
        step[0, i] = 1e-5
        up, down = exact(u + step)[0], exact(u - step)[0]
        assert float(slope[0, i]) == pytest.approx(float((up - down)[0] / 2e-5), rel=1e-4, abs=1e-4)
