"""States with names of their own, known of some rows."""

import numpy as np
import pandas as pd
import pytest

import ppl_models as ppl
from ppl_models.errors import DataError, UsageError
from ppl_models.latent import calibrate

NAMES = np.array(["wild", "calm", "storm"])


@pytest.fixture(scope="module")
def data():
    """Regimes, of which one row in ten is labelled; names are in another order than means and levels."""
    rng, parts = np.random.default_rng(0), []
    for i in range(4):
        z = [0]
        for _ in range(59):
            z.append(z[-1] if rng.random() < 0.9 else (z[-1] + 1) % 3)
        z = np.array(z)
        x = rng.normal(np.array([0.0, 0.0, 5.0])[z], np.array([4.0, 1.0, 1.0])[z])
        label = np.where(rng.random(60) < 0.1, NAMES[z], None)
        parts.append(pd.DataFrame({"id": str(i), "x": x, "regime": label, "true": NAMES[z]}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def fit(data):
    model = ppl.HMM(labels="regime", forbid="wild>storm")
    found = ppl.fit(model, data[["id", "x", "regime"]], sequence="id", restarts=2)
    with pytest.MonkeyPatch.context() as patch:  # draws of linear response will do
        patch.setattr(calibrate, "RULE_WORK", 0)
        patch.setattr(calibrate, "MOVE_WORK", 0)
        assert found.draws
    return found


def test_states_have_their_names_everywhere(fit, data):
    assert (fit.posterior.posterior["state"].values == sorted(NAMES)).all()
    found = fit.predict()
    assert {"smoothed_calm", "filtered_storm"} <= set(found.columns)
    assert {"state_calm", "state_storm", "state_wild"} <= set(fit.forecast(2).columns)
    assert {"state_calm", "state_storm", "state_wild"} <= set(fit.transform().columns)
    assert "transition[calm, storm]" in fit.summary().index
    assert set(fit.sample(50, seed=1)["state"]) <= set(NAMES)


def test_labels_are_certain_and_the_rest_is_inferred(fit, data):
    found = fit.predict()
    known = data["regime"].notna()
    assert (found["state"][known] == data["regime"][known]).all()
    own = found[known].apply(lambda row: row[f"smoothed_{row['state']}"], axis=1)
    np.testing.assert_allclose(own, 1.0)
    assert (found["state"] == data["true"])[~known].mean() > 0.9


def test_means_belong_to_the_names_in_every_draw(fit):
    mean = fit.posterior.posterior["mean"]
    assert float(mean.sel(state="storm").min()) > 4.0
    assert float(abs(mean.sel(state="calm")).max()) < 1.5
    sd = fit.posterior.posterior["sd"]
    assert (sd.sel(state="wild").values > sd.sel(state="calm").values).all()


def test_what_is_forbidden_by_name_is_zero(fit):
    A = fit.posterior.posterior["transition"].sel(state="wild", state_to="storm")
    assert float(abs(A).max()) == 0.0


@pytest.mark.slow
def test_later_rows_may_do_without_labels_or_have_some(fit, data):
    free = fit.predict(data[["id", "x"]])
    assert (free["state"] == data["true"]).mean() > 0.85
    given = data[["id", "x"]].assign(regime=np.where(data.index == 5, "storm", None))
    assert fit.predict(given)["state"][5] == "storm"


@pytest.mark.slow
def test_states_beyond_the_names(data):
    """Rows of `storm` are never labelled: a third state without a name takes them."""
    some = data.assign(regime=data["regime"].where(data["regime"] != "storm"))
    fit = ppl.fit(ppl.HMM(states=3, labels="regime"), some[["id", "x", "regime"]], sequence="id", restarts=2)
    natural = fit.bound.expected_natural(fit.params)
    path = fit.bound.structure.path(fit.bound.density(fit.batch, natural), natural, fit.batch.rows)[0]
    assert fit.bound.names() == ["calm", "wild", "unnamed_2"]
    assert ((path == 2).numpy() == (data["true"] == "storm")).mean() > 0.9
    drawn = fit.bound.sample_sequences(1, 60, fit.bound.draw(fit.params, 1))
    assert (np.isnan(drawn.values[:, 1]) == (drawn.beside["state"] == "unnamed_2")).all()


def test_labels_that_cannot_follow_one_another_are_refused(data):
    some = data[["id", "x", "regime"]].copy()
    some.loc[3:6, "regime"] = ["wild", None, "storm", None]
    with pytest.raises(DataError, match="row 6 is 'storm' in 'regime', which topology"):
        ppl.fit(ppl.HMM(labels="regime", forbid="wild>storm,wild>calm"), some, sequence="id")
    with pytest.raises(UsageError, match="give one of them"):
        ppl.fit(ppl.HMM(labels="regime"), some, sequence="id", target="regime")
