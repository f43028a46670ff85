"""Narrow states, names of states, and whether the prior or the data speaks."""

import numpy as np
import pytest
import torch

import ppl_models as ppl


def two(rows, ratio, share, columns, seed):
    """Two clusters with sd 1 whose means are `ratio` apart."""
    rng = np.random.default_rng(seed)
    z = rng.random(rows) < share
    return ratio * z[:, None] + rng.normal(size=(rows, columns))


@pytest.mark.parametrize(("ratio", "share", "columns"), [(1e2, 0.5, 1), (1e4, 0.05, 2), (1e6, 0.5, 1)])
def test_narrow_states_are_as_wide_as_they_are(ratio, share, columns):
    """Held out no worse than maximum likelihood, by scikit-learn on standardised rows."""
    from sklearn.mixture import GaussianMixture

    x, test = two(300, ratio, share, columns, 1), two(1_000, ratio, share, columns, 2)
    fit = ppl.fit(ppl.GMM(components=2), x, restarts=2)
    ours = fit.score(test)["log_density"].mean()
    z, t = ((v - x.mean(0)) / x.std(0) for v in (x, test))
    theirs = GaussianMixture(2, n_init=3, reg_covar=1e-18, random_state=0).fit(z).score(t)
    assert ours > theirs - np.log(x.std(0)).sum() - 0.02
    assert fit.status == "converged"


def test_rounded_values_are_not_narrower_than_their_step():
    """Half of the rows are equal in one column, as where a scale was read to whole units."""
    rng = np.random.default_rng(0)
    x = np.c_[np.where(np.arange(200) % 2, 7.0, np.round(rng.normal(size=200) * 3)), rng.normal(size=200)]
    fit = ppl.fit(ppl.GMM(components=2), x, restarts=2)
    assert sds(fit)[:, 0].min() > 0.03
    assert fit.bound.schema.columns[0].resolution == 1.0


def test_a_strong_prior_is_said():
    x = two(80, 50.0, 0.5, 1, 0)
    fit = ppl.fit(ppl.GMM(components=2, state_variance=0.5), x, restarts=2)
    (found,) = [check for check in fit.report.checks if check.name == "prior"]
    assert found.level == "warn"
    assert "the sd of x0 in component" in found.reason
    assert not [c for c in ppl.fit(ppl.GMM(components=2), x, restarts=2).report.checks if c.name == "prior"]


# Where a jump that was thrown away began the count of quiet steps anew these ran on to the last step.
@pytest.mark.parametrize(
    "seed", [13, 18, 23, 31, 34, *(pytest.param(i, marks=pytest.mark.slow) for i in range(13))]
)
def test_a_fit_ends_where_nothing_but_rounding_is_left(seed):
    rng = np.random.default_rng(seed)
    x = 10 * rng.integers(2, size=400)[:, None] + rng.normal(size=(400, 2))
    fit = ppl.fit(ppl.HMM(states=2), x, restarts=2, steps=60)
    assert fit.status == "converged"


def calm_and_wild(seed):
    rng = np.random.default_rng(seed)
    z = (np.arange(600) // 60) % 2
    return rng.normal(size=(600, 1)) * np.where(z, 5.0, 1.0)[:, None]


def sds(fit):
    """Of each state and column, over draws of the guide."""
    (e,), S = fit.bound.emissions, fit.params["gaussian"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return e.user(e.draw(S.expand(200, *S.shape[1:])))["sd"][0].mean(0).numpy()


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_regimes_of_one_mean_are_numbered_by_their_sd(seed):
    x = calm_and_wild(seed)
    found = sds(ppl.fit(ppl.HMM(states=2), x, restarts=2))
    np.testing.assert_allclose(found.ravel(), [1.0, 5.0], rtol=0.3)


def test_order_by():
    rng = np.random.default_rng(0)
    z = rng.random(300) < 0.2
    centres = np.c_[np.where(z, 0.0, 10.0), np.where(z, 5.0, -5.0)]
    x = centres + rng.normal(size=(300, 2)) * np.where(z, 3, 1)[:, None]
    first = {}
    for by in ("auto", "mean", "sd", "share", "x1"):
        fit = ppl.fit(ppl.GMM(components=2, covariance="diag", order_by=by), x, restarts=1)
        e, S = fit.bound.emissions[0], fit.params["gaussian"][0, 0, 0]  # of the first column in the first
        first[by] = float(e.centre[0] + e.scale[0] * S[1] / S[0]) < 5
    assert first == {"auto": True, "mean": True, "sd": False, "share": False, "x1": False}
    with pytest.raises(ppl.UsageError, match="order_by must be auto, mean, sd, share or a column"):
        ppl.fit(ppl.GMM(order_by="nothing"), x)


@pytest.mark.slow
def test_states_without_rows_do_not_move_the_others():
    """Two states at 0 and 10 among four: they are the first two, and stay where they are."""
    x = np.where((np.arange(240) // 20) % 2, 10.0, 0.0)[:, None]
    x = x + np.random.default_rng(0).normal(size=x.shape)
    fit = ppl.fit(ppl.HMM(states=4), x, restarts=4)
    rows = fit.bound.occupied(fit.params).numpy()
    there = rows >= 1
    assert (np.diff(there.astype(int)) <= 0).all()
    means = fit.posterior["posterior"]["mean"].mean(("chain", "draw")).values.ravel()[there]
    assert (np.minimum(abs(means), abs(means - 10)) < 1.0).all()


def test_transitions_of_many_states_weigh_no_more_than_a_few():
    rows = ppl.read(np.zeros((4, 1)) + np.arange(4)[:, None])
    for states, each in ((3, 1.0), (6, 1.0), (24, 0.25)):
        joint = ppl.HMM(states=states).bind(rows.schema)
        (found,) = {float(v) for v in joint.factors["transition"].concentration.flatten()}
        assert found == each


def chords(seed, rows=700, states=24):
    """A chain of binary columns, three of which sound in each state, to one of three others in turn."""
    world, rng = np.random.default_rng(5), np.random.default_rng(seed)
    after = np.array([world.choice(states, 3, replace=False) for _ in range(states)])
    sounds = np.array([np.isin(np.arange(20), world.choice(20, 3, replace=False)) for _ in range(states)])
    z = [0]
    for _ in range(rows - 1):
        z.append(int(rng.choice(after[z[-1]])))
    return (rng.random((rows, 20)) < np.where(sounds[z], 0.9, 0.02)).astype(int)


@pytest.mark.slow
def test_many_states_of_labels_are_not_drawn_together():
    names = [f"n{i}" for i in range(22)]
    x, test = (
        dict(zip(names, np.c_[chords(seed), np.zeros((700, 2), int)].T, strict=True)) for seed in (1, 2)
    )
    kinds = dict.fromkeys(names, "binary")
    weak, strong = (
        ppl.fit(ppl.HMM(states=24, transition_concentration=each), x, types=kinds, restarts=2)
        for each in (None, 1.0)
    )
    ours, theirs = (fit.score(test)["log_density"].sum() / 700 for fit in (weak, strong))
    assert ours > theirs + 0.1
