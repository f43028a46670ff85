"""Weights that are not counts add no information to a regression."""

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_models as ppl
from ppl_models.data import read
from ppl_models.models.logistic.model import Logistic
from ppl_models.regression.fitting import fit_regression
from ppl_models.regression.rows import class_weights


def spread(model, X, y, **options):
    """Mean and sd of the coefficients in the user's units."""
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])]).assign(y=np.where(y, "b", "a"))
    data = read(frame, target="y", **options)
    bound = model.bind(data.schema)
    result = fit_regression(bound, data)
    torch.manual_seed(0)
    beta = bound.user(bound.draw(result.params, 1_000))[1][:, :, 0]
    return beta.mean(0), beta.std(0), result


def rare(n, seed, a=-5.6, b=0.5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 1))
    return X, rng.random(n) < 1 / (1 + np.exp(-(a + b * X[:, 0])))


def test_balanced_classes_know_what_a_case_control_study_knows():
    X, y = rare(40_000, 0, a=-8.0, b=0.0)
    events = int(y.sum())
    assert 8 <= events <= 20
    _, sd, result = spread(Logistic(class_weight="balanced"), X, y)
    assert sd[0] == pytest.approx(1 / np.sqrt(events), rel=0.25)  # controls without end, sd(x) = 1, no effect
    size = 4 / (1 / events + 1 / (len(y) - events))
    assert f"{size:,.1f} rows of equal weight" in result.notes[-1]
    assert class_weights(np.array([events, len(y) - events])) @ [events, len(y) - events] == pytest.approx(
        size
    )


def test_the_spread_is_that_of_the_sandwich():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(4_000, 2))
    y = rng.random(4_000) < 1 / (1 + np.exp(-X @ [0.8, -0.5]))
    w = np.exp(1.0 * X[:, 0]) / 7  # of a sample that took few of those with a large x0
    _, sd, _ = spread(Logistic(), X, y, weights=w)
    Z = np.column_stack([np.ones(len(X)), X])
    beta = np.zeros(3)
    for _ in range(30):
        p = 1 / (1 + np.exp(-Z @ beta))
        H = (Z * (w * p * (1 - p))[:, None]).T @ Z
        beta += np.linalg.solve(H, Z.T @ (w * (y - p)))
    score = Z * (w * (y - p))[:, None]
    sandwich = np.linalg.inv(H) @ score.T @ score @ np.linalg.inv(H)
    np.testing.assert_allclose(sd, np.sqrt(sandwich.diagonal())[1:], rtol=0.12)
    np.testing.assert_allclose(spread(Logistic(), X, y, weights=1e-6 * w)[1], sd, rtol=1e-3)


def test_a_run_keeps_how_its_likelihood_was_adjusted(tmp_path):
    X, y = rare(400, 1, a=-1.5)
    frame = pd.DataFrame({"x": X[:, 0], "y": y, "w": np.random.default_rng(0).random(400)})
    fit = ppl.fit(Logistic(), frame, target="y", weights="w")
    again = ppl.load(fit.save(tmp_path / "run"))
    pd.testing.assert_frame_equal(again.summary(), fit.summary())
    assert again.report.verdict == fit.report.verdict == "trusted"
    np.testing.assert_allclose(again.data.frame()["w"], frame.w)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["rare class", "sampled by x", "sampled by y", "sum to one"])
def test_intervals_cover(case):
    beta, a, hits = np.array([0.8, -0.5]), -0.5, []
    for seed in range(250):
        rng = np.random.default_rng(seed)
        if case == "rare class":
            X, y = rare(3_000, seed)
            if y.sum() < 6:
                continue
            mean, sd, _ = spread(Logistic(class_weight="balanced"), X, y)
            hits.append(np.abs(mean - 0.5) < 1.598 * sd)
            continue
        X = rng.normal(size=(4_000, 2))
        y = rng.random(4_000) < 1 / (1 + np.exp(-(a + X @ beta)))
        chance = {
            "sampled by x": 1 / (1 + np.exp(2 + X[:, 0])),
            "sampled by y": np.where(y, 0.2, 0.04),
            "sum to one": rng.uniform(0.01, 0.2, 4_000),
        }[case]
        some = rng.random(4_000) < chance
        w = 1 / chance[some]
        mean, sd, _ = spread(Logistic(), X[some], y[some], weights=w / w.sum() if case == "sum to one" else w)
        hits.append(np.abs(mean - beta) < 1.598 * sd)
    assert 0.84 <= np.mean(hits) <= 0.94
