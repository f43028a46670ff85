"""Simulated chains that tests share, and how often properties are tried."""

import os
from collections.abc import Callable
from dataclasses import dataclass

# Before torch is imported, and for the processes of tests: small fits beside one another wait for threads.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def _seed():
    """The same draws for every test, and nothing left of them in the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20240)
        yield


@dataclass(frozen=True)
class Truth:
    """A simulated hidden Markov chain: `x` one array a sequence, `states` the same, A and π."""

    x: list[np.ndarray]
    states: list[np.ndarray]
    A: np.ndarray
    start: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        return np.concatenate(self.x)

    @property
    def path(self) -> np.ndarray:
        return np.concatenate(self.states)

    def masked(self, share: float, seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        return [np.where(rng.random(x.shape) < share, np.nan, x) for x in self.x]


def chain_rows(emit, lengths, A, start, seed: int) -> Truth:
    """Simulate: `emit(states, rng)` gives the rows (n, C) of a path."""
    rng = np.random.default_rng(seed)
    A, start = np.asarray(A, float), np.asarray(start, float)
    xs, zs = [], []
    for length in lengths:
        z = np.empty(length, int)
        for t in range(length):
            z[t] = rng.choice(len(start), p=start if t == 0 else A[z[t - 1]])
        xs.append(np.asarray(emit(z, rng), float).reshape(length, -1))
        zs.append(z)
    return Truth(xs, zs, A, start)


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Truth]:
    return chain_rows


@pytest.fixture
def one_thread():
    """Small networks lose more by waking threads than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
