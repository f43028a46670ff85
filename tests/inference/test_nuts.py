"""The no-U-turn sampler against distributions that are known, and where it loses its way."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest, loggamma, norm

import ppl_models as ppl
from ppl_models.errors import Unsupported
from ppl_models.inference.chains import mixing_of, too_large
from ppl_models.inference.nuts import nuts

COVARIANCE = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 25.0]], dtype=torch.float64)
MEAN = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)


def gaussian(u):
    x = (u - MEAN) @ torch.linalg.inv(COVARIANCE)
    return -0.5 * (x * (u - MEAN)).sum(1), -x


def log_gamma(u):
    return (2.0 * u - u.exp()).sum(1), 2.0 - u.exp()


def run(density, dimension, *, seed=0, chains=24, draws=150, warmup=200):
    torch.manual_seed(seed)
    start = 4 * torch.rand(chains, dimension, dtype=torch.float64) - 2
    return nuts(density, start, draws=draws, warmup=warmup)


@pytest.mark.slow
def test_draws_of_a_correlated_normal_are_of_it():
    found = run(gaussian, 3)
    draws = found.points.numpy()
    mixing = mixing_of(draws)
    assert mixing.r_hat.max() < 1.02
    assert mixing.ess.min() > 400
    x = draws.reshape(-1, 3)
    error = np.sqrt(COVARIANCE.diagonal().numpy() / mixing.ess)
    assert (np.abs(x.mean(0) - MEAN.numpy()) < 4 * error).all()
    assert np.cov(x.T) == pytest.approx(COVARIANCE.numpy(), rel=0.15, abs=0.35)
    assert found.divergent.sum() == 0
    assert 0.7 < float(found.accepted.mean()) < 0.99


def test_draws_of_a_skewed_density_have_its_quantiles():
    found = run(log_gamma, 1, draws=200)
    thinned = found.points[:, ::10].flatten().numpy()
    assert kstest(thinned, loggamma(2).cdf).pvalue > 1e-3


def test_one_path_leaves_the_density_as_it_is():
    """From draws of the density itself, without any warm-up: what is drawn follows it too."""
    torch.manual_seed(1)
    start = torch.randn(3_000, 2, dtype=torch.float64) * torch.tensor([1.0, 3.0], dtype=torch.float64)

    def density(u):
        s = torch.tensor([1.0, 3.0], dtype=torch.float64)
        return -0.5 * ((u / s) ** 2).sum(1), -u / s**2

    found = nuts(density, start, draws=1, warmup=0).points[:, 0].numpy()
    assert kstest(found[:, 0], norm(0, 1).cdf).pvalue > 1e-3
    assert kstest(found[:, 1], norm(0, 3).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(found.T, start.numpy().T)[0, 2]) < 0.9  # it moves


def test_equal_seeds_give_equal_chains():
    one, two = run(log_gamma, 1, chains=2, draws=20), run(log_gamma, 1, chains=2, draws=20)
    assert torch.equal(one.points, two.points)


def test_a_cliff_loses_paths():
    """A normal that ends at 0, whose gradient knows nothing of that."""

    def cliff(u):
        return torch.where(u[:, 0] > 0, -0.5 * u[:, 0] ** 2, -torch.inf), -u

    torch.manual_seed(0)
    found = nuts(cliff, torch.rand(16, 1, dtype=torch.float64) + 0.1, draws=150, warmup=0)
    assert found.divergent.sum() > 0
    assert float(found.points.min()) > 0


def test_chains_that_stay_apart_have_a_large_r_hat():
    def two(u):
        a, b = -0.5 * (u[:, 0] - 20) ** 2, -0.5 * (u[:, 0] + 20) ** 2
        share = torch.sigmoid(a - b)
        return torch.logaddexp(a, b), (share * (20 - u[:, 0]) + (1 - share) * (-20 - u[:, 0]))[:, None]

    assert mixing_of(run(two, 1, chains=4, draws=60, warmup=60).points.numpy()).r_hat[0] > 1.5


# As a method of a fit


def short(monkeypatch):
    """Chains of a tenth of their length."""
    from ppl_models.inference import chains

    monkeypatch.setattr(chains, "WARMUP", 200)
    monkeypatch.setattr(chains, "DRAWS", 300)


def flips() -> pd.DataFrame:
    x = np.random.default_rng(0).normal(size=80)
    y = np.random.default_rng(1).random(80) < 1 / (1 + np.exp(-x))
    return pd.DataFrame({"x": x, "y": np.where(y, "yes", "no")})


@pytest.mark.slow
def test_a_regression_by_nuts_is_that_by_the_guide(monkeypatch, tmp_path):
    short(monkeypatch)
    usual = ppl.fit(ppl.Logistic(), flips(), target="y")
    chained = ppl.fit(ppl.Logistic(), flips(), target="y", method="nuts")
    a, b = (fit.bound.variables(fit.posterior_draws.theta)[0] for fit in (usual, chained))
    for name in a:
        x, y = a[name][1].reshape(4_000, -1), b[name][1].reshape(1_200, -1)
        assert (np.abs(x.mean(0) - y.mean(0)) < 0.25 * x.std(0)).all()
        assert y.std(0) == pytest.approx(x.std(0), rel=0.2)
    report = chained.check()
    assert report.verdict == "trusted", report
    assert {"R-hat", "effective draws"} <= {check.name for check in report.checks}
    assert "restarts agree" not in {check.name for check in report.checks}
    again = ppl.load(chained.save(tmp_path / "run"))
    assert np.array_equal(again.posterior_draws.log_p, chained.posterior_draws.log_p)
    assert again.check().to_dict() == report.to_dict()
    assert again.settings.method == "nuts"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (ppl.GMM(), "gmm has no chains of its own"),
        (ppl.SVM(), "svm has a pseudo-likelihood"),
        (ppl.Logistic(prior="horseshoe"), "has Markov chains of its own under a horseshoe"),
    ],
)
def test_where_there_are_no_chains_it_is_refused(model, said):
    with pytest.raises(Unsupported, match=said):
        ppl.fit(model, flips(), target="y", method="nuts")


def test_what_is_too_large_is_refused():
    assert "has 301 parameters" in too_large(301, 10)
    assert "has 60,000 numbers" in too_large(10, 60_000)
    assert not too_large(10, 10)
    rng = np.random.default_rng(0)
    wide = {f"x{j}": rng.normal(size=400) for j in range(301)} | {"y": ["yes", "no"] * 200}
    with pytest.raises(Unsupported, match="302 parameters, and chains are for 300 at most; leave it out"):
        ppl.fit(ppl.Logistic(), wide, target="y", method="nuts")


def test_a_compiled_density_is_the_density():
    """Also where it has no value, or no gradient."""
    import pyro
    import pyro.distributions as dist

    @dataclass(frozen=True)
    class Scale(ppl.PyroModel):
        """A scale that may be too large to be a number."""

        def model(self, data):
            s = pyro.sample("s", dist.LogNormal(0.0, 1.0))
            with pyro.plate("rows", len(data)):
                pyro.sample("x", dist.Normal(0.0, s), obs=data["x"])

    density = ppl.fit(Scale(), {"x": np.array([0.5, -1.0, 2.0])}, restarts=1).bound.density
    points = torch.tensor([[0.0], [0.5], [-0.3], [1.0]], dtype=torch.float64)
    wanted = density(points)
    density.patience = 0.0
    for _ in range(3):
        value, slope = density(points)
    assert 4 in density._compiled
    np.testing.assert_allclose(value, wanted[0])
    np.testing.assert_allclose(slope, wanted[1])
    points[2] = 2_000.0  # e^2000 is no number
    value, slope = density(points)
    assert value[2] == -np.inf
    assert slope[2] == 0
    np.testing.assert_allclose(value[[0, 1, 3]], wanted[0][[0, 1, 3]])
