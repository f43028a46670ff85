"""Exports are what verbs say at the posterior mean, in other programs, and are data and our own code."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import systems
import torch
from systems import CONJUGATE, SYSTEMS, TARGET, System

import ppl_models as ppl
from ppl_models.capabilities import Assigns, Conditional, Exports, Scores
from ppl_models.errors import OutputError, Unsupported, UsageError
from ppl_models.export.onnx import at_mean, log_gamma

NUMBERS = {"ignore": "visits,kind"}
COUNTS = {"ignore": "x,y,kind"}
POSITIVE = lambda seed: np.exp(systems.whole(seed)[["x", "y"]] / 3)  # noqa: E731

CASES = {
    "gmm": SYSTEMS["gmm with a target"],
    "gmm, every kind of column": System(lambda: ppl.GMM(covariance="diag"), systems.mixed, {}, CONJUGATE),
    "gmm, one covariance": System(lambda: ppl.GMM(covariance="tied"), systems.mixed, NUMBERS, CONJUGATE),
    "gmm, of low rank": System(
        lambda: ppl.GMM(covariance="low-rank", rank=1), systems.mixed, NUMBERS, CONJUGATE
    ),
    "gmm, student_t": System(lambda: ppl.GMM(emission="student_t"), systems.mixed, NUMBERS, CONJUGATE),
    "gmm, negative_binomial": System(
        lambda: ppl.GMM(emission="negative_binomial"), systems.mixed, COUNTS, CONJUGATE
    ),
    "gmm, gamma and exponential": System(
        lambda: ppl.GMM(emission={"x": "gamma", "y": "exponential"}), POSITIVE, {}, CONJUGATE
    ),
    "gmm, a process": System(
        lambda: ppl.GMM(components=4, weight_prior="process"), systems.mixed, NUMBERS, CONJUGATE
    ),
    "logistic": SYSTEMS["logistic"],
    "logistic, missing cells": System(lambda: ppl.Logistic(), systems.mixed, TARGET),
    "logistic, three classes": System(
        lambda: ppl.Logistic(),
        lambda seed: systems.mixed(seed).assign(three=lambda d: np.array(["a", "b", "c"])[d["visits"] % 3]),
        {"target": "three"},
    ),
    "glm": SYSTEMS["glm"],
    "glm, a normal": System(lambda: ppl.GLM(), systems.mixed, {"target": "y"}),
    "glm, ordered": SYSTEMS["glm of an ordered label"],
    "glm, groups": SYSTEMS["glm with groups"],
    "mlp": SYSTEMS["mlp"],
    "mlp of numbers": SYSTEMS["mlp of numbers"],
    "mlp of counts": SYSTEMS["mlp of counts"],
    "mlp by its members": SYSTEMS["mlp by its members"],
    "cnn": SYSTEMS["cnn"],
}
QUICK = ("gmm, every kind of column", "logistic, missing cells", "glm")


def said(fit) -> dict[str, np.ndarray]:
    """What the verbs go by says at the mean of θ: by kernels and designs, not by the graph."""
    theta, bound = at_mean(fit), fit.bound
    rows = bound.rows(fit.data)
    if isinstance(bound, Conditional):
        found = {"probabilities": bound.predictive(rows, theta)}
    elif isinstance(bound, Assigns):
        found = {"probabilities": bound.smoothed(rows, theta)}
    else:
        mean = np.full(fit.data.rows, np.nan)
        for part in bound.predicted(rows, theta):
            mean[part.index] = part.new.mean.mean(0).numpy()
        found = {"expected": mean}
    if isinstance(bound, Scores) and isinstance(bound, Assigns):
        found["log_density"] = bound.log_density(rows, theta)[0].numpy()
    return found


def cells(fit, columns) -> np.ndarray:
    return np.ascontiguousarray(fit.data.values[:, list(columns)])


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)
def test_a_graph_is_what_the_verbs_say(name, one_thread):
    fit = CASES[name].fit()
    graph = fit.bound.graph(at_mean(fit))
    with torch.no_grad():
        found = graph.module.eval()(torch.from_numpy(cells(fit, graph.columns)))
    found = dict(zip(graph.outputs, found if isinstance(found, tuple) else (found,), strict=True))
    for output, wanted in said(fit).items():
        complete = ~np.isnan(found[output].numpy().reshape(len(wanted), -1)).any(1)
        assert complete.mean() > 0.5
        np.testing.assert_allclose(found[output].numpy()[complete], wanted[complete], atol=1e-6)
        if not complete.all():  # of a covariance, whose rows with missing cells are left out
            assert "gmm" in name
            assert np.isnan(cells(fit, graph.columns)[~complete]).any(1).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_gives_the_same(name, tmp_path, one_thread):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    fit = CASES[name].fit()
    session = runtime.InferenceSession(fit.export(tmp_path / "model.onnx"))
    about = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    at = [fit.data.names.index(column["name"]) for column in about["columns"]]
    outputs = [output.name for output in session.get_outputs()]
    for rows in (slice(None), slice(0, 1)):
        x = cells(fit, at)[rows]
        found = dict(zip(outputs, session.run(None, {"x": x}), strict=True))
        for output, wanted in said(fit).items():
            complete = ~np.isnan(found[output].reshape(len(x), -1)).any(1)
            np.testing.assert_allclose(found[output][complete], wanted[rows][complete], atol=1e-5)
    if fit.data.schema.target:
        assert about["target"]["levels"] == list(
            fit.data.schema.columns[fit.data.names.index("kind")].levels
        ) or name not in ("gmm", "logistic", "mlp", "cnn")


def events(seed: int) -> pd.DataFrame:
    """Sequences of one label."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"walk": np.repeat(np.arange(20), 8), "mark": rng.choice(["a", "b", "c"], 160)})


def of_chain(fit):
    theta, rows = at_mean(fit), fit.bound.rows(fit.data)
    marginals, density = fit.bound.marginals(rows, theta), fit.bound.log_density(rows, theta)
    return {"filtered": marginals.filtered[0].numpy(), "log_density": density[0].numpy()}


def of_autoencoder(fit):
    from ppl_models.models.vae.latents import latents

    net, rows = fit.bound.networks(fit.params), fit.bound.rows(fit.data)
    mean, sd, _ = latents(net, rows)
    with torch.no_grad():
        expected = net.likelihood.expect(net.decoder(torch.from_numpy(mean).float())).numpy()
    return {"latent": mean, "latent_sd": sd, "reconstruction": expected}


JOINT = {
    "hmm": (
        System(lambda: ppl.HMM(covariance="diag"), lambda seed: systems.walks(seed).drop(columns="walk"), {}),
        of_chain,
    ),
    "hmm, left to right": (
        System(
            lambda: ppl.HMM(states=3, topology="left-right"),
            lambda seed: systems.walks(seed)[["y"]],
            {},
            CONJUGATE,
        ),
        of_chain,
    ),
    "vae": (SYSTEMS["vae"], of_autoencoder),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", JOINT)
def test_joint_systems_are_the_same_in_onnxruntime(name, tmp_path, one_thread):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    system, expected = JOINT[name]
    fit = system.fit()
    session = runtime.InferenceSession(fit.export(tmp_path / "model.onnx"))
    about = json.loads(session.get_modelmeta().custom_metadata_map["columns"])
    at = [fit.data.names.index(column["name"]) for column in about]
    outputs = [output.name for output in session.get_outputs()]
    for rows in (slice(None), slice(0, 1), slice(0, 7)):
        found = session.run(None, {"x": cells(fit, at)[rows]})
        for output, wanted in expected(fit).items():
            np.testing.assert_allclose(found[outputs.index(output)], wanted[rows], atol=1e-5)


@pytest.mark.slow
def test_what_comes_next_is_the_same_in_onnxruntime(tmp_path, one_thread):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    tiny = ppl.Transformer(width=8, layers=2, heads=2, context=8)
    fit = ppl.fit(tiny, events(1), sequence="walk", steps=20)
    session = runtime.InferenceSession(fit.export(tmp_path / "model.onnx"))
    mark = fit.data.values[:, 0].reshape(20, 8)
    so_far = np.concatenate([np.full((20, 1), -1.0), mark], 1)
    score = fit.bound.log_density(fit.bound.rows(fit.data), fit.draws)[0].numpy().reshape(20, 8)
    for t in (0, 3, 6):  # of the last row its end is a part
        logits = session.run(None, {"x": so_far[:, : t + 1]})[0]
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        own = log_p[np.arange(20), mark[:, t].astype(int)]
        np.testing.assert_allclose(own, score[:, t], atol=1e-5)


@pytest.mark.slow
def test_joint_systems_that_have_no_graph_say_why():
    walks = systems.labelled_walks(1)
    classes = ppl.fit(ppl.HMM(), walks, sequence="walk", target="kind", restarts=1)
    with pytest.raises(Unsupported, match="a chain with classes, or with names of its states, has no graph"):
        classes.bound.graph(at_mean(classes))
    labelled = ppl.fit(ppl.VAE(latent=1, hidden="4"), systems.whole(1), target="kind", steps=2)
    with pytest.raises(Unsupported, match="a vae with a target has no graph"):
        labelled.bound.graph(at_mean(labelled))
    tiny = ppl.Transformer(width=8, layers=1, heads=1)
    table = ppl.fit(tiny, systems.whole(1), steps=2)
    with pytest.raises(Unsupported, match="of several columns any may come next"):
        table.bound.graph(at_mean(table))


def test_what_has_no_graph_says_so(tmp_path):
    rows = systems.whole(1)
    curved = ppl.fit(ppl.Logistic(formula="kind ~ x + I(y**2)"), rows)
    with pytest.raises(Unsupported, match="'y' is no straight line"):
        curved.bound.graph(at_mean(curved))
    together = ppl.fit(ppl.Logistic(formula="kind ~ x * y"), rows)
    with pytest.raises(Unsupported, match="act together|no straight line"):
        together.bound.graph(at_mean(together))
    svm = ppl.fit(ppl.SVM(inducing=10), rows, **TARGET)
    assert not isinstance(svm.bound, Exports)
    pytest.importorskip("onnxscript")
    with pytest.raises(
        Unsupported,
        match="svm has no graph for ONNX; cnn, glm, gmm, hmm, logistic, mlp, transformer, vae have one",
    ):
        svm.export(tmp_path / "model.onnx")


def test_log_gamma_is_that_of_torch():
    x = torch.tensor([1e-3, 0.1, 0.5, 1.0, 2.5, 30.0, 1e4], dtype=torch.float64)
    torch.testing.assert_close(log_gamma(x), torch.lgamma(x), rtol=1e-12, atol=1e-12)


def test_a_package_that_is_missing_is_named(monkeypatch, tmp_path):
    fit = SYSTEMS["logistic"].fit()
    for name, to in (("onnx", "onnx"), ("mlflow.pyfunc", "mlflow")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UsageError, match=rf"pip install 'ppl_models\[{to}\]'"):
            fit.export(tmp_path / "model", to=to)
    with pytest.raises(UsageError, match="no export to 'pmml'"):
        fit.export(tmp_path / "model", to="pmml")
    assert not list(tmp_path.iterdir())


SERVE = """
import sys, pandas as pd, mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = pd.read_csv(sys.argv[2])
model.predict(rows).to_csv(sys.argv[3] + "/predict.csv", index=False)
model.predict(rows, params={"verb": "score"}).to_csv(sys.argv[3] + "/score.csv", index=False)
try:
    model.predict(rows, params={"verb": "save"})
except ValueError as error:
    assert "there is no verb 'save'" in str(error)
else:
    raise AssertionError
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gmm with a target", "hmm", "mlp", "program"])
@pytest.mark.filterwarnings("ignore")  # of MLflow
def test_mlflow_answers_as_the_verbs_do(name, tmp_path):
    """In a process of its own, from a folder without a pickle."""
    pytest.importorskip("mlflow")
    fit, rows = SYSTEMS[name].fit(), SYSTEMS[name].table(2)
    folder = fit.export(tmp_path / "served", to="mlflow")
    files = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert files <= {"", ".py", ".yaml", ".txt", ".json", ".jsonl", ".safetensors", ".nc"}
    rows.to_csv(tmp_path / "rows.csv", index=False)
    command = [sys.executable, "-c", SERVE, str(folder), str(tmp_path / "rows.csv"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for verb in ("predict", "score"):
        found, wanted = pd.read_csv(tmp_path / f"{verb}.csv"), getattr(fit, verb)(rows)
        pd.testing.assert_frame_equal(found, wanted, check_dtype=False, rtol=1e-9)
    with pytest.raises(OutputError, match="exists"):
        fit.export(folder, to="mlflow")
