"""The E step in blocks where it is hardest: few rows, odd cuts, slow forgetting, extreme rows."""

import math

import pytest
import torch

from ppl_models.data import Schema
from ppl_models.families.gaussian import DiagonalGaussian
from ppl_models.families.normal_prior import NormalPrior
from ppl_models.kernels import backend, blocked_chain, blocks, choose
from ppl_models.kernels.rows import whole
from ppl_models.latent.joint import Joint
from ppl_models.latent.markov import Chain

R, K = 3, 3


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Blocks of a few rows, with passes enough for them to agree: every edge is met with little work."""
    monkeypatch.setattr(choose, "CHAIN", 1)
    monkeypatch.setattr(blocks, "LEAST", 1)
    monkeypatch.setattr(blocks, "PASSES", 100)
    monkeypatch.setattr(blocks, "THREADED", 0)


def some(*names):
    """Only these families, where all of them would say the same."""
    return pytest.mark.parametrize("family", names, indirect=True)


def problem(e, x, lengths):
    """A model of one emission and natural parameters of R guides."""
    joint = Joint(Chain(e.states, 1.0, 1.0, 0.0), (e,), Schema(()))
    labels = torch.randint(e.states, (R, len(x)))
    return joint, joint.expected_natural(
        joint.from_labels(joint.batch(x, whole(lengths), keep=False), labels)
    )


def plainly(joint, x, lengths, natural):
    return joint.local(joint.batch(x, whole(lengths), keep=False), natural)


def close(found, wanted):
    (evidence, S), (exact, T) = found, wanted
    torch.testing.assert_close(evidence, exact, rtol=1e-11, atol=1e-8)
    assert S.keys() == T.keys()
    for name, value in T.items():
        scale = max(1.0, float(value.abs().max()))
        torch.testing.assert_close(S[name], value, rtol=0, atol=1e-9 * scale)


def check(e, x, lengths):
    joint, natural = problem(e, x, lengths)
    batch = joint.batch(x, whole(lengths))
    evidence, S = batch.backend.expect_in_blocks(natural)  # no other way is taken
    close((evidence + batch.base, S), plainly(joint, x, lengths, natural))
    alone = batch.backend.evidence_in_blocks(natural)
    torch.testing.assert_close(alone, evidence, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("lengths", [[600, 1, 99], [1] * 40, [33], [200] * 3 + [1], [7, 1, 1, 2]])
def test_every_family(family, lengths):
    check(family.build(K), family.rows(sum(lengths), seed=1), lengths)


@pytest.mark.parametrize("lengths", [[600, 1, 99], [30, 1, 9]])
def test_missing_cells(column_family, lengths):
    check(column_family.build(K), column_family.rows(sum(lengths), seed=2, missing=0.3), lengths)


@some("diag", "poisson")
@pytest.mark.parametrize("n", [*range(8, 20), 63, 64, 65, 511, 512, 513])
def test_every_number_of_rows(family, n):
    check(family.build(2), family.rows(n, seed=n), [n])


@some("full", "poisson")
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("threads", [1, 3])
def test_chunks_groups_and_threads(family, groups, threads, keep, monkeypatch):
    monkeypatch.setattr(blocks, "LEAST", 16)  # chunks of 64 rows
    monkeypatch.setattr(blocked_chain, "BUDGET", 1)
    monkeypatch.setattr(blocks, "groups_for", lambda rows: groups)
    if not keep:
        for module in (backend, choose):
            monkeypatch.setattr(module, "CACHE", 0)
    lengths = [300, 1, 64, 63, 172]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        check(family.build(K), family.rows(600, seed=1), lengths)
    finally:
        torch.set_num_threads(before)


@some("diag", "bernoulli")
@pytest.mark.parametrize("passes", [1, 2, 4])
@pytest.mark.parametrize("stay", [0.9, 0.999, 1 - 1e-9])
def test_a_chain_that_hardly_forgets(family, stay, passes, monkeypatch):
    """Side by side, or handed to the plain recursion: never something in between."""
    monkeypatch.setattr(blocks, "PASSES", passes)
    A = torch.tensor([[stay, 1 - stay], [1 - stay, stay]], dtype=torch.float64)
    x, lengths = family.rows(1_500, seed=2), [1_400, 100]
    joint, natural = problem(family.build(2), x, lengths)
    natural["transition"] = A.log().expand(R, 2, 2).contiguous()
    close(joint.local(joint.batch(x, whole(lengths)), natural), plainly(joint, x, lengths, natural))


def normal(mean):
    one = torch.ones(1, dtype=torch.float64)
    e = DiagonalGaussian((0,), 2, 0 * one, one, NormalPrior(0.01, 3.0, 1.0))
    mean = torch.tensor([[[0.0], [mean]]], dtype=torch.float64)
    return e, e.natural({"mean": mean, "precision": torch.ones_like(mean)})


@pytest.mark.parametrize("drift", [0.3, 0.45, 0.6, 1.0])
@pytest.mark.parametrize("leave", [1e-4, 1e-7, 1e-10, 1e-13])
def test_small_messages_that_matter_later(drift, leave):
    """A message is as good as its smallest entry: the first row of a block may make up for it.

    All rows favour state 0 by `drift` nats, so that state 1 has a probability of about `leave`; then one
    row favours state 1 by as much as it takes.
    """
    n = 8 * 200
    e, natural = normal(1.0)  # log b_1 − log b_0 = x − 1/2
    A = torch.tensor([[1 - leave, leave], [leave, 1 - leave]], dtype=torch.float64)
    start = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    parameters = {"start": start.log(), "transition": A.log()[None], "gaussian": natural}
    joint = Joint(Chain(2, 1.0, 1.0, 0.0), (e,), Schema(()))
    for row in (200, 201, 400, 599, 797):
        x = torch.full((n, 1), 0.5 - drift, dtype=torch.float64)
        x[row] = 0.5 - 2 * math.log(leave)
        evidence, S = joint.local(joint.batch(x, whole([n])), parameters)
        exact, T = plainly(joint, x, [n], parameters)
        torch.testing.assert_close(evidence, exact, rtol=0, atol=1e-8)
        for name, value in T.items():
            torch.testing.assert_close(S[name], value, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("spread", [30.0, 1e4])
def test_extreme_densities(spread):
    x = torch.randn(500, 1, dtype=torch.float64) * spread
    e, natural = normal(3.0)
    joint, parameters = problem(e, x, [500])
    parameters["gaussian"] = natural.expand(R, *natural.shape[1:]).contiguous()
    close(joint.local(joint.batch(x, whole([500])), parameters), plainly(joint, x, [500], parameters))


def test_evidence_of_draws(family):
    """`log_evidence` at the natural parameters of θ is the sum of the predictive densities."""
    lengths = [150, 1, 49]
    x = family.rows(200, seed=6)
    joint, natural = problem(family.build(K), x, lengths)
    batch = joint.batch(x, whole(lengths))
    log_c, _ = joint.structure.log_predictive(joint.density(batch, natural), natural, batch.rows)
    torch.testing.assert_close(joint._log_evidence(batch, natural), log_c.sum(-1) + batch.base)
