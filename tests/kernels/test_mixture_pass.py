"""The mixture's E step in tiles against plain torch, and against the emissions that it stands in for."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from ppl_models.errors import UsageError
from ppl_models.families.full_gaussian import FullGaussian
from ppl_models.families.normal_prior import NormalPrior
from ppl_models.kernels import mixture as fast
from ppl_models.kernels.workspace import Workspace


def pairs(z):
    """z and its products z_i z_j, i ≤ j."""
    i, j = np.triu_indices(z.shape[1])
    return np.concatenate([z, z[:, i] * z[:, j]], 1)


def plain(T, W, c, weight=None):
    """The formulas, by torch."""
    T, W, c = (torch.as_tensor(a, dtype=torch.float64) for a in (T, W, c))
    log_joint = torch.einsum("nf,rkf->rnk", T, W) + c[:, None]
    w = torch.ones(len(T), dtype=torch.float64) if weight is None else torch.as_tensor(weight)
    gamma = log_joint.softmax(-1)
    weighted = gamma * w[..., None]
    sums = torch.einsum("rnk,nf->rkf", weighted, T)
    return (log_joint.logsumexp(-1) * w).sum(-1), weighted.sum(1), sums, gamma


def same(found, wanted, rtol=1e-11, atol=1e-11):
    for name, a, b in zip(fast.Expected._fields, found, wanted, strict=True):
        if a is not None:
            largest = abs(b).max() if b.numel() else 0.0
            np.testing.assert_allclose(a, b.numpy(), rtol=rtol, atol=atol * largest, err_msg=name)


def problem(n, R, K, D, seed=0, spread=1.0):
    """Rows in odd units, and quadratic log densities with negative definite matrices."""
    rng = np.random.default_rng(seed)
    centre, scale = rng.normal(size=D) * 100, np.exp(rng.normal(size=D))
    z = rng.normal(size=(n, D)) * spread
    A = rng.normal(size=(R, K, D, D + 2)) / np.sqrt(D + 2)
    P, m = A @ A.swapaxes(-1, -2), rng.normal(size=(R, K, D))
    i, j = np.triu_indices(D)
    W = np.concatenate([(P @ m[..., None])[..., 0], -P[..., i, j] * np.where(i == j, 0.5, 1.0)], -1)
    return centre + scale * z, centre, scale, W, rng.normal(size=(R, K))


@pytest.mark.parametrize("R", [1, 3])
@pytest.mark.parametrize("K", [1, 2, 5, 6, 7, 13])
@pytest.mark.parametrize("D", [1, 2, 7, 8, 9, 16, 19])
def test_full(R, K, D):
    x, centre, scale, W, c = problem(701, R, K, D)
    weight = np.random.default_rng(1).integers(0, 3, 701) * 0.7
    found = fast.expect_full(x, centre, scale, W, c, weight, responsibilities=True)
    same(found, plain(pairs((x - centre) / scale), W, c, weight))


@pytest.mark.parametrize("R", [1, 4])
def test_weights_of_each_parameter_set(R, small_pieces):
    x, centre, scale, W, c = problem(3_001, R, 3, 5)
    T, weight = pairs((x - centre) / scale), np.random.default_rng(1).exponential(size=(R, 3_001))
    same(fast.expect_full(x, centre, scale, W, c, weight, responsibilities=True), plain(T, W, c, weight))
    made = fast.expect_features(lambda at: T[at], 3_001, W, c, weight)
    same(made, plain(T, W, c, weight)[:3] + (None,))


@pytest.mark.parametrize("n", [0, 1, 7, 8, 31, 32, 33, 257, 1_024])
def test_any_number_of_rows(n):
    x, centre, scale, W, c = problem(n, 2, 3, 9)
    T = pairs((x - centre) / scale)
    same(fast.expect_full(x, centre, scale, W, c, responsibilities=True), plain(T, W, c))
    assert fast.expect_full(x, centre, scale, W, c).responsibilities is None


@pytest.mark.parametrize("K", [1, 4])
@pytest.mark.parametrize("D", [1, 3, 8, 11])
def test_squares(K, D):
    x, centre, scale, W, c = problem(500, 2, K, 2 * D)
    x, centre, scale, W = x[:, :D], centre[:D], scale[:D], W[..., : 2 * D] * -(W[..., : 2 * D] ** 2)
    z = (x - centre) / scale
    same(fast.expect_squares(x, centre, scale, W, c), plain(np.concatenate([z, z**2], 1), W, c)[:3] + (None,))


@pytest.mark.parametrize("spread", [1e-6, 30.0, 1e4])
def test_badly_scaled(spread):
    """Log densities between which all but one component vanish, or none can be told from another."""
    x, centre, scale, W, c = problem(3_000, 2, 6, 5, spread=spread)
    T = pairs((x - centre) / scale)
    same(fast.expect_full(x, centre, scale, W, c, responsibilities=True), plain(T, W, c), 1e-9, 1e-10)


def test_dead_components_take_nothing():
    x, centre, scale, W, c = problem(200, 2, 5, 3)
    c[0, 1] = c[1, 4] = -np.inf
    c[0, 3], W[1, 0] = -1e6, 0.0
    found = fast.expect_full(x, centre, scale, W, c, responsibilities=True)
    same(found, plain(pairs((x - centre) / scale), W, c))
    assert found.count[0, 1] < 1e-290


def test_rows_that_nothing_allows():
    x, centre, scale, W, c = problem(50, 2, 3, 2)
    c[1] = -np.inf
    found = fast.expect_full(x, centre, scale, W, c, np.full(50, 0.1))
    assert found.evidence[1] == -np.inf
    np.testing.assert_allclose(found.evidence[0], plain(pairs((x - centre) / scale), W, c)[0][0] * 0.1)


def test_rows_of_weight_zero_are_not_there():
    x, centre, scale, W, c = problem(300, 1, 4, 3)
    weight = (np.arange(300) % 3 > 0).astype(float)
    some = fast.expect_full(x[weight > 0], centre, scale, W, c)
    same(fast.expect_full(x, centre, scale, W, c, weight), [torch.as_tensor(a) for a in some[:3]] + [None])


def test_large_evidence_is_exact():
    """The logarithm of sums, over their whole range: one component or a thousand alike."""
    for K in (1, 2, 3, 1_000):
        found = fast.expect_features(np.zeros((8, 1)), 8, np.zeros((1, K, 1)), np.full((1, K), -5.0))
        np.testing.assert_allclose(found.evidence, 8 * (np.log(K) - 5.0), rtol=3e-16)


@pytest.fixture
def small_pieces(monkeypatch):
    """Many pieces and reads, and two threads, on little data."""
    monkeypatch.setattr(fast, "PIECE", 100_000)
    monkeypatch.setattr(fast, "READ", 2_000)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_threads_change_nothing(small_pieces):
    x, centre, scale, W, c = problem(5_003, 2, 4, 5)
    two = fast.expect_full(x, centre, scale, W, c, responsibilities=True)
    same(two, plain(pairs((x - centre) / scale), W, c))
    torch.set_num_threads(1)
    one = fast.expect_full(x, centre, scale, W, c, responsibilities=True)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_features_by_pieces(small_pieces):
    x, centre, scale, W, c = problem(4_001, 1, 7, 6)
    T = pairs((x - centre) / scale)
    weight = np.linspace(0, 2, 4_001)
    asked = []

    def make(at):
        asked.append(at)
        return T[at]

    found = fast.expect_features(make, 4_001, W, c, weight, responsibilities=True)
    same(found, plain(T, W, c, weight))
    same(fast.expect_features(T, 4_001, W, c, weight, responsibilities=True), plain(T, W, c, weight))
    assert sorted(i for at in asked for i in range(at.start, at.stop)) == list(range(4_001))
    assert max(at.stop - at.start for at in asked) <= 256


def test_any_memory(small_pieces, tmp_path):
    """Mapped read-only from a file, not contiguous, or of another type; and compiled once for all of them."""
    from ppl_models.kernels import mixture_pass

    x, centre, scale, W, c = problem(3_001, 2, 3, 4)
    np.save(tmp_path / "x.npy", x)
    wanted = fast.expect_full(x, centre, scale, W, c, responsibilities=True)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    wide = np.repeat(x, 2, 1)[:, ::2]
    for values in (mapped, np.asfortranarray(x), wide):
        found = fast.expect_full(values, centre, scale, W, c, responsibilities=True)
        same(found, [torch.as_tensor(a) for a in wanted], 1e-13, 1e-13)
    narrow = fast.expect_full(x.astype(np.float32), centre, scale, W, c)
    exact = fast.expect_full(x.astype(np.float32).astype(float), centre, scale, W, c)
    np.testing.assert_array_equal(narrow.sums, exact.sums)
    assert len(mixture_pass.expect.signatures) == 1


@pytest.mark.parametrize("own", [True, False])
def test_errors_of_any_thread_come_out(small_pieces, own):
    here, asked = threading.get_ident(), []

    def make(at):
        time.sleep(0.005)
        if (threading.get_ident() == here) == own:
            time.sleep(0.02)
            raise OSError("the file is gone")
        asked.append(at)
        return np.zeros((at.stop - at.start, 2))

    with pytest.raises(OSError, match="the file is gone"):
        fast.expect_features(make, 100_000, np.zeros((1, 2, 2)), np.zeros((1, 2)))
    assert len(asked) < 40 or not own, "nothing new is begun after an error"


def test_the_full_gaussian():
    """Through the emission: W and c of its natural parameters, and its own statistics."""
    D, K = 4, 3
    x, centre, scale, _, _ = problem(400, 1, K, D)
    emission = FullGaussian(
        tuple(range(D)), K, torch.as_tensor(centre), torch.as_tensor(scale), NormalPrior(0.01, D + 2.0, 0.5)
    )
    features = emission.features(torch.as_tensor(x), Workspace(), "x")
    gamma = torch.rand(1, 400, K, dtype=torch.float64).softmax(-1)
    natural = emission.expected_natural(emission.statistics(features, gamma, torch.zeros(())))
    log_p = torch.empty(1, 400, K, dtype=torch.float64)
    emission.log_density(features, natural, log_p, False)
    W, c = emission.linear(natural, features.matrix.shape[1])
    found = fast.expect_full(x, centre, scale, W.numpy(), c.numpy())
    S = emission.statistics(features, log_p.softmax(-1), natural)
    collected = emission.collect(torch.as_tensor(found.sums), torch.as_tensor(found.count))
    torch.testing.assert_close(collected, S, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(
        torch.as_tensor(found.evidence), log_p.logsumexp(-1).sum(-1), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": np.zeros(3)}, "scale must have the shape"),
        ({"weights": np.zeros((1, 2, 4))}, "weights must have the shape"),
        ({"constant": np.zeros((1, 3))}, "weights must have the shape"),
        ({"weight": np.ones(9)}, "weight must have the shape"),
        ({"weights": np.zeros((0, 2, 5)), "constant": np.zeros((0, 2))}, "at least 1"),
    ],
)
def test_shapes_that_do_not_fit(change, message):
    x, centre, scale, W, c = problem(10, 1, 2, 2)
    given = {"centre": centre, "scale": scale, "weights": W, "constant": c} | change
    with pytest.raises(UsageError, match=message):
        fast.expect_full(x, **given)


def test_features_of_the_wrong_shape():
    with pytest.raises(UsageError, match="rows 0 to 10 must have the shape"):
        fast.expect_features(lambda at: np.zeros((3, 2)), 10, np.zeros((1, 2, 2)), np.zeros((1, 2)))


def test_numba_is_not_imported_early():
    code = "import sys, ppl_models.kernels.mixture; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
