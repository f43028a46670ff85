"""Entries in one word."""

import pytest
from sklearn.ensemble import RandomForestClassifier

import ppl_models as ppl
from ppl_models.comparison.entries import OnFeatures, OnRows
from ppl_models.comparison.words import parsed


def entry(word):
    ((_, found),) = parsed(word)
    return found


def test_models_with_fields_and_settings():
    found = entry("gmm:components=3,covariance=diag,restarts=2")
    assert found.model == ppl.GMM(components=3, covariance="diag")
    assert found.settings == {"restarts": 2}
    assert entry("mlp:hidden=50/20").model.hidden == (50, 20)


def test_estimators():
    found = entry("sklearn:RandomForestClassifier:n_estimators=7,max_depth=none")
    assert isinstance(found.estimator, RandomForestClassifier)
    assert found.estimator.n_estimators == 7


def test_one_helped_by_another():
    found = entry("logistic:prior_scale=1+gmm:components=4")
    assert isinstance(found, OnFeatures)
    assert found.first.model == ppl.Logistic(prior_scale=1.0)
    assert found.second.model.components == 4
    found = entry("sklearn:GaussianNB@gmm:components=1,rows=20,balance=true")
    assert isinstance(found, OnRows)
    assert (found.rows, found.balance) == (20, True)


def test_a_file_of_models(tmp_path):
    path = tmp_path / "models.toml"
    path.write_text(
        '[models.small]\nmodel = "gmm"\ncomponents = 1\n[models.nets]\nmodel = "mlp"\nhidden = [8, 8]\n'
    )
    (small, first), (nets, second) = parsed(str(path))
    assert (small, nets) == ("small", "nets")
    assert first.model == ppl.GMM(components=1)
    assert second.model.hidden == (8, 8)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("gnm", "did you mean gmm"),
        ("gmm:component=3", "has no option 'component'"),
        ("gmm:components", "not of the form option=value"),
        ("gmm:covariance=round", "covariance=round cannot be meant"),
        ("sklearn:os", "not among the estimators"),
        ("sklearn:GaussianNB:depth=1", "has no option 'depth'"),
        ("logistic@gmm:rows=0", "rows must be a whole number"),
        ("logistic+sklearn:GaussianNB", "must be a joint model"),
        (3, "3 is no model"),
    ],
)
def test_words_that_mean_nothing(word, said):
    with pytest.raises(ppl.UsageError, match=said):
        parsed(word)
