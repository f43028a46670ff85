"""Forecasts from points of the past, against closed forms and by hand."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats as ss

import ppl_models as ppl
from ppl_models.crps import crps
from ppl_models.errors import DataError, Unsupported, UsageError


@pytest.fixture(scope="module")
def noise():
    """Numbers that nothing is known of but a normal distribution, and a label of two; two sequences."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "who": np.repeat(["a", "b"], [150, 20]),
            "x": rng.normal(3, 2, 170),
            "mark": rng.choice(["u", "v"], 170),
        }
    )
    return ppl.fit(ppl.HMM(states=1), table, sequence="who"), table


def test_the_crps_of_draws_is_that_of_the_normal():
    """σ (z (2Φ(z) − 1) + 2φ(z) − 1/√π), Gneiting & Raftery (2007)."""
    drawn = ss.norm.ppf((np.arange(20_000) + 0.5) / 20_000, 1, 2)
    for x in (-3.0, 1.0, 4.5):
        z = (x - 1) / 2
        exact = 2 * (z * (2 * ss.norm.cdf(z) - 1) + 2 * ss.norm.pdf(z) - np.pi**-0.5)
        assert abs(crps(drawn, x) - exact) < 1e-3


def test_forecasts_of_noise_are_as_good_as_its_distribution(noise):
    """Without refitting: the CRPS of the known normal for the cells that came, and its coverage."""
    fit, table = noise
    found = fit.backtest(folds=5, steps=20, refit=False).set_index("column")
    came = table["x"].to_numpy()[50:150]
    z = (came - 3) / 2
    exact = 2 * (z * (2 * ss.norm.cdf(z) - 1) + 2 * ss.norm.pdf(z) - np.pi**-0.5)
    assert found.loc["x", "rows"] == 100
    assert abs(found.loc["x", "crps"] - exact.mean()) < 0.05
    assert abs(found.loc["x", "rmse"] - np.sqrt(((came - 3) ** 2).mean())) < 0.05
    inside = np.abs(z) < ss.norm.ppf(0.95)
    assert abs(found.loc["x", "coverage_90"] - inside.mean()) < 0.04
    last = np.repeat(table["x"].to_numpy()[49:149:20], 20)
    np.testing.assert_allclose(found.loc["x", "mae_last"], np.abs(came - last).mean())
    assert abs(found.loc["mark", "brier"] - 0.5) < 0.05
    assert abs(found.loc["mark", "log_loss"] - np.log(2)) < 0.05


def test_each_fold_is_learned_from_the_rows_before_it_alone(noise, monkeypatch):
    from ppl_models import engine

    fit, table = noise
    seen, fitted = [], engine.fitted
    monkeypatch.setattr(engine, "fitted", lambda m, d, s: (seen.append(d), fitted(m, d, s))[1])
    found = fit.backtest(folds=3, steps=10, by="fold")
    assert [d.lengths.tolist() for d in seen] == [[120, 20], [130, 20], [140, 20]]
    for d in seen:
        np.testing.assert_array_equal(d.sequence(0)[:, 0], table["x"][: len(d.sequence(0))])
    assert found["fold"].tolist() == [0, 0, 1, 1, 2, 2]
    assert "1 of 2 sequences are too short" in found.attrs["notes"][0]
    by_step = fit.backtest(folds=3, steps=4, by="step", refit=False)
    assert by_step["step"].tolist() == [1, 2, 3, 4] * 2
    assert (by_step["rows"] == 6).all()  # of both sequences


def test_new_data_is_forecast_by_the_fit_as_it_is(noise, monkeypatch):
    from ppl_models import engine

    fit, table = noise
    monkeypatch.setattr(engine, "fitted", lambda *_: pytest.fail("fitted again"))
    fit.backtest(table[table["who"] == "a"], folds=2, steps=5)


def test_what_cannot_be_is_refused(noise):
    fit, _ = noise
    with pytest.raises(DataError, match="need sequences of 202 rows, and the longest has 150"):
        fit.backtest(folds=10, steps=20)
    with pytest.raises(UsageError, match="by must be"):
        fit.backtest(by="row")
    with pytest.raises(UsageError, match="steps must be"):
        fit.backtest(steps=0)
    with pytest.raises(Unsupported, match="gmm has no backtest; hmm, rnn"):
        ppl.fit(ppl.GMM(components=1), np.zeros((20, 1))).backtest()


@pytest.mark.slow
def test_intervals_cover_on_twenty_series():
    """Two regimes; 90 % intervals, one fold of ten steps each, which hang together: by series."""
    shares = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        z = np.cumsum(rng.random(300) < 0.1) % 2
        fit = ppl.fit(ppl.HMM(states=2), rng.normal(4.0 * z)[:, None], restarts=2)
        shares.append(fit.backtest(folds=3, steps=10, refit=False)["coverage_90"][0])
    assert abs(np.mean(shares) - 0.9) < 3 * np.std(shares) / 20**0.5
