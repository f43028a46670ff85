"""Every system computes on the device that it is asked to, without a GPU: see `elsewhere`."""

import dataclasses

import pytest
import torch
from elsewhere import DEVICE, Elsewhere, Mixed, elsewhere
from systems import SYSTEMS, labelled_walks

import ppl_models as ppl
from ppl_models import engine, runs
from ppl_models.errors import PplError
from ppl_models.latent import calibrate

VERBS = {
    "check": (),
    "summary": (),
    "predict": (),
    "score": (),
    "evaluate": (),
    "sample": (5,),
    "impute": (),
    "transform": (),
    "reconstruct": (),
    "anomalies": (),
    "forecast": (2,),
}
"""With what they are given."""

HERE = ("logistic", "glm", "glm of an ordered label", "glm with groups", "svm", "program")
"""Systems that compute on the CPU, and say so."""

FORECASTS = dataclasses.replace(
    SYSTEMS["rnn"],
    model=lambda: ppl.RNN(units=4),
    table=lambda seed: labelled_walks(seed).assign(visits=lambda d: d.index % 7),
    reading={"sequence": "walk", "ignore": "mark,kind"},
)
THERE = {name: system for name, system in SYSTEMS.items() if name not in HERE} | {"rnn ahead": FORECASTS}

QUICK = ("mlp by its members",)


def quick_or_slow(names):
    return [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names]


MOVED = "gmm"
"""Whose draws are moved on by the exact density; in the others that is left out, as it takes a minute."""


@pytest.fixture
def there(monkeypatch):
    """Fits are on the device of `elsewhere` unless they ask for the CPU; counts products of matrices."""
    for module in (engine, runs):
        monkeypatch.setattr(module, "resolve_device", lambda device: DEVICE if device == "auto" else device)
    with elsewhere() as products:
        yield products


def short(system, **training):
    """Trained for a few steps only."""
    steps = {"steps": 6} if "steps" in system.training else {}
    return dataclasses.replace(system, training={**system.training, **steps, **training})


def answers(fit):
    """What each verb that the fit has says."""
    found = {}
    for name, given in VERBS.items():
        try:
            found[name] = getattr(fit, name)(*given)
        except PplError:  # not of this system
            continue
    return found


@pytest.mark.parametrize("name", quick_or_slow(THERE))
def test_a_fit_and_its_verbs_are_computed_on_the_device(name, there, monkeypatch):
    if name != MOVED:
        monkeypatch.setattr(calibrate, "MOVE_WORK", 0)
    fit = short(THERE[name]).fit()
    assert fit.settings.device == DEVICE
    network = "steps" in THERE[name].training
    kind = torch.float32 if network else torch.float64
    assert there["elsewhere", kind]
    assert not any(isinstance(value, Elsewhere) for value in fit.params.values())
    if network:  # a head has doubles; all singles are of the network
        assert not there["here", kind]
    there.clear()
    assert len(answers(fit)) >= 3
    assert there["elsewhere", kind]
    if network:
        assert not there["here", kind]
    assert fit.elbo == pytest.approx(short(THERE[name], device="cpu").fit().elbo, rel=1e-4)


@pytest.mark.parametrize("name", quick_or_slow(["mlp by its members", "mlp", "mlp by all its weights"]))
def test_a_fit_goes_on_there_and_on_the_cpu(name, there, tmp_path, monkeypatch):
    system = short(THERE[name])
    system.fit().save(tmp_path / "run")
    other = ppl.resume(tmp_path / "run", steps=9)
    assert other.settings.device == DEVICE
    assert other.elbo == pytest.approx(short(THERE[name], steps=9).fit().elbo, rel=1e-4)
    monkeypatch.setattr(runs, "resolve_device", lambda device: "cpu")
    there.clear()
    other = ppl.resume(tmp_path / "run", steps=9)
    assert other.settings.device == "cpu"
    assert not there["elsewhere", torch.float32]


@pytest.mark.parametrize("name", ["logistic", *(pytest.param(n, marks=pytest.mark.slow) for n in HERE[1:])])
def test_what_computes_on_the_cpu_says_so_where_a_device_was_asked_for(name, there):
    fit = short(SYSTEMS[name], device="cuda").fit()
    assert any("computes on the CPU: the device cuda made no difference" in note for note in fit.notes)
    assert fit.settings.device == "cpu"
    assert not there["elsewhere", torch.float64]
    there.clear()
    fit = SYSTEMS[name].fit()
    assert fit.settings.device == "cpu"
    assert not any("CPU" in note for note in fit.notes)


def test_the_device_of_these_tests_refuses_what_a_gpu_would():
    x = torch.arange(4.0)
    with elsewhere() as products:
        there = x.to(DEVICE)
        assert (there @ there).item() == 14.0
        assert (2 * there + torch.tensor(1.0)).cpu().tolist() == [1.0, 3.0, 5.0, 7.0]
        assert there[torch.tensor([1, 2])].tolist() == [1.0, 2.0]
        torch.ones(2, 2, device=DEVICE) @ torch.ones(2, 2, device=DEVICE)
        assert products["elsewhere", torch.float32] == 1
        for wrong in (
            lambda: there + x,
            lambda: there * torch.tensor([1.0]),
            lambda: x[torch.tensor([1, 2]).to(DEVICE)],
            lambda: torch.cat([there, x]),
            lambda: there.index_select(0, torch.tensor([1])),
            lambda: torch.rand(2, device=DEVICE, generator=torch.Generator()),
            lambda: torch.nn.utils.rnn.pack_padded_sequence(
                there[None, :, None], torch.tensor([4]).to(DEVICE)
            ),
        ):
            with pytest.raises(Mixed):
                wrong()
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
