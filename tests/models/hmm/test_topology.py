"""Forbidden transitions and a fixed start: exactly zero everywhere, and the evidence that of what is left."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

import ppl_models as ppl
from ppl_models.errors import UsageError
from ppl_models.latent.topology import placed, segments, topology


@pytest.fixture(scope="module")
def steps():
    """Sequences that climb through three levels."""
    rng = np.random.default_rng(0)
    parts = []
    for i in range(12):
        z = np.repeat(np.arange(3), rng.integers(2, 6, 3))
        parts.append(pd.DataFrame({"id": str(i), "x": rng.normal(4.0 * z, 1.0), "z": z}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def climbed(steps):
    return ppl.fit(ppl.HMM(states=3, topology="left-right"), steps[["id", "x"]], sequence="id", restarts=2)


def test_zeros_stay_zero_in_every_draw(climbed):
    post = climbed.posterior.posterior
    A, start = post["transition"].values, post["start"].values
    assert (A[..., [0, 1, 1, 2, 2], [2, 0, 2, 0, 1]].reshape(-1, 5)[:, [0, 1, 3, 4]] == 0).all()
    assert (A[..., 2, 2] == 1).all()
    assert (start == [1, 0, 0]).all()
    np.testing.assert_allclose(A.sum(-1), 1.0)


def test_states_are_found_in_their_order(climbed, steps):
    assert (climbed.predict()["state"] == steps["z"]).mean() > 0.93
    assert climbed.trained.status == "converged"


def test_density_is_that_of_all_paths_that_there_are(climbed):
    x = np.array([0.3, 4.2, 3.0, 8.1])
    draws = climbed.draws
    theta = climbed.bound.structure_theta(draws)
    one = ppl.read(pd.DataFrame({"id": "a", "x": x}), schema=climbed.data.schema)
    found = climbed.bound.log_evidence(climbed.bound.dataset_batch(one), draws)[:3]
    user = climbed.posterior.posterior
    for s in range(3):
        mean, sd = (user[name].values[0, s, :, 0] for name in ("mean", "sd"))
        A, total = theta["transition"][s].numpy(), 0.0
        for z in itertools.product(range(3), repeat=4):
            if z[0] == 0:
                p = np.prod([A[i, j] for i, j in itertools.pairwise(z)])
                total += p * np.prod(norm.pdf(x, mean[list(z)], sd[list(z)]))
        assert float(found[s]) == pytest.approx(np.log(total), abs=1e-9)


def test_hmmlearn_scores_the_same_chain_alike(climbed, steps):
    hmmlearn = pytest.importorskip("hmmlearn.hmm")
    post = climbed.posterior.posterior
    other = hmmlearn.GaussianHMM(3, covariance_type="diag")
    other.startprob_, other.transmat_ = (post[n].values[0, 0] for n in ("start", "transition"))
    other.means_, other.covars_ = post["mean"].values[0, 0], post["sd"].values[0, 0] ** 2
    expected = other.score(steps[["x"]], steps.groupby("id", sort=False).size().tolist())
    found = climbed.bound.log_evidence(climbed.batch, climbed.draws)[0]
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_forecasts_and_samples_go_no_other_way(climbed):
    ahead = climbed.forecast(3)
    assert (ahead["state_0"] == 0).all()  # every sequence has left it
    walk = climbed.sample(30, sequences=20, seed=2)
    for _, own in walk.groupby("id"):
        assert own["state"].iloc[0] == 0
        assert own["state"].diff().dropna().isin([0, 1]).all()


def test_forbidden_pairs_of_a_chain_that_is_otherwise_free():
    rng = np.random.default_rng(1)
    z = np.arange(240) // 8 % 3  # 0 → 1 → 2 → 0
    table = pd.DataFrame({"x": rng.normal(np.array([0.0, 9.0, 4.0])[z], 1.0)})
    fit = ppl.fit(ppl.HMM(states=3, forbid="0>2, 1>0, 2>1"), table, restarts=4)
    A = fit.bound.draw(fit.params, 20)["transition"]["transition"].numpy()
    assert (A[:, [0, 1, 2], [2, 0, 1]] == 0).all()
    found = fit.bound.structure.path(
        fit.bound.density(fit.batch, fit.bound.expected_natural(fit.params)),
        fit.bound.expected_natural(fit.params),
        fit.batch.rows,
    )[0].numpy()
    shift = (found[0] - z[0]) % 3  # the three names of the cycle are alike
    assert ((z + shift) % 3 == found).mean() > 0.97


def test_clusters_take_places_that_fit():
    allowed = topology(["0", "1", "2"], forbid="0>2,1>0,2>1")
    labels = np.repeat([0, 2, 1, 0], 5)
    found = placed(allowed, labels, np.array([0, 20]), np.random.default_rng(0))
    assert allowed.follows[found[:-1], found[1:]].all()


def test_sequences_are_cut_evenly():
    rng = np.random.default_rng(0)
    found = segments(3, np.array([6, 3]), np.array([0, 2]), rng, 0.0)
    assert found.tolist() == [0, 0, 1, 1, 2, 2, 6, 7, 8]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"forbid": "0>3"}, "forbid names the state '3'; there are 0, 1"),
        ({"forbid": "0>0,0>1"}, "forbid leaves nothing that may follow state 0"),
        ({"forbid": "01"}, "pairs of states such as 0>1"),
        ({"start": "last"}, "start names the state 'last'"),
        ({"width": 2}, "width is of --topology left-right or banded"),
        ({"topology": "banded", "order_by": "sd"}, "order_by is of states that are alike"),
        ({"class_prior": "uniform"}, "class_prior is of the classes of a target"),
    ],
)
def test_fields_that_cannot_be_meant(fields, message):
    if fields.get("topology") == "banded":
        fields = fields | {"states": 3}
    with pytest.raises(UsageError, match=message):
        ppl.fit(ppl.HMM(**fields), pd.DataFrame({"x": np.arange(6.0)}))


def test_pieces_of_sequences_are_refused(steps):
    with pytest.raises(UsageError, match="batch_size cuts sequences"):
        ppl.fit(ppl.HMM(start="first"), steps[["id", "x"]], sequence="id", batch_size=10)


def test_nothing_forbidden_is_the_plain_chain():
    table = pd.DataFrame({"x": np.random.default_rng(0).normal(size=40)})
    plain = ppl.fit(ppl.HMM(), table, restarts=2)
    wide = ppl.fit(ppl.HMM(topology="banded", width=1), table, restarts=2)
    assert plain.trained.elbo == wide.trained.elbo
    assert torch.equal(plain.params["transition"], wide.params["transition"])


# A file of forbidden transitions

SQUARE = ",calm,wild,storm\nwild,1,1,1\ncalm,1,1,0\n\nstorm,0,1,1\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("\ufeffFrom,To\ncalm,storm\n storm , calm\n", "calm>storm,storm>calm"),
        (SQUARE, "calm>storm,storm>calm"),
        ("1,1,0\n1,1,1\n0,1,1\n", "0>2,2>0"),
    ],
    ids=["pairs", "square", "numbers"],
)
def test_forbidden_transitions_come_from_a_file(tmp_path, text, found):
    """The model keeps the transitions and not the file, so that a run needs nothing beside it."""
    path = tmp_path / "forbidden.csv"
    path.write_text(text, encoding="utf-8")
    assert ppl.HMM(forbid=str(path)).forbid == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there are no transitions in it"),
        ("from,to\n", "there are no transitions in it"),
        ("from,to\na,b,c\n", "line 2: a pair is two states, from and to; got 'a,b,c'"),
        ('from,to\n"a,b",c\n', "line 2: the state 'a,b' has a comma or > in its name"),
        (",a,b\na,1,0\n", "line 1: .*got a, b above and a on the left"),
        (",a,b\na,1,x\nb,1,1\n", r"line 2: a to b must be 1 \(may follow\) or 0 \(may not\), got 'x'"),
        (",a,b\na,1\nb,1,1\n", "line 2: expected 2 cells for 'a', got 1"),
        (b"\xff\xfe\x00,", "a CSV file in UTF-8, which this is not"),
    ],
)
def test_bad_files_of_forbidden_transitions_are_refused(tmp_path, text, message):
    path = tmp_path / "forbidden.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ppl.DataError, match=message):
        ppl.HMM(forbid=str(path))
    with pytest.raises(ppl.DataError, match="there is no such file"):
        ppl.HMM(forbid=str(tmp_path / "none.csv"))
