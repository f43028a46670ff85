"""Averages over few draws of θ against those over all draws."""

import numpy as np
import pytest
import torch

import ppl_models as ppl
from ppl_models.draws import number_of, select_draws
from ppl_models.latent import average


def blobs(rows: int, seed: int, apart: float = 2.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centre = apart * rng.integers(0, 3, rows)[:, None]
    return np.c_[centre, -centre] + rng.normal(size=(rows, 2))


def drawn(fit):
    """With draws of the guide as they are: what they are averaged by is looked at, not they."""
    torch.manual_seed(1)
    fit.__dict__["_stored_draws"] = fit.bound.draw(fit.params, 2_000)
    return fit


@pytest.fixture(scope="module", params=[4_000, 60], ids=["well known", "hardly known"])
def mixture(request):
    """A posterior that is narrow, and one that is wide and skewed."""
    return drawn(ppl.fit(ppl.GMM(components=3), blobs(request.param, 1), restarts=2))


@pytest.fixture(scope="module")
def chain():
    rng = np.random.default_rng(4)
    path = np.cumsum(rng.random(600) < 0.05) % 2
    return drawn(ppl.fit(ppl.HMM(states=2), (2.0 * path + rng.normal(size=600))[:, None], restarts=2))


def taken(monkeypatch, fit) -> list[tuple[int, int]]:
    """(rows, draws) of each evaluation of the probabilities, from now on."""
    seen, marginals = [], type(fit.bound).marginals

    def counted(self, batch, draws):
        seen.append((batch.rows.steps, number_of(draws)))
        return marginals(self, batch, draws)

    monkeypatch.setattr(type(fit.bound), "marginals", counted)
    return seen


def exact(fit, x) -> tuple[np.ndarray, float]:
    """The mean over all draws, and the largest Monte Carlo error that itself has."""
    batch = fit.bound.dataset_batch(ppl.read(x))
    each = fit.bound.marginals(batch, fit.draws).smoothed
    error = float(each.std(0).max()) / number_of(fit.draws) ** 0.5
    return each.mean(0).numpy(), error


def test_probabilities_are_those_of_all_draws(mixture, monkeypatch):
    x = blobs(600, 2)
    p, error = exact(mixture, x)
    monkeypatch.setattr(average, "ALL", 0)  # what is done on many rows
    seen = taken(monkeypatch, mixture)
    found = mixture.predict(x).filter(like="probability_").to_numpy()
    work = sum(rows * draws for rows, draws in seen) / len(x)
    off = np.abs(found - p).max(1)
    assert off.max() < 0.02 + 5 * error
    assert np.sqrt((off**2).mean()) < 0.005 + error
    assert np.allclose(found.sum(1), 1)
    if mixture.data.rows > 1_000:
        assert work < 100  # not thousands of draws a row
        assert np.median(off) < 0.0005


def test_the_centre_alone_would_not_do(mixture):
    """Rows of which the posterior is wide are averaged over plain draws."""
    if mixture.data.rows > 1_000:
        pytest.skip("where much is known it would")
    fit, x = mixture, blobs(600, 2)
    p, _ = exact(fit, x)
    near = average.around(fit.bound, fit.draws, 2)
    centre = fit.bound.marginals(fit.bound.dataset_batch(ppl.read(x)), select_draws(near, slice(0, 1)))
    assert np.abs(centre.smoothed[0].numpy() - p).max() > 0.02


def test_scores_are_those_of_all_draws(mixture, monkeypatch):
    x = blobs(600, 3)
    each = mixture.bound.log_density(mixture.bound.dataset_batch(ppl.read(x)), mixture.draws)
    exact = (each.logsumexp(0) - np.log(len(each))).numpy()
    monkeypatch.setattr(average, "ALL", 0)
    found = mixture.score(x)["log_density"].to_numpy()
    off = np.abs(found - exact)
    assert off.max() < 0.15
    assert np.sqrt((off**2).mean()) < (0.005 if mixture.data.rows > 1_000 else 0.02)
    assert abs(found.mean() - exact.mean()) < 0.003


def test_chains_are_averaged_by_the_same_rule(chain, monkeypatch):
    x = chain.data.values
    p, error = exact(chain, x)
    monkeypatch.setattr(average, "ALL", 0)
    seen = taken(monkeypatch, chain)
    found = chain.predict(x)
    off = np.abs(found.filter(like="smoothed_").to_numpy() - p).max(1)
    assert np.sqrt((off**2).mean()) < 0.01 + error
    assert set(seen) == {(600, 2)}
    assert len(seen) <= 8


def test_as_many_draws_as_are_asked_for(mixture, monkeypatch):
    x = blobs(50, 5)
    seen = taken(monkeypatch, mixture)
    for frame in (mixture.predict(x, draws=7), mixture.transform(x, draws=7)):
        found = frame.filter(regex="_[0-9]$").to_numpy()
        some = select_draws(mixture.draws, slice(0, 7))
        batch = mixture.bound.dataset_batch(ppl.read(x))
        assert np.allclose(found, mixture.bound.marginals(batch, some).smoothed.mean(0).numpy())
    assert {draws for _, draws in seen} == {7}
    mixture.score(x, draws=7)
    with pytest.raises(ppl.UsageError, match="draws must be a whole number of at least 1"):
        mixture.predict(x, draws=0)


def test_blocks_of_rows_say_what_all_rows_say(mixture, monkeypatch):
    x = blobs(900, 6)
    monkeypatch.setattr(average, "ALL", 0)
    whole = mixture.predict(x)
    monkeypatch.setattr(average, "NUMBERS", 6_000)
    found = mixture.predict(x).filter(like="probability_")
    assert np.abs(found - whole.filter(like="probability_")).to_numpy().max() < 0.01


def test_pairs_lie_on_both_sides_of_the_centre(mixture):
    from ppl_models.latent.unconstrained import ExactPosterior

    near = average.around(mixture.bound, mixture.draws, 3)
    u = ExactPosterior.space_of(mixture.bound).point(near)
    for i in range(3):
        torch.testing.assert_close((u[1 + 2 * i] + u[2 + 2 * i]) / 2, u[0])


def test_only_rows_with_gaps_are_looked_at(mixture, monkeypatch):
    """Of independent rows: the others say nothing of them."""
    x = blobs(300, 7)
    x[:5, 1] = np.nan
    rows, density = [], type(mixture.bound).density
    monkeypatch.setattr(
        type(mixture.bound), "density",
        lambda self, batch, natural: rows.append(batch.rows.steps) or density(self, batch, natural),
    )  # fmt: skip
    filled = mixture.impute(x)
    assert set(rows) == {5}
    assert not filled.isna().iloc[:, :2].any().any()
