"""A joint density of rows and discrete latents, bound to the columns of a table.

    p(x, z, θ) = p(z | θ_structure) p(θ_structure) Π_n Π_e p(x_ne | z_n, θ_e) Π_e p(θ_e)

A mixture and a hidden Markov model differ only in the structure of z; both take any emissions e over
the columns. Parameters θ are kept in the units of their priors and come back in the user's.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset, Schema
from ppl_models.data.inside import Inside
from ppl_models.data.messages import plural
from ppl_models.distributed import Share, as_tensor
from ppl_models.draws import (
    Draws,
    Params,
    Variables,
    groups,
    number_of,
    on_device,
    select_draws,
    variable_names,
)
from ppl_models.errors import DataError, UsageError
from ppl_models.families.base import Emission
from ppl_models.inference.conjugate import Conjugate, Statistics
from ppl_models.inference.factors import Factor, Sticks, Theta
from ppl_models.kernels.backend import CACHE, chunk, width
from ppl_models.kernels.choose import choose
from ppl_models.kernels.latents import LogDensity
from ppl_models.kernels.rows import Rows
from ppl_models.latent import order
from ppl_models.latent.batch import Batch, all_rows, standardised
from ppl_models.latent.independent import Independent
from ppl_models.latent.spread import SpreadRows, share_of
from ppl_models.latent.structure import Structure


class Joint(Conjugate):
    """Structure and emissions over the columns of a schema."""

    cache = CACHE

    def __init__(
        self,
        structure: Structure,
        emissions: tuple[Emission, ...],
        schema: Schema,
        order_by: str = "auto",
    ) -> None:
        self.structure, self.emissions = structure, emissions
        self.lagged = tuple(j for e in emissions for j in e.lagged)
        self.rotates = any(e.rotates for e in emissions)
        self.inside = Inside(schema, self.lagged)
        self.schema = self.inside.schema
        self.order_by = order.checked(order_by, schema)
        self.factors: dict[str, Factor] = {**structure.factors, **{e.name: e for e in emissions}}
        self.states = structure.states

    # Data

    def rows(self, data: Dataset, device: str = "cpu") -> Batch:
        """The rows that something is asked of, on a device, with their features where these are few."""
        data = self.inside.dataset(data)
        return self.asked(data.values, all_rows(data), device)

    def batch(
        self,
        values: np.ndarray | Tensor,
        rows: Rows,
        device: torch.device | str = "cpu",
        scale: float = 1.0,
        keep: bool = True,
    ) -> Batch:
        """Put rows on a device; `keep` their features where they are small enough."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nor is it written to
            x = torch.as_tensor(values, dtype=torch.float64).to(device)
        base = self.log_base(x) + torch.from_numpy(self.inside.entropy(values_of(x))).to(x)
        total = base.sum() if rows.weight is None else torch.as_tensor(rows.weight).to(base) @ base
        inside = standardised(self.emissions, x.shape[1])
        backend = choose(self.emissions, self.structure.latents, x, rows, keep, inside)
        return Batch(x, rows, scale, total if total.dim() else float(total), backend)

    def dataset_batch(self, data: Dataset, device: torch.device | str = "cpu", keep: bool = True) -> Batch:
        """All rows of a data set as training has them: rounded cells spread over their bins."""
        data = self.inside.dataset(data, noise=True)
        found = self.batch(data.values, all_rows(data), device, keep=keep)
        return (
            found if data.shares is None else replace(found, backend=SpreadRows(found.backend, data.shares))
        )

    # Rows that lie with several processes

    def deal(self, data: Dataset, size: int) -> Iterator[dict[str, Tensor]]:
        """The rows of each rank in turn, about as many each; sequences of a chain are whole.

        Raises:
            UsageError: there are fewer sequences, or rows, than ranks.
        """
        data = self.inside.dataset(data, noise=True)
        ends = np.arange(data.rows + 1) if self.structure.exchangeable else data.offsets
        if len(ends) <= size:
            what = "row" if self.structure.exchangeable else "sequence"
            raise UsageError(
                f"{data.source}: {plural(len(ends) - 1, what)} cannot be shared by {size} processes: each "
                f"takes whole {what}s"
            )
        cuts = np.searchsorted(ends, np.linspace(0, data.rows, size + 1)).clip(0, len(ends) - 1)
        cuts[1:] = np.maximum(cuts[1:], cuts[:-1] + 1)  # at least one each
        cuts = np.minimum(cuts, len(ends) - 1 - np.arange(size, -1, -1))
        for first, last in zip(cuts[:-1], cuts[1:], strict=True):
            lo, hi = int(ends[first]), int(ends[last])
            lengths = [hi - lo] if self.structure.exchangeable else np.diff(ends[first : last + 1])
            found = {"values": as_tensor(data.values[lo:hi]), "lengths": torch.tensor(lengths)}
            if data.weight is not None:
                found["weight"] = torch.from_numpy(np.array(data.weight[lo:hi]))
            yield found

    def share(self, rows: Mapping[str, Tensor]) -> Share:
        """The E step of some rows."""
        weight = rows.get("weight")
        of = Rows(rows["lengths"].numpy(), weight=None if weight is None else weight.numpy())
        return share_of(self.batch(rows["values"], of).backend)

    def asked(
        self, values: np.ndarray | Tensor, rows: Rows, device: torch.device | str = "cpu", keep: bool = True
    ) -> Batch:
        """Rows that something is asked of, as they are inside: densities are averages over bins."""
        found = self.batch(values, rows, device, keep=keep)
        if self.inside.coarse:
            base = self.log_base(found.values)
            for moved in self.inside.spread(values_of(found.values)):
                part = self.batch(moved, rows, device, keep=keep)
                found.bins.append((part.backend, self.log_base(part.values) - base))
        return found

    def log_base(self, x: Tensor, chunk: int = 65_536) -> Tensor:
        """Log h(x_n) of each row, (n,)."""
        out = x.new_empty(x.shape[0])
        for lo in range(0, x.shape[0], chunk):
            part = x[lo : lo + chunk]
            out[lo : lo + chunk] = torch.stack([e.log_base(part) for e in self.emissions]).sum(0)
        if self.inside:
            out += torch.from_numpy(self.inside.log_slope(values_of(x))).to(x)
        return out

    def density(self, batch: Batch, natural: Statistics) -> LogDensity:
        """⟨t(x_n), η_k⟩ over all emissions, missing cells integrated out."""
        if not batch.bins:
            return batch.backend.problem.density(natural)
        each = [(backend.problem.density(natural), moved) for backend, moved in batch.bins]

        def averaged(rows: slice, out: Tensor) -> None:
            total = torch.full_like(out, -torch.inf)
            for density, moved in each:
                density(rows, out)
                torch.logaddexp(total, out + moved[rows, None], out=total)
            torch.sub(total, math.log(len(each)), out=out)

        return averaged

    @cached_property
    def width(self) -> int:
        """Features of a row, at most."""
        return width(self.emissions)

    def chunk(self, restarts: int) -> int:
        """Rows that may be worked on at once."""
        return chunk(restarts, self.states, self.width)

    @property
    def exchangeable(self) -> bool:
        """Whether rows are independent given θ."""
        return self.structure.exchangeable

    @property
    def describe(self) -> str:
        """`3 states`."""
        return f"{self.states} {self.structure.noun}{'s' if self.states > 1 else ''}"

    def names(self) -> Sequence[int] | Sequence[str]:
        """What the states are called: their numbers, where they have no names."""
        return range(self.states)

    @property
    def classes(self) -> int:
        """How many classes there are with as many states each, 1 where states belong to none."""
        return 1

    def occupied(self, statistics: Statistics) -> Tensor:
        """Expected rows in each state or component, (K,), for R = 1."""
        return self.structure.occupied(statistics)[0].cpu()

    # The conjugate rule

    def local(self, batch: Batch, natural: Statistics) -> tuple[Tensor, dict[str, Tensor]]:
        """q(z) of the structure, and the statistics that it weighs."""
        evidence, statistics = batch.backend.expect(natural)
        return evidence + batch.base, statistics

    def _log_evidence(self, batch: Batch, natural: Statistics) -> Tensor:
        """Of all rows with the latents summed out: log p(x | θ), (R,), at natural parameters η(θ)."""
        return batch.backend.evidence(natural) + batch.base

    def from_labels(self, batch: Batch, labels: Tensor, smooth: float = 0.1) -> dict[str, Tensor]:
        """Statistics of a guess at the latents, (R, n) labels, a share `smooth` of each row in all states."""
        K = self.states
        statistics = self.structure.hard(labels, batch.rows, smooth)
        for i, e in enumerate(self.emissions):
            natural = e.start(len(labels), batch.values.device)
            total = torch.zeros_like(natural)
            size = self.chunk(len(labels))
            for lo in range(0, batch.rows.steps, size):
                at = slice(lo, min(lo + size, batch.rows.steps))
                gamma = torch.nn.functional.one_hot(labels[:, at], K).to(torch.float64)
                gamma = (1 - smooth) * gamma + smooth / K
                if batch.rows.weight is not None:
                    gamma = gamma * torch.as_tensor(batch.rows.weight[..., at]).to(gamma)[..., None]
                total = total + e.statistics(batch.backend.problem.features(i, at), gamma, natural)
            statistics[e.name] = total
        return statistics

    def reorder(self, statistics: Statistics, order: Tensor) -> dict[str, Tensor]:
        """Rename the states: new state i is the old `order[i]`."""
        own = self.structure.reorder(statistics, order)
        return own | {e.name: statistics[e.name][:, order] for e in self.emissions}

    def canonical(self, statistics: Statistics) -> dict[str, Tensor]:
        """States in order, for R = 1: by class, those without rows last, then by `order_by`.

        As they are where the structure tells them apart. The sticks of a Dirichlet process are in order of
        their size, as their prior is.
        """
        if self.structure.told:
            return dict(statistics)
        rows = self.occupied(statistics)
        if self.prunes:
            keys = [-rows.numpy()]
        else:
            by = order.key(self.order_by, self.emissions, self.schema, statistics, rows)
            keys = [by, (rows < 1.0).numpy()]
        keys += [e.order_key(statistics[e.name])[0].cpu().numpy() for e in self.emissions if e.is_label]
        found = torch.as_tensor(np.lexsort(keys))
        return self.reorder(statistics, found.to(next(iter(statistics.values())).device))

    @property
    def parameters(self) -> int:
        """The number of free parameters."""
        return self.structure.free_parameters + sum(e.free_parameters for e in self.emissions)

    @property
    def prunes(self) -> bool:
        """Whether states that are not needed are meant to stay empty."""
        return any(isinstance(f, Sticks) for f in self.factors.values())

    @property
    def symmetric(self) -> bool:
        """Whether the density stays the same when the states are renamed."""
        alike = not self.prunes and not self.structure.told
        return self.states > 1 and alike and not any(e.is_label for e in self.emissions)

    def permute(self, theta: Draws, order: Tensor) -> dict[str, Theta]:
        """Draws with the states renamed draw by draw: new i of draw s is the old `order[s, i]`."""

        def renamed(value: Tensor) -> Tensor:
            if value.shape[1] != self.states:  # one value for all states
                return value
            index = order.reshape(*order.shape, *[1] * (value.dim() - 2))
            return value.gather(1, index.expand(value.shape))

        own = self.structure.permute(self.structure_theta(theta), order)
        factors: dict[str, Theta] = {
            name: {site: own[site] for site in theta[name]} for name in self.structure.factors
        }
        emissions = {e.name: {s: renamed(v) for s, v in theta[e.name].items()} for e in self.emissions}
        return factors | emissions

    def structure_theta(self, theta: Mapping[str, Theta]) -> Theta:
        """The values of the structure's own parameters, site by site."""
        return {site: v for name in self.structure.factors for site, v in theta[name].items()}

    def fixed(self, learned: Mapping[str, Any]) -> tuple[Emission, ...]:
        """The emissions with what was learned of their priors filled in, by field."""
        return tuple(e.fixed(learned) for e in self.emissions)

    def resized(self, states: int) -> "Joint":
        """The same priors over another number of components, of a mixture whose components are alike."""
        assert isinstance(self.structure, Independent)
        return Joint(
            self.structure.resized(states),
            tuple(e.resized(states) for e in self.emissions),
            self.inside.outer,
        )

    # Draws of θ

    def draw(self, statistics: Statistics, draws: int) -> dict[str, Theta]:
        """θ ~ q(θ | S), `draws` of them, from torch's global generator; `statistics` has R = 1."""
        return {
            name: factor.draw(statistics[name].expand(draws, *statistics[name].shape[1:]))
            for name, factor in self.factors.items()
        }

    def log_q(self, theta: Draws, params: Params) -> Tensor:
        """Log q(θ | S), (S,)."""
        return self.log_prob(theta, params)

    def log_prior(self, theta: Draws) -> Tensor:
        """Log p(θ), (S,)."""
        return self.log_prob(theta, None)

    def natural(self, theta: Draws) -> dict[str, Tensor]:
        """η(θ) of every factor."""
        return {name: factor.natural(theta[name]) for name, factor in self.factors.items()}

    def params_fault(self, params: Statistics) -> str:
        """Statistics whose E_q[η] or log Z is not finite, as of counts that are negative."""
        for name, factor in self.factors.items():
            expected, divergence = factor.evaluate(params[name])
            if params[name].dtype != torch.float64 or not (
                expected.isfinite().all() and divergence.isfinite()
            ):
                return f"{name} is no sum of statistics"
        return ""

    def draws_fault(self, params: Statistics, theta: Draws) -> str:
        """Sites that are missing, or not what their factor declares, or do not go together; without Pyro."""
        for name, factor in self.factors.items():
            for site, support in factor.supports.items():
                value = theta.get(name, {}).get(site)
                if value is None:
                    return f"{name}/{site} is missing"
                if value.dtype != torch.float64 or not support.holds(value):
                    return f"{name}/{site} is not {support.value} throughout"
            try:
                found = factor.natural(theta[name])
            except (RuntimeError, ValueError, IndexError, KeyError):
                return f"the sites of {name} do not go together"
            if tuple(found.shape[1:]) != tuple(factor.shape) or found.isnan().any():
                return f"the sites of {name} have other shapes than the model"
        return ""

    def log_prob(self, theta: Draws, statistics: Statistics | None) -> Tensor:
        """Log q(θ | S), (S,); the log prior for None."""
        total = 0.0
        for name, factor in self.factors.items():
            first = next(iter(theta[name].values()))
            S = factor.zeros(1, first.device) if statistics is None else statistics[name]
            total = total + factor.log_prob(theta[name], S)
        assert isinstance(total, Tensor)
        return total

    def local_theta(self, theta: Draws, state: Tensor) -> dict[str, Theta]:
        """θ of the emissions, at states (S, T) of the draws they belong to."""
        index = torch.arange(state.shape[0], device=state.device).unsqueeze(-1)

        def at(value: Tensor) -> Tensor:
            shared = value.shape[1] == 1 and self.states > 1  # one value for all states
            return value[index, torch.zeros_like(state) if shared else state]

        return {e.name: {s: at(v) for s, v in e.derived(theta[e.name]).items()} for e in self.emissions}

    def emit(
        self, theta: Draws, state: Tensor, given: Tensor | None = None, before: Tensor | None = None
    ) -> Tensor:
        """Draw rows (S, T, C) in the user's units given states (S, T) and, perhaps, some cells (T, C).

        Families that look at the row before begin with the row `before` (C,), or with none.
        """
        S, T = state.shape
        C = len(self.schema.columns)
        rows = torch.full((S, T, C), math.nan, dtype=torch.float64, device=state.device)
        if given is not None:
            rows[:] = torch.from_numpy(self.inside.encode(values_of(given))).to(rows)
        local = self.local_theta(theta, state)
        for e in self.emissions:
            index = list(e.columns)
            row = None if before is None else before[index]
            rows[..., index] = e.walk(local[e.name], rows[..., index], row)
        if not self.inside:
            return rows
        found = torch.from_numpy(self.inside.decode(values_of(rows))).to(rows)
        return found if given is None else torch.where(given.isnan(), found, given.to(found))

    # Draws against data

    def log_evidence(self, batch: Batch, theta: Draws) -> Tensor:
        """Log p(x | θ) of all rows of a batch with the latents summed out, (S,)."""
        each = batch.backend.held  # numbers a draw
        return torch.cat(
            [self._possible(batch, select_draws(theta, at)) for at in groups(number_of(theta), each)]
        )

    def _possible(self, batch: Batch, theta: Draws) -> Tensor:
        """The same of a few draws; −∞ of one under which a row is impossible."""
        number = number_of(theta)
        try:
            natural = self.natural(on_device(theta, batch.values.device))
            return self._log_evidence(batch, natural).cpu()
        except (DataError, torch.linalg.LinAlgError):  # pyright: ignore[reportPrivateImportUsage]
            if number == 1:
                return torch.tensor([-torch.inf], dtype=torch.float64)
            halves = slice(0, number // 2), slice(number // 2, number)
            return torch.cat([self._possible(batch, select_draws(theta, half)) for half in halves])

    def log_density(self, batch: Batch, theta: Draws) -> Tensor:
        """Log p(x_n | θ_s), (S, n): in a sequence given the rows before, log p(x_t | x_{1:t−1}, θ_s)."""
        natural = self.natural(on_device(theta, batch.values.device))
        log_c, _ = self.structure.log_predictive(self.density(batch, natural), natural, batch.rows)
        return (log_c + self.log_base(batch.values)).cpu()

    def log_likelihood(self, data: Dataset, theta: Draws, device: str = "cpu") -> Tensor:
        """The same of rows (S, n), exchangeable or in one sequence; else of sequences (S, sequences)."""
        batch = self.rows(data, device)
        parts = []
        for at in groups(number_of(theta), data.rows * self.states):
            each = self.log_density(batch, select_draws(theta, at))
            if not self.structure.exchangeable and len(batch.rows.lengths) > 1:
                each = torch.from_numpy(np.add.reduceat(each.numpy(), batch.rows.offsets[:-1], axis=1))
            parts.append(each)
        return torch.cat(parts)

    def replicate(self, data: Dataset, theta: Draws) -> np.ndarray:
        """Sequences of the same lengths, (S, n, C)."""
        own = self.structure_theta(theta)
        lengths = [data.rows] if self.structure.exchangeable else data.lengths
        latents = [self.structure.simulate(own, int(length)) for length in lengths]
        if self.lagged:  # each begins by itself
            return torch.cat([self.emit(theta, each) for each in latents], 1).numpy()
        return self.emit(theta, torch.cat(latents, 1)).numpy()

    def variables(self, theta: Draws) -> tuple[Variables, dict[str, Any]]:
        """θ in the user's units: those of the structure, then `mean`, `sd`, … of each family."""
        noun = self.structure.noun
        coords: dict[str, Any] = {noun: np.array(self.names())}
        found: Variables = {}
        names = dict(zip(self.schema.names, variable_names(self.schema.names), strict=True))
        for name, (value, dims) in self.structure.user(self.structure_theta(theta)).items():
            found[name] = (dims, value.numpy())
            coords |= {dim: np.array(self.names()) for dim in dims}
        modelled = [e for e in self.emissions if not e.is_label]
        for e in modelled:
            columns = [self.schema.columns[i] for i in e.columns]
            prefix = f"{e.name}_" if len(modelled) > 1 else ""
            for name, (value, dims) in self.described(e, theta[e.name]).items():
                own = []
                for dim in dims:
                    if dim.startswith("level_"):
                        column = columns[int(dim.removeprefix("level_"))]
                        own_name = names[column.name]
                        dim, name = f"level_{own_name}", f"probability_{own_name}"
                        coords[dim] = list(column.levels)
                    else:
                        dim = f"{e.name}_{dim}"  # `column` is a dimension of ArviZ's own in plots
                        coords[dim] = [column.name for column in columns]
                    own.append(dim)
                label = name if name.startswith("probability_") else prefix + name
                found[label] = ((noun, *own), value.numpy())
        return found, coords

    def described(self, e: Emission, theta: Theta) -> dict[str, tuple[Tensor, tuple[str, ...]]]:
        """What a family says of its columns, in the user's units.

        Where some of them are transformed, `mean` and `sd` are of transformed cells. A monotone transform
        takes quantiles along: `median`, and `lower` and `upper`, one sd on either side of it inside, between
        which the state has 68 % of a column.
        """
        found = e.user(theta)
        columns = self.inside.outer.columns
        inside = {d: columns[i].marginal for d, i in enumerate(e.columns) if i < len(columns)}
        own = {d: marginal.transform for d, marginal in inside.items() if marginal is not None}
        if not own:
            return found
        (mean, dims), (sd, _) = found.pop("mean"), found.pop("sd")
        quantiles: dict[str, tuple[Tensor, tuple[str, ...]]] = {}
        for name, value in (("median", mean), ("lower", mean - sd), ("upper", mean + sd)):
            value = value.clone()
            for d, transform in own.items():
                value[..., d] = torch.from_numpy(transform.inverse(values_of(value[..., d]))).to(value)
            quantiles[name] = value, dims
        return quantiles | found

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of the statistics."""
        return {name: factor.shape for name, factor in self.factors.items()}


def values_of(x: Tensor) -> np.ndarray:
    """Numbers on whatever device, as an array."""
    return x.detach().cpu().numpy()
