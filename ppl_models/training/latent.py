"""Training of models with discrete latents: restarts that race, then the best one on all rows."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from ppl_models.data import Dataset
from ppl_models.data.batches import minibatches
from ppl_models.data.excerpt import excerpt
from ppl_models.data.files import budget
from ppl_models.inference.conjugate import ConjugateRule, Statistics
from ppl_models.inference.convergence import Plateau, Windows
from ppl_models.inference.starts import starts
from ppl_models.latent.rows import Rows
from ppl_models.models.joint import Batch, Joint
from ppl_models.training.loop import (
    FROM_START,
    Course,
    Log,
    Restarts,
    Settings,
    Status,
    Trained,
    loop,
    repeat,
    why,
)

BATCH, RUN = 131_072, 1_024
"""Rows of a mini-batch by default, and how many that follow one another are read from a disk at once."""

RACE = 8_000
"""Rows that the restarts race on; the winner goes on with all rows."""

MOST = 100_000
"""Rows that they race on at most; four a parameter if there are so many."""

LOOSE = 1e-3
"""Nats a row that may be left to gain in a race on a part of the rows: who wins is known before that."""

WORTH = 100
"""Rows a parameter that the race is made to look like, by weights, where there are so many.

On fewer the prior would merge components that all rows tell apart, and nothing parts them again.
"""


def train(joint: Joint, data: Dataset, settings: Settings, course: Course = FROM_START) -> Trained:
    """Race the restarts, then train the best one on all rows."""
    log = Log(joint.parameters, course.progress)
    rule = ConjugateRule()
    limit = settings.tolerance * max(joint.parameters, 1)
    rows = int(np.clip(4 * joint.parameters, RACE, MOST)) if joint.exchangeable else RACE
    some = excerpt(data, rows, ordered=not joint.exchangeable, seed=settings.seed)
    worth, race = 1.0, limit
    if some is not data and joint.exchangeable:
        worth = float(np.clip(WORTH * joint.parameters / some.rows, 1.0, data.rows / some.rows))
        each = np.ones(some.rows) if some.weight is None else some.weight
        some = replace(some, weight=worth * each)
        race = max(limit, LOOSE * worth * some.rows)
    batch = joint.dataset_batch(some, settings.device)
    number = 1 if joint.states == 1 else settings.restarts
    ordered = not joint.exchangeable
    labels = np.stack(list(starts(some, batch.rows, joint.states, number, settings.seed, ordered=ordered)))
    first = joint.from_labels(batch, torch.as_tensor(labels, device=batch.values.device))
    raced = loop(rule, joint, first, repeat(batch), Plateau(race), settings.most(), log.phase("restarts"))
    ranked = raced.elbo.nan_to_num(nan=-torch.inf, neginf=-torch.inf).sort(descending=True)
    best = ranked.indices[:1]
    statistics = {name: value[best] for name, value in raced.params.items()}
    finished, status, steps = float(ranked.values[0]), raced.status, raced.steps
    restarts = Restarts(
        tuple((ranked.values / worth).tolist()), some.rows, raced.steps, max(1.0, 2 * race / worth)
    )

    size = settings.batch_size or _batch_size(joint, data)
    if status is not Status.INTERRUPTED and (some is not data or size):
        scale = data.rows / some.rows / worth
        statistics = {name: scale * value for name, value in statistics.items()}
        if size and size < data.rows:
            batches, monitor = _stochastic(joint, data, settings, size, statistics)
            rule = replace(rule, delay=float(monitor.size))  # the start weighs as much as a pass
        else:
            batches = repeat(joint.dataset_batch(data, settings.device))
            monitor = Plateau(limit)
        ended = loop(rule, joint, statistics, batches, monitor, settings.most(), log.phase("all rows"))
        statistics, finished, status = ended.params, float(ended.elbo[0]), ended.status
        steps += ended.steps
        if size and size < data.rows:  # one pass with all rows: the ELBO, and a last step without noise
            whole = joint.dataset_batch(data, settings.device)
            _, statistics = joint.elbo(whole, statistics)
            finished = float(joint.elbo(whole, statistics)[0][0])
    return Trained(
        joint.canonical(statistics), finished, status, steps, log.seconds, tuple(log.history), restarts,
        why(status, settings), rule.name,
    )  # fmt: skip


def _batch_size(joint: Joint, data: Dataset) -> int | None:
    """Rows of a mini-batch where the data does not fit into memory, so that every pass would read the disk.

    In memory all rows at once got further in the same time up to three million rows, the most that was
    measured: a pass of the compiled E step costs less than the noise of mini-batches does.
    """
    beyond = isinstance(data.values, np.memmap) and data.values.nbytes > budget()
    return BATCH if beyond and joint.exchangeable else None


def _stochastic(
    joint: Joint, data: Dataset, settings: Settings, size: int, statistics: Statistics
) -> tuple[Iterator[Batch], Windows]:
    """Mini-batches on the device, with a buffer in which the chain forgets."""
    rng = np.random.default_rng(settings.seed)

    def exchangeable() -> Iterator[Batch]:
        run = RUN if isinstance(data.values, np.memmap) else 1
        starts = np.arange(0, data.rows, run)
        number = -(-data.rows // size)
        while True:
            for some in np.array_split(rng.permutation(starts), number):
                rows = (np.sort(some)[:, None] + np.arange(run)).ravel()
                rows = rows[rows < data.rows]
                weight = None if data.weight is None else data.weight[rows]
                part = Rows(np.array([len(rows)]), weight=weight)
                yield joint.batch(data.values[rows], part, settings.device, float(number))

    def batches() -> Iterator[Batch]:
        if joint.exchangeable:
            yield from exchangeable()
            return
        buffer = _buffer(joint, statistics, size)
        for part in minibatches(data.lengths, size, buffer, rng):
            rows = Rows(part.lengths, part.entered, part.weight)
            yield joint.batch(data.values[part.rows], rows, settings.device, part.scale)

    return batches(), Windows(max(1, -(-data.rows // size)), data.rows)


def _buffer(joint: Joint, statistics: Statistics, most: int) -> int:
    """Rows in which a chain forgets all but a thousandth of where it was."""
    A = joint.expected_natural(statistics)["transition"][0].softmax(-1)
    second = torch.linalg.eigvals(A).abs().sort(descending=True).values[1:2]
    mixing = float(second.clamp(1e-6, 1 - 1e-6).log()) if len(second) else -1.0
    return min(int(np.ceil(np.log(1e-3) / mixing)), most)
