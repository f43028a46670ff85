"""Fits that are stopped, killed or resumed: the numbers are those of a fit that never was."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ppl_models as ppl
from ppl_models import resuming
from ppl_models.errors import RunError, UsageError
from ppl_models.inference.loop import Status

IRIS = Path(__file__).parents[2] / "examples" / "iris.csv"
PPL = [sys.executable, "-c", "from ppl_models.cli import script; script()"]
STEPS = 1_500
SMALL = {"latent": 2, "hidden": "16"}
OPTIONS = [
    "--latent",
    "2",
    "--hidden",
    "16",
    "--ignore",
    "species",
    "--steps",
    str(STEPS),
    "--batch-size",
    "32",
]


def started(out: Path, *options: str) -> subprocess.Popen:
    """A fit in a process of its own that has written a checkpoint."""
    command = [*PPL, "fit", "vae", str(IRIS), *OPTIONS, "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--checkpoint-every", "0.02", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for _ in range(1200):
        if (out / "run.json").exists() or process.poll() is not None:
            return process
        time.sleep(0.05)
    raise AssertionError("no checkpoint was written")


@pytest.fixture(scope="module")
def never() -> ppl.Fit:
    """The same fit, never stopped."""
    return ppl.fit(ppl.VAE(**SMALL), IRIS, ignore="species", steps=STEPS, batch_size=32)


def same(a: ppl.Fit, b: ppl.Fit) -> bool:
    return a.elbo == b.elbo and all(bool((a.params[n] == b.params[n]).all()) for n in a.params)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_what_there_is_and_resuming_gives_the_same_numbers(tmp_path, never, number):
    process = started(tmp_path / "run")
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.skip("it was done before the signal came")
    assert process.returncode == 128 + number
    assert "ppl resume" in err
    assert "Traceback" not in err
    stopped = ppl.load(tmp_path / "run")
    assert stopped.status is Status.INTERRUPTED
    assert 0 < stopped.trained.steps < STEPS
    assert same(ppl.resume(tmp_path / "run"), never)


@pytest.mark.slow
def test_killed_at_any_moment_the_last_checkpoint_loads_and_goes_on(tmp_path, never):
    rng = np.random.default_rng(0)
    for turn in range(3):
        out = tmp_path / f"run{turn}"
        process = started(out)
        time.sleep(float(rng.uniform(0, 0.5)))
        process.kill()
        process.communicate(timeout=120)
        found = ppl.load(out)
        assert found.check().verdict != "trusted"
        if found.status is Status.INTERRUPTED:
            assert same(ppl.resume(out), never)


def stopped_run(path: Path, data: Path, steps: int = 300) -> Path:
    fit = ppl.fit(ppl.VAE(**SMALL), data, ignore="species", steps=steps, batch_size=32)
    return fit.save(path)


def test_data_that_changed_is_refused_unless_forced(tmp_path):
    data = tmp_path / "iris.csv"
    data.write_text(IRIS.read_text())
    run = stopped_run(tmp_path / "run", data)
    data.write_text(IRIS.read_text().replace("5.1", "5.2", 1))
    with pytest.raises(RunError, match="which has changed since; --force"):
        ppl.resume(run, steps=400)
    forced = ppl.resume(run, steps=400, force=True)
    assert forced.trained.steps == 400


def test_another_version_is_refused_by_name(tmp_path, monkeypatch):
    run = stopped_run(tmp_path / "run", IRIS)
    monkeypatch.setattr(resuming, "version_of", lambda name: "9.9")
    with pytest.raises(RunError, match=r"written with ppl_models .* and this is 9\.9"):
        ppl.resume(run, steps=400)


@pytest.mark.slow
def test_what_is_done_is_not_resumed(tmp_path):
    run = stopped_run(tmp_path / "run", IRIS)
    with pytest.raises(UsageError, match="has taken its 300 steps; allow more with --steps"):
        ppl.resume(run)
    converged = ppl.fit(ppl.GMM(components=1), IRIS, ignore="species").save(tmp_path / "gmm")
    with pytest.raises(UsageError, match="has converged: there is nothing to resume"):
        ppl.resume(converged)


def test_a_fit_by_natural_gradients_starts_again_and_is_the_same(tmp_path):
    options, model = {"columns": "petal_length", "restarts": 2}, ppl.GMM(components=2)
    short = ppl.fit(model, IRIS, steps=2, **options).save(tmp_path / "run")
    assert same(ppl.resume(short, steps=500), ppl.fit(model, IRIS, steps=500, **options))


def test_the_checkpoint_is_of_the_run_and_checked(tmp_path):
    run = stopped_run(tmp_path / "run", IRIS)
    manifest = json.loads((run / "run.json").read_text())
    assert "checkpoint.safetensors" in manifest["files"]
    content = bytearray((run / "checkpoint.safetensors").read_bytes())
    content[-1] ^= 1
    (run / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(RunError, match=r"checkpoint\.safetensors does not match its checksum"):
        ppl.resume(run, steps=400)


def test_a_poisoned_program_is_told_by_site_column_and_row(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text(
        "from dataclasses import dataclass\n"
        "import pyro, torch, pyro.distributions as dist\n"
        "import ppl_models as ppl\n\n"
        "@dataclass(frozen=True)\n"
        "class Broken(ppl.PyroModel):\n"
        '    """A mean that overflows for one row."""\n\n'
        "    def model(self, data):\n"
        '        m = pyro.sample("m", dist.Normal(0.0, 1.0))\n'
        '        with pyro.plate("rows", len(data)):\n'
        '            pyro.sample("x", dist.Normal(m * data["s"] ** 4, 1.0), obs=data["x"])\n'
    )
    frame = pd.DataFrame({"x": np.linspace(0, 1, 20), "s": np.r_[np.full(7, 1.0), 1e50, np.full(12, 1.0)]})
    from ppl_models.registry import find

    model = find(f"{file}:Broken", files=True)()
    found = ppl.fit(model, frame, guide="normal", steps=2_000)
    assert found.status is Status.DIVERGED
    assert "site 'x', column 'x', row 8" in found.trained.reason


@pytest.mark.parametrize("name", ["cnn", "rnn"])
def test_networks_that_are_stopped_go_on_to_the_same_numbers(name, tmp_path):
    """Weights with channels last, and a forecast whose temperature only follows the steps."""
    if name == "cnn":
        rng, y = np.random.default_rng(0), np.arange(40) % 2
        np.savez(tmp_path / "images.npz", X=rng.integers(0, 99, (40, 8, 8)).astype(np.uint8), y=y)
        model, data, options = ppl.CNN(members=2), tmp_path / "images.npz", {"target": "y"}
    else:
        model, data, options = ppl.RNN(units=4, members=2), pd.DataFrame({"x": np.sin(np.arange(80.0))}), {}

    run, options = tmp_path / "run", options | {"steps": 6, "batch_size": 8}
    never = ppl.fit(model, data, checkpoint=run, checkpoint_every=1e-9, **options)
    assert ppl.load(run).status is Status.INTERRUPTED  # the last checkpoint, as if it had been killed
    assert same(ppl.resume(run), never)


def test_a_signal_outside_of_the_steps_names_the_run_if_there_is_one_of_this_fit(tmp_path):
    from ppl_models import store
    from ppl_models.cli.fit import Plan, finish
    from ppl_models.errors import Interrupted

    target, made = tmp_path / "run", []

    def stopped(made, going_on=False):
        def train(progress):
            for number in made:
                store.write_run(target, manifest={"turn": number}, params={}, history=[], force=True)
            raise KeyboardInterrupt

        with pytest.raises(Interrupted) as error:
            finish(target, {"quiet": True}, Plan(ppl.MLP()), train, going_on)
        assert error.value.exit_code == 130
        return str(error.value)

    assert stopped(made) == "stopped before there was anything to save"
    assert f"ppl resume {target}" in stopped([1])
    assert stopped([]) == "stopped before there was anything to save"  # that run is of another fit
    assert f"ppl resume {target}" in stopped([], going_on=True)
