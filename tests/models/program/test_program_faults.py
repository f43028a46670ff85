"""What must not end a fit of a user-defined model, and what is said where something does."""

import json
import os
from dataclasses import dataclass

import arviz as az
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from models.program.conftest import Line, Normals

import ppl_models as ppl
from ppl_models.errors import UsageError
from ppl_models.inference.gaussian import GaussianRule, cholesky, covariance_factor, moved
from ppl_models.models.program.density import Density
from ppl_models.models.program.whole import Whole
from ppl_models.testing import check_model


@dataclass(frozen=True)
class Rates(ppl.PyroModel):
    def model(self, data):
        a = pyro.sample("a", dist.Normal(0.0, 5.0))
        b = pyro.sample("b", dist.Normal(0.0, 5.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("y", dist.Poisson(torch.exp(a + b * data["x"])), obs=data["y"])


def counts(seed, n=40):
    rng = np.random.default_rng(seed)
    x = 3 * rng.normal(size=n)
    return pd.DataFrame({"x": x, "y": rng.poisson(np.exp(1 + 0.9 * x)).astype(float)})


@pytest.mark.parametrize(
    "seed", [0, pytest.param(3, marks=pytest.mark.slow), pytest.param(7, marks=pytest.mark.slow)]
)
def test_a_start_that_comes_to_nothing_does_not_end_the_fit(seed):
    fit = ppl.fit(Rates(), counts(seed), seed=seed)
    assert fit.status == "converged"


def test_matrices_that_are_not_positive_definite():
    flat = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64) * 1e8
    root = cholesky(flat)
    torch.testing.assert_close(root @ root.T, flat, rtol=1e-6, atol=1.0)
    assert torch.isfinite(covariance_factor(flat)).all()
    assert torch.isnan(cholesky(flat * torch.nan)).all()
    huge = moved(torch.eye(2, dtype=torch.float64) * 1e-9, -1e12 * flat, 1.0)
    assert torch.isfinite(cholesky(huge)).all()
    state = GaussianRule().init({"loc": torch.zeros(1, 2), "precision": flat[None] * torch.nan})
    assert torch.isnan(state.precision).all()


@dataclass(frozen=True)
class Totals(ppl.PyroModel):
    kind: str = "binomial"

    def model(self, data):
        p = pyro.sample("p", dist.Beta(1.0, 1.0))
        n = data["n"]
        with pyro.plate("rows", len(data)):
            fn = (
                dist.Binomial(n, p) if self.kind == "binomial" else dist.BetaBinomial(50 * p, 50 * (1 - p), n)
            )
            pyro.sample("y", fn, obs=data["y"])


def test_unequal_totals():
    frame = pd.DataFrame({"n": [5, 8, 13, 20], "y": [2, 3, 6, 9]})
    fit = ppl.fit(Totals(), frame, restarts=2)
    assert fit.summary().loc["p", "mean"] == pytest.approx(21 / 48, abs=0.005)
    assert len(fit.predict()) == 4
    assert ppl.fit(Totals("beta"), frame, restarts=2).status == "converged"


@dataclass(frozen=True)
class Sizes(ppl.PyroModel):
    """K groups, one of which is seen alone; hyperparameters are whole numbers of the data."""

    def model(self, data):
        K = data["K"]
        base = torch.zeros(K)
        with pyro.plate("group", K):
            mu = pyro.sample("mu", dist.Normal(data["centre"], 2.0))
        pyro.sample("one", dist.Normal(mu[0] + base[0], data["width"]), obs=data["seen"])
        with pyro.plate("rows", data["N"]):
            z = pyro.sample("z", dist.Categorical(torch.ones(K) / K))
            pyro.sample("y", dist.Normal(mu[z], data["width"]), obs=data["y"])


def test_whole_numbers_are_sizes_and_numbers(tmp_path):
    path = tmp_path / "sizes.json"
    path.write_text(
        json.dumps({"K": 2, "N": 4, "centre": 5, "width": 1, "seen": 3, "y": [4.2, 5.5, 6.1, 3.9]})
    )
    fit = ppl.fit(Sizes(), str(path), restarts=2)
    assert fit.bound.parameters == 2
    assert np.isfinite(fit.elbo)
    assert set(fit.bound.sites.observed) == {"one", "y"}


def test_a_whole_number_is_an_int_and_a_tensor():
    n = Whole(3)
    assert list(range(n)) == [0, 1, 2]
    assert torch.zeros(n).shape == torch.zeros(n, n)[0].shape == (3,)
    assert torch.arange(6).reshape(2, n).shape == (2, 3)
    assert torch.arange(5)[n] == 3
    assert float(n.log()) == pytest.approx(np.log(3))
    assert n.double().dtype == torch.float64
    assert n.expand([2]).tolist() == [3, 3]
    x = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert n.item() == 3
    assert (x * n).tolist() == (n * x).tolist() == [3, 6]
    assert torch.where(x > 1.5, n, 0.0).tolist() == [0, 3]
    assert torch.stack([n.tensor, x[0]]).tolist() == [3, 1]
    for fn in (
        dist.Normal(n, 1.0),
        dist.Normal(0.0, n),
        dist.Normal(n, x),
        dist.Gamma(n, n),
        dist.Poisson(n),
    ):
        assert torch.isfinite(fn.log_prob(torch.tensor(2.0, dtype=torch.float64))).all()


@dataclass(frozen=True)
class Gone(ppl.PyroModel):
    def model(self, data):
        pyro.sample("a", dist.Normal(0.0, 1.0))
        raise BaseException("gone")


def test_whatever_a_model_raises_is_told_with_its_line():
    with pytest.raises(UsageError, match=r"test_program_faults.py, line \d+: .*BaseException: gone"):
        ppl.fit(Gone(), pd.DataFrame({"x": [1.0]}))


class Unspeakable(Exception):
    def __str__(self):
        raise ZeroDivisionError


@dataclass(frozen=True)
class Wanders(ppl.PyroModel):
    fails: bool = False

    def model(self, data):
        os.chdir("/")
        m = pyro.sample("m", dist.Normal(0.0, 10.0))
        if self.fails:
            raise Unspeakable
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(m, 1.0), obs=data["x"])


def test_a_model_that_changes_directory_leaves_the_run_where_it_was_to_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = pd.DataFrame({"x": [1.0, 2.0, 4.0]})
    ppl.fit(Wanders(), data, steps=5, restarts=1).save("run")
    assert (tmp_path / "run" / "run.json").exists()
    with pytest.raises(UsageError, match=r"line \d+: .*Unspeakable \(in: raise Unspeakable\)"):
        ppl.fit(Wanders(fails=True), data)
    assert os.getcwd() == str(tmp_path)


def test_select_on_a_user_defined_model():
    @dataclass(frozen=True)
    class Powers(ppl.PyroModel):
        degree: int = 1

        def model(self, data):
            with pyro.plate("power", self.degree + 1):
                b = pyro.sample("b", dist.Normal(0.0, 3.0))
            powers = torch.stack([data.x**k for k in range(self.degree + 1)])
            with pyro.plate("rows", len(data)):
                pyro.sample("y", dist.Normal(b @ powers, 0.3), obs=data["y"])

    x = np.linspace(-2, 2, 40)
    frame = pd.DataFrame({"x": x, "y": 1 - x + 0.7 * x**2 + 0.3 * np.random.default_rng(0).normal(size=40)})
    fit = ppl.select(Powers(), frame, {"degree": [1, 2, 3]}, restarts=2)
    assert fit.model.degree == 2
    assert {"evidence", "held_out", "loo", "bic"} <= set(fit.candidates[0])


@dataclass(frozen=True)
class Rooted(ppl.PyroModel):
    """The gradient of the branch that is not taken is NaN."""

    def model(self, data):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        shift = torch.where(a > -1e9, a, torch.sqrt(a - a.detach() - 1.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(shift, 1.0), obs=data["x"])


def test_gradients_that_are_no_numbers_are_told():
    with pytest.raises(ppl.PplError, match="gradient") as caught:
        ppl.fit(Rooted(), pd.DataFrame({"x": [1.0, 2.0]}), restarts=2)
    assert "'x'" in str(caught.value)


@dataclass(frozen=True)
class Derived(ppl.PyroModel):
    """A line, with its values as a deterministic site of the rows."""

    def model(self, data):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(data)):
            mu = pyro.deterministic("mu", a + b * data["x"])
            pyro.sample("y", dist.Normal(mu, 0.5), obs=data["y"])


@pytest.mark.slow
def test_a_deterministic_of_rows_keeps_the_contract():
    check_model(Derived(), rows=40, restarts=2)


def test_deterministics_of_new_rows():
    x = np.linspace(-1, 1, 20)
    fit = ppl.fit(Derived(), pd.DataFrame({"x": x, "y": 0.5 + x}), restarts=2)
    table = fit.predict(pd.DataFrame({"x": [0.0, 2.0]}))
    assert {"mu_mean", "mu_sd", "y_mean"} <= set(table)
    values = fit.bound.values(fit.posterior_draws.theta)
    assert table["mu_mean"][1] == pytest.approx(float((values["a"] + 2 * values["b"]).mean()), abs=0.02)
    assert table["mu_sd"][1] < table["y_sd"][1]


@dataclass(frozen=True)
class Ordinal(ppl.PyroModel):
    """Pyro's ordered logistic, which writes into a tensor."""

    def model(self, data):
        b = pyro.sample("b", dist.Normal(0.0, 2.0))
        low = pyro.sample("low", dist.Normal(0.0, 2.0))
        gap = pyro.sample("gap", dist.HalfNormal(2.0))
        cuts = torch.stack([low, low + gap])
        with pyro.plate("rows", len(data)):
            pyro.sample("y", dist.OrderedLogistic(b * data["x"], cuts), obs=data["y"])


@dataclass(frozen=True)
class Shares(ppl.PyroModel):
    def model(self, data):
        p = pyro.sample("p", dist.Dirichlet(torch.ones(3)))
        with pyro.plate("rows", 4):
            pyro.sample("n", dist.Multinomial(6, p), obs=data["n"])


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (Ordinal(), pd.DataFrame({"x": np.linspace(-2, 2, 30), "y": np.repeat([0.0, 1.0, 2.0], 10)})),
        (Shares(), {"n": np.array([[1, 2, 3], [0, 0, 6], [2, 2, 2], [3, 1, 2]])}),
    ],
)
def test_writing_into_tensors_is_done_for_many_points_at_once(model, data):
    fit = ppl.fit(model, data, restarts=2)
    density = fit.bound.density
    assert density.path == "vmap"
    assert density.sites.writes
    points = torch.randn(
        3, fit.bound.parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    loop = Density(fit.model, density.columns, density.sites, record=False)
    loop.path = "loop"
    for a, b in zip(density(points), loop(points), strict=True):
        torch.testing.assert_close(a, b)


def test_steps_are_those_that_were_taken():
    fit = ppl.fit(Line(), pd.DataFrame({"x": [0.0, 1.0, 2.0], "y": [1.0, 2.0, 2.5]}), steps=2, restarts=2)
    assert fit.status == "max_steps"
    assert fit.trained.steps == 2
    assert "after 2 steps" in fit.trained.reason


@dataclass(frozen=True)
class Flat(ppl.PyroModel):
    improper = True

    def model(self, data):
        mean = pyro.sample("mean", dist.ImproperUniform(dist.constraints.real, (), ()))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(mean, 2.0), obs=data["x"])


def test_improper_priors_on_request():
    x = np.array([1.0, 2.5, 4.0])
    fit = ppl.fit(Flat(), pd.DataFrame({"x": x}), restarts=2)
    assert float(fit.params["loc"]) == pytest.approx(x.mean(), abs=1e-6)
    assert float(fit.params["precision"]) == pytest.approx(3 / 4, abs=1e-6)
    with pytest.raises(ppl.PplError, match="the prior of site 'mean' is improper"):
        _ = fit.prior


def test_prior_and_its_predictions():
    fit = ppl.fit(Normals(), pd.DataFrame({"x": [1.0, 2.5, 4.0]}), restarts=2)
    mean = fit.prior["prior"]["mean"].to_numpy()
    assert mean.std() == pytest.approx(10.0, rel=0.1)
    drawn = fit.prior["prior_predictive"]["x"].to_numpy()
    assert drawn.shape == (1, 1_000, 3)
    assert drawn.std() == pytest.approx(np.sqrt(104), rel=0.1)
    table = fit.sample(draws=500, prior=True)
    assert table["x"].std() == pytest.approx(np.sqrt(104), rel=0.15)


@pytest.mark.slow
def test_log_likelihood_is_by_site():
    @dataclass(frozen=True)
    class Two(ppl.PyroModel):
        dims = {"b": ["predictor"]}
        coords = {"predictor": ["one", "x"]}

        def model(self, data):
            b = pyro.sample("b", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            mu = data["X"] @ b
            with pyro.plate("n", 4):
                pyro.sample("y", dist.Normal(mu, 1.0), obs=data["y"])
                pyro.factor("extra", -0.5 * (mu - 1) ** 2)

    X = np.c_[np.ones(4), np.arange(4.0)]
    y = np.array([0.5, 1.0, 2.5, 2.0])
    fit = ppl.fit(Two(), {"X": X, "y": y}, restarts=2)
    b = fit.posterior["posterior"]["b"]
    assert b.dims == ("chain", "draw", "predictor")
    assert list(b.coords["predictor"].values) == ["one", "x"]
    found = fit.posterior["log_likelihood"]
    mu = b.to_numpy()[0] @ X.T
    assert set(found) == {"y", "extra"}
    np.testing.assert_allclose(found["y"][0], -0.5 * (y - mu) ** 2 - 0.5 * np.log(2 * np.pi), atol=1e-9)
    np.testing.assert_allclose(found["extra"][0], -0.5 * (mu - 1) ** 2, atol=1e-9)
    np.testing.assert_array_equal(fit.posterior["observed_data"]["y"], y)
    assert fit.posterior["posterior_predictive"]["y"].shape[2] == 4


def test_where_a_fit_begins_and_how_many_draws_it_has():
    frame = pd.DataFrame({"x": [1.0, 2.5, 4.0]})
    fit = ppl.fit(Normals(), frame, restarts=1, init={"mean": 3.0}, draws=321)
    assert fit.posterior_draws.draws == 321
    for init, message in (
        ({"means": 1.0}, "no site 'means'"),
        ({"mean": [1.0, 2.0]}, "numbers of the shape"),
    ):
        with pytest.raises(UsageError, match=message):
            ppl.fit(Normals(), frame, init=init)
    assert ppl.fit(Normals(), frame, budget=1e-3).status in ("converged", "max_steps")


@pytest.mark.slow
def test_moved_chains_have_their_r_hat_and_sample_size():
    @dataclass(frozen=True)
    class Bent(ppl.PyroModel):
        def model(self, data):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            with pyro.plate("rows", len(data)):
                b = pyro.sample("b", dist.Normal(a**2, 0.3))
                pyro.sample("x", dist.Normal(b, 1.0), obs=data["x"])

    fit = ppl.fit(Bent(), pd.DataFrame({"x": [0.5, 1.0]}), restarts=2)
    assert fit.calibrated.method == "moved"
    table = fit.summary()
    assert (table["r_hat"] < 1.05).all()
    assert table["ess"].between(500, 8_000).all()
    assert list(table)[:4] == ["mean", "sd", "hdi_5.5%", "hdi_94.5%"]


def test_new_predictors_without_what_is_predicted_in_arrays():
    @dataclass(frozen=True)
    class Linear(ppl.PyroModel):
        def model(self, data):
            b = pyro.sample("b", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            with pyro.plate("n", len(data["X"])):
                pyro.sample("y", dist.Normal(data["X"] @ b, 0.1), obs=data["y"])

    X = np.c_[np.ones(6), np.arange(6.0)]
    fit = ppl.fit(Linear(), {"X": X, "y": X @ [1.0, 0.5]}, restarts=2)
    table = fit.sample({"X": np.array([[1.0, 10.0], [1.0, 20.0]])})
    np.testing.assert_allclose(table["y"], [6.0, 11.0], atol=1.0)


def test_an_option_that_there_is_not_is_named():
    with pytest.raises(UsageError, match="fit has no option 'restart'; did you mean restarts"):
        ppl.fit(Normals(), pd.DataFrame({"x": [1.0, 2.0]}), restart=3)


@dataclass(frozen=True)
class Twice(ppl.PyroModel):
    """Two columns of the same rows, each with missing cells."""

    def model(self, data):
        mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=data["y"])
            pyro.sample("k", dist.Poisson(rate), obs=data["k"])


@pytest.mark.slow
def test_leaving_one_out_of_a_site_with_missing_cells_is_of_those_that_there_are():
    """Against the predictive density of every cell given the others, which is normal."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"y": 1 + rng.normal(size=12), "k": rng.poisson(3.0, 12).astype(float)})
    frame.loc[[3, 7], "y"] = np.nan
    frame.loc[5, "k"] = np.nan
    fit = ppl.fit(Twice(), frame, restarts=2)
    found = {name: az.loo(fit.posterior, var_name=name) for name in ("y", "k")}
    assert {name: loo.n_data_points for name, loo in found.items()} == {"y": 10, "k": 11}
    seen = frame["y"].dropna().to_numpy()
    precision = len(seen) - 1 + 1 / 4
    mean = (seen.sum() - seen) / precision
    variance = 1 + 1 / precision
    exact = (-0.5 * np.log(2 * np.pi * variance) - 0.5 * (seen - mean) ** 2 / variance).sum()
    assert found["y"].elpd_loo == pytest.approx(exact, abs=0.1)
    assert list(fit.posterior["log_likelihood"].coords["k_seen"].values) == [i for i in range(12) if i != 5]
