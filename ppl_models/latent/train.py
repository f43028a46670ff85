"""Training of models with discrete latents: restarts race, the best exchanges components, then all rows."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.data.batches import minibatches
from ppl_models.data.excerpt import excerpt, whole_sequences
from ppl_models.data.files import budget
from ppl_models.data.spill import lies_on_disk
from ppl_models.errors import Lost
from ppl_models.inference.checkpoint import Checkpoint
from ppl_models.inference.conjugate import ConjugateRule, State, Statistics
from ppl_models.inference.convergence import Knockout, Plateau, Windows
from ppl_models.inference.loop import (
    FROM_START,
    STEPS,
    Course,
    Log,
    Restarts,
    Status,
    Trained,
    loop,
    repeat,
    why,
)
from ppl_models.inference.settings import ConjugateSettings
from ppl_models.kernels.rows import Rows
from ppl_models.latent import exchange, starting
from ppl_models.latent.joint import Batch, Joint

BATCH, RUN = 131_072, 1_024
"""Rows of a mini-batch by default, and how many that follow one another are read from a disk at once."""

RACE = 8_000
"""Rows that the restarts race on; the winner goes on with all rows."""

MOST = 100_000
"""Rows that they race on at most; four a parameter if there are so many."""

LOOSE = 1e-3
"""Nats a row that may be left to gain in a race on a part of the rows: who wins is known before that."""

EVERY = 60.0
"""Seconds after which what several processes have found is kept, in case that this one is lost."""

KEPT = "statistics."
"""Begins the names of statistics that are kept."""

WORTH = 100
"""Rows a parameter that the race is made to look like, by weights, where there are so many.

On fewer the prior would merge components that all rows tell apart, and nothing parts them again.
"""


@dataclass(frozen=True, eq=False)
class Part:
    """Rows that stand for all.

    Attributes:
        data: the rows, with their weights.
        worth: rows that each stands for.
    """

    data: Dataset
    worth: float

    @property
    def total(self) -> float:
        """Rows that all of them stand for."""
        return self.worth * self.data.rows


@dataclass(eq=False)
class Candidate:
    """What a phase of the training hands to the next.

    Attributes:
        statistics: of the rows of the part, R = 1.
        part: the rows.
        elbo: on them.
        status: how the phase ended.
        steps: so far.
        restarts: how they ended.
        done: whether nothing is left to be gained on these rows.
    """

    statistics: dict[str, Tensor]
    part: Part
    elbo: float
    status: Status
    steps: int
    restarts: Restarts
    done: bool = True

    def scaled(self, total: float) -> dict[str, Tensor]:
        """Statistics of `total` rows."""
        return {name: total / self.part.total * value for name, value in self.statistics.items()}

    def checkpoint(self) -> Checkpoint:
        """What `_resumed` has it from."""
        tensors = {f"{KEPT}{name}": value.cpu().clone() for name, value in self.statistics.items()}
        tensors["restarts"] = torch.tensor(self.restarts.elbo, dtype=torch.float64)
        r = self.restarts
        numbers = {"raced": r.rows, "race_steps": r.steps, "within": r.within, "gain": r.gain}
        return Checkpoint(tensors, {"step": self.steps, "elbo": self.elbo} | numbers)


def train(joint: Joint, data: Dataset, settings: ConjugateSettings, course: Course = FROM_START) -> Trained:
    """Race the restarts, exchange components of the best, then train it on all rows.

    On many rows components are exchanged only if few of the restarts agree.

    Args:
        joint: the model.
        data: the rows.
        settings: restarts, steps, tolerance, batch size, device and seed.
        course: a checkpoint to go on from, and whom to tell.

    Returns:
        Expected statistics with a restart dimension of 1, the ELBO in nats, and how it came about.
    """
    log = Log(joint.parameters, course.progress)
    limit = settings.tolerance * max(joint.parameters, 1)
    if course.resume is None:
        found = _race(joint, data, settings, limit, log)
        doubtful = found.restarts.disagree or found.part.data is data
    else:
        found, doubtful = _resumed(course.resume, data), False
        log.history += course.history
    if (
        found.status is Status.CONVERGED
        and settings.starts(joint.states) > 1
        and exchange.possible(joint)
        and doubtful
    ):
        _exchange(joint, data, settings, found, log)
    size = settings.batch_size or _batch_size(joint, data)
    if data.shares is not None:
        size = None  # every process passes over its own rows
    if found.status is Status.INTERRUPTED:
        found.statistics = found.scaled(data.rows)  # as wide as the posterior of all rows would be
        found.elbo *= data.rows / found.part.total
    elif found.part.data is not data or size or not found.done:
        _all_rows(joint, data, settings, limit, size, found, log, course)
    return _trained(joint, data, settings, found, log)


def _trained(joint: Joint, data: Dataset, settings: ConjugateSettings, found: Candidate, log: Log) -> Trained:
    """What was found so far; where several processes fit, with what another fit can go on from."""
    return Trained(
        joint.canonical(found.statistics), found.elbo, found.status, found.steps, log.seconds,
        tuple(log.history), found.restarts, why(found.status, settings.most(STEPS)), ConjugateRule.name,
        checkpoint=None if data.shares is None else found.checkpoint(),
    )  # fmt: skip


def _resumed(checkpoint: Checkpoint, data: Dataset) -> Candidate:
    """What a fit that was stopped on its passes over all rows had found."""
    statistics = {k.removeprefix(KEPT): v for k, v in checkpoint.tensors.items() if k.startswith(KEPT)}
    numbers = checkpoint.numbers
    restarts = Restarts(
        tuple(checkpoint.tensors["restarts"].tolist()), int(numbers["raced"]), int(numbers["race_steps"]),
        numbers["within"], numbers["gain"],
    )  # fmt: skip
    return Candidate(
        statistics, Part(data, 1.0), numbers["elbo"], Status.CONVERGED, int(numbers["step"]), restarts, False
    )


def part(joint: Joint, data: Dataset, rows: int, seed: int) -> Part:
    """About `rows` rows, which weigh as many as the prior needs to be as weak on them as on all.

    Args:
        joint: the model.
        data: all rows.
        rows: about how many; blocks of them where they follow one another.
        seed: of the rows that are taken.

    Returns:
        The rows, and what each of them weighs: 1 where they are all, or follow one another.
    """
    if not joint.structure.enters:
        return Part(whole_sequences(data, rows, seed), 1.0)
    some = excerpt(data, rows, ordered=not joint.exchangeable, seed=seed)
    if some is data or not joint.exchangeable:
        return Part(some, 1.0)
    worth = float(np.clip(WORTH * joint.parameters / some.rows, 1.0, data.rows / some.rows))
    each = np.ones(some.rows) if some.weight is None else some.weight
    return Part(replace(some, weight=worth * each), worth)


def _race(joint: Joint, data: Dataset, settings: ConjugateSettings, limit: float, log: Log) -> Candidate:
    """The best of several starts on a part of the rows."""
    rows = int(np.clip(4 * joint.parameters, RACE, MOST)) if joint.exchangeable else RACE
    some = part(joint, data, rows, settings.seed)
    batch = joint.dataset_batch(some.data, settings.device)
    number = 1 if joint.states == 1 else settings.starts(joint.states)
    begin = starting.labels(joint, some.data, batch.rows, number, settings.seed)
    first = joint.from_labels(batch, torch.as_tensor(begin, device=batch.values.device))
    monitor = Plateau(limit)
    if some.data is not data and joint.exchangeable:
        limit = max(limit, LOOSE * some.total)
        exchanged = number > 1 and exchange.possible(joint)
        monitor = Knockout(limit) if exchanged else Plateau(limit)
    raced = loop(
        ConjugateRule(), joint, first, repeat(batch), monitor, settings.most(STEPS), log.phase("restarts")
    )
    ranked = raced.elbo.nan_to_num(nan=-torch.inf, neginf=-torch.inf).sort(descending=True)
    restarts = Restarts(
        tuple((ranked.values / some.worth).tolist()), some.data.rows, raced.steps,
        max(1.0, 2 * limit / some.worth),
    )  # fmt: skip
    statistics = {name: value[ranked.indices[:1]] for name, value in raced.params.items()}
    return Candidate(statistics, some, float(ranked.values[0]), raced.status, raced.steps, restarts)


def _exchange(joint: Joint, data: Dataset, settings: ConjugateSettings, found: Candidate, log: Log) -> None:
    """Exchange components of what was found, as long as that gains something."""
    some = part(joint, data, exchange.rows(joint), settings.seed)
    limit = 1.0 if some.data is data else max(1.0, 0.1 * LOOSE * some.total)
    ended = exchange.improve(
        joint, some.data, found.scaled(some.total), limit, settings.seed, settings.device,
        log.phase("exchanges"),
    )  # fmt: skip
    found.elbo = (found.elbo / found.part.total + ended.gain / some.total) * some.total
    found.statistics, found.part, found.done = ended.statistics, some, False
    found.steps += ended.steps
    if ended.status is Status.INTERRUPTED:
        found.status = ended.status
    found.restarts = replace(found.restarts, gain=ended.gain * found.restarts.rows / some.total)


def _all_rows(
    joint: Joint,
    data: Dataset,
    settings: ConjugateSettings,
    limit: float,
    size: int | None,
    found: Candidate,
    log: Log,
    course: Course,
) -> None:
    """Train what was found on all rows, or on mini-batches of them.

    Where several processes do, what there is is kept now and then, and when one of them is lost.
    """
    statistics, rule = found.scaled(data.rows), ConjugateRule()
    whole = None
    if size is not None and size < data.rows:
        batches, monitor = _stochastic(joint, data, settings, size, statistics)
        rule = replace(rule, delay=float(monitor.size))  # the start weighs as much as a pass
        whole = joint.dataset_batch(data, settings.device)
    else:
        batches = repeat(joint.dataset_batch(data, settings.device))
        monitor = Plateau(limit)
    kept, before = time.monotonic(), found.steps

    def keep() -> None:
        nonlocal kept
        kept = time.monotonic()
        if course.keep is not None:
            course.keep(_trained(joint, data, settings, replace(found, status=Status.INTERRUPTED), log))

    def after(state: State) -> None:
        found.statistics = state.statistics if state.fallback is None else state.fallback
        found.part, found.elbo, found.steps = Part(data, 1.0), float(state.best[0]), before + state.step
        if time.monotonic() - kept > EVERY:
            keep()

    try:
        ended = loop(
            rule, joint, statistics, batches, monitor, settings.most(STEPS), log.phase("all rows"),
            after if data.shares is not None else None,
        )  # fmt: skip
    except Lost:
        keep()
        raise
    found.statistics, found.elbo, found.status = ended.params, float(ended.elbo[0]), ended.status
    found.steps = before + ended.steps
    if whole is not None:  # one pass with all rows: the ELBO, and a last step without noise
        _, found.statistics = joint.elbo(whole, found.statistics)
        found.elbo = float(joint.elbo(whole, found.statistics)[0][0])


def _batch_size(joint: Joint, data: Dataset) -> int | None:
    """Rows of a mini-batch where the data does not fit into memory, so that every pass would read the disk.

    In memory all rows at once got further in the same time up to three million rows, the most that was
    measured: a pass of the compiled E step costs less than the noise of mini-batches does.
    """
    beyond = lies_on_disk(data.values) and data.values.nbytes > budget()
    return BATCH if beyond and joint.exchangeable else None


def _stochastic(
    joint: Joint, data: Dataset, settings: ConjugateSettings, size: int, statistics: Statistics
) -> tuple[Iterator[Batch], Windows]:
    """Mini-batches on the device, with a buffer in which the chain forgets."""
    rng = np.random.default_rng(settings.seed)

    def exchangeable() -> Iterator[Batch]:
        run = RUN if lies_on_disk(data.values) else 1
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
