"""Figures of predictions against scikit-learn and by what they must add up to."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from ppl_models.comparison.figures import corp, of_classes


def predictions(C, n=200, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(C), n).round(2)
    p /= p.sum(1, keepdims=True)
    y = np.array([rng.choice(C, p=row) for row in p])
    return p, y


@pytest.mark.parametrize("C", [2, 4])
def test_corp_adds_up_to_the_brier_score(C):
    p, y = predictions(C)
    found = corp(p, y, np.ones(len(y)))
    assert min(found) >= 0
    score = found.miscalibration - found.discrimination + found.uncertainty
    assert score == pytest.approx(of_classes(p, y, np.ones(len(y)))["brier"], abs=1e-12)


def test_corp_by_isotonic_regression_with_ties():
    p, y = predictions(2)
    found = corp(p, y, np.ones(len(y)))
    better = IsotonicRegression().fit_transform(p[:, 1], y)
    assert found.miscalibration == pytest.approx(
        ((p[:, 1] - y) ** 2).mean() - ((better - y) ** 2).mean(), abs=1e-12
    )


def test_corp_of_probabilities_that_are_nearly_0():
    p = np.array([[1.0, 1e-300], [1.0, 1e-145], [1e-12, 1.0], [0.4, 0.6]])
    assert np.isfinite(corp(p, np.array([0, 0, 1, 1]), np.ones(4))).all()


def test_a_constant_prediction_is_only_uncertain():
    y = np.array([0, 1, 1, 1])
    found = corp(np.tile([0.25, 0.75], (4, 1)), y, np.ones(4))
    assert found == pytest.approx((0, 0, 0.1875))


def test_weights_are_as_rows_that_are_repeated():
    p, y = predictions(3, 60)
    w = np.random.default_rng(1).integers(1, 4, 60)
    again = np.repeat(np.arange(60), w)
    a = of_classes(p, y, w.astype(float))
    b = of_classes(p[again], y[again], np.ones(len(again)))
    assert a == pytest.approx(b)
    assert corp(p, y, w.astype(float)) == pytest.approx(corp(p[again], y[again], np.ones(len(again))))


def test_figures_are_those_of_scikit_learn():
    p, y = predictions(2)
    found = of_classes(p, y, np.ones(len(y)))
    assert found["log_loss"] == pytest.approx(log_loss(y, p), abs=1e-12)
    assert found["brier"] == pytest.approx(brier_score_loss(y, p[:, 1]), abs=1e-12)
    assert found["auc"] == pytest.approx(roc_auc_score(y, p[:, 1]), abs=1e-12)
    p, y = predictions(3)
    assert of_classes(p, y, np.ones(len(y)))["auc"] == pytest.approx(roc_auc_score(y, p, multi_class="ovr"))
