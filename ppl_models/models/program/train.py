"""Training of user-defined models: several searches, then the Gaussian rule from the best of them.

Where there are too many parameters for that, mini-batches, or a user-defined guide, stochastic gradients of
Pyro's ELBO instead.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.errors import DataError, UsageError
from ppl_models.inference.convergence import Plateau
from ppl_models.inference.gaussian import GaussianRule, Sampled
from ppl_models.inference.loop import (
    FROM_START,
    Course,
    Log,
    Looped,
    Restarts,
    Status,
    Trained,
    loop,
    why,
)
from ppl_models.inference.settings import ProgramSettings
from ppl_models.inference.stochastic import train_gradient
from ppl_models.models.program.gradient import ProgramTarget
from ppl_models.models.program.modes import (
    FEW,
    apart,
    completed,
    gaussians,
    most_modes,
    stored,
    symmetries,
    weighed,
)
from ppl_models.models.program.prior import first_points, given_point
from ppl_models.models.program.program import Program
from ppl_models.models.program.start import Start, starts
from ppl_models.threads import threads_for

DIMENSIONS = 1_000
"""Parameters up to which a full covariance is learned."""

POINTS = 2_048
"""Of the expectations, at most; 4 for every parameter, and 64 at least."""

RATE = 0.05
"""Step size of stochastic gradients, in unconstrained space, if none is given."""

TRIED = 3
"""Starts that the rule is followed from."""

STEPS = 60
"""Of the rule from one start."""

LIMIT = 300
"""Of the rule in all, if no number is given: where the ELBO still creeps up, no Gaussian is close."""

ROUNDS = 3
"""Times that searches set out again while further modes are found."""

BESIDE = 10.0
"""Nats below the best up to which an optimum is looked at: its ELBO says less than its evidence."""

WEIGHED = 4_000_000
"""Draws × numbers of an execution by which a mode is weighed."""


def train(bound: Program, data: Dataset, settings: ProgramSettings, course: Course = FROM_START) -> Trained:
    """The Gaussian rule, unless the model, its size or the settings ask for another guide.

    Args:
        bound: the model.
        data: the rows.
        settings: guide, ELBO, restarts, steps, tolerance, batch size and seed.
        course: a checkpoint to go on from, and whom to tell.

    Returns:
        `loc` (1, d) and `precision` (1, d, d) of the Gaussian, or the tensors of the guide under
        `{guide}.{name}`; the ELBO in nats, and how it came about.

    Raises:
        UsageError: if the model has no guide of its own, and is to be fitted with it.
        DataError: if the log density is nowhere a finite number, or has no ELBO.
    """
    bound.until = None if settings.budget is None else time.monotonic() + settings.budget - bound.spent
    kind = _guide(bound, data, settings)
    if kind is None:
        found = _gaussian(bound, data, settings, course)
    else:
        found = _gradient(bound, kind, settings, course)
    bound.rest = None if bound.until is None else bound.until - time.monotonic()
    return found


def _guide(bound: Program, data: Dataset, settings: ProgramSettings) -> str | None:
    """The guide of the gradient rule, or None for the Gaussian rule.

    Raises:
        UsageError: if the model has no guide of its own, and is to be fitted with it.
    """
    kind, own = settings.guide, bound.model.own_guide
    if kind == "own" and not own:
        raise UsageError(f"{bound.model.name} has no guide() of its own; leave --guide out")
    if kind != "auto":
        return kind
    if own:
        return "own"
    if bound.parameters > DIMENSIONS:
        return "normal"
    batched = settings.batch_size is not None and settings.batch_size < data.rows
    asked = settings.elbo != "auto" or settings.particles > 1 or settings.learning_rate is not None
    return "full-rank" if batched or asked else None


def _gradient(bound: Program, kind: str, settings: ProgramSettings, course: Course) -> Trained:
    """Stochastic gradients of Pyro's ELBO, from the best of some points."""
    points = first_points(bound, settings.restarts, settings.seed)
    if settings.init is not None:
        points = given_point(bound, settings.init, settings.seed)[None]
    with torch.no_grad():
        value, _ = bound.density(points)
    rows = max(bound.density.columns._rows, 1)
    size = min(settings.batch_size or rows, rows)
    start = points[int(value.argmax())]
    target = ProgramTarget(bound, kind, settings.elbo, settings.particles, size < rows, start)

    def named(trained: Trained) -> Trained:
        return replace(trained, params={f"{kind}.{name}": value for name, value in trained.params.items()})

    keep = course.keep
    if keep is not None:
        course = replace(course, keep=lambda trained: keep(named(trained)))
    options = {"learning_rate": RATE, "batch_size": size}
    with threads_for(bound.density.cells * 8):
        found = train_gradient(target, settings, course, **options)
    return replace(named(found), rule=f"{found.rule}, {kind} guide")


def _gaussian(bound: Program, data: Dataset, settings: ProgramSettings, course: Course) -> Trained:
    """Search, refine, and keep the Gaussian of the highest ELBO, or those of all modes that there are.

    Raises:
        DataError: if the log density is nowhere a finite number.
    """
    log = Log(bound.parameters, course.progress)
    started = frozenset(bound.sites.scaled)
    with threads_for(bound.density.cells * 8 * settings.restarts), torch.no_grad():
        search, other = _searched(bound, data, settings, log, started), None
        if started and not bound.late():
            other = _searched(bound, data, settings, log, frozenset())
            if other.elbo > search.elbo:
                search, other = other, search
            bound.centre(search.apart)
        best = search.finished()
        params, elbo, unseen = _combined(bound, best, search.modes(), search.again)
    density, notes = bound.density, []
    if density.path != "vmap":
        notes.append(f"points were gone through one by one: {density.reason}")
    if other is not None and search.apart:
        names = ", ".join(repr(name) for name in bound.sites.scaled)
        notes.append(
            f"location and scale were taken out of {names} (non-centred), which gained "
            f"{search.elbo - other.elbo:.1f} nats; draws are of the sites as they are written"
        )
    if search.apart:
        params = params | {"modes.apart": torch.ones(1, len(started))}
    status, reason = best.status, why(best.status, best.steps)
    if status is Status.MAX_STEPS and bound.late():
        steps = f"{best.steps} steps, as the time was up"
        reason = f"the ELBO was still rising after {steps}; allow more with --budget"
    return Trained(
        params | unseen, elbo, status, best.steps, log.seconds, tuple(log.history),
        search.restarts(float(best.elbo[0]), data.rows),
        reason, GaussianRule.name, (*notes, *density.notes()),
    )  # fmt: skip


def _searched(
    bound: Program, data: Dataset, settings: ProgramSettings, log: Log, apart: frozenset[str]
) -> "_Search":
    """Searches until no more modes are found, with location and scale taken out of some sites."""
    bound.centre(apart)
    search = _Search(bound, settings, log, apart)
    for turn in range(ROUNDS):
        if turn and bound.late():
            break
        if not search.turn(data, turn) or len(search.modes()) < 2:
            break
    return search


def _combined(
    bound: Program, best: Looped, modes: list[Looped], further: int
) -> tuple[dict[str, Tensor], float, dict[str, Tensor]]:
    """The parameters of the guide, its ELBO, and how many modes it does not cover."""
    d, elbo = bound.parameters, float(best.elbo[0])
    params = {name: tensor.clone() for name, tensor in best.params.items()}
    blocks = [(site.at, site.free, site.real) for site in bound.sites.latent.values()]
    found = [_of(looped) for looped in modes]
    most = most_modes(d)
    group = symmetries(bound.density, found, blocks, 4 * FEW)
    every, orbit = completed(found, group)
    if len(every) > most or (further and len(every) > len(group)):
        return params, elbo, {"modes.unseen": torch.tensor([float(len(every) - 1)])}
    if len(every) > 1:
        q, together = weighed(bound.density, every, orbit, _draws(bound))
        if math.isfinite(together):
            return params | stored(q, group), max(elbo, together), {}
    return params | stored(gaussians(params), group), elbo, {}


def _draws(bound: Program) -> int:
    """By which each mode is weighed."""
    return int(min(max(WEIGHED // max(bound.density.cells, 1), 64), 1_000))


def _of(looped: Looped) -> tuple[Tensor, Tensor]:
    return looped.params["loc"][0], looped.params["precision"][0]


@dataclass
class _Search:
    """Searches from several points, what they ended at, and the Gaussians that were followed from there."""

    bound: Program
    settings: ProgramSettings
    log: Log
    apart: frozenset[str] = frozenset()
    done: list[Start] = field(default_factory=list)
    ended: list[Looped] = field(default_factory=list)
    found: list[Start] = field(default_factory=list)
    ends: list[Tensor] = field(default_factory=list)
    again: int = 0

    def turn(self, data: Dataset, turn: int) -> bool:
        """Search from further points, and follow what is new; whether another turn may find more.

        Raises:
            DataError: in the first turn, if the log density is nowhere a finite number, or has no ELBO.
        """
        bound, settings = self.bound, self.settings
        density, name = bound.density, bound.model.name
        points = first_points(bound, settings.restarts, settings.seed + 1_000 * turn)
        if settings.init is not None and not turn:
            points = torch.cat([given_point(bound, settings.init, settings.seed)[None], points])
        value, _ = density(points)
        points = points[torch.isfinite(value)]
        if not len(points) and not turn:
            raise DataError(
                f"{data.source}: the log density of {name}{density.unsound()} is not a finite number at "
                f"{settings.restarts} draws of its prior; look at supports, scales and divisions by zero"
            )
        found, end = starts(density, points, bound.late, self._searching) if len(points) else ([], None)
        if not found or end is None:
            if turn:
                return False
            raise DataError(
                f"{name}: no search found a place where its density has an ELBO; "
                "give its parameters proper priors"
            )
        self.log.phase("searches")(len(end.path), found[0].elbo, 1.0, 0.0)
        before = len(self.modes())
        self.found += [replace(s, search=s.search + len(self.ends)) for s in found]
        self.ends += list(end.points)
        for start in _apart(found)[: 0 if turn else TRIED]:
            self._follow(start)
        for start in found:
            new = start.mode and all(apart((start.loc, start.precision), _of(e)) for e in self.ended)
            near = start.elbo > self._best().elbo[0] - BESIDE
            if new and near and len(self.ended) < TRIED + 2 * FEW:
                self._follow(start)
        if not self.ended:
            raise DataError(f"{name}: the ELBO is not a finite number wherever a search ended")
        after = len(self.modes())
        self.again = after - before if turn else 0
        return turn == 0 or after > before

    def _searching(self, step: int) -> None:
        """Show a step of the searches, which have no ELBO yet."""
        if self.log.progress is not None:
            self.log.progress("searches", step, -math.inf, math.inf)

    @property
    def elbo(self) -> float:
        """Of the best Gaussian."""
        return float(self._best().elbo[0])

    def _best(self) -> Looped:
        none = Looped({}, torch.tensor([-torch.inf]), 0, Status.DIVERGED, None)
        return max(self.ended, key=lambda looped: float(looped.elbo[0]), default=none)

    def _follow(self, start: Start) -> None:
        """The rule from one start, if there is time; one that comes to nothing is left out."""
        if self.ended and self.bound.late():
            return
        steps = min(self.settings.most(STEPS), STEPS)
        looped = _ruled(self.bound, start.loc, start.precision, self.settings, steps, self.log)
        if math.isfinite(float(looped.elbo[0])) and bool(torch.isfinite(looped.params["precision"]).all()):
            self.done.append(start)
            self.ended.append(looped)

    def modes(self) -> list[Looped]:
        """Optima that are apart, and not far below the best one; the best first."""
        kept: list[Looped] = []
        for looped in sorted(self.ended, key=lambda looped: -float(looped.elbo[0])):
            if float(looped.elbo[0]) < float(self._best().elbo[0]) - BESIDE:
                break
            if all(apart(_of(looped), _of(other)) for other in kept):
                kept.append(looped)
        return kept

    def finished(self) -> Looped:
        """The best optimum, followed until its ELBO settles."""
        best = self._best()
        at = next(i for i, looped in enumerate(self.ended) if looped is best)
        left = self.settings.most(LIMIT) - best.steps
        if best.status is Status.MAX_STEPS and left > 0:
            on = _ruled(self.bound, *_of(best), self.settings, left, self.log)
            if math.isfinite(float(on.elbo[0])) and float(on.elbo[0]) >= float(best.elbo[0]):
                best = on._replace(steps=best.steps + on.steps)
            else:
                best = best._replace(steps=best.steps + on.steps)
            self.ended[at] = best
        return best

    def restarts(self, elbo: float, rows: int) -> Restarts:
        """The ELBO that each search led to: of one that ended in a mode that the draws are of, the best."""
        best: dict[int, float] = {}
        modes = [_of(looped) for looped in self.modes()]
        for start in self.found:
            reached = start.elbo
            for other, looped in zip(self.done, self.ended, strict=True):
                near = _distance(start.loc, other.loc, other.precision) < 1.0
                if near or _distance(start.loc, *_of(looped)) < 2.0:
                    reached = max(reached, float(looped.elbo[0]))
            end = self.ends[start.search] if start.search < len(self.ends) else start.loc
            if len(modes) > 1 and any(_distance(end, *mode) < 2.0 for mode in modes):
                reached = elbo
            best[start.search] = max(best.get(start.search, -torch.inf), reached)
        listed = sorted((min(value, elbo) for value in best.values()), reverse=True)
        return Restarts(tuple([elbo, *listed[1:]]), rows, STEPS)


def _ruled(
    bound: Program, loc: Tensor, precision: Tensor, settings: ProgramSettings, steps: int, log: Log
) -> Looped:
    """The rule from one Gaussian."""
    d = bound.parameters
    number = int(min(max(64, 4 * d), max(POINTS, 2 * d + 2)))
    target = Sampled(bound.density, d, number, settings.seed)
    params = {"loc": loc[None], "precision": precision[None]}
    monitor = Plateau(max(settings.tolerance, 1e-6) * d)
    return loop(GaussianRule(), target, params, _until(bound), monitor, steps, log.phase("all rows"))


def _until(bound: Program) -> Iterator[None]:
    """All rows again and again; while there is time, and once at least."""
    yield None
    while not bound.late():
        yield None


def _apart(found: list[Start]) -> list[Start]:
    """Starts that are not next to a better one."""
    kept: list[Start] = []
    for start in found:
        if not any(_distance(start.loc, s.loc, s.precision) < 1.0 for s in kept):
            kept.append(start)
    return kept


def _distance(u: Tensor, loc: Tensor, precision: Tensor) -> float:
    """Mahalanobis' distance a dimension."""
    x = u - loc
    return float(((x @ precision @ x) / len(x)).clamp_min(0).sqrt())
