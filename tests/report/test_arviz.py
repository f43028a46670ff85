"""ArviZ's functions on `fit.posterior`, on both of its lines: each is tried."""

import warnings

import numpy as np
import pytest

import ppl_models as ppl
from ppl_models.posterior import moments_of, parameters_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import arviz as az
    import matplotlib

    matplotlib.use("Agg")

NEW = int(az.__version__.split(".")[0]) >= 1
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def fits():
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    data = {"x": x, "y": 1 + 2 * x + rng.normal(size=60)}
    t = np.arange(60)
    return {
        "glm": ppl.fit(ppl.GLM(), data, target="y"),
        "level": ppl.fit(ppl.GLM(formula="y ~ 1"), data),
        "hmm": ppl.fit(ppl.HMM(states=2), {"x": rng.normal(4.0 * (t // 10 % 2), 1.0)}, restarts=1),
    }


def test_summary(fits):
    table = az.summary(fits["glm"].posterior, kind="stats")
    assert "coefficient[x]" in table.index
    assert float(table.loc["coefficient[x]", "mean"]) == pytest.approx(2.0, abs=0.5)
    assert "transition[0, 1]" in az.summary(fits["hmm"].posterior).index


def test_loo_and_compare(fits):
    loo = az.loo(fits["glm"].posterior)
    assert (loo.elpd if NEW else loo.elpd_loo) == pytest.approx(fits["glm"].trained.elbo, abs=15)
    table = az.compare({name: fits[name].posterior for name in ("level", "glm")})
    assert table.index[0] == "glm"


def test_from_netcdf(fits, tmp_path):
    path = fits["hmm"].save(tmp_path / "run")
    again = az.from_netcdf(str(path / "posterior.nc"))
    ours = fits["hmm"].posterior
    np.testing.assert_array_equal(again["posterior"]["transition"], ours["posterior"]["transition"])
    assert {*again["posterior"].data_vars} == {*ours["posterior"].data_vars}


PLOTS = {
    "plot_trace": {},
    "plot_forest": {},
    "plot_pair": {},
    "plot_ppc_dist" if NEW else "plot_ppc": {"num_samples" if NEW else "num_pp_samples": 20},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glm", "hmm"])
@pytest.mark.parametrize("plot", PLOTS)
def test_plots(fits, name, plot):
    options = dict(PLOTS[plot])
    if plot in ("plot_trace", "plot_forest", "plot_pair"):
        options["var_names"] = ["intercept", "coefficient"] if name == "glm" else ["mean", "start"]
    assert getattr(az, plot)(fits[name].posterior, **options) is not None
    if not NEW:
        import matplotlib.pyplot as plt

        plt.close("all")


@pytest.fixture
def chained(monkeypatch):
    """A short fit by Markov chains."""
    from ppl_models.inference import chains

    monkeypatch.setattr(chains, "WARMUP", 200)
    monkeypatch.setattr(chains, "DRAWS", 150)
    rng = np.random.default_rng(1)
    x = rng.normal(size=40)
    y = np.where(x + rng.logistic(size=40) > 0, "u", "v")
    return ppl.fit(ppl.Logistic(), {"x": x, "y": y}, target="y", method="nuts")


def test_markov_chains_stay_apart_and_in_order(chained, tmp_path):
    own = chained.calibrated
    draws = chained.bound.theta(own.params["points"])
    slope = chained.bound.variables(draws)[0]["coefficient"][1].reshape(4, 150)
    posterior = chained.posterior
    np.testing.assert_array_equal(posterior["posterior"]["coefficient"].to_numpy()[..., 0], slope)
    table = az.summary(posterior, round_to="none")
    r_hat = float(az.rhat(slope) if not NEW else az.rhat(slope, chain_axis=0, draw_axis=1))
    assert float(table.loc["coefficient[x]", "r_hat"]) == pytest.approx(r_hat, abs=0.006)
    assert r_hat > 1  # four chains are never quite alike; halves of one in random order are not compared
    for name in ("log_likelihood", "sample_stats", "posterior_predictive"):
        assert posterior[name].sizes["chain"] == 4, name
    first = chained.draws["regression"]["coefficient"].reshape(150, 4).mean(0)
    np.testing.assert_allclose(first, draws["regression"]["coefficient"].reshape(4, 150).mean(1))
    for slim in (False, True):  # verbs and runs go on as they did
        again = ppl.load(chained.save(tmp_path / f"run{slim}", slim=slim))
        np.testing.assert_array_equal(again.posterior["posterior"]["coefficient"][..., 0], slope)
    later = {"x": [0.0, 1.0]}
    np.testing.assert_array_equal(
        again.predict(later)["probability_u"], chained.predict(later)["probability_u"]
    )


def test_the_summary_is_that_of_arviz(fits):
    """Names, means, sds and narrowest intervals, of parameters with and without dimensions."""
    for name in ("hmm", "glm"):
        posterior = parameters_of(fits[name])
        one = next(iter(posterior.data_vars))
        posterior["alone"] = posterior[one].mean(
            [d for d in posterior[one].dims if d not in ("chain", "draw")]
        )
        share = {"ci_kind": "hdi", "ci_prob": 0.8} if NEW else {"hdi_prob": 0.8}
        table = az.summary(posterior, kind="stats", round_to="none", **share).iloc[:, [0, 1, -2, -1]]
        own = moments_of(posterior, 0.8)
        assert own.index.tolist() == table.index.tolist()
        np.testing.assert_allclose(own.to_numpy(), table.to_numpy(dtype=float), rtol=1e-12)
