"""The natural-gradient rule for a Gaussian over all weights, against linear regression in closed form."""

import numpy as np
import pytest
import torch

from ppl_models.inference.natural import Natural

PRECISION, VARIANCE = 4.0, 0.25


@pytest.fixture(scope="module")
def regression():
    """Rows, targets, and mean and precision of the exact posterior."""
    rng = np.random.default_rng(0)
    X = torch.from_numpy(rng.normal(size=(60, 3)) @ np.array([[1, 0.4, 0], [0, 1, 0.3], [0, 0, 2.0]]))
    y = X @ torch.tensor([1.0, -2.0, 0.5]).double() + 0.5 * torch.from_numpy(rng.normal(size=60))
    P = X.mT @ X / VARIANCE + PRECISION * torch.eye(3).double()
    return X, y, torch.linalg.solve(P, X.mT @ y / VARIANCE), P


def learned(X, y, rows, batch=60, steps=2_500):
    """m and σ."""
    module = torch.nn.Linear(3, 1, bias=False).double()
    rule = Natural(rows, {"weight": PRECISION}, narrow=20.0).optimiser(module, 0.1)
    kept = []
    for step in range(steps):
        at = torch.randperm(60)[:batch]
        with rule.drawn():
            module.zero_grad()
            (0.5 * (y[at] - module(X[at])[:, 0]) ** 2 / VARIANCE).mean().backward()
        rule.step()
        if step > steps // 2:
            kept.append(module.weight.detach()[0].clone())
    return torch.stack(kept).mean(0), rule.sds()[0][0]


def test_the_fixed_point_is_the_diagonal_gaussian_closest_to_the_posterior(regression):
    """Its mean is that of the posterior, and its precisions are the diagonal of the posterior's precision."""
    X, y, mean, P = regression
    torch.manual_seed(0)
    m, sd = learned(X, y, 60.0)
    assert float(((m - mean) * P.diagonal().sqrt()).abs().max()) < 0.2
    torch.testing.assert_close(sd, P.diagonal().rsqrt(), rtol=0.12, atol=0.0)
    assert float((torch.linalg.inv(P).diagonal().sqrt() / sd).max()) > 1.08  # marginals are wider


def test_rows_that_count_several_times_make_it_narrower(regression):
    X, y, _, P = regression
    torch.manual_seed(0)
    _, sd = learned(X, y, 600.0, batch=20, steps=1_500)
    wanted = (10 * (P.diagonal() - PRECISION) + PRECISION).rsqrt()
    torch.testing.assert_close(sd, wanted, rtol=0.25, atol=0.0)


def test_the_parameters_are_a_draw_within_and_the_mean_after():
    module = torch.nn.Linear(400, 10)
    mean = module.weight.detach().clone()
    rule = Natural(100.0, {"weight": 1.0, "bias": 1.0}, narrow=24.0).optimiser(module, 0.1)
    torch.manual_seed(0)
    with rule.drawn():
        gap = (module.weight - mean).detach()
    torch.testing.assert_close(module.weight.detach(), mean)
    assert float(gap.std()) == pytest.approx(0.2, rel=0.05)  # 1/√(λ(h + δ)), λδ = 1 and h = 24 δ
    assert rule.sds()[0].unique().item() == pytest.approx(0.2)
