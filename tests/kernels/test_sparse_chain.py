"""A chain with impossible transitions against enumeration of the paths that there are."""

import itertools

import numpy as np
import pytest
import torch

from ppl_models.errors import DataError
from ppl_models.kernels.chain import MarkovChain
from ppl_models.kernels.rows import whole
from ppl_models.kernels.sparse_chain import SparseChain
from ppl_models.kernels.workspace import Workspace

LENGTHS = np.array([4, 1, 3, 5])
ALLOWED = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1]], dtype=bool)
BEGINS = np.array([True, True, False])
NEVER = -1e30


@pytest.fixture
def given():
    rng = np.random.default_rng(3)
    log_b = torch.from_numpy(rng.normal(scale=2.0, size=(2, LENGTHS.sum(), 3)))
    log_b[:, 2, 0] = NEVER  # as a label that a state cannot have
    start = torch.where(torch.from_numpy(BEGINS), torch.from_numpy(rng.normal(size=(2, 3))), NEVER)
    A = torch.where(torch.from_numpy(ALLOWED), torch.from_numpy(rng.normal(size=(2, 3, 3))), NEVER)
    return log_b, {"start": start, "transition": A}


def density(log_b):
    return lambda at, out: out.copy_(log_b[:, at])


def enumerated(log_b, natural, r):
    """Log evidence, γ, starts, transitions, filtered, of all paths one by one."""
    evidence, gamma, start, pairs = 0.0, [], np.zeros(3), np.zeros((3, 3))
    for lo, hi in itertools.pairwise(np.concatenate([[0], LENGTHS.cumsum()])):
        paths = list(itertools.product(range(3), repeat=hi - lo))
        logs = []
        for z in paths:
            value = natural["start"][r, z[0]] + sum(log_b[r, lo + t, k] for t, k in enumerate(z))
            logs.append(float(value + sum(natural["transition"][r, i, j] for i, j in itertools.pairwise(z))))
        logs = np.array(logs)
        total = np.logaddexp.reduce(logs)
        p, own = np.exp(logs - total), np.zeros((hi - lo, 3))
        for z, share in zip(paths, p, strict=True):
            own[np.arange(hi - lo), z] += share
            start[z[0]] += share
            for i, j in itertools.pairwise(z):
                pairs[i, j] += share
        evidence += total
        gamma.append(own)
    return evidence, np.concatenate(gamma), start, pairs


def test_expectations_are_those_of_all_paths(given):
    log_b, natural = given
    chain, gamma = SparseChain(ALLOWED), torch.empty(2, LENGTHS.sum(), 3).double()
    evidence, own = chain.expect(
        density(log_b), natural, whole(LENGTHS), lambda at, g: gamma[:, at].copy_(g), Workspace()
    )
    for r in range(2):
        expected = enumerated(log_b, natural, r)
        found = evidence[r], gamma[r], own["start"][r], own["transition"][r]
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(np.asarray(a), b, atol=1e-12)
    assert (own["transition"][:, ~torch.from_numpy(ALLOWED)] == 0).all()
    assert (own["start"][:, 2] == 0).all()


def test_the_dense_chain_says_the_same(given):
    log_b, natural = given
    sparse, dense, rows = SparseChain(ALLOWED), MarkovChain(), whole(LENGTHS)
    for a, b in zip(
        sparse.marginals(density(log_b), natural, rows),
        dense.marginals(density(log_b), natural, rows),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    for a, b in zip(
        sparse.log_predictive(density(log_b), natural, rows),
        dense.log_predictive(density(log_b), natural, rows),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_drawn_and_best_paths_are_possible_and_as_often_as_they_should_be(given):
    log_b, natural = given
    many = {name: value[:1].expand(2000, *value.shape[1:]) for name, value in natural.items()}
    torch.manual_seed(0)
    rows, chain = whole(LENGTHS), SparseChain(ALLOWED)
    path = chain.draw_paths(density(log_b[:1].expand(2000, -1, -1)), many, rows)
    inner = np.setdiff1d(np.arange(LENGTHS.sum() - 1), LENGTHS.cumsum() - 1)
    for z in (path, chain.path(density(log_b), natural, rows)):
        assert ALLOWED[z[:, inner], z[:, inner + 1]].all()
        assert BEGINS[z[:, np.concatenate([[0], LENGTHS.cumsum()[:-1]])]].all()
    share = torch.nn.functional.one_hot(path, 3).double().mean(0)
    expected = chain.marginals(density(log_b), natural, rows).smoothed[0]
    assert (share - expected).abs().max() < 5 * 0.5 / 2000**0.5


def test_a_row_that_no_path_reaches_is_named(given):
    log_b, natural = given
    log_b = log_b.clone()
    log_b[:, 5:7, :2] = NEVER  # the third sequence begins in the state that none may begin in
    with pytest.raises(DataError, match="row 6 has probability zero"):
        SparseChain(ALLOWED).log_predictive(density(log_b), natural, whole(LENGTHS))
