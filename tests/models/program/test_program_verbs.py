"""What models of one's own see, say, save and refuse."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from click.testing import CliRunner
from models.program.conftest import OWN, ROOT, Line, Mixture, Normals

import ppl_models as ppl
from ppl_models import registry
from ppl_models.cli.root import ppl as command
from ppl_models.data import read
from ppl_models.errors import DataError, RunError, Unsupported, UsageError
from ppl_models.models.program.columns import Columns


def line(n=40, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return pd.DataFrame({"x": x, "y": 1 + 2 * x + 0.5 * rng.normal(size=n)})


def test_columns():
    data = read(pd.DataFrame({"x": [1.5, 2.5, 3.5], "kind": ["a", "b", "c"], "yes": ["n", "y", "n"]}))
    columns = Columns(data, data.schema)
    assert columns["x"].dtype == torch.float64
    assert columns.kind.tolist() == [0, 1, 2]
    assert columns["kind"].dtype == torch.int64
    assert columns["yes"].tolist() == [0.0, 1.0, 0.0]
    assert (len(columns), "x" in columns, "z" in columns) == (3, True, False)
    assert columns.levels("kind") == ("a", "b", "c")
    assert columns.lengths == (3,)
    with pytest.raises(DataError, match="has no column 'z'; it has 'x', 'kind', 'yes'"):
        columns["z"]


def test_arrays_of_other_shapes(tmp_path):
    path = tmp_path / "shapes.json"
    path.write_text(json.dumps({"J": 2, "y": [1.5, 2, 3], "matrix": [[1, 0], [0, 1]], "w": [1, 2, 4]}))
    data = read(str(path))
    assert data.names == ("y", "w")
    assert data.rows == 3
    columns = Columns(data, data.schema)
    assert columns["J"] == 2
    assert columns["matrix"].shape == (2, 2)
    again = read({"J": 2, "y": [1.5, 2, 3], "matrix": np.eye(2), "w": [1, 2, 4]})
    assert again.sha256 == data.sha256
    assert read({"J": 3, "y": [1.5, 2, 3], "matrix": np.eye(2), "w": [1, 2, 4]}).sha256 != data.sha256
    apart = read({"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0], "n": 4})
    assert apart.rows == 0
    assert Columns(apart, apart.schema)["b"].shape == (3,)
    with pytest.raises(DataError, match="'matrix': lists that differ in length"):
        read({"matrix": [[1], [1, 2]], "y": [1.0, 2.0]})
    with pytest.raises(DataError, match="gmm takes a table; J, matrix have other shapes"):
        ppl.fit(ppl.GMM(components=2), str(path))


@dataclass(frozen=True)
class Schools(ppl.PyroModel):
    """Effects that have nothing in common, of as many schools as an array says."""

    def model(self, data):
        with pyro.plate("school", data["J"]):
            theta = pyro.sample("theta", dist.Normal(0.0, 10.0))
            pyro.sample("y", dist.Normal(theta, data["sigma"]), obs=data["y"])


@pytest.mark.slow
def test_arrays_are_saved(tmp_path):
    fit = ppl.fit(Schools(), str(OWN / "eight_schools.json"), restarts=2)
    path = fit.save(tmp_path / "run")
    again = ppl.load(path, Schools)
    np.testing.assert_array_equal(again.posterior_draws.log_p, fit.posterior_draws.log_p)
    assert again.data.arrays["J"] == 8
    assert again.posterior["posterior"]["theta"].dims == ("chain", "draw", "school")
    assert len(again.predict()) == 8


def test_predict_for_rows_without_what_is_predicted():
    fit = ppl.fit(Line(), line(), restarts=2)
    table = fit.predict(pd.DataFrame({"x": [0.0, 1.0, 10.0]}))
    np.testing.assert_allclose(table["y_mean"], [1, 3, 21], atol=1.0)
    assert list(table) == ["y_mean", "y_sd", "y_lower", "y_upper"]
    with pytest.raises(DataError, match="has no values of column 'y', which line observes"):
        fit.score(pd.DataFrame({"x": [0.0, 1.0]}))
    with pytest.raises(DataError, match="has no values of column 'x', which line needs"):
        fit.predict(pd.DataFrame({"y": [0.0, 1.0]}))
    assert fit.score(line(5)).shape == (5, 1)


def test_missing_cells_of_what_is_observed_are_masked_exactly():
    frame = line()
    frame.loc[::4, "y"] = np.nan
    fit, without = ppl.fit(Line(), frame, restarts=2), ppl.fit(Line(), frame.dropna(), restarts=2)
    torch.testing.assert_close(fit.params["loc"], without.params["loc"], atol=1e-6, rtol=1e-6)
    filled = fit.impute()
    assert filled["y"].notna().all()
    assert filled["y_sd"].notna().sum() == 10
    holes = frame["y"].isna()
    truth = 1 + 2 * frame["x"][holes]
    assert np.abs(filled["y"][holes] - truth).max() < 1


def test_missing_cells_elsewhere_are_refused():
    frame = line()
    frame.loc[3, "x"] = np.nan
    with pytest.raises(
        DataError, match="column 'x' has 1 missing cells, and is not one that the model observes"
    ):
        ppl.fit(Line(), frame)


@pytest.mark.slow
def test_discrete_latents_of_rows():
    x = np.r_[np.full(30, -3.0), np.full(20, 3.0)] + 0.5 * np.random.default_rng(0).normal(size=50)
    fit = ppl.fit(Mixture(), pd.DataFrame({"x": x}), restarts=4)
    table = fit.predict()
    assert (table["z"] == np.r_[np.zeros(30), np.ones(20)]).all()
    np.testing.assert_allclose(table["z_probability_0"] + table["z_probability_1"], 1)
    with pytest.raises(Unsupported, match="impute draws cells given θ alone"):
        fit.impute()
    with pytest.raises(Unsupported, match="mixture has no forecast; hmm, rnn, transformer have it"):
        fit.forecast()


@dataclass(frozen=True)
class Endless(ppl.PyroModel):
    def model(self, data):
        rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
        k = pyro.sample("k", dist.Poisson(rate))
        pyro.sample("x", dist.Normal(k, 1.0).expand([len(data)]).to_event(1), obs=data["x"])


@dataclass(frozen=True)
class Improper(ppl.PyroModel):
    def model(self, data):
        a = pyro.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
        pyro.sample("x", dist.Normal(a, 1.0).expand([len(data)]).to_event(1), obs=data["x"])


@dataclass(frozen=True)
class Raises(ppl.PyroModel):
    def model(self, data):
        pyro.sample("a", dist.Normal(0.0, 1.0))
        raise KeyError("oh")


@dataclass(frozen=True)
class Outside(ppl.PyroModel):
    def model(self, data):
        a = pyro.sample("a", dist.HalfNormal(1.0))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Gamma(a, 1.0), obs=data["x"])


@dataclass(frozen=True)
class Wrong(ppl.PyroModel):
    def model(self, data):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(a, 1.0), obs=data["height"])


@dataclass(frozen=True)
class Subsampled(ppl.PyroModel):
    def model(self, data):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", len(data), subsample_size=2) as at:
            pyro.sample("x", dist.Normal(a, 1.0), obs=data["x"][at])


@dataclass(frozen=True)
class Param(ppl.PyroModel):
    def model(self, data):
        a = pyro.param("a", torch.tensor(0.0))
        pyro.sample("x", dist.Normal(a, 1.0).expand([len(data)]).to_event(1), obs=data["x"])


@dataclass(frozen=True)
class Guided(Normals):
    def guide(self, data, fit=None):
        pyro.sample("mean", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (
            Endless(),
            Unsupported,
            r"test_program_verbs.py, line \d+: site 'k' is discrete .* Poisson has no end of values",
        ),
        (Improper(), Unsupported, r"line \d+: site 'a' is an ImproperUniform, which cannot be sampled"),
        (Raises(), UsageError, r"test_program_verbs.py, line \d+: .*KeyError: 'oh'"),
        (Outside(), UsageError, r"site 'x': observed values are not in the support of Gamma"),
        (Wrong(), DataError, "has no column 'height'; it has 'x'"),
        (Subsampled(), Unsupported, "plate 'rows' takes 2 of 6"),
        (Param(), Unsupported, "pyro.param 'a' in a model is a point estimate"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_one_line(model, error, message):
    frame = pd.DataFrame({"x": [-1.5, 0.5, 1.0, 2.0, 3.0, 4.5]})
    with pytest.raises(error, match=message) as caught:
        ppl.fit(model, frame)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Branches(ppl.PyroModel):
    def model(self, data):
        a = pyro.sample("a", dist.Normal(0.0, 10.0))
        shift = 1.0 if float(a) > 1e6 else 0.0
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(a + shift, 2.0), obs=data["x"])


def test_a_model_that_vmap_cannot_is_gone_through_point_by_point():
    frame = pd.DataFrame({"x": np.random.default_rng(1).normal(2, 2, 20)})
    fit, plain = ppl.fit(Branches(), frame, restarts=2), ppl.fit(Normals(), frame, restarts=2)
    assert fit.bound.density.path == "loop"
    assert "one by one" in fit.trained.notes[0]
    torch.testing.assert_close(fit.params["loc"], plain.params["loc"])


@dataclass(frozen=True)
class Supports(ppl.PyroModel):
    """Constraints of many kinds, one of which depends on another site."""

    def model(self, data):
        top = pyro.sample("top", dist.HalfNormal(3.0))
        share = pyro.sample("share", dist.Dirichlet(torch.ones(3)))
        corr = pyro.sample("corr", dist.LKJCholesky(3, 2.0))
        within = pyro.sample("within", dist.Uniform(-top, top))
        pyro.deterministic("first", share[0])
        pyro.sample("z", dist.MultivariateNormal(torch.zeros(3), scale_tril=corr))
        with pyro.plate("rows", len(data)):
            pyro.sample("x", dist.Normal(within, 1.0), obs=data["x"])


@pytest.mark.slow
def test_supports():
    fit = ppl.fit(Supports(), pd.DataFrame({"x": np.random.default_rng(1).normal(1, 1, 30)}), restarts=4)
    values = fit.bound.values(fit.posterior_draws.theta)
    assert (values["within"].abs() <= values["top"]).all()
    torch.testing.assert_close(values["share"].sum(-1), torch.ones(len(values["share"]), dtype=torch.float64))
    assert float(values["share"].mean(0).sub(1 / 3).abs().max()) < 0.03
    corr = values["corr"] @ values["corr"].mT
    assert float(corr[:, 0, 1].mean().abs()) < 0.05
    assert float(values["z"].mean(0).abs().max()) < 0.15
    assert fit.check().verdict != "not trusted"


def test_a_file_is_executed_only_when_asked_and_refused_when_it_changed(tmp_path):
    path = tmp_path / "coin.py"
    text = (OWN / "coin.py").read_text()
    path.write_text(text)

    def ppl_(*args):
        """As in a process that has not executed the file yet."""
        registry._files.pop(path, None)
        return CliRunner().invoke(command, args, prog_name="ppl")

    done = ppl_(
        "fit", f"{path}:Coin", str(OWN / "coin.csv"), "--concentration", "2", "--out", "r", "-q", "--json"
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["fields"] == {"concentration": 2.0}
    refused = ppl_("summary", "r")
    assert refused.exit_code == 74
    assert "only executed when it is asked for" in refused.stderr
    path.write_text("# a comment\n" + text)
    assert ppl_("summary", "r", "--model", f"{path}:Coin").exit_code == 0
    path.write_text(text.replace("dist.Beta(self.concentration", "dist.Beta(1 + self.concentration"))
    changed = ppl_("summary", "r", "--model", f"{path}:Coin")
    assert changed.exit_code == 74
    assert "has changed since the fit" in changed.stderr
    path.write_text(text.replace("dist.Bernoulli(p)", "dist.Bernoulli(q)"))
    broken = ppl_("fit", f"{path}:Coin", str(OWN / "coin.csv"), "-q")
    assert broken.exit_code == 2
    assert "coin.py, line 33: " in broken.stderr
    assert "NameError" in broken.stderr
    assert broken.stderr.count("\n") == 1


@dataclass(frozen=True)
class Unlisted(Normals):
    """Of a file that nobody executed by its name."""


def test_load_takes_a_class(tmp_path):
    fit = ppl.fit(Unlisted(), pd.DataFrame({"x": [1.0, 2.5, 3.0]}), restarts=2)
    path = fit.save(tmp_path / "run")
    again = ppl.load(path, model=Unlisted)
    assert torch.equal(again.params["loc"], fit.params["loc"])
    with pytest.raises(RunError, match="its model cannot be had"):
        ppl.load(path)


def test_new_writes_a_model_that_runs(tmp_path):
    from ppl_models.cli.new import new
    from ppl_models.errors import OutputError

    done = CliRunner().invoke(new, ["my_line"])
    assert "next  ppl fit my_line.py:MyLine my_line.csv" in done.output
    with pytest.raises(OutputError, match="my_line.py exists; use --force"):
        CliRunner().invoke(new, ["my_line"], catch_exceptions=False)
    with pytest.raises(UsageError, match="NAME must be small letters"):
        CliRunner().invoke(new, ["9 x"], catch_exceptions=False)
    fit = ppl.fit(registry.find("my_line.py:MyLine", files=True)(), "my_line.csv", restarts=2)
    assert 1.9 < fit.summary().loc["slope", "mean"] < 2.1


def test_a_plugin_is_listed(tmp_path):
    info = tmp_path / "site" / "ppl_slope-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ppl-slope\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[ppl_models.models]\nslope = ppl_slope:Slope\n")
    code = (
        f"import sys; sys.path[:0] = [{str(info.parent)!r}, {str(ROOT / 'examples/plugin/src')!r}]\n"
        "from ppl_models import registry\n"
        "print([m.name for m in registry.models() if m.source == 'ppl-slope'],\n"
        "      registry.find('slope').summary)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("['slope'] A line through points"), done.stderr
    declared = (ROOT / "examples/plugin/pyproject.toml").read_text()
    assert 'slope = "ppl_slope:Slope"' in declared
    assert Path(ROOT / "examples/plugin/src/ppl_slope/__init__.py").exists()
