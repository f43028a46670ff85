"""Data against the model: false alarms are as rare as promised, and what is wrong is found and named."""

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import ppl_models as ppl
from ppl_models import misfit
from ppl_models.checks import Check, Report
from ppl_models.families.cumulative import cumulative
from ppl_models.families.gaussian import whole_numbers
from ppl_models.families.negative_binomial import overdispersed_counts
from ppl_models.families.poisson import poisson_counts

NAME = misfit.NAME


def wrong(fit) -> dict[str, Check]:
    """What is wrong with the model, by column."""
    found = [c for c in fit.check().checks if c.name == NAME and c.level == "warn"]
    return {c.reason.split("'")[1]: c for c in found}


def f(*values):
    return [torch.tensor(v, dtype=torch.float64) for v in values]


@pytest.mark.parametrize(
    ("d", "reference", "x"),
    [
        (dist.Normal(*f(1.0, 2.0)), stats.norm(1, 2), [-3.0, 1.0, 30.0]),
        (dist.StudentT(*f(3.0, 1.0, 2.0)), stats.t(3, 1, 2), [-30.0, 1.0, 80.0]),
        (dist.Gamma(*f(2.0, 0.5)), stats.gamma(2, scale=2), [0.01, 4.0, 60.0]),
        (dist.Exponential(*f(0.5)), stats.expon(scale=2), [0.01, 4.0, 60.0]),
        (dist.Poisson(*f(3.0)), stats.poisson(3), [0.0, 3.0, 20.0]),
        (dist.GammaPoisson(*f(2.0, 0.5)), stats.nbinom(2, 0.5 / 1.5), [0.0, 3.0, 40.0]),
        (dist.NegativeBinomial(*f(4.0, 0.3)), stats.nbinom(4, 0.7), [0.0, 3.0, 20.0]),
        (dist.Binomial(*f(7.0, 0.3)), stats.binom(7, 0.3), [0.0, 3.0, 7.0]),
        (dist.Bernoulli(*f(0.3)), stats.bernoulli(0.3), [0.0, 1.0]),
        (dist.LogNormal(*f(0.0, 1.0)), stats.lognorm(1), [0.1, 1.0, 5.0]),
    ],
    ids=lambda d: type(d).__name__,
)
def test_cumulative_probabilities_are_those_of_scipy(d, reference, x):
    x = np.array(x)
    found = cumulative(d.expand([len(x)]), x)
    np.testing.assert_allclose(found.upto, reference.cdf(x), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found.above, reference.sf(x), rtol=1e-6, atol=1e-12)
    before = x - 1 if hasattr(reference.dist, "pmf") else x
    np.testing.assert_allclose(found.below, reference.cdf(before), rtol=1e-6, atol=1e-12)


def test_a_categorical_is_cumulated_over_its_codes():
    p = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    found = cumulative(dist.Categorical(p).expand([3]), np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(found.below, [0, 0.2, 0.7])
    np.testing.assert_allclose(found.upto, [0.2, 0.7, 1.0])


def test_log_likelihoods_of_counts_are_those_of_scipy_at_their_maximum():
    x, often = np.arange(40.0), stats.nbinom(3, 0.3).pmf(np.arange(40)) * 1_000
    mean = often @ x / often.sum()
    assert poisson_counts(x, often)[0] == pytest.approx(often @ stats.poisson(mean).logpmf(x))
    sizes = np.linspace(1, 10, 500)
    best = max(often @ stats.nbinom(r, r / (r + mean)).logpmf(x) for r in sizes)
    assert overdispersed_counts(x, often)[0] == pytest.approx(best, abs=0.5)
    sd = (often @ (x - mean) ** 2 / often.sum()) ** 0.5
    normal = stats.norm(mean, sd)
    assert whole_numbers(x, often)[0] == pytest.approx(
        often @ np.log(normal.cdf(x + 0.5) - normal.cdf(x - 0.5))
    )


def cells(d, x, name="x", family="gaussian"):
    """Cells of a column under the same distribution in all draws."""
    shape = (misfit.DRAWS, len(x))
    own = cumulative(d, x)
    wide = (np.broadcast_to(part, shape) for part in (*own, d.mean.numpy(), d.variance.numpy()))
    zero = (
        np.broadcast_to(np.exp(d.log_prob(torch.zeros(len(x))).numpy()), shape)
        if family == "poisson"
        else None
    )
    return misfit.Cells(name, family, x, *wide, zero)


def test_of_the_true_model_no_more_alarms_are_raised_than_promised():
    alarms, number, n = 0, 300, 150
    for seed in range(number):
        rng = np.random.default_rng(seed)
        rate = torch.tensor(rng.gamma(2.0, 1.0, n))
        columns = [
            cells(dist.Normal(torch.zeros(n).double(), 1.0), rng.normal(size=n), "a"),
            cells(dist.StudentT(3.0, torch.zeros(n).double(), 1.0), rng.standard_t(3, n), "b"),
            cells(dist.Poisson(rate), rng.poisson(rate.numpy()).astype(float), "c", "poisson"),
        ]
        starts = np.arange(n) % 50 == 0
        alarms += bool(misfit.misfits(columns, starts, seed))
    assert alarms <= 2 * misfit.ALARM * number


@pytest.mark.parametrize(
    ("draw", "statistic"),
    [
        (lambda rng, n: 1.4 * rng.normal(size=n), "dispersion"),
        (lambda rng, n: 0.7 * rng.normal(size=n), "dispersion"),
        (lambda rng, n: rng.exponential(size=n) - 1, "skewness"),
        (lambda rng, n: rng.standard_t(3, n) / 3**0.5, "tails"),
        (lambda rng, n: np.append(rng.normal(size=n - 1), 8.0), "extremes"),
        (lambda rng, n: np.convolve(rng.normal(size=n + 1), [0.8, 0.6], "valid"), "autocorrelation"),
    ],
)
def test_each_statistic_sees_what_it_is_for(draw, statistic):
    n = 600
    x = draw(np.random.default_rng(1), n)
    found = misfit.misfits([cells(dist.Normal(torch.zeros(n).double(), 1.0), x)], np.arange(n) == 0)
    assert statistic in {each.statistic for each in found}


def test_missing_cells_are_left_out_and_break_neighbours():
    n = 400
    rng = np.random.default_rng(0)
    x = np.where(np.arange(n) % 2, np.nan, 5 + np.arange(n) / 50 % 2)
    column = cells(dist.Normal(torch.full((n,), 6.0).double(), 0.6), x)
    found = misfit.of_column(column, np.arange(n) == 0, rng, "")
    assert "autocorrelation" not in {each.statistic for each in found}  # no two cells are neighbours


def test_a_random_walk_wanders_and_regimes_do_not():
    rng = np.random.default_rng(2)
    n = 500
    starts = np.arange(n) == 0
    walk = np.cumsum(rng.normal(size=n))
    regimes = 3.0 * (np.arange(n) // 50 % 2) + rng.normal(size=n)
    assert misfit.wanders(walk, starts)
    assert misfit.wanders(0.05 * np.arange(n) + rng.normal(size=n), starts)
    assert not misfit.wanders(regimes, starts)
    assert not misfit.wanders(rng.normal(size=n), starts)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_unit_root_statistic_is_that_of_statsmodels():
    from statsmodels.tsa.stattools import adfuller

    x = np.cumsum(np.random.default_rng(3).normal(size=200))
    own = misfit.unit_root(x, np.arange(200) == 0)
    assert own == pytest.approx(adfuller(x, maxlag=1, autolag=None)[0], rel=1e-6)


def overdispersed(seed, n=400, mean=6.0, size=1.5):
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(size, mean / size, n))


def test_overdispersed_counts_are_named_with_the_family_that_would_do():
    found = wrong(ppl.fit(ppl.GMM(components=1), pd.DataFrame({"visits": overdispersed(0)})))
    assert "negative_binomial" in found["visits"].reason
    assert "dispersion" in found["visits"].value
    assert "variance" in found["visits"].reason
    better = ppl.GMM(components=1, emission="negative_binomial")
    assert not wrong(ppl.fit(better, pd.DataFrame({"visits": overdispersed(0)})))


def test_one_wider_component_instead_of_many():
    data = pd.DataFrame({"visits": overdispersed(1, 600)})
    reason = wrong(ppl.fit(ppl.GMM(components=4), data, restarts=3))["visits"].reason
    assert "negative_binomial with one component has" in reason


def test_whole_numbers_that_are_no_counts():
    x = np.rint(np.random.default_rng(0).normal(12, 1.2, 300)).clip(9)
    fit = ppl.fit(ppl.GMM(components=1), pd.DataFrame({"x": x}), types={"x": "count"})
    assert "--emission=x=gaussian" in wrong(fit)["x"].reason
    assert "emission='x=gaussian'" in repr(fit.check()).replace("\n        ", " ")


def test_a_value_of_many_rows_is_named():
    rng = np.random.default_rng(0)
    gain = np.where(rng.random(500) < 0.6, 0.0, rng.normal(50, 10, 500))
    data = pd.DataFrame({"gain": gain, "other": rng.normal(size=500)})
    found = wrong(ppl.fit(ppl.GMM(components=1), data, restarts=1))
    assert list(found) == ["gain"]
    assert found["gain"].reason.endswith("% of its cells are 0: try --marginals=auto")
    apart = wrong(ppl.fit(ppl.GMM(components=1, marginals="auto"), data, restarts=1))
    assert not apart


def test_excess_zeros():
    rng = np.random.default_rng(0)
    x = rng.poisson(6, 400) * (rng.random(400) > 0.1)
    found = wrong(ppl.fit(ppl.GMM(components=1), pd.DataFrame({"x": x})))
    assert "zeros" in found["x"].value


def test_heavy_tails():
    x = np.random.default_rng(0).standard_t(2.5, 600)
    found = wrong(ppl.fit(ppl.GMM(components=1), pd.DataFrame({"x": x})))
    assert "student_t" in found["x"].reason
    assert not wrong(ppl.fit(ppl.GMM(components=1, emission="student_t"), pd.DataFrame({"x": x})))


def test_a_price_trends_and_returns_do_not():
    rng = np.random.default_rng(0)
    returns = 0.02 * rng.normal(size=300) + 0.002
    prices = pd.DataFrame({"price": 100 * np.exp(np.cumsum(returns))})
    fit = ppl.fit(ppl.HMM(states=2), prices, restarts=2)
    assert "differences, or returns" in wrong(fit)["price"].reason
    with pytest.warns(UserWarning, match="random walk"):
        fit.forecast(3)
    assert not wrong(ppl.fit(ppl.HMM(states=1), pd.DataFrame({"r": returns})))


@pytest.mark.slow
@pytest.mark.parametrize("model", [ppl.GMM(components=2), ppl.HMM(states=2)], ids=["gmm", "hmm"])
def test_fits_of_the_right_model_raise_few_alarms(model):
    alarms, number, n = 0, 40, 200
    for seed in range(number):
        rng = np.random.default_rng(seed)
        z = np.arange(n) // 20 % 2
        data = pd.DataFrame({"x": rng.normal(4 * z, 1.0), "visits": rng.poisson(2 + 6 * z)})
        alarms += bool(wrong(ppl.fit(model, data, restarts=2, seed=seed)))
    assert alarms <= 2


def test_a_curved_effect_of_a_regression():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 500))
    y = rng.random(500) < 1 / (1 + np.exp(1 - x**2))
    data = pd.DataFrame({"x": x, "w": w, "y": np.where(y, "yes", "no")})
    assert [*wrong(ppl.fit(ppl.Logistic(), data, target="y"))][0] == "x"
    straight = rng.random(500) < 1 / (1 + np.exp(-x))
    fit = ppl.fit(ppl.Logistic(), data.assign(y=np.where(straight, "yes", "no")), target="y")
    assert not wrong(fit)
    assert fit.check().predictions == "trusted"


def test_predictions_are_judged_apart_from_parameters():
    bad = Check("k-hat", 2.0, "fail", "")
    good = Check("classes", 0.98, "ok", "", "predictions")
    assert (Report((bad,)).verdict, Report((bad,)).predictions) == ("not trusted", "not trusted")
    assert (Report((bad, good)).verdict, Report((bad, good)).predictions) == ("not trusted", "trusted")
    both = Check("model against data", {}, "warn", "", "both")
    assert (Report((good, both)).verdict, Report((good, both)).predictions) == ("use with care",) * 2


@pytest.mark.slow
def test_a_selection_says_that_it_ended_at_its_edge():
    z = np.arange(240) % 4
    data = pd.DataFrame({"x": np.random.default_rng(0).normal(8.0 * z, 1.0)})
    fit = ppl.select(ppl.GMM(), data, {"components": range(1, 4)}, restarts=3)
    check = next(c for c in fit.check().checks if c.name == "selection")
    assert check.level == "warn"
    assert "components=range(3, 7)" in repr(fit)
    inside = ppl.select(ppl.GMM(), data, {"components": [2, 4, 5]}, restarts=4)
    assert next(c for c in inside.check().checks if c.name == "selection").level == "ok"


def test_a_table_like_the_replicates_is_one_of_them():
    """With 100 replicates one in 101 tables is told apart: over 9 of 300 has a probability of 0.2 %."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        y = rng.negative_binomial(0.3, 0.1, (101, 200)).astype(float)
        alarms += bool(misfit.replicated({"y": y[0]}, {"y": y[1:]}))
    assert alarms <= 9
