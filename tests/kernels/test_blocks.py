"""The E step in blocks against the plain kernels, which are held against enumeration elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import ppl_models as ppl
from ppl_models.draws import groups, select_draws
from ppl_models.kernels import blocked_chain, blocks
from ppl_models.kernels.blocked_chain import BlockedChain
from ppl_models.kernels.generic import Generic
from ppl_models.kernels.simd_forward_backward import kernels


def series(n, D, K, seed, stay=0.95, missing=0.0):
    rng = np.random.default_rng(seed)
    change = rng.random(n) > stay
    z = rng.integers(K, size=n)[np.maximum.accumulate(np.where(change, np.arange(n), 0))]
    x = rng.normal(size=(K, D))[z] * 2 + rng.normal(size=(n, D))
    x[rng.random(x.shape) < missing] = np.nan
    return x


def both(fit, statistics=None):
    """The same E step in blocks and by the plain kernels."""
    natural = fit.bound.expected_natural(statistics or fit.params)
    backend = fit.bound.dataset_batch(fit.data).backend
    assert isinstance(backend, BlockedChain)
    return *backend.expect_in_blocks(natural), *Generic(backend.problem).expect(natural)


def plainly(batch):
    """The same batch without blocks."""
    return replace(batch, backend=Generic(batch.backend.problem))


def same(fit, statistics=None):
    evidence, found, plain_evidence, plain = both(fit, statistics)
    torch.testing.assert_close(evidence, plain_evidence, rtol=1e-12, atol=1e-9)
    assert set(found) == set(plain)
    for name in found:
        torch.testing.assert_close(found[name], plain[name], rtol=1e-9, atol=1e-7)


def fitted(model, x, **options):
    return ppl.fit(model, x, restarts=2, steps=4, **options)


@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize(("states", "columns"), [(1, 2), (2, 1), (3, 3), (9, 2)])
def test_gaussian(states, columns, missing):
    same(
        fitted(ppl.HMM(states=states, covariance="diag"), series(2_500, columns, 3, states, missing=missing))
    )


@pytest.mark.parametrize("covariance", ["full", "tied", "spherical"])
def test_covariances(covariance):
    same(fitted(ppl.HMM(states=3, covariance=covariance), series(2_300, 3, 3, 5)))


@pytest.mark.parametrize("lengths", [[1] * 2_100, [1, 2_500, 1, 7], [3] * 700, [2_047, 1], [130] * 20])
def test_ragged_sequences(lengths):
    same(fitted(ppl.HMM(states=2), series(sum(lengths), 1, 2, 7), lengths=lengths))


def test_mixed_columns():
    rng = np.random.default_rng(3)
    n = 2_400
    frame = {
        "count": rng.poisson(3, n),
        "x": rng.normal(size=n),
        "label": rng.choice(["a", "b", "c"], n),
        "yes": rng.random(n) < 0.3,
    }
    frame["x"][::7] = np.nan
    same(fitted(ppl.HMM(states=3), frame))


def test_chunks_and_messages_between_them(monkeypatch):
    """Chunks that begin and end inside sequences; sizes that change between calls on one batch."""
    lengths = [2_500, 490, 10]
    fit = fitted(ppl.HMM(states=3, covariance="diag"), series(3_000, 2, 3, 11), lengths=lengths)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(blocks, "LEAST", 128)  # chunks of 512 rows
    monkeypatch.setattr(blocked_chain, "BUDGET", 1)
    same(fit)
    theta = fit.bound.draw(fit.params, 7)
    batch = fit.bound.dataset_batch(fit.data)
    whole = fit.bound.log_evidence(batch, theta)
    assert len(batch.backend._laid) == 6
    monkeypatch.setattr(blocked_chain, "BUDGET", 2**30)
    one = [fit.bound.log_evidence(batch, select_draws(theta, at)) for at in groups(7, 1, 2)]
    assert len(batch.backend._laid) == 2  # what fills blocks, and the rest
    plain = fit.bound.log_evidence(plainly(batch), theta)
    torch.testing.assert_close(whole, plain, rtol=1e-12, atol=1e-8)
    torch.testing.assert_close(torch.cat(one), plain, rtol=1e-12, atol=1e-8)


@pytest.mark.parametrize("covariance", ["diag", "full"], ids=["squares", "products"])
def test_compiled_for_the_numbers_of_states_and_features(covariance, monkeypatch):
    """As for many rows, at which the loops unroll."""
    monkeypatch.setattr(blocks, "SPECIALISE", 0)
    made = []
    monkeypatch.setattr(blocks, "kernels", lambda *size: made.append(size) or kernels(*size))
    same(fitted(ppl.HMM(states=2, covariance=covariance), series(2_100, 2, 2, 5)))
    assert set(made) == {(2, 2, True) if covariance == "diag" else (2, 5, False)}


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(threads, monkeypatch):
    monkeypatch.setattr(blocks, "THREADED", 0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        same(fitted(ppl.HMM(states=2), series(5_000, 2, 2, 13)))
    finally:
        torch.set_num_threads(before)


def extreme(fit, transition):
    """The fit's statistics with given expected transition counts."""
    counts = torch.tensor(transition, dtype=torch.float64)[None]
    return dict(fit.params) | {"transition": counts}


def test_a_chain_that_hardly_forgets_is_still_exact():
    """States that last for a million rows, hardly told apart: messages must be sent again."""
    x = np.random.default_rng(1).normal(size=(4_000, 1))
    fit = fitted(ppl.HMM(states=2, covariance="diag"), x)
    same(fit, extreme(fit, [[1e6, 1.0], [1.0, 1e6]]))


def test_a_chain_that_never_forgets_is_refused_and_left_to_the_plain_recursion():
    x = np.random.default_rng(1).normal(size=(4_000, 1))
    fit = fitted(ppl.HMM(states=2, covariance="diag", transition_concentration=1e-3), x)
    statistics = extreme(fit, [[1e6, 0.0], [0.0, 1e6]])
    batch = fit.bound.dataset_batch(fit.data)
    natural = fit.bound.expected_natural(statistics)
    with pytest.raises(blocks.DoesNotForget):
        batch.backend.expect_in_blocks(natural)
    held = batch.backend.held
    exact = fit.bound.local(plainly(batch), natural)[0]
    for failures in range(1, 5):
        torch.testing.assert_close(fit.bound.local(batch, natural)[0], exact)
        assert batch.backend.failures == min(failures, blocked_chain.PATIENCE)
        torch.testing.assert_close(fit.bound._log_evidence(batch, natural), exact)
    assert batch.backend.held != held


def test_far_outliers():
    """A row that no state explains, by thousands of nats."""
    x = series(3_000, 2, 2, 17)
    x[1_234] = 1e4
    same(fitted(ppl.HMM(states=2, covariance="diag"), x))
