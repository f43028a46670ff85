"""Quadrature, contrasts and priors against dense sums, autograd and Monte Carlo."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from ppl_models.regression.horseshoe import Cell, Horseshoe, global_scale
from ppl_models.regression.priors import NormalPrior, StudentPrior, contrasts
from ppl_models.regression.quadrature import (
    binary_moments,
    normal_nodes,
    safe_cholesky,
    softmax_moments,
)

SDS = [1e-3, 0.06, 0.1, 0.19, 0.44, 0.79, 0.81, 1.3, 2.5, 6.0, 20.0]


@pytest.mark.parametrize("sd", SDS)
def test_binary_moments_equal_a_dense_sum(sd):
    mean = torch.linspace(-6, 6, 61, dtype=torch.float64) * max(1.0, sd)
    x = torch.linspace(-10, 10, 40_001, dtype=torch.float64)
    w = torch.exp(-(x**2) / 2)
    w /= w.sum()
    f = mean[:, None] + sd * x
    p = torch.sigmoid(f)
    dense = torch.logaddexp(f, torch.zeros(())) @ w, p @ w, (p * (1 - p)) @ w
    for exact, found in zip(dense, binary_moments(mean, torch.full_like(mean, sd)), strict=True):
        assert float((exact - found).abs().max()) < 1e-8


def test_binary_moments_of_mixed_and_extreme_rows():
    mean = torch.tensor([0.0, 3.0, -900.0, 900.0, 1.0], dtype=torch.float64)
    sd = torch.tensor([0.01, 5.0, 1.0, 1.0, 60.0], dtype=torch.float64)
    together = binary_moments(mean, sd)
    alone = [
        torch.cat(v)
        for v in zip(*(binary_moments(mean[i : i + 1], sd[i : i + 1]) for i in range(5)), strict=True)
    ]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(together[0][2:4], torch.tensor([0.0, 900.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("K", "sd", "error"), [(1, 0.3, 1e-8), (2, 0.15, 1e-7), (2, 1.0, 2e-4), (3, 0.15, 1e-5), (3, 1.0, 5e-3)]
)
def test_softmax_moments_equal_monte_carlo_on_a_fine_grid(K, sd, error):
    torch.manual_seed(3)
    A = contrasts(K + 1)
    mean = torch.randn(5, K, dtype=torch.float64)
    root = torch.randn(5, K, K, dtype=torch.float64)
    cov = root @ root.mT
    cov *= (sd / cov.diagonal(dim1=-1, dim2=-2).amax(-1).sqrt())[:, None, None] ** 2
    x, w = np.polynomial.hermite_e.hermegauss(30)
    w = w / w.sum()
    nodes = torch.as_tensor(np.stack([g.ravel() for g in np.meshgrid(*[x] * K)], -1))
    weight = torch.as_tensor(np.prod(np.stack([g.ravel() for g in np.meshgrid(*[w] * K)], -1), -1))
    phi = mean.unsqueeze(1) + torch.einsum("qk,njk->nqj", nodes, safe_cholesky(cov))
    p = (phi @ A.mT).softmax(-1)
    g = p @ A
    average = torch.einsum("nqk,q->nk", g, weight)
    H = torch.einsum("nqc,ca,cb,q->nab", p, A, A, weight) - torch.einsum("nqa,nqb,q->nab", g, g, weight)
    found = softmax_moments(mean, cov, A)
    for exact, value in (((phi @ A.mT).logsumexp(-1) @ weight, found[0]), (average, found[1]), (H, found[2])):
        assert float((exact - value).abs().max()) < error


@pytest.mark.parametrize("sd", [0.1, math.inf])
@pytest.mark.parametrize("K", [1, 2, 3, 5])
def test_nodes_have_the_moments_of_a_standard_normal(K, sd):
    x, w = normal_nodes(K, sd)
    assert float(w.sum()) == pytest.approx(1)
    torch.testing.assert_close(w @ x, torch.zeros(K, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close((x * w[:, None]).mT @ x, torch.eye(K, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("C", [2, 3, 6])
def test_contrasts_give_differences_the_covariance_of_symmetric_coefficients(C):
    A = contrasts(C)
    for reference in range(C):
        R = torch.cat([A[:reference], A[reference + 1 :]]) - A[reference]
        M = (torch.eye(C - 1) + torch.ones(C - 1, C - 1)).double() / 2
        torch.testing.assert_close(R @ R.mT, M)


@pytest.mark.parametrize("K", [1, 2])
@pytest.mark.parametrize(
    "prior", [NormalPrior, lambda scale: StudentPrior(scale, 4.0)], ids=["normal", "student"]
)
def test_expected_log_prior_gradient_and_curvature_by_autograd(prior, K):
    torch.manual_seed(0)
    p = 3
    density = prior(torch.tensor([0.5, 1.0, 2.5], dtype=torch.float64))
    mean = torch.randn(p, K, dtype=torch.float64)
    cov = 0.3 * torch.eye(K, dtype=torch.float64).expand(p, K, K)
    x = torch.randn(200_000, p, K, dtype=torch.float64)
    x = torch.cat([x, -x]) * 0.3**0.5 + mean
    b = x.requires_grad_()
    value = density.log_prob(b)
    (gradient,) = torch.autograd.grad(value.sum(), b)
    value = value.detach()
    found = density.expect(mean, cov)
    assert float(found.log_prior) == pytest.approx(float(value.mean()), abs=0.02)
    torch.testing.assert_close(found.gradient, gradient.mean(0), atol=0.02, rtol=0.01)
    stein = -torch.einsum("spa,spb->pab", gradient, (b - mean).detach()) / len(b) / 0.3  # Price: E[∇²]
    torch.testing.assert_close(found.curvature, stein, atol=0.05, rtol=0.02)


def test_priors_are_normalised_densities():
    b = torch.linspace(-4_000, 4_000, 2_000_001, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    for density in (NormalPrior(2 * one), StudentPrior(2 * one, 4.0)):
        total = density.log_prob(b[:, None, None]).exp().sum() * (b[1] - b[0])
        assert float(total) == pytest.approx(1, abs=1e-6)
    assert float(StudentPrior(2 * one, 4.0).log_prob(one[None])) == pytest.approx(
        stats.t.logpdf(1, 4, scale=2)
    )


def test_the_majoriser_lies_below_the_student_prior_and_touches_it():
    density = StudentPrior(torch.tensor([1.5], dtype=torch.float64), 4.0)
    at = torch.tensor([[0.7]], dtype=torch.float64)
    b = torch.linspace(-9, 9, 200, dtype=torch.float64)[:, None, None]
    below = density.log_prob(at) - 0.5 * density.majoriser(at) * (b[:, 0, 0] ** 2 - at[0, 0] ** 2)
    assert bool((density.log_prob(b) - below > -1e-12).all())


def test_the_local_scale_mixture_equals_the_integral_over_the_local_scale():
    tau, slab = 0.3, 4.0
    cell = Cell(tau, slab, torch.ones(1, dtype=torch.float64))
    t = np.linspace(-16, 16, 200_001)
    lam = np.exp(t)
    variance = slab * tau**2 * lam**2 / (slab + tau**2 * lam**2)
    for b in (0.01, 0.3, 2.0, 8.0):
        integral = np.trapezoid(stats.norm.pdf(b, 0, np.sqrt(variance)) * 2 / np.pi * lam / (1 + lam**2), t)
        found = float(cell.log_density(torch.tensor([b**2], dtype=torch.float64), 1)[0])
        assert found == pytest.approx(np.log(integral), abs=2e-3)


@pytest.mark.parametrize("K", [1, 2])
def test_tilted_moments_equal_importance_sampling(K):
    torch.manual_seed(1)
    cell = Cell(0.4, 6.0, torch.tensor([1.0, 2.0], dtype=torch.float64))
    mean = torch.tensor([[0.8] * K, [-1.5] * K], dtype=torch.float64)
    cov = torch.tensor([0.5, 0.9], dtype=torch.float64)[:, None, None] * (
        0.3 + 0.7 * torch.eye(K, dtype=torch.float64)
    )
    found = cell.tilt(mean, cov)
    for j, scale in enumerate((1.0, 2.0)):
        b = mean[j] + torch.randn(400_000, K, dtype=torch.float64) @ torch.linalg.cholesky(cov[j]).mT
        log_w = cell.log_density(((b / scale) ** 2).sum(-1), K) - K * math.log(scale)
        w = log_w.softmax(0)
        assert float(found.log_normaliser[j]) == pytest.approx(float(log_w.exp().mean().log()), abs=0.03)
        torch.testing.assert_close(found.mean[j], w @ b, atol=0.02, rtol=0.02)
        gap = b - found.mean[j]
        torch.testing.assert_close(found.cov[j], (gap * w[:, None]).mT @ gap, atol=0.02, rtol=0.03)


def test_the_horseshoe_density_with_scales_integrated_out_is_interpolated_well():
    h = Horseshoe(torch.tensor([1.0, 3.0], dtype=torch.float64), 0.2, 2.5)
    b = torch.tensor([[[0.5], [-2.0]]], dtype=torch.float64)
    log_tau, slab = torch.tensor([-1.0], dtype=torch.float64), torch.tensor([5.0], dtype=torch.float64)
    found = h.log_prob(b, log_tau, slab, torch.zeros(1, dtype=torch.float64))
    cell = Cell(math.exp(-1.0), 5.0, h.scale)
    exact = cell.log_density((b[0, :, 0] / h.scale) ** 2, 1).sum() - h.scale.log().sum()
    assert float(found) == pytest.approx(float(exact), abs=1e-4)


def test_the_global_scale_follows_piironen_and_vehtari():
    assert global_scale(100, 400, 5.0) == pytest.approx(5 / 95 * 2 / 20)
    assert 0 < global_scale(1, 10, None) < 10
