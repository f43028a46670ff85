"""The parts of the contract that are another thing where parameters are point estimates."""

import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ppl_models.api import Fit, load
from ppl_models.capabilities import Scores
from ppl_models.testing.contract import require

CLOSE = 0.02
"""Relative error of an ELBO that is the mean of draws."""

ALIKE = 2.5
"""Of the statistic of Kolmogorov and Smirnov of equal distributions, which is larger once in 10⁵ times."""


def density(found: Fit) -> str:
    """Rows that the fit makes up are about as probable to it as those that it was fitted to."""
    own = found.score()["log_density"]
    made = found.score(found.sample(len(own)))["log_density"]
    error = float(np.hypot(own.std(), made.std()) / len(own) ** 0.5)
    off = abs(float(np.mean(own) - np.mean(made)))
    cells = len(found.data.names)
    require(
        off < 6 * error + 0.25 * cells,
        "sampling",
        f"rows of sample() are {off:.2f} nats off those of the data in score(), of {cells} columns",
    )
    return f"sampling: rows that are made up are {off:.2f} nats off those of the data"


def bound(found: Fit) -> str:
    """The ELBO by Pyro's own evaluation of the model and its guide."""
    from pyro.infer import TraceEnum_ELBO

    from ppl_models.models.program.execution import numerics

    data, pair = found.data, cast(Any, found.resolved)  # whose programs take the fit as well
    elbo = TraceEnum_ELBO(max_plate_nesting=1)
    with numerics(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        every = [
            -elbo.loss(lambda: pair.model(data, found), lambda: pair.guide(data, found)) for _ in range(20)
        ]
    wanted, own = float(np.mean(every)), float(np.sum(found.score(draws=50)["elbo"]))
    off = abs(wanted - own) / max(1.0, abs(wanted))
    require(off < CLOSE, "ELBO", f"Pyro's own evaluation gives {wanted:.2f}, the fit {own:.2f}")
    return f"ELBO: that of Pyro's own evaluation to {off:.0e}"


def implicit(found: Fit) -> str:
    """The Pyro program of a model without a density, and its rows by `sample`: the same by every column."""
    import pyro

    from ppl_models.models.program.execution import numerics

    pair, bound = cast(Any, found.resolved), found.bound
    with numerics(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        every = [pyro.poutine.trace(pair.model).get_trace(found.data, found) for _ in range(20)]
    x = torch.cat([trace.nodes["x"]["value"] for trace in every])
    own, made = bound.coded.decode(x), found.sample(len(x), seed=3)
    worst, name_of = 0.0, ""
    for cells, j in zip(own.T, bound.coded.order, strict=True):
        column = found.data.schema.columns[j]
        drawn = made[column.name].tolist()
        drawn = [column.levels.index(str(v)) for v in drawn] if column.labelled else drawn
        a, b = np.sort(cells), np.sort(np.array(drawn, float))
        at = np.concatenate([a, b])
        apart = np.searchsorted(a, at, "right") / len(a) - np.searchsorted(b, at, "right") / len(b)
        if np.abs(apart).max() > worst:
            worst, name_of = float(np.abs(apart).max()), column.name
    most = ALIKE / (len(x) / 2) ** 0.5
    require(
        worst < most,
        "program",
        f"rows that the Pyro program makes and those of sample() are {worst:.3f} apart in {name_of}, by the "
        f"statistic of Kolmogorov and Smirnov (at most {most:.3f})",
    )
    return f"program: its rows and those of sample() are {worst:.3f} apart at most (Kolmogorov–Smirnov)"


def saved(found: Fit) -> str:
    """A run gives the same again."""
    with tempfile.TemporaryDirectory() as folder:
        again = load(found.save(Path(folder) / "run"), type(found.model))
        same = all(torch.equal(v.cpu(), again.params[k]) for k, v in found.params.items())
        require(same, "saving", "a run that is loaded has other parameters")
        if isinstance(found.bound, Scores):
            same = found.score().equals(again.score())
            require(same, "saving", "a run that is loaded scores rows otherwise")
        same = found.sample(20).equals(again.sample(20))
        require(same, "saving", "a run that is loaded makes up other rows")
    return "saving: a run that is loaded has the same parameters and rows"
