"""Checks that the table of verdicts asked for: what they see, and that they are quiet where all is well."""

import numpy as np
import pytest
from validation import verdict_cases as cases

import ppl_models as ppl
from ppl_models import misfit
from ppl_models.data import read
from ppl_models.data.copies import copied_sequences, copies


def said(fit, name: str) -> str:
    """The reason of a check that did not pass; "" if there is none."""
    return next((c.reason for c in fit.check().checks if c.name == name and c.level != "ok"), "")


def test_columns_that_hang_together_are_named():
    fit = cases.gmm_correlated()
    assert "it and 'a' correlate by 0.9" in said(fit, misfit.NAME)
    assert "--covariance=full" in said(fit, misfit.NAME)
    full = ppl.fit(ppl.GMM(components=1), fit.data)
    assert not said(full, misfit.NAME)


def test_what_follows_a_predictor_is_named():
    assert "its spread changes with 'x'" in said(cases.glm_spread(), misfit.NAME)
    assert "its mean bends with 'x'" in said(cases.glm_bent(), misfit.NAME)
    assert "a group that is left out" in said(cases.glm_no_groups(), misfit.NAME)


def test_a_right_model_is_rarely_blamed_for_what_follows_a_predictor():
    """Under the null all tables are alike: one in S + 1 is the furthest out."""
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=60), "b": np.repeat(np.arange(6.0), 10)}
    alarms = 0
    for _ in range(150):
        tables = rng.normal(size=(101, 60))
        alarms += bool(misfit.replicated({"y": tables[0]}, {"y": tables[1:]}, x))
    assert alarms <= 7  # 1.5 are due


def test_copies_are_told_from_numbers_that_are_rounded():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=200), rng.normal(size=200)
    assert copies(read({"x": x, "y": y})) == 0
    assert copies(read({"x": np.tile(x, 2), "y": np.tile(y, 2)})) == 200
    assert copies(read({"x": np.tile(x, 2), "y": np.concatenate([y, -y])})) == 0  # alike in one column alone
    assert copies(read({"x": x.round(1)})) == 0
    assert copies(read({"x": x.round(1), "y": y.round(1)})) == 0
    assert copies(read({"x": np.where(x < 0, 0.0, x)})) == 0  # a value that many rows have
    assert copies(read({"n": rng.poisson(3.0, 200)})) == 0
    assert "570 of 600 rows are exact copies" in said(cases.glm_duplicated(), "copies")


def test_copies_of_sequences_are_told_from_sequences_that_come_again():
    rng = np.random.default_rng(2)

    def table(x, **more):
        rows = x.shape[0] * x.shape[1]
        return read({"x": x.ravel(), "s": np.arange(rows) // x.shape[1], **more}, sequence="s")

    x = rng.normal(size=(15, 8))
    assert copied_sequences(table(x)) == 0
    assert copied_sequences(table(np.tile(x, (4, 1)))) == 45
    holed = np.where(rng.random(x.shape) < 0.1, np.nan, x)
    assert copied_sequences(table(np.tile(holed, (4, 1)))) == 45
    assert copied_sequences(table(np.tile(x, (4, 1)), y=rng.normal(size=480))) == 0  # alike in one column
    assert copied_sequences(table(rng.normal(size=(400, 1)).round(1))) == 0  # sequences of one rounded row
    assert copied_sequences(table(rng.choice([1.0, 2.0], (60, 2)))) == 0
    fit = ppl.fit(
        ppl.HMM(states=1), {"x": np.tile(x, (4, 1)).ravel(), "s": np.arange(480) // 8}, sequence="s"
    )
    assert "45 of 60 sequences are exact copies" in said(fit, "copies")


@pytest.mark.slow
def test_a_mode_that_a_guide_missed_is_named():
    assert "1 further mode of some weight" in said(cases.modes_mean_field(), "modes")
    assert not said(cases.coin(), "modes")
    assert not said(ppl.fit(cases.Coin(), cases.FLIPS, guide="normal", steps=400), "modes")


@pytest.mark.slow
def test_chains_are_suggested_where_draws_are_not_trusted():
    fit = cases.guide_beside()
    assert "--method=nuts" in said(fit, "k-hat")


@pytest.mark.parametrize(
    ("name", "unchained", "advised"),
    [
        ("k-hat", "", True),
        ("R-hat", "", True),
        ("k-hat", "has 400 parameters", False),
        ("calibration", "", False),
    ],
)
def test_chains_are_suggested_where_there_are_some_and_they_would_help(name, unchained, advised):
    from types import SimpleNamespace

    from ppl_models.checks import Check, _advised

    fit = SimpleNamespace(
        bound=SimpleNamespace(unchained=lambda data: unchained), data=SimpleNamespace(rows=9)
    )
    failed = [Check("restarts agree", 1, "warn", "few"), Check(name, 1.0, "fail", "beside the posterior")]
    found = [*_advised(fit, [*failed, *failed])]
    assert [("--method=nuts" in each.reason) for each in found] == [False, advised, False, False]
