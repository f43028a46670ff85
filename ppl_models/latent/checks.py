"""What is checked of mixtures and Markov models: that states have rows, and rows look like the model."""

from collections.abc import Iterator
from math import log
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_models import misfit
from ppl_models.capabilities import Fitted
from ppl_models.checks import Check
from ppl_models.data import Dataset
from ppl_models.data.excerpt import excerpt
from ppl_models.draws import Draws, Params, select_draws
from ppl_models.families.base import Emission
from ppl_models.families.choose import instead, named
from ppl_models.families.columns import CellEmission
from ppl_models.families.gaussian import DiagonalGaussian
from ppl_models.families.registry import FAMILIES
from ppl_models.latent.joint import Joint

if TYPE_CHECKING:
    from torch import Tensor

CELLS = 500_000
"""Cells × draws that are looked at."""

BETTER = 100.0
"""How many times as probable the data must be under another family before it is named."""


def occupancy(joint: Joint, params: Params) -> list[Check]:
    """Whether states are empty, or have too few rows to say anything of their spread.

    Args:
        joint: the model over the columns.
        params: expected sufficient statistics, R = 1.
    """
    noun = joint.structure.noun
    rows = joint.occupied(params).numpy()
    needed = least(joint)
    empty, thin = np.flatnonzero(rows < 1.0), np.flatnonzero((rows >= 1.0) & (rows < needed))
    name, found = f"{noun}s visited", rows.round(2).tolist()
    if len(empty) and joint.prunes:
        used = joint.states - len(empty)
        reason = f"{used} of {joint.states} {noun}s are used; the process left the others empty"
        return [Check(name, found, "ok", reason)]
    if len(empty):
        reason = f"{_named(empty, noun)} never visited: what is said there is the prior; fit fewer {noun}s"
        return [Check(name, found, "warn", reason)]
    if len(thin):
        reason = (
            f"{_named(thin, noun)} visited in fewer than {needed} rows: the spread is the prior's; "
            f"fit fewer {noun}s"
        )
        return [Check(name, found, "warn", reason)]
    return [Check(name, found, "ok", f"each {noun} has at least {rows.min():.0f} rows in expectation")]


def least(joint: Joint) -> int:
    """Rows that a state needs for its spread to be said by them."""
    return 2 + max(len(e.columns) for e in joint.emissions)


def _named(states: np.ndarray, noun: str) -> str:
    names = ", ".join(map(str, states))
    return f"{noun}s {names} are" if len(states) > 1 else f"{noun} {names} is"


def against_data(joint: Joint, fitted: Fitted) -> list[Check]:
    """Whether cells look like those of their states: see `ppl_models.misfit`.

    Of weighted rows nothing is said: they are no sample of the model.

    Args:
        joint: the model over the columns.
        fitted: with its data and draws.
    """
    data = fitted.learned_from
    modelled = [e for e in joint.emissions if not e.is_label]
    width = sum(len(e.columns) for e in modelled)
    if data.weight is not None or not width:
        return []
    rows = int(np.clip(CELLS // (misfit.DRAWS * width), 100, misfit.ROWS))
    data = joint.inside.dataset(data) if joint.lagged else data  # before rows lose the one before them
    part = excerpt(data, rows, ordered=not joint.exchangeable, seed=fitted.settings.seed)
    part = joint.inside.dataset(part, noise=True)
    theta = select_draws(fitted.posterior_draws.theta, slice(0, misfit.DRAWS))
    seed = fitted.settings.seed + 6
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        batch, natural = joint.dataset_batch(part), joint.natural(theta)
        path = joint.structure.draw_paths(joint.density(batch, natural), natural, batch.rows)
    cells = [each for e in modelled for each in _cells(joint, e, theta, path, part)]
    starts = None
    if not joint.exchangeable:
        starts = np.zeros(part.rows, dtype=bool)
        starts[part.offsets[:-1]] = True
    within = f" within {joint.structure.noun}s" if joint.states > 1 else ""
    found = misfit.misfits(cells, starts, seed, within)
    wandering = [
        each.column
        for each in found
        if starts is not None
        and each.statistic == "autocorrelation"
        and not joint.lagged  # such a chain goes on from where it is
        and misfit.wanders(part.column(each.column), starts)
    ]
    better: dict[str, str] = {}
    counts = [each for each in cells if each.zero is not None]
    if counts:
        n, d = part.rows, joint.parameters
        # log p(x) by BIC: the mean over the posterior is d/2 nats below the maximum
        evidence = float(joint.log_evidence(batch, theta).mean()) + 0.5 * d - 0.5 * d * log(max(n, 2))
        alone = width == 1 and joint.schema.target is None
        better = _better(joint, counts, path.numpy(), evidence if alone else None)
    better |= misfit.apart(found, cells)
    return misfit.checks(found, len(cells), part.rows, wandering, better)


def _cells(joint: Joint, e: Emission, theta: Draws, path: "Tensor", part: Dataset) -> Iterator[misfit.Cells]:
    """The columns of one family, under draws of θ and of the states."""
    from ppl_models.families.cumulative import cumulative

    draw = torch.arange(len(path)).unsqueeze(-1)

    def at(value: "Tensor") -> "Tensor":
        shared = value.shape[1] == 1 and joint.states > 1
        return value[draw, torch.zeros_like(path) if shared else path]

    d: Any = e.margins(theta[e.name], at, torch.as_tensor(part.values))
    x = part.values[:, list(e.columns)]
    found = cumulative(d, x)
    if found is None:
        return
    mean, variance = d.mean, d.variance
    columns = [joint.schema.columns[i] for i in e.columns]
    family = next(family for family in FAMILIES if family.name == e.name)
    discrete = family.of_counts is not None and bool((found.below < found.upto).any())
    zero = d.base_dist.log_prob(torch.zeros(x.shape[-1]).double()).exp() if discrete else None
    together = e.rotates or not isinstance(e, CellEmission)  # it has a covariance
    for j, column in enumerate(columns):
        advice = instead("emission", column.name, family)
        if isinstance(e, DiagonalGaussian):
            advice = {**advice, "dependence": "--covariance=full lets columns hang together"}
        yield misfit.Cells(
            column.name, e.name, x[:, j], *(part[..., j] for part in found),
            mean[..., j].numpy(), variance[..., j].numpy(),
            None if zero is None else zero[..., j].numpy(),
            column.labelled, advice, block=e.name if together else column.name,
        )  # fmt: skip


def _better(
    joint: Joint, cells: list[misfit.Cells], path: np.ndarray, evidence: float | None
) -> dict[str, str]:
    """Families that describe columns of counts better, and by how much: what to say, by column.

    With the states as they are drawn, Σ_n log p'(x_n | z_n) under another family, at its own maximum, less
    the same under the one of the model, is a lower bound of what the other would gain (a step of EM); of an
    only column one state of another family is compared with all states as well. By BIC; under the model a
    Bayes factor is over b in at most 1/b of all data sets.

    Args:
        joint: the model over the columns.
        cells: of columns of counts.
        path: (B, n) draws of the states.
        evidence: log p(x) of the rows by BIC, where the column is the only one.
    """
    known = {family.name: family.of_counts for family in FAMILIES if family.of_counts is not None}
    one = np.ones(1)
    sizes = {name: count(one, one)[1] for name, count in known.items()}
    found: dict[str, str] = {}
    for each in cells:
        seen = ~np.isnan(each.values)
        x, at = np.unique(each.values[seen], return_inverse=True)
        states = path[:, seen]
        often = np.zeros((joint.states, len(x)))
        np.add.at(often, (states, np.broadcast_to(at, states.shape)), 1 / len(states))

        def bic(name: str, rows: np.ndarray, x: np.ndarray = x) -> float:
            fits = [(*known[name](x[n > 0], n[n > 0]), n.sum()) for n in rows if n.sum() >= 1]
            return sum(value - 0.5 * d * log(max(n, 2)) for value, d, n in fits)

        own = bic(each.family, often)
        others = [name for name in known if name != each.family and sizes[name] >= sizes[each.family]]
        gains = {(name, joint.states): bic(name, often) - own for name in others}
        if evidence is not None and joint.states > 1:
            gains |= {(name, 1): bic(name, often.sum(0)[None]) - evidence for name in others}
        if not gains:
            continue
        (name, states_), gain = max(gains.items(), key=lambda item: item[1])
        if gain > log(BETTER * len(cells)):
            noun = joint.structure.noun
            size = f"one {noun}" if states_ == 1 else f"{states_} {noun}s"
            fewer = f" with {size}" if joint.states > 1 else ""
            found[each.name] = (
                f"{name}{fewer} has {gain:.0f} nats more evidence: {named('emission', each.name, name)}"
            )
    return found


def beyond(joint: Joint) -> str:
    """What else may take fewer states: a family with more spread."""
    own = {e.name for e in joint.emissions}
    wider = {f.instead["dispersion"] for f in FAMILIES if f.name in own and "dispersion" in f.instead}
    if not wider:
        return ""
    named = " or ".join(f"--emission={name}" for name in sorted(wider))
    return f"; {joint.structure.noun}s may stand for spread or tails: try {named}"
