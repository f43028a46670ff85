"""Every conjugate factor against calculus, against independent densities, and against simulation."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.special as sp
import scipy.stats as ss
import torch

from ppl_models.families.base import BLOCK, weighted_sums
from ppl_models.families.bernoulli import Bernoulli
from ppl_models.families.categorical import Categorical
from ppl_models.families.exponential import Exponential
from ppl_models.families.full_gaussian import FullGaussian
from ppl_models.families.gamma import Gamma
from ppl_models.families.gaussian import DiagonalGaussian
from ppl_models.families.negative_binomial import NegativeBinomial
from ppl_models.families.normal_prior import NormalPrior
from ppl_models.families.poisson import Poisson
from ppl_models.families.student_t import StudentT
from ppl_models.inference.factors import Dirichlet, Support
from ppl_models.kernels.workspace import Workspace

R, K, N = 2, 2, 24


def case(family, missing, n=N):
    """An emission, rows, features, responsibilities and the statistics they give."""
    e = family.build(K)
    x = family.rows(n, seed=5, missing=0.3 if missing else 0.0)
    features = e.features(x, Workspace(), "f")
    gamma = torch.rand(R, n, K, dtype=torch.float64)
    gamma = gamma / gamma.sum(-1, keepdim=True)
    S = e.statistics(features, gamma, e.natural(e.draw(e.zeros(R))))
    return e, x, features, gamma, S


def dirichlet():
    a = torch.tensor([[0.5, 1.0, 2.0], [3.0, 0.1, 1.0]], dtype=torch.float64)
    return Dirichlet("p", a), torch.rand(R, 2, 3, dtype=torch.float64) * 9


def check_factor(factor, S):
    """What holds for any factor: E[η] = ∇ log Z, Z(0) = 1, Bayes' rule, KL by simulation."""
    leaf = S.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(factor.log_normalizer(leaf).sum(), leaf)
    expected = factor.expected_natural(S)
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-8)
    none = factor.zeros(R)
    assert none.shape == (R, *factor.shape) == S.shape
    torch.testing.assert_close(
        factor.log_normalizer(none), torch.zeros(R, dtype=torch.float64), atol=1e-9, rtol=0
    )
    torch.testing.assert_close(factor.evaluate(none)[1], none.new_zeros(R), atol=1e-9, rtol=0)

    theta = factor.draw(S)
    assert factor.supports.keys() == theta.keys()
    for name, support in factor.supports.items():
        assert support.holds(theta[name])
        assert support in (Support.REAL,) or not support.holds(-theta[name])
        assert not support.holds(torch.full_like(theta[name], torch.inf))
    gain = factor.log_prob(theta, S) - factor.log_prob(theta, none)
    inner = (S * factor.natural(theta)).flatten(1).sum(-1)
    torch.testing.assert_close(inner - factor.log_normalizer(S), gain, rtol=1e-8, atol=1e-7)

    assert factor.possible(S).all()
    kl = factor.evaluate(S)[1]
    assert (kl > 0).all()
    draws = 1_500
    many = S[:1].expand(draws, *S.shape[1:])
    theta = factor.draw(many)
    ratio = factor.log_prob(theta, many) - factor.log_prob(theta, torch.zeros_like(many))
    error = float(ratio.std()) / draws**0.5
    assert (
        abs(float(ratio.mean() - kl[0])) < 4 * error + 1e-9
    )  # 4 standard errors: fails 6 times in 100,000 seeds


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_a_factor_is_its_log_normalizer(family, missing):
    e, _, _, _, S = case(family, missing)
    check_factor(e, S)


def as_field(size):
    """A size of the prior, or a matrix, as a field of a model."""
    if size.ndim == 2:
        return tuple(map(tuple, size))
    return tuple(size) if len(size) > 1 else float(size[0])


def test_a_prior_that_is_learned_is_most_probable(family):
    """Log Z is then at its maximum over the field, and E[η] is its gradient all the same."""
    e, S = replace(family, fix=False).build(K), case(family, False)[-1]
    leaf = S.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(e.log_normalizer(leaf).sum(), leaf)
    torch.testing.assert_close(gradient, e.expected_natural(S), rtol=1e-6, atol=1e-7)
    learned = e.learned(S[:1])
    for name, value in learned.items():
        scaled = (learned | {name: as_field(f * np.atleast_1d(value))} for f in (1.0, 0.95, 1.05))
        at, less, more = (e.fixed(sizes).log_normalizer(S[:1]) for sizes in scaled)
        torch.testing.assert_close(at, e.log_normalizer(S[:1]))
        assert torch.minimum(less, more) < at  # one of them may be beyond the end of the interval


def test_dirichlet_is_its_log_normalizer():
    check_factor(*dirichlet())


def test_dirichlet_log_normalizer_is_the_dirichlet_multinomial():
    factor, _ = dirichlet()
    counts = np.array([[2, 0, 5], [1, 1, 1]])
    z = factor.log_normalizer(torch.as_tensor(counts, dtype=torch.float64)[None])
    exact = sum(
        ss.dirichlet_multinomial(a, int(n.sum())).logpmf(n)
        - sp.gammaln(n.sum() + 1)
        + sp.gammaln(n + 1).sum()
        for a, n in zip(factor.concentration.numpy(), counts, strict=True)
    )
    assert float(z[0]) == pytest.approx(exact, abs=1e-10)


def test_impossible_statistics_are_refused(family):
    e, _, _, _, S = case(family, False)
    broken = S.clone()
    broken[1] = -broken[1].abs() - 1
    assert e.possible(broken).tolist() == [True, False]


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_density_is_that_of_the_pyro_program(family, missing):
    e, x, features, _, S = case(family, missing)
    theta = e.draw(S)
    out = torch.full((R, N, K), torch.nan, dtype=torch.float64)
    e.log_density(features, e.natural(theta), out, False)
    base = e.log_base(x)
    for r in range(R):
        for k in range(K if r else 1):
            local = {site: (v[r, k] if v.shape[1] == K else v[r, 0]) for site, v in theta.items()}
            for i in range(N):
                density, value = e.observe(local, x[i])
                expected = float(density.log_prob(value))
                assert float(out[r, i, k] + base[i]) == pytest.approx(expected, rel=1e-8, abs=1e-8)
                if not missing:
                    assert float(e.local(local).log_prob(x[i])) == pytest.approx(expected, rel=1e-8, abs=1e-8)
    again = out.clone()
    e.log_density(features, e.natural(theta), again, True)
    torch.testing.assert_close(again, 2 * out)


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
def test_statistics_are_the_gradient_of_the_density(family, missing):
    """Fisher's identity, ∂/∂η Σ_n γ_n log p(x_n | η) = Σ_n γ_n E[t | x_n, η], along random directions."""
    e, _, features, gamma, S = case(family, missing)
    natural = e.natural(e.draw(S))
    found = e.statistics(features, gamma, natural)

    def total(eta):
        out = torch.empty(R, N, K, dtype=torch.float64)
        e.log_density(features, eta, out, False)
        return (gamma * out).sum()

    for _ in range(3):
        step = 1e-5 * torch.randn_like(natural) * natural.abs().clamp_max(1.0)
        slope = (total(natural + step) - total(natural - step)) / 2
        torch.testing.assert_close(slope, (found * step).sum(), rtol=1e-5, atol=1e-8)


def test_features_of_some_rows_are_rows_of_the_features(family):
    e, x, features, gamma, _ = case(family, True)
    natural = e.natural(e.draw(e.zeros(R)))
    whole = torch.empty(R, N, K, dtype=torch.float64)
    e.log_density(features, natural, whole, False)
    at = slice(7, 23)
    part = torch.empty(R, 16, K, dtype=torch.float64)
    e.log_density(features.rows(at), natural, part, False)
    torch.testing.assert_close(part, whole[:, at])
    parts = sum(e.statistics(features.rows(s), gamma[:, s], natural) for s in (slice(0, 9), slice(9, N)))
    torch.testing.assert_close(parts, e.statistics(features, gamma, natural))


def test_weighted_sums_over_many_blocks():
    n = 2 * BLOCK + 17
    gamma, matrix = torch.rand(2, n, 3, dtype=torch.float64), torch.randn(n, 4, dtype=torch.float64)
    torch.testing.assert_close(weighted_sums(gamma, matrix), torch.einsum("rnk,nf->rkf", gamma, matrix))


def test_log_base_carries_the_units():
    c, mean = 1000.0, torch.tensor([2.0], dtype=torch.float64)
    prior, one = NormalPrior(0.01, 3.0, 1.0), torch.ones(1, dtype=torch.float64)
    x = torch.tensor([[0.3], [2.0], [torch.nan]], dtype=torch.float64)
    seen = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    for build in (
        lambda c: DiagonalGaussian((0,), 1, c * one, c * one, prior),
        lambda c: FullGaussian((0,), 1, c * one, c * one, prior),
        lambda c: Exponential((0,), 1, c * mean),
        lambda c: Gamma((0,), 1, c * mean),
        lambda c: StudentT((0,), 1, c * one, c * one, prior),
    ):
        small, large = build(1.0), build(c)
        shift = large.log_base(c * x) - small.log_base(x)
        torch.testing.assert_close(shift, -np.log(c) * seen)
        before, after = (e.features(v, Workspace(), "f").matrix for e, v in ((small, x), (large, c * x)))
        torch.testing.assert_close(before, after)  # features have no units


# The full covariance with missing cells, against scipy's normal


def gaussian_theta(name):
    centre = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    scale = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    factor = FullGaussian((0, 1, 2), K, centre, scale, NormalPrior(0.5, 6.0, 1.0), name == "tied")
    theta = factor.draw(factor.zeros(1))
    covariance = torch.linalg.inv(theta["precision"]) * scale * scale[:, None]
    mean = centre + scale * theta["mean"]
    return factor, theta, mean[0].numpy(), covariance[0].expand(K, 3, 3).numpy()


def conditional(mean, cov, x):
    """Mean and covariance of the missing cells of x given the others."""
    h = np.isnan(x)
    gain = cov[np.ix_(h, ~h)] @ np.linalg.pinv(cov[np.ix_(~h, ~h)])
    return mean[h] + gain @ (x[~h] - mean[~h]), cov[np.ix_(h, h)] - gain @ cov[np.ix_(~h, h)]


PATTERNS = np.array(
    [[1.5, np.nan, 2.0], [np.nan, -1.0, np.nan], [np.nan] * 3, [0.0, 0.5, 3.0], [np.nan, -3.0, 2.5]]
)


@pytest.mark.parametrize("name", ["full", "tied"])
def test_marginal_of_observed_cells_is_scipys(name):
    e, theta, mean, cov = gaussian_theta(name)
    x = torch.as_tensor(PATTERNS)
    out = torch.empty(1, len(x), K, dtype=torch.float64)
    e.log_density(e.features(x, Workspace(), "f"), e.natural(theta), out, False)
    found = out[0] + e.log_base(x)[:, None]
    for i, row in enumerate(PATTERNS):
        o = ~np.isnan(row)
        for k in range(K):
            normal = ss.multivariate_normal(mean[k][o], cov[k][np.ix_(o, o)]) if o.any() else None
            expected = normal.logpdf(row[o]) if normal is not None else 0.0
            assert float(found[i, k]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["full", "tied"])
def test_completed_statistics_are_conditional_moments(name):
    """Rows of which nothing was seen need no completion, and add nothing."""
    e, theta, mean, cov = gaussian_theta(name)
    x = torch.as_tensor(PATTERNS)
    gamma = torch.rand(1, len(x), K, dtype=torch.float64)
    n, sx, sxx = e._unpack(e.statistics(e.features(x, Workspace(), "f"), gamma, e.natural(theta)))
    centre, scale = e.centre.numpy(), e.scale.numpy()
    for k in range(K):
        one, two = np.zeros(3), np.zeros((3, 3))
        rows = 0.0
        for g, row in zip(gamma[0, :, k].numpy(), PATTERNS, strict=True):
            h, full, spread = np.isnan(row), row.copy(), np.zeros((3, 3))
            if h.all():
                continue
            rows += g
            if h.any():
                full[h], spread[np.ix_(h, h)] = conditional(mean[k], cov[k], row)
            y = (full - centre) / scale
            one += g * y
            two += g * (np.outer(y, y) + spread / np.outer(scale, scale))
        assert float(n[0, k]) == pytest.approx(rows)
        np.testing.assert_allclose(sx[0, k], one, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(sxx[0, k], two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["full", "tied"])
def test_missing_cells_are_drawn_from_their_conditional(name):
    e, theta, mean, cov = gaussian_theta(name)
    draws = 20_000
    local = {site: v[0, 0].expand(draws, *v.shape[2:]) for site, v in theta.items()}
    for row in PATTERNS:
        drawn = e.complete(local, torch.as_tensor(row).expand(draws, 3)).numpy()
        h = np.isnan(row)
        assert (drawn[:, ~h] == row[~h]).all()
        if not h.any():
            continue
        m, C = conditional(mean[0], cov[0], row)
        z = np.linalg.solve(np.linalg.cholesky(C), (drawn[:, h] - m).T)  # standard normal, (missing, draws)
        # Means to 4.5 and second moments to 5 standard errors: under 1e-4 a seed for all of them.
        assert np.abs(z.mean(1)).max() < 4.5 / draws**0.5
        assert np.abs(z @ z.T / draws - np.eye(len(z))).max() < 5 * (2 / draws) ** 0.5


def test_missing_cells_of_columns_are_drawn_from_their_state(column_family):
    family, draws = column_family, 20_000
    e, _, _, _, S = case(family, False)
    local = {site: v[0, 0] for site, v in e.draw(S).items()}
    many = {site: v.expand(draws, *v.shape) for site, v in local.items()}
    x = family.rows(1, seed=3)[0]
    x[1] = torch.nan
    drawn = e.complete(many, x.expand(draws, 3))
    assert (drawn[:, [0, 2]] == x[[0, 2]]).all()
    alone = e.local(local).sample((draws,))[:, 1].numpy()
    assert ss.ks_2samp(drawn[:, 1].numpy(), alone, method="asymp").pvalue > 1e-4


# One-dimensional posteriors, against closed forms and quadrature

ONE = torch.ones(1, dtype=torch.float64)


def one_column(e, x):
    x = torch.as_tensor(x, dtype=torch.float64).reshape(-1, 1)
    gamma = torch.ones(1, len(x), 1, dtype=torch.float64)
    S = e.statistics(e.features(x, Workspace(), "f"), gamma, e.expected_natural(e.zeros(1)))
    return S, float(e.log_normalizer(S) + e.log_base(x).sum())


def sequential(predictive, x):
    """Σ_i log p(x_i | x_{<i})."""
    total = 0.0
    for i, value in enumerate(x):
        ahead = predictive(x[:i])
        total += ahead.logpmf(value) if hasattr(ahead, "logpmf") else ahead.logpdf(value)
    return total


def test_evidence_of_poisson_is_the_negative_binomials():
    x, mean, a, b = np.array([3, 0, 7, 2]), 2.5, 1.5, 0.8
    e = Poisson((0,), 1, mean * ONE, a, b)
    S, evidence = one_column(e, x)

    def next_count(seen):
        rate = (b + mean * len(seen)) / mean
        return ss.nbinom(a + seen.sum(), rate / (rate + 1))

    assert evidence == pytest.approx(sequential(next_count, x), abs=1e-10)
    draws = e.draw(S.expand(4_000, *S.shape[1:]))["rate"].ravel().numpy() * mean
    exact = ss.gamma(a + x.sum(), scale=mean / (b + mean * len(x)))
    assert ss.kstest(draws, exact.cdf).pvalue > 1e-4


def test_evidence_of_exponential_is_the_lomaxes():
    x, mean, a, b = np.array([0.3, 4.0, 1.1]), 2.5, 1.5, 0.8
    _, evidence = one_column(Exponential((0,), 1, mean * ONE, a, b), x)
    exact = sequential(lambda seen: ss.lomax(a + len(seen), scale=b * mean + seen.sum()), x)
    assert evidence == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize("spherical", [False, True])
def test_evidence_of_a_normal_is_students(spherical):
    x, centre, scale = np.array([3.0, 1.0, 4.5, 4.0]), 2.0, 1.5
    prior = NormalPrior(0.3, 4.0, 0.6)
    _, evidence = one_column(DiagonalGaussian((0,), 1, centre * ONE, scale * ONE, prior, spherical), x)
    shape = prior.variance * (np.eye(4) + 1 / prior.mean_precision) * scale**2
    exact = ss.multivariate_t(np.full(4, centre), shape, df=prior.dof).logpdf(x)
    assert evidence == pytest.approx(exact, abs=1e-10)
    _, full = one_column(FullGaussian((0,), 1, centre * ONE, scale * ONE, prior), x)
    assert full == pytest.approx(exact, abs=1e-10)  # one column: the Wishart is a gamma


def test_evidence_of_labels_is_polyas():
    x, a = np.array([0, 1, 1, 2, 1]), 0.7
    _, evidence = one_column(Categorical((0,), 1, (3,), a), x)
    exact = sum(np.log((a + (x[:i] == v).sum()) / (3 * a + i)) for i, v in enumerate(x))
    assert evidence == pytest.approx(exact, abs=1e-10)
    y = (x > 0).astype(int)
    exact = sum(np.log((a + (y[:i] == v).sum()) / (2 * a + i)) for i, v in enumerate(y))
    assert one_column(Bernoulli((0,), 1, a), y)[1] == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize("x", [[0.5, 1.0, 4.0, 2.0], [3.0], [1.0, 1.01, 0.99, 1.0, 1.02], [1e-6, 5.0]])
def test_gamma_posterior_by_quadrature(x):
    x, mean, c, d, sigma = np.array(x), 1.7, 1.5, 0.8, 2.0
    e = Gamma((0,), 1, mean * ONE, c, d, sigma)
    S, evidence = one_column(e, x)
    u, v = np.linspace(-14, 12, 2601)[:, None], np.linspace(-20, 16, 2401)[None]  # logs of shape and rate
    a, b = np.exp(u), np.exp(v)
    log_p = ss.norm(0, sigma).logpdf(u) + ss.gamma(c, scale=1 / d).logpdf(b) + v
    y = x / mean
    log_p = (
        log_p
        + len(y) * (a * v - sp.gammaln(a))
        + (a - 1) * np.log(y).sum()
        - b * y.sum()
        - len(y) * np.log(mean)
    )
    top = log_p.max()
    p = np.exp(log_p - top)
    cell = (u[1, 0] - u[0, 0]) * (v[0, 1] - v[0, 0])
    assert evidence == pytest.approx(np.log(p.sum() * cell) + top, abs=1e-7)
    p /= p.sum()
    exact = [(p * (a * v - sp.gammaln(a))).sum(), -(p * b).sum(), (p * a).sum()]
    np.testing.assert_allclose(e.expected_natural(S).ravel(), exact, rtol=1e-6, atol=1e-8)
    theta = e.draw(S.expand(4_000, *S.shape[1:]))
    cumulative = p.sum(1).cumsum() - 0.5 * p.sum(1)
    drawn = np.log(theta["shape"].ravel().numpy())
    assert ss.kstest(drawn, lambda q: np.interp(q, u[:, 0], cumulative)).pvalue > 1e-4
    assert abs(theta["rate"].mean() + exact[1]) < 4 * theta["rate"].std() / 4_000**0.5


def test_gamma_shape_with_a_million_rows():
    rng = np.random.default_rng(0)
    x = rng.gamma(2.5, 2.0, 1_000_000)
    e = Gamma((0,), 1, 5.0 * ONE)
    S, _ = one_column(e, x)
    shape = e.draw(S.expand(1_000, *S.shape[1:]))["shape"]
    sd = (
        2.5 / (1_000_000 * (2.5 * sp.polygamma(1, 2.5) - 1))
    ) ** 0.5  # Fisher information, rate profiled out
    assert abs(float(shape.mean()) - 2.5) < 5 * sd
    assert float(shape.std()) == pytest.approx(sd, rel=0.15)  # 1,000 draws: a relative error of 2.2% each


def test_density_of_student_t_is_scipys():
    centre, scale = 2.0, 1.5
    e = StudentT((0,), 1, centre * ONE, scale * ONE, NormalPrior(0.3, 4.0, 0.6))
    x = torch.tensor([[2.5], [-40.0], [2.0], [1e6]], dtype=torch.float64)
    theta = {name: torch.tensor([[[v]]], dtype=torch.float64) for name, v in
             {"mean": 0.4, "precision": 2.3, "dof": 1.7}.items()}  # fmt: skip
    out = torch.empty(1, 4, 1, dtype=torch.float64)
    e.log_density(e.features(x, Workspace(), "f"), e.natural(theta), out, False)
    exact = ss.t(1.7, centre + 0.4 * scale, scale / 2.3**0.5).logpdf(x[:, 0])
    np.testing.assert_allclose(out[0, :, 0] + e.log_base(x), exact, rtol=1e-12)
    found = {name: float(value) for name, (value, _) in e.user(theta).items()}
    assert found == pytest.approx({"mean": 2.6, "scale": scale / 2.3**0.5, "dof": 1.7})


def test_density_of_negative_binomial_is_scipys():
    mean, a, b = 2.5, 0.7, 1.9
    e = NegativeBinomial((0,), 1, mean * ONE)
    x = torch.tensor([[0.0], [1.0], [7.0], [400.0]], dtype=torch.float64)
    theta = {"size": a * ONE.reshape(1, 1, 1), "rate": b * ONE.reshape(1, 1, 1)}
    out = torch.empty(1, 4, 1, dtype=torch.float64)
    e.log_density(e.features(x, Workspace(), "f"), e.natural(theta), out, False)
    mu = mean * a / b
    exact = ss.nbinom(a, a / (a + mu))
    np.testing.assert_allclose(out[0, :, 0] + e.log_base(x), exact.logpmf(x[:, 0]), rtol=1e-12)
    user = {name: float(value) for name, (value, _) in e.user(theta).items()}
    assert user["mean"] == pytest.approx(exact.mean())
    assert user["mean"] + user["dispersion"] * user["mean"] ** 2 == pytest.approx(exact.var())


def by_grid(e, S, log_prior, axes, sites):
    """Log Z and E[η] by the sum over a grid of unconstrained parameters: nothing but p(θ) exp⟨S, η(θ)⟩."""
    grid = torch.meshgrid(*[torch.as_tensor(axis) for axis in axes], indexing="ij")
    flat = [g.reshape(-1, 1, 1) for g in grid]
    theta = sites(*flat)
    eta = e.natural(theta)[:, 0, 0]
    log_p = torch.as_tensor(log_prior(*[f[:, 0, 0].numpy() for f in flat])) + eta @ S[0, 0, 0]
    cell = float(np.prod([axis[1] - axis[0] for axis in axes]))
    p = log_p.softmax(0)
    return float(log_p.logsumexp(0)) + np.log(cell), p @ eta


@pytest.mark.parametrize("cells", [6, 400], ids=["few", "many"])
def test_student_posterior_by_quadrature(cells):
    """Over the mean, the log of the precision, and the log of the degrees of freedom."""
    rng = np.random.default_rng(cells)
    u = rng.gamma(2.0, 0.5, cells)
    x = 0.3 + rng.normal(size=cells) / np.sqrt(u)
    S = torch.tensor([cells, u.sum(), (u * x).sum(), (u * x * x).sum(), np.log(u).sum()]).reshape(1, 1, 1, 5)
    p = NormalPrior(0.3, 4.0, 0.6)
    e = StudentT((0,), 1, 0 * ONE, ONE, p)
    theta = e.draw(S.expand(2_000, 1, 1, 5))
    centres = {"mean": theta["mean"], "tau": theta["precision"].log(), "dof": theta["dof"].log()}
    axes = [
        np.linspace(float(v.mean() - 9 * v.std()), float(v.mean() + 9 * v.std()), 81)
        for v in centres.values()
    ]
    log_z, eta = by_grid(
        e, S,
        lambda m, t, v: ss.norm(0, (p.mean_precision * np.exp(t)) ** -0.5).logpdf(m)
        + ss.gamma(p.dof / 2, scale=2 / (p.dof * p.variance)).logpdf(np.exp(t)) + t
        + ss.norm(np.log(10), 1).logpdf(v),
        axes,
        lambda m, t, v: {"mean": m, "precision": t.exp(), "dof": v.exp()},
    )  # fmt: skip
    assert float(e.log_normalizer(S)) == pytest.approx(log_z, abs=1e-5)
    np.testing.assert_allclose(e.expected_natural(S)[0, 0, 0], eta, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cells", [0, 5, 300], ids=["none", "few", "many"])
def test_negative_binomial_posterior_by_quadrature(cells):
    """Over the logs of size and rate."""
    rng, c, d, sigma = np.random.default_rng(cells), 1.5, 0.8, 1.3
    y = rng.gamma(0.6, 1.5, cells)
    S = torch.tensor([cells, y.sum(), np.log(y).sum()]).double().reshape(1, 1, 1, 3)
    e = NegativeBinomial((0,), 1, 3.0 * ONE, c, d, sigma)
    theta = {name: value.log() for name, value in e.draw(S.expand(2_000, 1, 1, 3)).items()}
    axes = [
        np.linspace(
            float(theta[n].mean() - 14 * theta[n].std()), float(theta[n].mean() + 14 * theta[n].std()), 1201
        )
        for n in ("size", "rate")
    ]
    log_z, eta = by_grid(
        e, S,
        lambda u, v: ss.norm(0, sigma).logpdf(u) + ss.gamma(c, scale=np.exp(u) / d).logpdf(np.exp(v)) + v,
        axes,
        lambda u, v: {"size": u.exp(), "rate": v.exp()},
    )  # fmt: skip
    assert float(e.log_normalizer(S)) == pytest.approx(log_z, abs=1e-6)
    np.testing.assert_allclose(e.expected_natural(S)[0, 0, 0], eta, rtol=1e-5, atol=1e-7)
