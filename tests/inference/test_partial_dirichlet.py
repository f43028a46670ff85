"""Dirichlets over the entries that are allowed, against a Dirichlet of each group by itself."""

import numpy as np
import pytest
import torch
from scipy.special import gammaln

from ppl_models.inference.partial import FORBIDDEN, PartialDirichlet
from ppl_models.inference.unconstrained import Unconstrained

GROUP = np.array([[0, 0, -1, 0], [-1, 1, 1, -1], [-1, -1, 2, -1], [3, 3, -1, 3]])
ALPHA = torch.linspace(0.5, 2.0, 16).double().reshape(4, 4)
WEIGHT = {0: 0.2, 1: 0.5, 2: 0.1, 3: 0.2}


@pytest.fixture
def factor():
    return PartialDirichlet("p", ALPHA, GROUP, WEIGHT)


@pytest.fixture
def counts(factor):
    generator = torch.Generator().manual_seed(1)
    return factor.masked(5 * torch.rand(3, 4, 4, generator=generator, dtype=torch.float64))


def test_log_normalizer_is_that_of_each_group(factor, counts):
    def log_beta(a):
        return gammaln(a).sum() - gammaln(a.sum())

    for S, found in zip(counts.numpy(), factor.log_normalizer(counts), strict=True):
        expected = 0.0
        for g, w in WEIGHT.items():
            own = g == GROUP
            a = ALPHA.numpy()[own]
            expected += log_beta(a + S[own]) - log_beta(a) + S[own].sum() * np.log(w)
        assert float(found) == pytest.approx(expected, abs=1e-12)


def test_expected_logarithms_are_the_gradient_of_the_normalizer(factor, counts):
    counts = counts.requires_grad_()
    (gradient,) = torch.autograd.grad(factor.log_normalizer(counts).sum(), counts)
    expected, allowed = factor.expected_natural(counts), torch.as_tensor(GROUP >= 0)
    torch.testing.assert_close(expected[:, allowed], gradient[:, allowed])
    assert (expected[:, ~allowed] == FORBIDDEN).all()


def test_draws_sum_to_the_weights_and_are_exactly_zero_elsewhere(factor, counts):
    torch.manual_seed(0)
    p = factor.draw(counts)["p"]
    assert (p[:, torch.as_tensor(GROUP < 0)] == 0).all()
    for g, w in WEIGHT.items():
        torch.testing.assert_close(p[:, torch.as_tensor(g == GROUP)].sum(-1), torch.full((3,), w).double())


def test_unconstrained_points_lead_back(factor, counts):
    torch.manual_seed(0)
    theta, space = factor.draw(counts), Unconstrained({"p": factor})
    assert space.dimension == factor.free_parameters == 2 + 1 + 0 + 2
    found, _ = space.theta(space.point({"p": theta}))
    torch.testing.assert_close(found["p"]["p"], theta["p"])
