"""A transformer over the columns of a row, in any order: densities, draws, missing cells and a target."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast, final

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Completed, Predicted, Sampled
from ppl_models.data import Dataset
from ppl_models.draws import Draws
from ppl_models.models.transformer.bins import Bins
from ppl_models.models.transformer.bound import TransformerBound, log_cells
from ppl_models.models.transformer.drawing import completed
from ppl_models.models.transformer.objective import PLACES, TableTarget, in_order, log_prob
from ppl_models.networks.attention import Transformer

BUDGET, LEAST = 4_000_000, 20
"""Places, draws × rows × columns, that missing cells are drawn by, about, and draws of a row at least."""


class TableRows(NamedTuple):
    """Rows as the network takes them.

    Attributes:
        codes: (n, C) values of the cells, −1 where missing.
        own, outside: (n, C) float64 log densities in their bins, and of what no bin has.
    """

    codes: Tensor
    own: Tensor
    outside: Tensor

    def part(self, lo: int, hi: int) -> "TableRows":
        """Some of them."""
        return TableRows(*(each[lo:hi] for each in self))


@dataclass(frozen=True, eq=False)
class Table(TransformerBound):
    """Independent rows, each a sequence of its cells in any order."""

    exchangeable: bool = True
    form: str = "independent rows"

    @property
    def room(self) -> int:
        """C."""
        return len(self.schema.columns)

    @property
    def target_index(self) -> int | None:
        """The position of the target in the schema, if there is one."""
        return None if self.schema.target is None else self.schema.names.index(self.schema.target)

    def rows(self, data: Dataset, device: str | torch.device = "cpu") -> TableRows:
        """Values of the cells, and densities within them."""
        cells = np.asarray(data.values)
        own, outside = self.known.densities(cells)
        codes = torch.from_numpy(self.known.codes(cells)).to(device)
        return TableRows(codes, torch.from_numpy(own).to(device), torch.from_numpy(outside).to(device))

    def target(self, data: Dataset, net: Transformer, seed: int) -> TableTarget:
        """Of rows, half of which have the target last."""
        rows = self.rows(data, net.value.device)
        weight = None if data.weight is None else torch.from_numpy(np.array(data.weight))
        constant = float(rows.own.sum() / max(data.rows, 1))
        return TableTarget(net, rows.codes, weight, self.target_index, seed, constant)

    def orders(self, codes: Tensor, last: int | None = None) -> Iterator[Tensor]:
        """K orders of the columns of rows (B, C), the same for all rows but that missing cells come last.

        Args:
            codes: values of the cells.
            last: a column that comes behind those that are not missing, before those that are.
        """
        rng = np.random.default_rng(0)
        for _ in range(self.model.orders):
            place = torch.from_numpy(rng.permutation(codes.shape[1])).to(codes.device)
            keys = place + codes.shape[1] * (codes < 0).float()
            if last is not None:
                keys[:, last] = codes.shape[1] - 0.5
            yield keys.argsort(1)

    def log_density(self, rows: TableRows, draws: Draws) -> Tensor:
        """Log (1/K) Σ_k Π_j p(x_σ_k(j) | x_σ_k(1) …) of the cells that are there, (1, n)."""
        net = self.net(draws, rows.codes.device)
        found = torch.empty(1, len(rows.codes), dtype=torch.float64)
        for lo, hi in _blocks(len(rows.codes), self.room):
            some = rows.part(lo, hi)
            each = torch.stack([self._by_cell(net, some, order).sum(1) for order in self.orders(some.codes)])
            found[0, lo:hi] = (each.logsumexp(0) - np.log(len(each))).cpu()
        return found

    @torch.no_grad()
    def _by_cell(self, net: Transformer, rows: TableRows, order: Tensor) -> Tensor:
        """Log density of each cell given those before it, (B, C), in an order; 0 where missing."""
        batch = in_order(net, rows.codes, order)
        found = log_prob(net, batch, net.vectors())
        cells = log_cells(found, rows.own.gather(1, order), rows.outside.gather(1, order))
        return torch.where(batch.seen, cells, 0.0)

    def sample(self, number: int, draws: Draws, given: Dataset | None) -> Sampled:
        """Rows whose columns are drawn one after the other, in the K orders of the density."""
        net, C = self.net(draws, self.device), self.room
        codes = torch.full((1, C), -1) if given is None else torch.from_numpy(self.known.codes(given.values))
        values, codes = np.empty((number, C)), codes.to(self.device)
        orders = torch.cat([*self.orders(codes)])  # (K, C), what is given first
        for lo, hi in _blocks(number, C):
            some = codes.expand(hi - lo, C)
            order = orders[torch.randint(len(orders), (hi - lo,))]
            drawn = completed(net, some.clamp_min(0), order, int((codes >= 0).sum()), self.temper)[0]
            values[lo:hi] = self.known.cells(drawn.cpu())
        if given is not None:
            values = np.where(np.isnan(given.values), values, given.values)
        return Sampled(values, {})

    def complete(self, data: Dataset, holes: np.ndarray, number: int, draws: Draws) -> Iterator[Completed]:
        """The missing cells of rows in turn, given those that are there, by draws in K orders."""
        net, C = self.net(draws, self.device), self.room
        codes = self.known.codes(np.asarray(data.values[holes]))
        seen = (codes >= 0).sum(1)
        S = int(np.clip(BUDGET // max(len(holes) * C, 1), min(LEAST, number), number))
        for known in np.unique(seen):
            for part in np.array_split(
                np.flatnonzero(seen == known), -(-int((seen == known).sum()) * S * C // BUDGET)
            ):
                own = torch.from_numpy(codes[part]).to(self.device)
                drawn = []
                for s, order in zip(
                    np.array_split(np.arange(S), self.model.orders), self.orders(own), strict=True
                ):
                    if len(s):
                        drawn.append(completed(net, own.clamp_min(0), order, int(known), self.temper, len(s)))
                cells = self.known.cells(torch.cat(drawn).cpu())
                there = np.asarray(data.values[holes[part]])
                yield Completed(holes[part], np.where(np.isnan(there), cells, there), {}, {})

    @torch.no_grad()
    def of_target(self, rows: TableRows, draws: Draws) -> Tensor:
        """The mean over K orders of p(y | the cells that are there), (n, values of the target)."""
        t = self.target_index
        net, field = self.net(draws, rows.codes.device), 0 if t is None else t
        vectors, found = net.vectors(), []
        for lo, hi in _blocks(len(rows.codes), self.room):
            codes = rows.codes[lo:hi].clone()
            codes[:, field] = -1
            place = (codes >= 0).sum(1)
            total = torch.zeros(hi - lo, net.sizes[field], dtype=torch.float64, device=codes.device)
            for order in self.orders(codes, field):
                batch = in_order(net, codes, order)
                h = net(batch.before, batch.field, vectors)[torch.arange(hi - lo, device=place.device), place]
                total += net.logits(h, field, vectors).double().softmax(1)
            found.append((total / self.model.orders).cpu())
        return torch.cat(found) if found else torch.zeros(0, net.sizes[field], dtype=torch.float64)


def _blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Rows of about `PLACES` places."""
    size = max(1, PLACES // columns)
    return ((lo, min(lo + size, rows)) for lo in range(0, rows, size))


@final
class TableBound(Table):
    """Without a target."""


@final
class TableClasses(Table):
    """With a target that is a label."""

    def labels(self) -> tuple[str, ...]:
        """Of the classes."""
        return self.schema.columns[self.target_index or 0].levels

    def predictive(self, rows: TableRows, draws: Draws) -> np.ndarray:
        """p(y_n = c | the cells of row n that are there), (n, C)."""
        return self.of_target(rows, draws).numpy()

    def log_probability(self, rows: TableRows, draws: Draws) -> np.ndarray:
        """Log p(y_n | x_n), (n,); NaN where there is no label."""
        own = rows.codes[:, self.target_index].cpu() - int(self.known.starts[self.target_index or 0])
        p = self.of_target(rows, draws).gather(1, own.clamp_min(0)[:, None])[:, 0]
        return torch.where(own >= 0, p.log(), torch.nan).numpy()


class Histogram(NamedTuple):
    """Numbers by the probabilities of their bins, under one draw of θ.

    Attributes:
        p: (m, bins).
        bins: of the column.
    """

    p: Tensor
    bins: Bins

    @property
    def mean(self) -> Tensor:
        """(1, m)."""
        return (self.p @ torch.from_numpy(self.bins.middle))[None]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density in the user's units, (1, m)."""
        x = value.expand(1, len(self.p))[0].double().numpy()
        own, outside = self.bins.log_density(x)
        p = self.p.gather(1, torch.from_numpy(self.bins.codes(x))[:, None])[:, 0]
        return log_cells(p.log(), torch.from_numpy(own), torch.from_numpy(outside))[None]

    def cdf(self, value: Tensor) -> Tensor:
        """P(new ≤ value), (1, m)."""
        below = self.bins.below(value.expand(1, len(self.p))[0].double().numpy())
        return (self.p * torch.from_numpy(below)).sum(1)[None]

    def sample(self) -> Tensor:
        """(1, m) by torch's global generator."""
        codes = torch.multinomial(self.p, 1)[:, 0].numpy()
        return torch.from_numpy(self.bins.draw(codes, torch.rand(len(codes), dtype=torch.float64).numpy()))[
            None
        ]


@final
class TableNumbers(Table):
    """With a target that is a number."""

    numeric_target = True

    def predicted(self, rows: TableRows, draws: Draws) -> Iterator[Predicted]:
        """By bins."""
        at = self.target_index or 0
        column, bins = self.schema.columns[at], cast(Bins, self.known.bins[at])
        for lo, hi in _blocks(len(rows.codes), self.room):
            p = self.of_target(rows.part(lo, hi), draws)
            yield Predicted(np.arange(lo, hi), Histogram(p, bins), column.kind == "count")
