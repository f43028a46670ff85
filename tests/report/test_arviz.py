"""ArviZ's functions on `fit.posterior`, on both of its lines: each is tried."""

import warnings

import numpy as np
import pytest

import ppl_models as ppl

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
