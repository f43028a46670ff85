"""Emission families that the tests of backends go through."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from ppl_models.families.base import Emission
from ppl_models.families.bernoulli import Bernoulli
from ppl_models.families.categorical import Categorical
from ppl_models.families.exponential import Exponential
from ppl_models.families.full_gaussian import FullGaussian
from ppl_models.families.gamma import Gamma
from ppl_models.families.gaussian import DiagonalGaussian
from ppl_models.families.normal_prior import NormalPrior
from ppl_models.families.poisson import Poisson

COLUMNS = (0, 1, 2)
CENTRE = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
SCALE = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
MEAN = torch.tensor([0.7, 2.0, 3.0], dtype=torch.float64)
PRIOR = NormalPrior(0.01, 5.0, 0.5)


@dataclass(frozen=True)
class Family:
    """An emission over three columns, and rows in its support.

    Attributes:
        name: what the tests call it.
        build: the emission for K states.
        draw: n rows from a generator.
        columns: whether cells of a row are independent given the state.
    """

    name: str
    build: Callable[[int], Emission]
    draw: Callable[[int, np.random.Generator], np.ndarray]
    columns: bool = True

    def rows(self, n: int, seed: int, missing: float = 0.0) -> torch.Tensor:
        rng = np.random.default_rng(seed)
        x = self.draw(n, rng).astype(float)
        if missing:
            x[rng.random(x.shape) < missing] = np.nan
            x[0], x[1:3] = np.nan, np.nan_to_num(x[1:3], nan=1.0)  # an empty row, and complete ones
        return torch.as_tensor(x)


def _normal(n, rng):
    return CENTRE.numpy() + SCALE.numpy() * rng.normal(size=(n, 3))


FAMILIES = [
    Family("diag", lambda K: DiagonalGaussian(COLUMNS, K, CENTRE, SCALE, PRIOR), _normal),
    Family("spherical", lambda K: DiagonalGaussian(COLUMNS, K, CENTRE, SCALE, PRIOR, True), _normal),
    Family("full", lambda K: FullGaussian(COLUMNS, K, CENTRE, SCALE, PRIOR), _normal, False),
    Family("tied", lambda K: FullGaussian(COLUMNS, K, CENTRE, SCALE, PRIOR, True), _normal, False),
    Family(
        "poisson", lambda K: Poisson(COLUMNS, K, MEAN, 1.5, 0.8), lambda n, r: r.poisson(MEAN.numpy(), (n, 3))
    ),
    Family(
        "bernoulli", lambda K: Bernoulli(COLUMNS, K, 0.7), lambda n, r: r.random((n, 3)) < [0.2, 0.5, 0.9]
    ),
    Family(
        "categorical",
        lambda K: Categorical(COLUMNS, K, (2, 3, 4), 0.7),
        lambda n, r: r.integers(0, [2, 3, 4], (n, 3)),
    ),
    Family(
        "exponential",
        lambda K: Exponential(COLUMNS, K, MEAN, 1.5, 0.8),
        lambda n, r: r.exponential(MEAN.numpy(), (n, 3)),
    ),
    Family(
        "gamma",
        lambda K: Gamma(COLUMNS, K, MEAN, 1.5, 0.8, 1.7),
        lambda n, r: r.gamma(3.0, MEAN.numpy() / 3, (n, 3)) + 1e-3,
    ),
]


_BY_NAME = {f.name: f for f in FAMILIES}


@pytest.fixture(params=list(_BY_NAME))
def family(request) -> Family:
    return _BY_NAME[request.param]


@pytest.fixture(params=[f.name for f in FAMILIES if f.columns])
def column_family(request) -> Family:
    return _BY_NAME[request.param]


@pytest.fixture(autouse=True)
def _seed():
    """The same draws for every test, and nothing left of them in the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20240)
        yield
