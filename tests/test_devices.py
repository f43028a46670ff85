"""Every system computes on the device that it is asked to, without a GPU: see `elsewhere`."""

import dataclasses

import numpy as np
import pytest
import torch
from elsewhere import DEVICE, Elsewhere, Mixed, elsewhere
from systems import SYSTEMS

import ppl_models as ppl
from ppl_models import engine
from ppl_models.errors import PplError

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
    SYSTEMS["rnn"], model=lambda: ppl.RNN(units=4), reading={"sequence": "walk", "ignore": "mark,kind"}
)
THERE = {name: system for name, system in SYSTEMS.items() if name not in HERE} | {"rnn ahead": FORECASTS}

QUICK = ("mlp by its members",)


def quick_or_slow(names):
    return [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.fixture
def there(monkeypatch):
    """Fits are on the device of `elsewhere`; counts products of matrices."""
    monkeypatch.setattr(engine, "resolve_device", lambda device: DEVICE)
    with elsewhere() as products:
        yield products


def short(system):
    """Trained for a few steps only."""
    training = {**system.training, "steps": 6} if "steps" in system.training else system.training
    return dataclasses.replace(system, training=training)


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
def test_a_fit_and_its_verbs_are_computed_on_the_device(name, there):
    fit = short(THERE[name]).fit()
    assert fit.settings.device == DEVICE
    network = "steps" in THERE[name].training
    kind = torch.float32 if network else torch.float64
    assert there["elsewhere", kind]
    there.clear()
    assert len(answers(fit)) >= 4
    assert there["elsewhere", kind]
    if network:  # a head has doubles; all singles are of the network
        assert not there["here", kind]
    for value in fit.params.values():
        assert not isinstance(value, Elsewhere)
