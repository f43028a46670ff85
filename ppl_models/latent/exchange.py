"""Split one component and merge two others: how a mixture gets out of a poor optimum.

A start that has two components on one cluster and one on two stays so: every step of the training is local.
Ueda, Nakano, Ghahramani & Hinton (2000, SMEM algorithm for mixture models, Neural Computation 12,
https://doi.org/10.1162/089976600300015088) exchange them: merge the two, split the one, train on. Which are
worth trying, the bound itself says (Ueda & Ghahramani 2002, Bayesian model search for mixture models based
on optimizing variational bounds, Neural Networks 15, https://doi.org/10.1016/S0893-6080(02)00040-0). With
q(θ) at its best for responsibilities γ, the ELBO is

    F(γ) = log Z(S) + Σ_n w_n H(γ_n),    S = Σ_n w_n Σ_k γ_nk t(x_n, k),

so that, with h the entropy of a coin,

    merging i and j gains   Δ log Z − Σ_n w_n (γ_ni + γ_nj) h(γ_ni / (γ_ni + γ_nj)),
    splitting k gains       the ELBO of a mixture of two, of the rows weighed by w_n γ_nk, over that of one

but for the prior of the weights, which changes by the logarithm of a few counts. Both hold for any family of
emissions. Exchanges that promise most are trained on for some steps, next to the mixture as it is; the best
goes on, until none is better.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.inference.conjugate import ConjugateRule, Statistics
from ppl_models.inference.convergence import Plateau
from ppl_models.inference.loop import Looped, Report, Status, loop, repeat
from ppl_models.inference.starts import encode
from ppl_models.kernels.rows import Rows
from ppl_models.latent.independent import Independent
from ppl_models.latent.joint import Batch, Joint

SETTLE, STEPS, HALVING = 6, (6, 18), 9
"""Steps before the first exchange, of each that is tried (least, most), and of two halves of a component."""

TRIED, WORK = (3, 24), 2**21
"""Sets of exchanges that are trained on at a time, least and most; between, as many responsibilities."""

JOINT = 2
"""Exchanges that are made together, at most."""

FAILURES, MOST = 2, 20
"""Rounds without a gain, and rounds in all, after which there is an end."""

ROWS, HALVED = 15, 5
"""Rows a parameter that exchanges are tried on, and that components are split on."""

PARTNERS = 4
"""Others that merging is considered with, of each component."""

CUTS, POWER = 2, 3
"""Ways to cut a component in two to begin with, and power iterations to each direction."""

THINNED = 20_000
"""Rows that directions and overlaps are taken from, and the least that components are split on."""

WEIGHTS = 2**24
"""Numbers that the weights of the rows in all halves may be (128 MB)."""


class Exchange(NamedTuple):
    """Component `split` becomes two, and `merged` become one."""

    split: int
    merged: tuple[int, int]

    @property
    def components(self) -> set[int]:
        """The three that change."""
        return {self.split, *self.merged}


class Found(NamedTuple):
    """The mixture that exchanges end with.

    Attributes:
        statistics: of it.
        gain: nats that exchanges gained in the ELBO of the rows they were tried on.
        steps: taken.
        status: `INTERRUPTED`, or how the last steps ended.
    """

    statistics: dict[str, Tensor]
    gain: float
    steps: int
    status: Status


def possible(joint: Joint) -> bool:
    """Whether components are alike, of a mixture, and enough of them."""
    return isinstance(joint.structure, Independent) and joint.symmetric and joint.states > 2


def rows(joint: Joint) -> int:
    """How many to try exchanges on: `ROWS` a parameter, if the weights of all halves fit into memory."""
    return min(ROWS * joint.parameters, WEIGHTS // (2 * CUTS * joint.states))


def improve(
    joint: Joint, data: Dataset, statistics: Statistics, limit: float, seed: int, device: str, report: Report
) -> Found:
    """Exchange components as long as that raises the ELBO.

    Args:
        joint: the mixture; see `possible`.
        data: the rows to try exchanges on, with their weights.
        statistics: to begin with, R = 1.
        limit: nats that an exchange must gain.
        seed: of the directions in which components are cut.
        device: where.
        report: told of every step.
    """
    rule = ConjugateRule()
    batch = joint.dataset_batch(data, device)
    generator = torch.Generator().manual_seed(seed)
    points = torch.as_tensor(encode(data))

    def train(some: Sequence[Statistics], steps: int) -> Looped:
        first = {name: torch.cat([S[name] for S in some]) for name in some[0]}
        return loop(rule, joint, first, repeat(batch), Plateau(limit), steps, report)

    number = int(np.clip(WORK // (data.rows * joint.states), *TRIED))
    each = int(np.clip(number, *STEPS))
    looped = train([statistics], SETTLE)
    best, status, steps, gained, failures = looped.params, looped.status, looped.steps, 0.0, 0
    tried = set[Exchange]()
    for _ in range(MOST):
        if status is Status.INTERRUPTED or failures == FAILURES:
            break
        try:
            ranked, halves = _ranked(joint, batch, best, points, generator)
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
            break
        sets = _sets([(gain, exchange) for gain, exchange in ranked if exchange not in tried], number)
        looped = train([best, *(_exchanged(best, halves, some) for some in sets)], each)
        status, steps = looped.status, steps + looped.steps
        top = int(looped.elbo.nan_to_num(nan=-torch.inf).argmax())
        gain = float(looped.elbo[top] - looped.elbo[0])
        if gain > limit:
            gained, failures, tried = gained + gain, 0, set()
        else:
            top, failures = 0, failures + 1
            tried.update(exchange for some in sets for exchange in some)
        best = {name: value[top : top + 1] for name, value in looped.params.items()}
    return Found(best, gained, steps, status)


def _ranked(
    joint: Joint, batch: Batch, statistics: Statistics, points: Tensor, generator: torch.Generator
) -> tuple[list[tuple[float, Exchange]], dict[str, Tensor]]:
    """Exchanges with what they promise to gain, best first, and the statistics of the halves of each."""
    natural = joint.expected_natural(statistics)
    gamma = joint.structure.marginals(joint.density(batch, natural), natural, batch.rows).smoothed[0]
    splits, halves = _splits(joint, batch, natural, gamma, points, generator)
    merges = _merges(joint, batch, statistics, gamma)
    found = [
        (gain + splits[k], Exchange(k, pair))
        for pair, gain in merges.items()
        for k in range(joint.states)
        if k not in pair
    ]
    return sorted(found, reverse=True), halves


def _splits(
    joint: Joint,
    batch: Batch,
    natural: Statistics,
    gamma: Tensor,
    points: Tensor,
    generator: torch.Generator,
) -> tuple[list[float], dict[str, Tensor]]:
    """What splitting each component gains, and the statistics (K, 2, ...) of its halves."""
    K = joint.states
    weight = gamma.T if batch.rows.weight is None else gamma.T * torch.as_tensor(batch.rows.weight).to(gamma)
    count = weight.sum(1, keepdim=True)
    thin = -(-len(points) // max(THINNED, HALVED * joint.parameters))
    values, points, weight = batch.values[::thin].contiguous(), points[::thin], weight[:, ::thin]
    weight = weight * (count / weight.sum(1, keepdim=True).clamp_min(1e-300))
    owner = torch.arange(K, device=gamma.device).repeat_interleave(CUTS)
    side = _sides(points.to(gamma), weight, owner, generator)
    one, two = joint.resized(1), joint.resized(2)
    alone = {name: value[0, :, None] for name, value in natural.items()}
    alone["weight"] = torch.zeros_like(alone["weight"])

    def weighed(joint: Joint, weight: Tensor) -> Batch:
        rows = Rows(np.array([len(values)]), weight=weight.cpu().numpy())
        return joint.batch(values, rows, gamma.device)

    whole = weighed(one, weight)
    S = one.local(whole, alone)[1]
    first = one.local(weighed(one, weight[owner] * side), {n: v[owner] for n, v in alone.items()})[1]
    halves = {name: torch.cat([first[name], S[name][owner] - first[name]], 1) for name in S}
    rule, rows = ConjugateRule(), weighed(two, weight[owner])
    state = rule.init(halves)
    for _ in range(HALVING):
        state, info = rule.step(two, state, rows)
    gain = (info.elbo - one.elbo(whole, S)[0][owner]).nan_to_num(nan=-torch.inf).reshape(K, CUTS)
    best = gain.argmax(1)
    index = best + CUTS * torch.arange(K, device=best.device)
    return gain.amax(1).tolist(), {name: value[index] for name, value in info.kept.items()}


def _sides(points: Tensor, weight: Tensor, owner: Tensor, generator: torch.Generator) -> Tensor:
    """On which side of its component's mean each row lies, (cuts, n), along a direction of large variance.

    Power iterations from a random direction: enough to go where the component is long, not so many that
    all directions become one.
    """
    thin = slice(None, None, -(-len(points) // THINNED))
    x, w = points[thin], weight[:, thin]
    w = w / w.sum(1, keepdim=True).clamp_min(1e-300)
    mean = (w @ x)[owner]
    direction = torch.randn(len(owner), points.shape[1], generator=generator, dtype=points.dtype).to(points)
    for _ in range(POWER):
        along = w[owner] * (direction @ x.T - (direction * mean).sum(1, keepdim=True))
        direction = along @ x - along.sum(1, keepdim=True) * mean
        direction = direction / direction.norm(dim=1, keepdim=True).clamp_min(1e-300)
    return (direction @ points.T > (direction * mean).sum(1, keepdim=True)).to(points)


def _merges(
    joint: Joint, batch: Batch, statistics: Statistics, gamma: Tensor
) -> dict[tuple[int, int], float]:
    """What merging two components gains: each with those that most of its rows might also belong to."""
    K = joint.states
    thin = slice(None, None, -(-len(gamma) // THINNED))
    gamma = gamma[thin]
    weight = gamma.new_ones(len(gamma))
    if batch.rows.weight is not None:
        weight = torch.as_tensor(batch.rows.weight[thin]).to(gamma)
    weight = weight * (joint.structure.occupied(statistics).sum() / weight.sum())
    overlap = gamma.T @ gamma / gamma.sum(0).clamp_min(1e-300)[:, None]
    partner = overlap.fill_diagonal_(-1.0).topk(min(PARTNERS, K - 1)).indices
    own = torch.arange(K, device=partner.device)[:, None].expand_as(partner)
    pairs = torch.stack([torch.minimum(own, partner), torch.maximum(own, partner)], -1)
    i, j = pairs.reshape(-1, 2).unique(dim=0).T
    row = torch.arange(len(i), device=i.device)
    merged = {}
    for name, value in statistics.items():
        value = value.expand(len(i), *value.shape[1:]).clone()
        value[row, i] += value[row, j]
        value[row, j] = 0.0
        merged[name] = value

    def log_z(S: Statistics) -> Tensor:
        return torch.stack([f.log_normalizer(S[name]) for name, f in joint.factors.items()]).sum(0)

    a, b = gamma[:, i], gamma[:, j]
    entropy = torch.xlogy(a + b, a + b) - torch.xlogy(a, a) - torch.xlogy(b, b)
    gain = log_z(merged) - log_z(statistics) - weight @ entropy
    return {(x, y): g for x, y, g in zip(i.tolist(), j.tolist(), gain.tolist(), strict=True)}


def _sets(ranked: list[tuple[float, Exchange]], number: int) -> list[list[Exchange]]:
    """Sets of exchanges to try, from the best of them: some together, and some alone."""
    sets: list[list[Exchange]] = []
    together: list[Exchange] = []
    for gain, e in ranked:  # those that promise something and do not meet: one, the first two, …
        if len(together) == JOINT or (gain <= 0 and sets):
            break
        if all(e.components.isdisjoint(other.components) for other in together):
            together = [*together, e]
            sets.append(together)
    splits, merges, alike = Counter[int](), Counter[tuple[int, int]](), max(2, number // 3)
    for _, e in ranked:
        if len(sets) == number:
            break
        if [e] not in sets and splits[e.split] < alike and merges[e.merged] < alike:
            sets.append([e])
        splits[e.split] += [e] in sets
        merges[e.merged] += [e] in sets
    return sets


def _exchanged(
    statistics: Statistics, halves: dict[str, Tensor], exchanges: list[Exchange]
) -> dict[str, Tensor]:
    """The mixture with these exchanges made."""
    changed = {name: value.clone() for name, value in statistics.items()}
    for e in exchanges:
        i, j = e.merged
        for name, value in changed.items():
            value[0, i] += value[0, j]
            value[0, e.split], value[0, j] = halves[name][e.split]
    return changed
