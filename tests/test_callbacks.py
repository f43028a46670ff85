"""What callbacks keep of a training is what its history has, in what others read."""

import sys

import pytest
import systems

import ppl_models as ppl
from ppl_models.callbacks import Callback, MLflow, TensorBoard
from ppl_models.errors import UsageError

FIT = {"ignore": ["visits", "kind"], "restarts": 2, "seed": 3}


def fitted(progress):
    return ppl.fit(ppl.GMM(), systems.mixed(1), progress=progress, **FIT)


class Kept(Callback):
    """In memory."""

    def __init__(self, every: int = 1) -> None:
        super().__init__(every)
        self.curve, self.said, self.closed = [], {}, False

    def scalars(self, values, step):
        self.curve.append((step, dict(values)))

    def texts(self, values):
        self.said |= values

    def close(self):
        self.closed = True


def test_a_callback_is_told_every_step():
    with Kept() as kept:
        fit = fitted(kept)
        steps = len(kept.curve)
        kept.finish(fit)
    history = fit.trained.history
    assert steps == len(history)
    for (step, values), row in zip(kept.curve, history, strict=False):
        assert values[f"{row['phase']}/elbo"] == row["elbo"]
        assert 1 <= step <= steps
    assert kept.said["model"] == "gmm"
    assert kept.said["model.components"] == "2"
    assert kept.said["settings.seed"] == "3"
    assert kept.said["verdict"] == fit.check().verdict
    assert kept.curve[-1] == (
        steps,
        pytest.approx(
            {"final/elbo": fit.elbo, "final/steps": fit.trained.steps, "final/seconds": fit.trained.seconds}
        ),
    )
    assert kept.closed


def test_every_so_many_steps():
    with Kept(every=3) as kept:
        fit = fitted(kept)
    assert [step for step, _ in kept.curve] == list(range(3, len(fit.trained.history) + 1, 3))


@pytest.mark.parametrize(("module", "kind"), [("tensorboard", TensorBoard), ("mlflow", MLflow)])
def test_a_package_that_is_missing_is_named(module, kind, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"pip install 'ppl_models\[{module}\]'"):
        kind(tmp_path / "logs")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of TensorFlow's file formats
def test_tensorboard_reads_it(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with TensorBoard(tmp_path) as board:
        fit = fitted(board)
        board.finish(fit)
    found = reading.EventAccumulator(str(tmp_path)).Reload()
    curves = {tag: found.Scalars(tag) for tag in found.Tags()["scalars"]}
    for phase in {row["phase"] for row in fit.trained.history}:
        wanted = [row["elbo"] for row in fit.trained.history if row["phase"] == phase]
        assert [each.value for each in curves[f"{phase}/elbo"]] == pytest.approx(wanted, rel=1e-6)
    assert curves["final/elbo"][0].value == pytest.approx(fit.elbo, rel=1e-6)
    assert "fit/text_summary" in found.Tags()["tensors"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow
def test_mlflow_reads_it(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tmp_path.as_uri())
    try:
        with MLflow("quakes") as kept:
            fit = fitted(kept)
            kept.finish(fit)
        assert mlflow.active_run() is None
        with mlflow.start_run() as outer, MLflow() as inner:  # in a run that is open, which stays open
            inner.scalars({"a": 1.0}, 1)
        assert inner.run.info.run_id == outer.info.run_id
        run = mlflow.get_run(kept.run.info.run_id)
        assert run.data.params["model.components"] == "2"
        assert run.data.params["verdict"] == fit.check().verdict
        assert run.data.metrics["final/elbo"] == pytest.approx(fit.elbo)
        phase = fit.trained.history[0]["phase"]
        curve = mlflow.MlflowClient().get_metric_history(kept.run.info.run_id, f"{phase}/elbo")
        wanted = [row["elbo"] for row in fit.trained.history if row["phase"] == phase]
        assert [each.value for each in sorted(curve, key=lambda m: m.step)] == pytest.approx(wanted)
    finally:
        mlflow.set_tracking_uri(before)
