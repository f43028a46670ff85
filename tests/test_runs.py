"""Fits on disk, and fits that can be had again."""

import json
import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

import ppl_models as ppl
from ppl_models.errors import OutputError, RunError
from ppl_models.runs import _check_sizes, load

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import arviz as az

LENGTHS = [80, 1, 39]


def table(simulate):
    def emit(z, rng):
        return np.c_[
            rng.normal(4.0 * z[:, None], 1, (len(z), 2)),
            rng.poisson(1 + 4 * z),
            rng.random(len(z)) < 0.2 + 0.6 * z,
        ]

    truth = simulate(emit, LENGTHS, [[0.9, 0.1], [0.2, 0.8]], [0.5, 0.5], 8)
    x = np.concatenate(truth.masked(0.1, 1))
    return pd.DataFrame(
        {
            "who": np.repeat(["a", "b", "c"], LENGTHS),
            "day": [f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}" for n in LENGTHS for i in range(n)],
            "left": x[:, 0],
            "right": x[:, 1],
            "count": x[:, 2],
            "flag": pd.Series(
                [None if np.isnan(v) else ["no", "yes"][int(v)] for v in x[:, 3]], dtype=object
            ),
        }
    )


def fit_table(simulate, **options):
    return ppl.fit(
        ppl.HMM(states=2),
        table(simulate),
        sequence="who",
        time="day",
        types={"count": "count"},
        restarts=2,
        **options,
    )


@pytest.fixture(scope="module")
def fitted(simulate):
    return fit_table(simulate)


@pytest.fixture
def run(fitted, tmp_path):
    return fitted.save(tmp_path / "run")


def same_draws(one, two):
    assert one.theta.keys() == two.theta.keys()
    for name, sites in one.theta.items():
        for site, value in sites.items():
            assert torch.equal(value, two.theta[name][site])


# Round trips


def test_round_trip(fitted, run):
    back = ppl.load(run)
    assert back.model == fitted.model
    assert back.elbo == fitted.elbo
    assert back.status is fitted.status
    assert back.settings.__dict__ == fitted.settings.__dict__
    assert back.trained.restarts == fitted.trained.restarts
    assert back.trained.steps == fitted.trained.steps
    assert [dict(h) for h in back.trained.history] == [dict(h) for h in fitted.trained.history]
    assert back.data.schema == fitted.data.schema
    assert back.data.sha256 == fitted.data.sha256
    assert back.data.sequence_ids == fitted.data.sequence_ids
    assert list(back.data.times) == list(fitted.data.times)
    np.testing.assert_array_equal(back.data.values, fitted.data.values)
    for name, value in fitted.params.items():
        assert torch.equal(back.params[name], value)
    same_draws(back.posterior_draws, fitted.posterior_draws)
    np.testing.assert_array_equal(back.posterior_draws.log_p, fitted.posterior_draws.log_p)
    assert back.check().to_dict() == fitted.check().to_dict()


def test_a_loaded_fit_can_be_saved(run, tmp_path):
    again = ppl.load(ppl.load(run).save(tmp_path / "again"))
    same_draws(again.posterior_draws, ppl.load(run).posterior_draws)


@pytest.mark.parametrize(
    "emission",
    ["gaussian", "categorical"]
    + [pytest.param(name, marks=pytest.mark.slow) for name in ("poisson", "exponential", "gamma")],
)
def test_every_emission_comes_back(emission, tmp_path):
    x = np.random.default_rng(0).poisson(3.0, (40, 1)) + 1.0
    types = {"x0": {"categorical": "categorical", "poisson": "count"}.get(emission, "continuous")}
    fit = ppl.fit(ppl.HMM(states=2, emission=emission), [x[:30], x[30:]], types=types, restarts=2)
    back = ppl.load(fit.save(tmp_path / "run"))
    same_draws(back.posterior_draws, fit.posterior_draws)
    pd.testing.assert_frame_equal(back.predict(), fit.predict())


def test_candidates_come_back(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 1))
    fit = ppl.select(ppl.HMM(), x, {"states": [1, 2]}, restarts=2)
    back = ppl.load(fit.save(tmp_path / "run"))
    assert [dict(c) for c in back.candidates] == [dict(c) for c in fit.candidates]


def test_numbered_times_come_back(tmp_path):
    frame = pd.DataFrame({"t": [0.5, 1.0, 1.5, 2.0], "x": [0.1, 0.2, 0.4, 0.3]})
    fit = ppl.fit(ppl.HMM(states=1), frame, time="t")
    back = ppl.load(fit.save(tmp_path / "run"))
    assert back.forecast(2)["t"].tolist() == [2.5, 3.0]


def test_a_run_is_not_overwritten(fitted, run):
    with pytest.raises(OutputError):
        fitted.save(run)
    fitted.save(run, force=True)
    assert ppl.load(run).elbo == fitted.elbo


# ArviZ


def test_arviz_reads_the_posterior(fitted, run):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = az.from_netcdf(str(run / "posterior.nc"))
    posterior = data.posterior
    assert posterior["transition"].dims == ("chain", "draw", "state", "state_to")
    assert posterior["start"].dims == ("chain", "draw", "state")
    assert posterior["gaussian_mean"].dims == ("chain", "draw", "state", "gaussian_column")
    assert posterior["gaussian_correlation"].dims == ("chain", "draw", "state", "gaussian_correlation_pair")
    assert list(posterior["gaussian_correlation_pair"].values) == ["left ~ right"]
    assert list(posterior["gaussian_column"].values) == ["left", "right"]
    assert list(posterior["poisson_column"].values) == ["count"]
    assert posterior.sizes["state"] == 2
    assert posterior.attrs["k_hat"] == pytest.approx(fitted.posterior_draws.k_hat)
    np.testing.assert_array_equal(
        posterior["transition"][0], fitted.posterior_draws.theta["transition"]["transition"]
    )
    np.testing.assert_array_equal(data.sample_stats["lp"][0], fitted.posterior_draws.log_p)
    assert data.log_likelihood["x"].dims == ("chain", "draw", "sequence")
    np.testing.assert_array_equal(data.observed_data["left"], fitted.data.column("left"))
    assert data.posterior_predictive["left"].dims == ("chain", "draw", "row")
    assert data.constant_data["lengths"].values.tolist() == LENGTHS


@pytest.mark.slow
def test_posterior_in_memory_has_single_column_names():
    fit = ppl.fit(ppl.HMM(states=2), np.random.default_rng(0).normal(size=(30, 2)), restarts=1)
    posterior = fit.posterior["posterior"]
    assert posterior["mean"].dims == ("chain", "draw", "state", "gaussian_column")
    assert fit.posterior["log_likelihood"]["x"].dims == ("chain", "draw", "row")
    total = fit.posterior["log_likelihood"]["x"].sum("row").values[0]
    log_prior = fit.bound.log_prob(fit.posterior_draws.theta, None).numpy()
    np.testing.assert_allclose(total + log_prior, fit.posterior_draws.log_p)


# Damage


@pytest.mark.parametrize("name", ["run.json", "params.safetensors", "data.safetensors", "history.jsonl"])
def test_a_changed_byte_is_noticed(run, name):
    path = run / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(RunError):
        load(run).trained.history  # noqa: B018 - read when it is asked for


@pytest.mark.parametrize("name", ["run.json", "params.safetensors", "data.safetensors"])
def test_a_lost_file_is_noticed(run, name):
    (run / name).unlink()
    with pytest.raises(RunError):
        load(run)


def test_a_path_that_is_no_run(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(RunError):
            load(path)


def rewritten(run, change, tmp_path):
    """The same run with another manifest, sealed as it should be."""
    from safetensors.numpy import load as arrays

    from ppl_models import store

    stored = store.read_run(run)
    manifest = json.loads(
        json.dumps({k: v for k, v in stored.manifest.items() if k not in ("files", "schema_version")})
    )
    change(manifest)
    files = {"data.safetensors": (run / "data.safetensors").read_bytes()}
    params = arrays((run / "params.safetensors").read_bytes())
    return store.write_run(tmp_path / "other", manifest=manifest, params=params, history=(), files=files).path


def with_arrays(run, name, change):
    """The same run with other arrays in a file, sealed as it should be."""
    import hashlib

    from safetensors.numpy import load as arrays
    from safetensors.numpy import save
    from torture.damage import forge

    bad = save(change(arrays((run / name).read_bytes())))
    (run / name).write_bytes(bad)
    manifest = json.loads((run / "run.json").read_text())
    manifest["files"][name] = {"sha256": hashlib.sha256(bad).hexdigest(), "size": len(bad)}
    forge(run, manifest)
    return run


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(model="no_such_model"),
        lambda m: m.update(model="os:system"),
        lambda m: m.update(model="/tmp/evil.py:Model"),
        lambda m: m["fields"].update(colour="red"),
        lambda m: m["fields"].update(states=3),
        lambda m: m["fields"].update(states=0),
        lambda m: m["fields"].update(covariance="diag"),
        lambda m: m["data"]["schema"]["columns"].pop(),
        lambda m: m["data"].update(sha256="0" * 64),
        lambda m: m.update(status="splendid"),
        lambda m: m.pop("settings"),
        lambda m: m["settings"].update(steps=-1),
        lambda m: m["settings"].update(device=3),
        lambda m: m.update(code=1),
        lambda m: m.update(candidates=[1]),
        lambda m: m["data"]["schema"].update(target="gone"),
        lambda m: m["data"]["schema"].update(sequence=[]),
        lambda m: m["data"]["schema"].update(correlation=[[1.0], [2.0]]),
        lambda m: m["data"]["schema"]["columns"][0].update(mean=[[]]),
        lambda m: m["data"]["schema"]["columns"][0].update(name=7),
        lambda m: m.pop("calibration"),
        lambda m: m["data"].pop("sha256"),
        lambda m: m["data"]["schema"]["columns"][-1].update(categories=["a", "a"]),
        lambda m: m["data"]["schema"]["columns"][0].update(mean=9e18),
        lambda m: m["data"]["schema"]["columns"][0].update(sd=9e18),
        lambda m: m["data"]["schema"]["columns"][0].update(sd=-1.0),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(run, tmp_path, change):
    assert load(rewritten(run, lambda m: None, tmp_path / "fine")).status == "converged"
    with pytest.raises(RunError) as error:
        load(rewritten(run, change, tmp_path))
    assert "\n" not in str(error.value)


def test_arrays_that_no_fit_leaves_behind_are_refused(fitted, run, tmp_path):
    from ppl_models import stated, store

    with pytest.raises(ValueError, match="params: w holds what is no number"):
        stated.check_numbers({"w": np.array([0.0, np.nan])}, "params")
    arrays = {name: value.numpy() for name, value in fitted.params.items()}
    name = next(iter(arrays))
    arrays[name] = np.full_like(arrays[name], np.nan)
    stored = store.read_run(run)
    said = {k: v for k, v in stored.manifest.items() if k not in ("files", "schema_version")}
    files = {"data.safetensors": (run / "data.safetensors").read_bytes()}
    other = store.write_run(tmp_path / "other", manifest=said, params=arrays, history=(), files=files).path
    with pytest.raises(RunError, match="is no number"):
        load(other)


FORGED = {
    "negative precisions": ("gaussian/precision", lambda v: -v, "positive"),
    "a matrix that is not positive definite": ("gaussian/precision", lambda v: v * 0 + 1, "definite"),
    "no number": ("poisson/rate", lambda v: v * np.nan, "negative"),
    "probabilities above one": ("start/start", lambda v: v * 2, "sum to 1"),
    "another type": ("poisson/rate", lambda v: v.astype("f4"), "negative"),
    "another shape": ("gaussian/mean", lambda v: v[..., :1].copy(), "gaussian"),
    "another name": ("start/start", None, "start/start is missing"),
}


@pytest.mark.parametrize("case", FORGED)
def test_draws_that_no_model_has_are_refused_by_name(case, run):
    site, change, said = FORGED[case]

    def spoil(arrays):
        value = arrays.pop(site)
        return arrays | ({} if change is None else {site: change(value)})

    with pytest.raises(RunError, match=rf"run: draws.safetensors does not fit .*{said}"):
        load(with_arrays(run, "draws.safetensors", spoil))


def test_a_guide_that_cannot_be_drawn_from_is_refused(run):
    bad = with_arrays(run, "params.safetensors", lambda arrays: arrays | {"poisson": -arrays["poisson"]})
    with pytest.raises(RunError, match="params.safetensors"):
        load(bad).guide.draw(2)


@pytest.mark.parametrize("model", [ppl.MLP(hidden=(4,), members=2), ppl.GAN(latent=1, hidden=(4,))])
def test_weights_that_are_not_those_of_the_network_are_refused(model, tmp_path):
    data = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=["a", "b"])
    fit = ppl.fit(model, data, steps=5, **({"target": "b"} if model.name == "mlp" else {}))
    name = next(n for n in fit.params if n.endswith("bias"))
    for change in (lambda v: v[..., :-1].copy(), lambda v: v * np.inf, lambda v: v[:0]):
        run = fit.save(tmp_path / "run", force=True)
        with pytest.raises(RunError, match=f"params.safetensors is of no fit \\({name}"):
            load(with_arrays(run, "params.safetensors", lambda a, c=change: a | {name: c(a[name])}))


def test_lengths_of_another_type_are_refused(run):
    bad = with_arrays(run, "data.safetensors", lambda a: a | {"lengths": a["lengths"].astype("f8")})
    with pytest.raises(RunError, match="lengths is float64"):
        load(bad)


def test_draws_of_a_regression_that_no_prior_has_are_refused(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 2))
    run = ppl.fit(ppl.GLM(), x, target="x1").save(tmp_path / "run")
    site = "regression/shared"
    for change in (lambda v: v.astype("f4"), lambda v: v * np.inf, lambda v: v[:, :0].copy()):
        bad = with_arrays(run, "draws.safetensors", lambda a, c=change: a | {site: c(a[site])})
        with pytest.raises(RunError, match="draws.safetensors does not fit"):
            load(bad)


@dataclass(frozen=True)
class Foreign(ppl.HMM):
    name: ClassVar[str] = "foreign"


def test_a_model_that_is_not_installed_is_refused(tmp_path):
    fit = ppl.fit(Foreign(states=1), np.random.default_rng(0).normal(size=(20, 1)))
    path = fit.save(tmp_path / "run")
    with pytest.raises(RunError):
        load(path)


# Seeds


def test_equal_seeds_give_equal_mini_batches(simulate):
    one, two = (fit_table(simulate, batch_size=40, steps=30) for _ in range(2))
    for name, value in one.params.items():
        assert torch.equal(two.params[name], value)
    other = fit_table(simulate, batch_size=40, steps=30, seed=1)
    assert any(not torch.equal(other.params[name], value) for name, value in one.params.items())


def test_other_seeds_give_other_draws(simulate, fitted):
    other = fit_table(simulate, seed=7)
    assert other.elbo == pytest.approx(fitted.elbo, abs=0.1)
    draws = (f.posterior_draws.theta["start"]["start"] for f in (other, fitted))
    assert not torch.equal(*draws)


def test_mini_batches_leave_global_state_alone(simulate):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    fit_table(simulate, batch_size=40, steps=5)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.slow
def test_an_array_is_left_alone():
    x = np.random.default_rng(0).normal(size=(30, 2))
    x[3, 1] = np.nan
    kept = x.copy()
    fit = ppl.fit(ppl.HMM(states=2), x, restarts=1, steps=2)
    fit.impute(x)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(fit.data.values, kept)


# Without the rows


def slim_cases():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(80, 2))
    kind = np.where(x[:, 0] + rng.normal(size=80) > 0, "u", "v")
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "kind": kind})
    holes = frame.assign(c=rng.choice(["p", "q", "r"], 80)).astype({"c": object})
    holes.loc[1:20:3, "a"], holes.loc[2:20:3, "c"] = np.nan, None
    counts = pd.DataFrame({"a": x[:, 0], "time": np.exp(x[:, 1]), "n": rng.poisson(np.exp(x.sum(1)))})
    return {
        "mixture": (ppl.GMM(components=2), frame[["a", "b"]], {"restarts": 2}),
        "chain": (ppl.HMM(states=2), frame[["a", "b"]], {"restarts": 2}),
        "classes": (ppl.GMM(components=1), frame, {"restarts": 1, "target": "kind"}),
        "regression": (ppl.Logistic(), frame, {"target": "kind"}),
        "numbers": (ppl.GLM(), frame, {"target": "b"}),
        "level": (ppl.Logistic(), holes, {"target": "kind"}),
        "impute": (ppl.Logistic(missing_rows="impute"), holes, {"target": "kind"}),
        "counts": (ppl.GLM(family="negative_binomial", exposure="time"), counts, {"target": "n"}),
        "mlp": (ppl.MLP(members=2), frame, {"target": "kind", "steps": 30}),
        "network": (ppl.VAE(latent=1, hidden=(4,)), frame, {"steps": 100}),
    }  # fmt: skip


SLOW = {"chain", "counts", "level"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in slim_cases()]
)
def test_a_run_without_its_rows(name, tmp_path):
    model, frame, options = slim_cases()[name]
    fit = ppl.fit(model, frame, **options)
    whole, path = fit.save(tmp_path / "whole"), fit.save(tmp_path / "slim", slim=True)
    back = ppl.load(path)
    assert back.data.rows == 0
    assert back.absent == 80
    later = frame.iloc[:7]
    for verb in ("predict", "score", "transform"):
        if verb != "predict" or name != "network":
            pd.testing.assert_frame_equal(getattr(back, verb)(later), getattr(ppl.load(whole), verb)(later))
    assert back.check().to_dict() == fit.check().to_dict()
    assert "(80 rows" in repr(back) if name != "network" else True
    again = ppl.load(back.save(tmp_path / "again"))
    assert (again.absent, again.check().verdict) == (80, fit.check().verdict)
    with pytest.raises(ppl.UsageError, match=r"saved without the rows of the fit \(--slim\): give DATA"):
        back.score()
    with pytest.raises(ppl.UsageError, match="converged|without the rows"):
        ppl.resume(path)
    if name not in ("classes", "mlp", "network"):
        own = fit.summary().filter(items=["mean", "sd"])
        pd.testing.assert_frame_equal(back.summary()[own.columns], own)
        assert "observed_data" not in back.posterior.groups()
    assert b"values" not in (path / "data.safetensors").read_bytes()


def test_a_model_that_needs_its_rows_is_not_saved_without(tmp_path):
    model, frame, options = slim_cases()["regression"]
    fit = ppl.fit(ppl.Logistic(formula="kind ~ a"), frame)
    with pytest.raises(ppl.UsageError, match="logistic cannot be saved without its rows"):
        fit.save(tmp_path / "slim", slim=True)
    assert not (tmp_path / "slim").exists()


def test_a_loaded_fit_has_its_draws_without_weighing_them_again(run, monkeypatch, fitted):
    back = ppl.load(run)
    monkeypatch.setattr("ppl_models.record.draw_posterior", None)
    assert back.draws.keys() == fitted.draws.keys()
    for name, sites in fitted.draws.items():
        for site, value in sites.items():
            assert torch.equal(value, back.draws[name][site])
    back.predict()


@pytest.mark.parametrize(("key", "value"), [("restarts", 100_000), ("components", 10_000)])
def test_a_manifest_cannot_ask_for_more_than_its_run_holds(key, value):
    said = {"model": "gmm", "fields": {"components": 2}, "settings": {"restarts": 8}, "restarts": None}
    params = {"weight": np.ones((1, 2))}
    _check_sizes("run", said, params)
    said["settings" if key in said["settings"] else "fields"][key] = value
    with pytest.raises(RunError, match=f"asks for {value:,} {key}"):
        _check_sizes("run", said, params)
