"""The training loop around the rule: excerpts, phases, stopping, interruption, refusals."""

import numpy as np
import pytest
import torch

import ppl_models as ppl
from ppl_models import engine
from ppl_models.data.excerpt import excerpt
from ppl_models.inference.conjugate import ConjugateRule, Info
from ppl_models.inference.convergence import Knockout, Windows
from ppl_models.inference.loop import Status


def regimes(n, seed, stay=0.98):
    rng = np.random.default_rng(seed)
    change = rng.random(n) > stay
    z = rng.integers(2, size=n)[np.maximum.accumulate(np.where(change, np.arange(n), 0))]
    return np.array([-1.5, 1.5])[z, None] + rng.normal(size=(n, 1))


@pytest.mark.slow
def test_long_data_is_raced_on_a_part_and_finished_on_all():
    x = regimes(40_000, 1)
    fit = ppl.fit(ppl.HMM(states=2), x)
    assert fit.trained.restarts.rows < 20_000
    assert {h["phase"] for h in fit.trained.history} == {"restarts", "all rows"}
    assert fit.status == "converged"
    batch = fit.bound.dataset_batch(fit.data)
    assert float(fit.bound.elbo(batch, fit.params)[0]) == pytest.approx(fit.elbo, abs=1e-6)
    last = [h["elbo"] for h in fit.trained.history if h["phase"] == "all rows"]
    assert np.diff(last).min() > -1e-6
    means = fit.posterior_draws.theta["gaussian"]["mean"].mean(0).ravel() * x.std() + x.mean()
    np.testing.assert_allclose(means, [-1.5, 1.5], atol=0.05)


@pytest.mark.parametrize(
    "lengths", [[100_000], [60_000, 30_000, 10_000], [100] * 1_000, [1] * 100_000, [90_000] + [10] * 1_000]
)
def test_an_excerpt_is_made_of_pieces_of_sequences(lengths):
    x = np.arange(sum(lengths), dtype=float) + 0.5
    data = ppl.read(x, lengths=lengths)
    part = excerpt(data, 8_000, ordered=True, seed=0)
    assert 2_000 <= part.rows <= 17_000
    assert part.lengths.sum() == part.rows
    owner = np.repeat(np.arange(len(lengths)), lengths)
    for piece in part.sequences():
        rows = (piece[:, 0] - 0.5).astype(int)
        assert (np.diff(rows) == 1).all()
        assert len(set(owner[rows])) == 1
    assert excerpt(ppl.read(x[:9_000]), 8_000, ordered=True, seed=0).rows == 9_000


def test_restarts_that_fall_behind_are_knocked_out():
    monitor, steps = Knockout(1e-6, every=3), 0
    elbo = torch.tensor([1.0, 4.0, 2.0, 3.0, 0.0], dtype=torch.float64)
    left = torch.arange(5)
    while len(left):
        steps += 1
        now = elbo[left] + steps * (1 + 0.1 * left)  # all go on rising
        done = monitor.update(Info(now, torch.ones_like(now, dtype=torch.bool), True, 1.0, {}))
        left = left[~done]
        monitor.select((~done).nonzero().squeeze(-1))
        assert left.tolist() == {1: [0, 1, 2, 3, 4], 2: [1, 2, 3], 3: [1, 3], 4: []}[1 + steps // 3]
    assert steps == 9


def info(elbo):
    value = torch.tensor([elbo], dtype=torch.float64)
    return Info(value, torch.ones(1, dtype=torch.bool), True, 0.1, {})


def test_mini_batches_stop_when_the_noise_is_all_that_moves():
    rng = np.random.default_rng(2)
    flat, rising = Windows(20, 1.0), Windows(20, 1.0)
    stopped = [bool(flat.update(info(rng.normal(-100, 1.0)))) for _ in range(400)]
    assert any(stopped)
    assert stopped.index(True) >= 59
    assert not any(bool(rising.update(info(rng.normal(-100 + t, 1.0)))) for t in range(400))


@pytest.mark.parametrize("after", [1, 3])
def test_an_interruption_leaves_a_fit(after):
    def stop(phase, step, elbo, left):
        if step == after:
            raise KeyboardInterrupt

    fit = ppl.fit(ppl.HMM(states=2), regimes(300, 3), progress=stop)
    assert fit.status is Status.INTERRUPTED
    assert np.isfinite(fit.elbo)
    assert fit.check().verdict != "trusted"
    assert len(fit.predict()) == 300


def test_selection_stops_with_an_interrupted_fit():
    seen = []

    def stop(phase, step, elbo, left):
        seen.append(step)
        raise KeyboardInterrupt

    fit = ppl.select(ppl.HMM(), regimes(200, 4), {"states": [2, 3, 4]}, progress=stop)
    assert len(fit.candidates) == 1
    assert seen == [1]


def test_selection_leaves_out_states_that_no_row_is_in():
    fit = ppl.select(ppl.HMM(), regimes(400, 5), {"states": range(1, 6)})
    chosen = next(c for c in fit.candidates if c["states"] == fit.model.states)
    assert fit.model.states == 2
    assert chosen["empty"] == 0


def test_too_little_memory_is_said_before_anything_is_done(monkeypatch):
    monkeypatch.setattr(engine, "budget", lambda: 1_000_000)
    with pytest.raises(ppl.DataError, match=r"GB are free; use --covariance diag"):
        ppl.fit(ppl.HMM(states=2), np.random.default_rng(0).normal(size=(50, 40)))


def test_a_restart_that_is_not_a_number_is_dropped(monkeypatch):
    """And where all are, the fit says that it diverged."""
    honest = ConjugateRule.step
    poisoned = {"all": False}

    def step(self, problem, state, batch):
        following, found = honest(self, problem, state, batch)
        elbo = found.elbo.clone()
        if poisoned["all"]:
            elbo[:] = torch.nan
        elif len(elbo) > 1:
            elbo[0] = torch.nan
        return following, found._replace(elbo=elbo)

    monkeypatch.setattr(ConjugateRule, "step", step)
    x = regimes(300, 6)
    fit = ppl.fit(ppl.HMM(states=2), x, restarts=4)
    assert fit.status == "converged"
    assert np.isfinite(fit.elbo)
    poisoned["all"] = True
    lost = ppl.fit(ppl.HMM(states=2), x, restarts=4)
    assert lost.status == "diverged"
    assert lost.check().verdict == "not trusted"
