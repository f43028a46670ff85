"""The log joint density of a model at many points at once.

    log p(x, θ(u_s)) + log |∂θ/∂u_s|,  and its gradients,    s = 1 … S

One execution of the user's Python serves all S points: `torch.func.vmap` over u. Where that cannot be (the
model turns a value into a Python number, or writes into a tensor in place) the points are gone through one by
one: `Density.path` says which, and why. Of a model of many sites the operations on tensors are recorded, and
repeated with those that are alike at once: `recording`. Of others, once a number of points has taken seconds,
they are recorded as they are (`make_fx`), and repeated without Python's and Pyro's own part, compiled
(`torch.jit`) where that gives the same.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ppl_models.draws import groups
from ppl_models.errors import PplError
from ppl_models.models.program.columns import Columns
from ppl_models.models.program.execution import Densities, Substitute, densities, numerics, traced
from ppl_models.models.program.failures import telling
from ppl_models.models.program.recording import Recording, recorded
from ppl_models.models.program.sites import Site, Sites
from ppl_models.wording import words_of

SITES = 32
"""Sites of an execution from which on operations that are alike are made at once."""

BUDGET = 2**20
"""Numbers that the log densities of the points of one execution may take."""

RECORD = 8.0
"""Seconds that a number of points has taken before its operations are recorded."""

KEPT = 4
"""Recordings that are kept."""

OPERATIONS = 20_000_000
"""Numbers of an execution beyond which Python's part does not matter, and nothing is recorded."""


OFTEN = 30
"""Times that a number of points is asked for, over data sets of one shape, before it is recorded."""

NO_GRADIENT = 0.01
"""Share of points without a gradient from which it is said."""


class Density:
    """The log joint of a model over some data as a function of u.

    Args:
        model: the model.
        columns: its data.
        sites: what was discovered.
        record: whether to record operations.
        shared: recordings of the same model over other data of this shape.

    Attributes:
        dimension: d.
        path: `vmap` or `loop`.
        reason: why it is a loop.
        patience: seconds that a number of points takes before its operations are recorded.
        shared: as it was given.
    """

    def __init__(
        self,
        model: Any,
        columns: Columns,
        sites: Sites,
        *,
        record: bool = True,
        shared: "Shared | None" = None,
    ) -> None:
        self.model, self.columns, self.sites = model, columns, sites
        self.dimension = sites.dimension
        self.reason, self.path, self.record, self.patience = "", "vmap", record, RECORD
        self._complete: frozenset[str] = frozenset()
        self._taken: dict[int, float] = {}
        self._asked = self._steep = 0
        self._recorded: dict[int, Any] = {}
        self._compiled: dict[int, Any] = {}
        self._batched: Recording | None = None
        self.shared, self._known = shared, dict[int, Any]()
        self.cells = self._look()

    def _one(self, u: Tensor) -> Densities:
        if self._batched is not None:
            return Densities(*self._batched(u))
        return densities(self.model, self.columns, self.sites, u, complete=self._complete)

    def _look(self) -> int:
        """Choose the path by two points, and count the numbers of an execution."""
        points = torch.stack([torch.zeros(self.dimension), torch.full((self.dimension,), 0.1)]).double()
        with numerics(), telling(self.model), torch.no_grad():
            handler = Substitute(self.sites, points[0])
            trace = traced(self.model, self.columns, handler, self.sites)
            self._complete = frozenset(self.sites.observed) - handler.holed
            single = [self._one(u) for u in points]
            why = self._refused(points, single)
            if why:  # it may be that it writes into tensors
                self.sites = replace(self.sites, writes=True)
                if self._refused(points, single):
                    self.sites = replace(self.sites, writes=False)
                    self.path, self.reason = "loop", why
        if self.record and self.path == "vmap" and len(trace.nodes) >= SITES:
            self._batch(points, single)
        rows = self.columns._rows
        return (
            int(sum(_numbers(s, self.sites) for s in self.sites.observed.values()))
            + rows
            + 4 * self.dimension
        )

    def _refused(self, points: Tensor, single: list[Densities]) -> str:
        """Why many points at once are not what single ones are, gradients too; nothing if they are."""
        try:
            both = self._mapped(points)
            self._all(points)
        except PplError:
            raise
        except Exception as error:  # whatever functorch cannot do
            return words_of(error)[:160]
        same = all(
            torch.allclose(a[i], b, rtol=1e-8, atol=1e-8, equal_nan=True)
            for i, one in enumerate(single)
            for a, b in zip(both, one, strict=True)
        )
        return "" if same else "many points at once give other values than one by one"

    def _batch(self, points: Tensor, single: list[Densities]) -> None:
        """Record the operations, if what is recorded gives what they give, gradients too."""
        try:
            value, slope = self._all(points)
            self._batched = recorded(self._one, points[0])
            why = self._refused(points, single)
            other, turned = self._all(points)
        except PplError:
            raise
        except Exception:  # what cannot be recorded is executed
            self._batched = None
            return
        same = torch.allclose(value, other, equal_nan=True) and torch.allclose(slope, turned, equal_nan=True)
        if why or not same:
            self._batched = None
        self.record = self._batched is None

    def _mapped(self, points: Tensor) -> Densities:
        mapped = torch.func.vmap(self._one, randomness="different")
        return Densities(*mapped(points))

    def parts(self, points: Tensor) -> Densities:
        """Log |∂θ/∂u| (S,), log prior (S,) and log likelihood (S, n) or (S,), without gradients."""
        with numerics(), telling(self.model), torch.no_grad():
            found = [self._parts(points[at]) for at in groups(len(points), self.cells, BUDGET)]
        return Densities(*(torch.cat(part) for part in zip(*found, strict=True)))

    def _parts(self, points: Tensor) -> Densities:
        if self.path == "vmap":
            try:
                return self._mapped(points)
            except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
                pass
        found = [self._safe(u) for u in points]
        return Densities(*(torch.stack(part) for part in zip(*found, strict=True)))

    def _safe(self, u: Tensor) -> Densities:
        try:
            return self._one(u)
        except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
            like = self._one(torch.zeros_like(u))
            return Densities(like.log_det, like.prior, torch.full_like(like.likelihood, -torch.inf))

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values (S,) and gradients (S, d), −∞ and 0 where there is none."""
        found = self._at_once(points)
        if found is None:
            with numerics(), telling(self.model):
                parts = groups(len(points), 2 * self.cells, BUDGET)
                each = [self._some(points[at].double()) for at in parts]
            found = torch.cat([value for value, _ in each]), torch.cat([slope for _, slope in each])
        value, slope = found
        self._asked += len(points)
        if bool(torch.isfinite(value.sum() + slope.sum())):  # as nearly always: nothing is to be replaced
            return value, slope
        there = torch.isfinite(value)
        sound = there & torch.isfinite(slope).all(1)
        if bool((there & ~sound).any()):
            self._steep += int((there & ~sound).sum())
            self._where = points[there & ~sound][0]
        return torch.where(sound, value, -torch.inf), torch.where(sound[:, None], slope, 0.0)

    def _at_once(self, points: Tensor) -> tuple[Tensor, Tensor] | None:
        """By what was compiled for so many points; None where nothing was, or a matrix is singular."""
        compiled = self._compiled.get(len(points))
        if compiled is None:
            return None
        try:
            with torch.inference_mode():  # tensors that keep no account of views: a quarter less
                value, slope = compiled(points.double())
        except RuntimeError:
            return None
        return value.clone(), slope.clone()

    def unsound(self) -> str:
        """What there is to say of gradients, where none of the points that were looked at had one."""
        return f" has no gradient where it has a value{self._cause()}: it" if self._steep else ""

    def notes(self) -> tuple[str, ...]:
        """A line on points that have a density and no gradient, if there were any to speak of."""
        if self._steep <= NO_GRADIENT * self._asked or not self._steep:
            return ()
        share, site = 100 * self._steep / self._asked, self._cause()
        return (
            f"the gradient is not a number at {share:.2g} % of the points that have a density"
            f"{site}: a branch of torch.where that is not taken, or a root or norm of zero, has none",
        )

    def _cause(self) -> str:
        """The first site whose log density has a gradient that is not finite, where one was seen."""
        with numerics(), torch.enable_grad():
            u = self._where.detach().clone().requires_grad_()
            try:
                handler = Substitute(self.sites, u, self._complete)
                trace = traced(self.model, self.columns, handler, self.sites)
                trace.compute_log_prob()
            except Exception:  # it is only to be named
                return ""
            for name, node in trace.nodes.items():
                log_prob = node.get("log_prob")
                if log_prob is None or not log_prob.requires_grad:
                    continue
                (slope,) = torch.autograd.grad(log_prob.sum(), u, retain_graph=True, allow_unused=True)
                if slope is not None and not bool(torch.isfinite(slope).all()):
                    return f", first of site {name!r}"
        return ""

    def _some(self, points: Tensor) -> tuple[Tensor, Tensor]:
        try:
            if self.path == "loop":
                raise _Singly
            return self._repeated(points)
        except (_Singly, torch.linalg.LinAlgError):  # pyright: ignore[reportPrivateImportUsage]
            if len(points) == 1:
                return self._alone(points)
            halves = [self._some(half) for half in (points[: len(points) // 2], points[len(points) // 2 :])]
            return torch.cat([v for v, _ in halves]), torch.cat([s for _, s in halves])

    def _alone(self, points: Tensor) -> tuple[Tensor, Tensor]:
        try:
            return _with_gradient(lambda u: _sum(self._one(u[0]))[None], points)
        except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
            return points.new_full((1,), -torch.inf), torch.zeros_like(points)

    def _all(self, points: Tensor) -> tuple[Tensor, Tensor]:
        mapped = torch.func.vmap(lambda u: _sum(self._one(u)), randomness="different")
        return _with_gradient(mapped, points)

    def _repeated(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values and gradients, by a recording where it pays."""
        size = len(points)
        if size in self._recorded:
            return self._recorded[size](points)
        if self.shared is not None and self._batched is None and self.cells * size <= OPERATIONS:
            return self._as_before(points, self.shared)
        if self.record and self._taken.get(size, 0.0) > self.patience and self.cells * size <= OPERATIONS:
            if len(self._recorded) >= KEPT:
                oldest = next(iter(self._recorded))
                self._recorded.pop(oldest)
                self._compiled.pop(oldest, None)
            self._recorded[size] = self._record(points)
            whole = next(groups(size, 2 * self.cells, BUDGET)) == slice(0, size)
            if whole and (compiled := _compiled(self._recorded[size], points)) is not None:
                self._compiled[size] = compiled
        began = time.perf_counter()
        found = self._all(points)
        self._taken[size] = self._taken.get(size, 0.0) + time.perf_counter() - began
        return found

    def _as_before(self, points: Tensor, shared: "Shared") -> tuple[Tensor, Tensor]:
        """By the recording for other data, if it gives what the operations give for these."""
        size = len(points)
        if size not in self._known:
            recording = shared.of(size, self)
            if recording is None:
                return self._all(points)
            wanted, found = self._all(points), recording(points)
            same = all(torch.allclose(a, b, equal_nan=True) for a, b in zip(wanted, found, strict=True))
            self._known[size] = recording if same else self._all
            return wanted
        return self._known[size](points)

    def _record(self, points: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """A recording of the operations, if it gives what they give; else they themselves."""
        from torch.fx.experimental.proxy_tensor import make_fx

        try:
            recorded = make_fx(lambda u: self._all(u))(points)  # a bound method would count as two arguments
            recorded.graph.eliminate_dead_code()
            recorded.recompile()
            value, slope = recorded(points)
        except PplError:
            raise
        except Exception:  # what cannot be recorded is executed
            self.record = False
            return self._all
        wanted = self._all(points)
        same = torch.allclose(value, wanted[0], equal_nan=True) and torch.allclose(
            slope, wanted[1], equal_nan=True
        )
        return recorded if same else self._all


def _compiled(recorded: Any, points: Tensor) -> Any:
    """A recording without Python's part of an operation, if it gives the same twice over; else None.

    torch's interpreter takes some 2 µs for an operation on a small tensor, and Python's 8 µs.
    """
    if not isinstance(recorded, torch.nn.Module):
        return None
    other = points.flip(0) + 0.1
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(recorded, (points,), check_trace=False)
            compiled = torch.jit.freeze(traced.eval())  # what does not hang on the points is computed once
            for at in (points, other, points):
                wanted, found = recorded(at), compiled(at)
                if not all(torch.allclose(a, b, equal_nan=True) for a, b in zip(wanted, found, strict=True)):
                    return None
    except Exception:  # what cannot be compiled is repeated as it is
        return None
    return compiled


class Shared:
    """Recordings of the operations of one model that take what is observed as an input.

    So that many fits to data sets of one shape record once. Each is checked against the operations themselves
    before it is used for other data, as what a program does may depend on its data.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[int, frozenset[str]], Any] = {}
        self._asked: dict[tuple[int, frozenset[str]], int] = {}

    def of(self, size: int, density: Density) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
        """The recording for so many points of a density; None until it has been asked for often enough."""
        key = size, density.sites.apart
        self._asked[key] = self._asked.get(key, 0) + 1
        if key not in self._made:
            if self._asked[key] < OFTEN:
                return None
            self._made[key] = self._recorded(size, density)
        made, cells = self._made[key], self._cells(density)
        return None if made is None else lambda points: made(points, *cells)

    def _cells(self, density: Density) -> list[Tensor]:
        """What is observed, as it is in the data."""
        names = {site.column for site in density.sites.observed.values()}
        values = density.columns._values
        return [values[name] for name in sorted(filter(None, names)) if torch.is_tensor(values.get(name))]  # type: ignore[misc]

    def _recorded(self, size: int, density: Density) -> Any:
        from torch.fx.experimental.proxy_tensor import make_fx

        values, cells = density.columns._values, self._cells(density)
        names = [next(name for name, value in values.items() if value is cell) for cell in cells]

        def operations(points: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
            density.columns._values = values | dict(zip(names, given, strict=True))
            try:
                return density._all(points)
            finally:
                density.columns._values = values

        try:
            made = make_fx(operations)(torch.zeros(size, density.dimension, dtype=torch.float64), *cells)
        except PplError:
            raise
        except Exception:  # what cannot be recorded is executed
            return None
        made.graph.eliminate_dead_code()
        made.recompile()
        return made


def _numbers(site: Site, sites: Sites) -> int:
    """Numbers of the log density of an observed site, with the largest enumerated dimension."""
    levels = max((other.levels for other in sites.discrete.values()), default=1)
    return torch.Size(site.shape).numel() * levels


class _Singly(Exception):
    """The points are to be gone through one by one."""


def _sum(found: Densities) -> Tensor:
    return found.log_det + found.prior + found.likelihood.sum()


def _with_gradient(function: Callable[[Tensor], Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
    """Values (S,) of a function of (S, d) whose rows do not touch one another, and gradients (S, d)."""
    u = points.detach().requires_grad_()
    with torch.enable_grad():
        value = function(u)
        (slope,) = torch.autograd.grad(value.sum(), u)
    return value.detach(), slope.detach()
