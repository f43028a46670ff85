"""Answers to many rows come block after block, and say what an answer to all of them says."""

import numpy as np
import pandas as pd
import pytest

import ppl_models as ppl
from ppl_models.verbs import VERBS, base


@pytest.fixture(scope="module")
def mixture():
    rng = np.random.default_rng(0)
    z = rng.integers(2, size=300)
    frame = pd.DataFrame({"x": 5.0 * z + rng.normal(size=300), "y": -4.0 * z + rng.normal(size=300)})
    frame["kind"] = np.where(rng.random(300) < 0.2 + 0.6 * z, "a", "b")
    return ppl.fit(ppl.GMM(components=2, covariance="diag"), frame)


def later():
    rng = np.random.default_rng(1)
    z = rng.integers(2, size=120)
    frame = pd.DataFrame({"x": 5.0 * z + rng.normal(size=120), "y": -4.0 * z + rng.normal(size=120)})
    frame["kind"] = np.where(rng.random(120) < 0.2 + 0.6 * z, "a", "b")
    frame.loc[100:, "y"] = np.nan  # no block but the last ones has a gap here
    frame.loc[7:9, "kind"] = None
    return frame


@pytest.mark.parametrize("name", ["predict", "score", "transform", "impute"])
def test_blocks_say_what_all_rows_say(name, mixture, monkeypatch):
    data = ppl.read(later(), schema=mixture.data.schema)
    whole = VERBS[name](mixture, data=data)
    monkeypatch.setattr(base, "BLOCK", 50)  # rows × components
    monkeypatch.setattr(base, "DRAWN", 1)
    frames = list(base.in_blocks(VERBS[name], mixture, {"data": data}))
    assert len(frames) == 5
    assert all(frame.columns.equals(whole.columns) for frame in frames)
    found = pd.concat(frames, ignore_index=True)
    assert found["kind"].equals(whole["kind"]) if name == "impute" else True
    numbers = whole.select_dtypes("number").columns
    near = 0.3 if name == "impute" else 0.01  # draws, and averages over as many draws as the answer needs
    np.testing.assert_allclose(found[numbers], whole[numbers], atol=near)


def test_blocks_of_what_is_drawn_are_drawn_apart(mixture, monkeypatch):
    gaps = pd.DataFrame({"x": np.full(40, np.nan), "y": np.full(40, np.nan), "kind": ["a"] * 40})
    data = ppl.read(gaps, schema=mixture.data.schema)
    monkeypatch.setattr(base, "BLOCK", 40)
    monkeypatch.setattr(base, "DRAWN", 1)
    first, second = base.in_blocks(VERBS["impute"], mixture, {"data": data, "draws": 50})
    assert not np.array_equal(first["x"], second["x"])
