"""The hinge and its normalised pair: expectations in closed form against fine quadrature."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from ppl_models.regression.responses import OneAgainstRest
from ppl_models.regression.responses.hinge import Hinge, Pair, log_odds

CASES = [(0, -2.0, 0.3), (1, -2.0, 0.3), (0, 0.4, 1.5), (1, 0.9, 0.7), (1, 3.0, 2.0)]


def quadrature(log_p, m: float, s: float) -> tuple[float, float, float]:
    """E[log p], its derivative in m and minus the second, from E[log p] alone."""

    def mean(m: float) -> float:
        inside = [max(-10, min(10, (kink - m) / s)) for kink in (-1, 1)]
        return integrate.quad(
            lambda z: log_p(m + s * z) * stats.norm.pdf(z), -10, 10, points=inside, epsabs=1e-12, limit=400
        )[0]

    h = 1e-2
    low, middle, high = mean(m - h), mean(m), mean(m + h)
    return middle, (high - low) / (2 * h), -(high + low - 2 * middle) / h**2


def row(response, y: int, m: float, s: float) -> list[float]:
    terms = response.row_terms(
        torch.tensor([y]), torch.tensor([[m]]).double(), torch.tensor([[[s**2]]]).double()
    )
    return [float(term.squeeze()) for term in terms]


@pytest.mark.parametrize(("y", "m", "s"), CASES)
def test_expectations_of_the_hinge_are_those_of_fine_quadrature(y, m, s):
    expected = quadrature(lambda f: -2 * max(0.0, 1 - (2 * y - 1) * f), m, s)
    np.testing.assert_allclose(row(Hinge(), y, m, s), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("y", "m", "s"), CASES)
def test_expectations_of_the_pair_are_those_of_fine_quadrature(y, m, s):
    expected = quadrature(lambda f: float(Pair().log_prob(torch.tensor([f]).double(), torch.tensor(y))), m, s)
    np.testing.assert_allclose(row(Pair(), y, m, s), expected, rtol=0.02, atol=0.01)  # it has kinks


def test_the_pair_is_the_pseudo_likelihood_over_the_sum_of_both():
    f = torch.linspace(-3, 3, 13).double()[:, None]
    own, other = (Hinge().log_prob(f, torch.tensor(y)) for y in (1, 0))
    torch.testing.assert_close(Pair().log_prob(f, torch.tensor(1)), own - torch.logaddexp(own, other))
    torch.testing.assert_close(log_odds(f[:, 0]), own - other)


def test_one_against_rest_is_the_sum_of_its_hinges():
    response, y = OneAgainstRest(3), torch.tensor([0, 2])
    mean, cov = torch.randn(2, 3).double(), torch.diag_embed(torch.rand(2, 3).double() + 0.1)
    found = response.row_terms(y, mean, cov)
    for k in range(3):
        own = Hinge(k).row_terms(y, mean[:, k, None], cov[:, k, k, None, None])
        torch.testing.assert_close(found.gradient[:, k], own.gradient[:, 0])
        torch.testing.assert_close(found.curvature[:, k, k], own.curvature[:, 0, 0])
    assert OneAgainstRest(2).outputs == 1
