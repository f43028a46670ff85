"""Small fits of every kind of system, made once and shared by all processes of a run of the tests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sharing import together

import ppl_models as ppl
from ppl_models import registry

ROWS, SEQUENCE = 60, 30
COIN = Path(__file__).parents[1] / "examples" / "own_models" / "coin.py"


def mixed(seed: int, holes: bool = True) -> pd.DataFrame:
    """Rows of two groups: two numbers, a count, a label, some cells of the first number missing."""
    rng = np.random.default_rng(seed)
    group = rng.permuted(np.arange(ROWS) % 2)
    x = rng.normal(3.0 * group, 1.0)
    if holes:
        x[::15] = np.nan
    return pd.DataFrame(
        {
            "x": x,
            "y": rng.normal(-2.0 * group, 1.0),
            "visits": rng.poisson(2.0 + 4 * group),
            "kind": np.where(rng.random(ROWS) < 0.15, 1 - group, group).choose(["left", "right"]),
        }
    )


def whole(seed: int) -> pd.DataFrame:
    """The same without missing cells."""
    return mixed(seed, holes=False)


def walks(seed: int) -> pd.DataFrame:
    """Two sequences of rows, in regimes of ten rows."""
    rng = np.random.default_rng(seed)
    state = np.arange(ROWS) // 10 % 2
    table = pd.DataFrame({"x": rng.normal(4.0 * state, 1.0), "y": rng.normal(-3.0 * state, 1.0)})
    table.loc[::12, "x"] = np.nan
    table.insert(0, "walk", np.where(np.arange(ROWS) < SEQUENCE, "first", "second"))
    return table


def signals(seed: int) -> pd.DataFrame:
    """Waves of two kinds at six times, some cells missing."""
    rng = np.random.default_rng(seed)
    kind = rng.permuted(np.arange(ROWS) % 2)
    x = np.sin(np.arange(6) + 2.0 * kind[:, None]) + rng.normal(scale=0.3, size=(ROWS, 6))
    x[::20, 2] = np.nan
    table = pd.DataFrame(x, columns=[f"t{i}" for i in range(6)])
    return table.assign(kind=kind.choose(["left", "right"]))


def labelled_walks(seed: int) -> pd.DataFrame:
    """Sequences of five rows, up or down, each of one kind."""
    rng = np.random.default_rng(seed)
    walk, step = np.divmod(np.arange(ROWS), 5)
    up = walk % 2
    table = pd.DataFrame({"walk": walk.astype(str), "x": rng.normal((2.0 * up - 1) * step, 1.0)})
    table.loc[::15, "x"] = np.nan
    return table.assign(mark=rng.choice(["a", "b"], ROWS), kind=up.choose(["down", "up"]))


def tosses(seed: int) -> pd.DataFrame:
    """Of a coin."""
    return pd.DataFrame({"heads": (np.random.default_rng(seed).random(ROWS) < 0.7).astype(int)})


@dataclass(frozen=True)
class System:
    """A model with the table that it is fitted to.

    Attributes:
        model: makes the model.
        table: the table of a seed.
        reading: options of reading it.
        training: options of the fit.
        own: the model in a form that `load` takes, if it is of a file.
    """

    model: Callable[[], ppl.Model]
    table: Callable[[int], pd.DataFrame]
    reading: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    own: str | None = None

    def fit(self, data: Any = None) -> ppl.Fit:
        return ppl.fit(self.model(), self.table(1) if data is None else data, **self.reading, **self.training)

    def write(self, path: Path) -> None:
        self.fit().save(path)

    def load(self, path: Any) -> ppl.Fit:
        return ppl.load(path, self.own)


CONJUGATE, NETWORK = {"restarts": 2}, {"steps": 60}
TARGET = {"target": "kind"}
TINY: dict[str, Any] = {"width": 8, "layers": 1, "heads": 1, "orders": 2}

SYSTEMS = {
    "gmm": System(lambda: ppl.GMM(), mixed, {"ignore": "visits,kind"}, CONJUGATE),
    "gmm with a target": System(
        lambda: ppl.GMM(components=1), mixed, {"ignore": "visits", **TARGET}, CONJUGATE
    ),
    "gmm of low rank": System(
        lambda: ppl.GMM(covariance="low-rank", rank=1), mixed, {"ignore": "visits,kind"}, CONJUGATE
    ),
    "hmm": System(lambda: ppl.HMM(), walks, {"sequence": "walk"}, CONJUGATE),
    "hmm with a target": System(
        lambda: ppl.HMM(topology="left-right"), labelled_walks, {"sequence": "walk", **TARGET}, CONJUGATE
    ),
    "hmm with names": System(
        lambda: ppl.HMM(labels="mark", forbid="a>c"),
        lambda seed: labelled_walks(seed).assign(
            mark=lambda d: d["mark"].where(d["x"] > 0, "c").where(d.index % 5 == 0)
        ),
        {"sequence": "walk", "ignore": "kind"},
        CONJUGATE,
    ),
    "logistic": System(lambda: ppl.Logistic(), whole, TARGET),
    "mlp": System(lambda: ppl.MLP(hidden="8", members=2), mixed, TARGET, NETWORK),
    "mlp of numbers": System(lambda: ppl.MLP(hidden="8", members=2), mixed, {"target": "y"}, NETWORK),
    "mlp by its members": System(
        lambda: ppl.MLP(hidden="8", members=2, posterior="members"), mixed, TARGET, NETWORK
    ),
    "mlp by all its weights": System(
        lambda: ppl.MLP(hidden="8", posterior="natural"), mixed, TARGET, NETWORK
    ),
    "mlp of counts": System(
        lambda: ppl.MLP(hidden="8", members=2, family="poisson"), mixed, {"target": "visits"}, NETWORK
    ),
    "cnn": System(lambda: ppl.CNN(members=2), signals, TARGET, NETWORK),
    "rnn": System(
        lambda: ppl.RNN(units=4, members=2), labelled_walks, {"sequence": "walk", **TARGET}, NETWORK
    ),
    "rnn of steps": System(
        lambda: ppl.RNN(units=4, members=2),
        labelled_walks,
        {"sequence": "walk", "target": "mark", "ignore": "kind"},
        NETWORK,
    ),
    "glm": System(lambda: ppl.GLM(family="poisson"), whole, {"target": "visits"}),
    "glm of an ordered label": System(lambda: ppl.GLM(family="ordinal"), whole, TARGET),
    "glm with groups": System(lambda: ppl.GLM(formula="y ~ x + (1 | kind)"), whole),
    "svm": System(lambda: ppl.SVM(inducing=20), whole, TARGET),
    "vae": System(lambda: ppl.VAE(latent=2, hidden="8"), mixed, {}, NETWORK),
    "vae with a target": System(lambda: ppl.VAE(latent=2, hidden="8"), mixed, TARGET, NETWORK),
    "gan": System(lambda: ppl.GAN(latent=2, hidden="8"), mixed, {}, NETWORK),
    "gan with a target": System(lambda: ppl.GAN(latent=2, hidden="8"), mixed, TARGET, NETWORK),
    "transformer": System(lambda: ppl.Transformer(**TINY), mixed, {}, NETWORK),
    "transformer with a target": System(lambda: ppl.Transformer(**TINY), mixed, TARGET, NETWORK),
    "transformer of numbers": System(lambda: ppl.Transformer(**TINY), mixed, {"target": "y"}, NETWORK),
    "transformer of sequences": System(
        lambda: ppl.Transformer(context=16, **TINY), walks, {"sequence": "walk"}, NETWORK
    ),
    "program": System(
        lambda: registry.find(f"{COIN}:Coin", files=True)(), tosses, {}, CONJUGATE, f"{COIN}:Coin"
    ),
}


def runs_of_all(factory: pytest.TempPathFactory) -> Path:
    """A directory with a run of each system by its name, that tests must not change."""
    return together(factory, "systems", {name: system.write for name, system in SYSTEMS.items()})
