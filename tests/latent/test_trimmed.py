"""Fits that leave out the least likely rows."""

import numpy as np
import pytest
import scipy.stats as ss
from fits import uncalibrated

import ppl_models as ppl
from ppl_models.errors import UsageError
from ppl_models.latent.trimmed import least_likely


@pytest.fixture(scope="module")
def spoilt():
    """Two groups of 150 rows, 24 of which were moved anywhere, and which."""
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(0, 1, (150, 2)), rng.normal(6, 1, (150, 2))]
    which = np.sort(rng.permutation(300)[:24])
    x[which] = rng.uniform(-40, 40, (24, 2))
    return x, which


@pytest.fixture(scope="module")
def robust(spoilt):
    return ppl.fit(ppl.GMM(components=2), spoilt[0], robust=0.09, restarts=2)


def test_groups_are_found_beside_outliers(spoilt, robust):
    means = np.sort(robust.summary().filter(regex=r"mean\[. x0|mean\[", axis=0)["mean"].to_numpy())
    np.testing.assert_allclose(means, [0, 0, 6, 6], atol=0.35)
    plain = uncalibrated(ppl.fit(ppl.GMM(components=2), spoilt[0], restarts=2))
    spread = plain.summary().filter(regex=r"^sd", axis=0)["mean"].max()
    assert spread > 10  # one component went to the outliers, and the groups share the other
    out = np.isnan(robust.learned_from.values).all(1)
    assert out.sum() == 27
    assert out[spoilt[1]].mean() > 0.85  # some were moved to where others are
    assert "left out 27 of 300 rows" in robust.notes[-1]


@pytest.mark.slow
def test_the_fit_is_that_of_the_rows_that_were_kept(robust):
    """The same posterior as of the kept rows alone: the means of both, within Monte Carlo error."""
    kept = robust.data.values[~np.isnan(robust.learned_from.values).all(1)]
    alone = ppl.fit(ppl.GMM(components=2), kept, restarts=2)
    both = robust.summary()["mean"], alone.summary()["mean"]
    np.testing.assert_allclose(both[0].filter(like="mean["), both[1].filter(like="mean["), atol=0.02)
    np.testing.assert_allclose(both[0].filter(like="sd["), both[1].filter(like="sd["), rtol=0.02)


@pytest.mark.slow
def test_a_run_comes_back_with_the_same_rows_left_out(robust, tmp_path):
    again = ppl.load(robust.save(tmp_path / "run"))
    np.testing.assert_array_equal(again.learned_from.values, robust.learned_from.values)
    assert again.summary().equals(robust.summary())
    assert again.settings.robust == 0.09


def test_what_is_left_out_is_the_least_likely_given_all_others():
    """Of a chain by brute force: log p(x) − log p(x without row t), for each t."""
    rng = np.random.default_rng(2)
    z = np.arange(60) // 15 % 2
    fit = ppl.fit(ppl.HMM(states=2), rng.normal(3.0 * z)[:, None], restarts=1)
    joint, params = fit.origin, fit.params
    natural = joint.expected_natural(params)

    def evidence(values):
        batch = joint.batch(values, fit.batch.rows.__class__(np.array([60])))
        return float(joint._log_evidence(batch, natural)[0])

    total, each = evidence(fit.data.values), []
    for t in range(60):
        values = np.array(fit.data.values)
        values[t] = np.nan
        each.append(total - evidence(values))
    worst = np.sort(np.argsort(each)[:6])
    found = np.flatnonzero(least_likely(joint, fit.data, params, 0.1))
    np.testing.assert_array_equal(found, worst)


def test_a_chain_is_found_beside_outliers():
    rng = np.random.default_rng(0)
    z = np.arange(200) // 20 % 2
    y = rng.normal(4 * z, 1.0)
    y[::20] = rng.uniform(-50, 50, 10)
    fit = uncalibrated(ppl.fit(ppl.HMM(states=2), y[:, None], robust=0.06, restarts=2))
    means = np.sort(fit.summary().filter(like="mean[", axis=0)["mean"].to_numpy())
    np.testing.assert_allclose(means, [0, 4], atol=0.3)


@pytest.mark.parametrize("share", [-0.1, 0.6, True, "much", float("nan")])
def test_a_share_that_cannot_be_meant_is_refused(share):
    with pytest.raises(UsageError, match="robust must be a share"):
        ppl.fit(ppl.GMM(), np.zeros((10, 1)), robust=share)


def test_kept_rows_without_spread_are_refused_in_a_line(monkeypatch):
    from ppl_models.latent import trimmed

    def broken(*_):
        raise trimmed.torch.linalg.LinAlgError("not positive definite")

    monkeypatch.setattr(trimmed.whole, "train", broken)
    with pytest.raises(ppl.DataError, match="without the least likely 0.1 of the rows") as refused:
        ppl.fit(ppl.GMM(), np.zeros((10, 1)), robust=0.1)
    assert "\n" not in str(refused.value)


def test_one_gaussian_is_near_the_truth_where_a_tenth_is_spoilt():
    """As the minimum covariance determinant of scikit-learn; the plain fit is far off."""
    from sklearn.covariance import MinCovDet

    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 2))
    x[:20] += 8
    fit = ppl.fit(ppl.GMM(components=1), x, robust=0.15)
    mean = fit.summary().filter(like="mean[", axis=0)["mean"].to_numpy()
    np.testing.assert_allclose(mean, MinCovDet(random_state=0).fit(x).location_, atol=0.15)
    assert np.linalg.norm(mean) < 0.2
    assert ss.norm.sf(np.linalg.norm(x.mean(0)) * 200**0.5) < 1e-6
