"""A user-defined model over the columns of a table: its density, and draws from its posterior.

    u ~ N(m, P⁻¹),    θ = T(u)

θ is carried as u, a point of ℝᵈ: the transforms T of its sites, whose supports may depend on one another, are
those of the model, and are executed with it. Densities are those of θ: log q(θ) = log q(u) − log |∂θ/∂u|.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset, Schema
from ppl_models.data.messages import plural
from ppl_models.draws import Draws, Params, Variables, groups
from ppl_models.errors import DataError, UsageError
from ppl_models.models.program.columns import Columns
from ppl_models.models.program.density import BUDGET, Density, Shared
from ppl_models.models.program.execution import Densities, numerics, scaled, traced, values
from ppl_models.models.program.execution import Substitute as _Substitute
from ppl_models.models.program.failures import telling
from ppl_models.models.program.guides import form_of
from ppl_models.models.program.modes import gaussians
from ppl_models.models.program.naming import named
from ppl_models.models.program.simulate import by_column, simulated
from ppl_models.models.program.sites import Site, Sites, discover

NAME = "program"
"""The factor that all latents belong to."""

POINT = "u"
"""The only site of it: the point of ℝᵈ."""


class Pair(Protocol):
    """A Pyro program and its guide.

    Attributes:
        name: what it is called in messages.
        improper: whether priors may be improper.
        own_guide: whether the guide is the user's.
    """

    name: ClassVar[str]
    improper: ClassVar[bool]

    @property
    def own_guide(self) -> bool:
        """Whether the guide is the user's."""
        ...

    def model(self, data: Any) -> None:
        """The joint density."""
        ...

    def guide(self, data: Any, fit: Any = None) -> None:
        """The approximation of the posterior."""
        ...


@dataclass(eq=False)
class Program:
    """A user's model over the columns of a schema; `prepare` it with the rows of the fit first.

    Attributes:
        model: the model.
        schema: the columns.
        until: when a fit should be done, by `time.monotonic`, if it has a budget.
        spent: seconds that the first look at the model took.
        rest: seconds of it that training left to moving draws, whenever that is asked for.
        shared: recordings of its density over other data of the same shape.
    """

    model: Pair
    schema: Schema
    until: float | None = None
    spent: float = 0.0
    rest: float | None = None
    shared: Shared | None = None
    _density: Density | None = None
    _last: tuple[Tensor, Any, Densities] | None = None

    def prepare(self, data: Dataset) -> Self:
        """Execute the model once and list its sites; further calls change nothing."""
        if self._density is None:
            if data.weight is not None:
                raise UsageError(f"{self.model.name} cannot weigh rows; leave --weights out")
            columns, began = Columns(data, self.schema), time.monotonic()
            with torch.random.fork_rng(devices=[]), numerics():
                torch.manual_seed(0)
                sites = discover(self.model, columns, data.rows)
                sites = replace(sites, derived=self._functions(columns, sites))
                with telling(self.model):
                    sites = replace(sites, scaled=scaled(self.model, columns, sites))
                self._density = Density(self.model, columns, sites, shared=self.shared)
            self.spent = time.monotonic() - began
        return self

    def essence(self) -> None:
        """The model is executed on the rows of the fit: it cannot do without them."""
        return None

    def _functions(self, columns: Columns, sites: Sites) -> dict[str, Site]:
        """The derived sites that do not depend on a discrete latent."""
        if not sites.discrete:
            return sites.derived
        with telling(self.model), torch.no_grad():
            u = torch.zeros(sites.dimension, dtype=torch.float64)
            trace = traced(self.model, columns, _Substitute(sites, u), sites)
        return {
            name: site
            for name, site in sites.derived.items()
            if tuple(trace.nodes[name]["value"].shape) == site.shape
        }

    @property
    def density(self) -> Density:
        """The log joint of the rows of the fit.

        Raises:
            UsageError: if they were not learned.
        """
        if self._density is None:
            raise UsageError(
                "the model does not know its data yet: call prepare(data) with the rows of the fit"
            )
        return self._density

    @property
    def sites(self) -> Sites:
        """What was discovered."""
        return self.density.sites

    @property
    def exchangeable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether rows are independent given θ."""
        return self.sites.rows is not None

    @property
    def states(self) -> int:
        """Values of the largest discrete latent, by which the work on a row is multiplied."""
        return max((site.levels for site in self.sites.discrete.values()), default=1)

    @property
    def describe(self) -> str:
        """Its size: `3 parameters`."""
        return plural(self.parameters, "parameter")

    @property
    def parameters(self) -> int:
        """The numbers of the continuous latents, d."""
        return self.sites.dimension

    def shapes(self) -> Mapping[str, tuple[int, ...]] | None:
        """Not known: they are those of the guide."""
        return None

    def dataset_batch(self, data: Dataset, device: str = "cpu") -> Density:
        """The density of a data set; everything is computed on the CPU."""
        own = self.density
        return own if data.rows == own.columns._rows and _same(own, data) else self.density_of(data)

    def density_of(self, data: Dataset) -> Density:
        """The density of later rows.

        Raises:
            DataError: if they lack what the model observes.
        """
        return Density(self.model, self.later(data, observed=True), self.sites, record=False)

    def later(self, data: Dataset, *, observed: bool = False) -> Columns:
        """The columns of later rows, among which what is to be predicted may lack.

        Args:
            data: the rows.
            observed: whether what the model observes has to be there.

        Raises:
            DataError: naming the column that lacks.
        """
        columns = Columns(data, self.schema)
        seen = {site.column for site in self.sites.observed.values()}
        for name in sorted(self.sites.used):
            if columns[name] is not None and (name in seen or not columns.missing(name)):
                continue
            if columns[name] is None and (name not in seen or observed):
                why = "observes" if name in seen else "needs"
                raise DataError(
                    f"{data.source}: has no values of column {name!r}, which {self.model.name} {why}"
                )
            if columns[name] is not None and not self._transformed():
                raise DataError(
                    f"{data.source}: column {name!r} has {columns.missing(name)} missing cells, and is not "
                    "one that the model observes; fill them in, or take these rows out"
                )
        return columns

    def _transformed(self) -> bool:
        """Whether a site observes something else than a column as it is."""
        return any(site.column is None for site in self.sites.observed.values())

    def late(self) -> bool:
        """Whether the budget of a fit is used up."""
        return self.until is not None and time.monotonic() > self.until

    def centre(self, apart: frozenset[str]) -> None:
        """Take location and scale out of these sites, and leave the others as they are: `centring`."""
        if apart != self.sites.apart:
            self._last = None
            density = self.density
            sites = replace(density.sites, apart=apart)
            self._density = Density(density.model, density.columns, sites, shared=self.shared)

    def settle(self, params: Params) -> None:
        """Carry u as the guide has it that was learned: its `modes.apart` says so site by site."""
        if "precision" in params and self.sites.scaled:
            flags = params.get("modes.apart", torch.zeros(1, len(self.sites.scaled)))[0].bool().tolist()
            self.centre(frozenset(n for n, yes in zip(self.sites.scaled, flags, strict=True) if yes))

    # Draws: θ is carried as u

    def point(self, theta: Draws) -> Tensor:
        """U (S, d)."""
        return theta[NAME][POINT]

    def theta(self, points: Tensor) -> Draws:
        """θ of points (S, d)."""
        return {NAME: {POINT: points}}

    def draw(self, params: Params, draws: int) -> Draws:
        """θ from the guide, by torch's global generator."""
        self.settle(params)
        if "precision" not in params:
            return self.theta(form_of(self, params).draw(draws))
        return self.theta(gaussians(params).draw(draws))

    def log_q(self, theta: Draws, params: Params) -> Tensor:
        """Log density of the guide, (S,)."""
        self.settle(params)
        u = self.point(theta)
        if "precision" not in params:
            return form_of(self, params).log_prob(u, self._parts(self.density, u).log_det)
        return gaussians(params).log_prob(u) - self._parts(self.density, u).log_det

    def _parts(self, density: Density, u: Tensor) -> Densities:
        """The log densities at some points, those of the last call without a second execution."""
        if self._last is None or self._last[0] is not u or self._last[1] is not density:
            self._last = (u, density, density.parts(u))
        return self._last[2]

    def log_prior(self, theta: Draws) -> Tensor:
        """Log density of the prior, (S,)."""
        return self._parts(self.density, self.point(theta)).prior

    def log_evidence(self, batch: Any, theta: Draws) -> Tensor:
        """Log density of all observed sites, (S,)."""
        found = self._parts(batch, self.point(theta)).likelihood
        return found.reshape(len(found), -1).sum(1)

    def log_likelihood(self, data: Dataset, theta: Draws, device: str = "cpu") -> Tensor:
        """(S, n) where rows are independent given θ, else the total (S, 1)."""
        found = self._parts(self.dataset_batch(data), self.point(theta)).likelihood
        return found.reshape(len(found), -1)

    def values(self, theta: Draws) -> dict[str, Tensor]:
        """Continuous latents and what is derived from them, (S, ...)."""
        columns, sites = self.density.columns, self.sites

        def one(u: Tensor) -> dict[str, Tensor]:
            return values(self.model, columns, sites, u)

        return self.mapped(one, self.point(theta))

    def mapped(self, function: Any, points: Tensor) -> dict[str, Tensor]:
        """A function of u (d,) that gives tensors by name, for every point."""
        found: list[dict[str, Tensor]] = []
        with numerics(), telling(self.model), torch.no_grad():
            for at in groups(len(points), self.density.cells, BUDGET):
                if self.density.path == "vmap":
                    try:
                        found.append(torch.func.vmap(function, randomness="different")(points[at]))
                        continue
                    except (RuntimeError, NotImplementedError, ValueError) as error:
                        if isinstance(error, UsageError | DataError):
                            raise  # a line of ours, not of functorch's
                each = [function(u) for u in points[at]]
                found.append({name: torch.stack([one[name] for one in each]) for name in each[0]})
        return {name: torch.cat([part[name] for part in found]) for name in found[0]}

    def variables(self, theta: Draws) -> tuple[Variables, dict[str, Any]]:
        """Every continuous latent and derived site, with the names of plates as dimensions."""
        return named(self.sites, self.schema, self.values(theta), self.model)

    def replicate(self, data: Dataset, theta: Draws) -> np.ndarray:
        """The rows with what the model observes drawn anew, once a draw, (S, n, C)."""
        columns = self.density.columns if _same(self.density, data) else self.later(data)
        drawn = by_column(self, data, simulated(self, columns, self.point(theta))[0])
        out = np.repeat(np.asarray(data.values)[None], len(self.point(theta)), 0)
        for name, cells in drawn.items():
            out[:, :, data.names.index(name)] = cells
        return out


def _same(density: Density, data: Dataset) -> bool:
    """Whether a density is of just these rows."""
    columns = Columns(data, Schema(data.schema.columns))
    for name in columns:
        own, other = density.columns._values.get(name), columns._values[name]
        if own is None or other is None:
            if own is not other:
                return False
        elif own.shape != other.shape or not torch.equal(own.nan_to_num(-1.5), other.nan_to_num(-1.5)):
            return False
    return density.columns.lengths == columns.lengths
