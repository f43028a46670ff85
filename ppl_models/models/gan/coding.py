"""Rows as the players of a GAN see them, and back: numbers, one-hot labels, or pixels.

    number     z = g(x) by its marginal, or (x − mean) / sd; back within the range of the fit
    spike      a value of many rows is a choice beside the number, which is 0 where it is taken
    label      one-hot over its levels
    listed     a number of few different values: one-hot over these, so that no other is ever drawn
    pixel      2 (x − lowest) / (highest − lowest) − 1 of all pixels of the fit

Missing cells are 0 to the critic, which is told where they are. What is generated has none: it is shown with
the missing cells of the real row that it is paired with (Li, Jiang & Marlin 2019, MisGAN: Learning from
incomplete data with generative adversarial networks, ICLR, https://arxiv.org/abs/1902.09599).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset, Schema
from ppl_models.data.messages import quoted

REPEATED = 5
"""Rows that there must be for each different value of a number, for it to be drawn among these."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows.

    Attributes:
        x: (B, I) float32, in the units of the critic; 0 where missing.
        seen: (B, M) bool, which cells of the M columns are there; None if all are.
        y: (B,) int64 codes of the target, −1 where it is missing; None without a target.
        weight: (B,) float32, how often each row counts; None if all count once.
    """

    x: Tensor
    seen: Tensor | None = None
    y: Tensor | None = None
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def at(self, index: Tensor) -> "Rows":
        """The rows at some indices, (B,) int64."""
        return Rows(*(None if t is None else t.index_select(0, index) for t in self._all))  # type: ignore

    def to(self, device: torch.device | str) -> "Rows":
        """The rows on a device."""
        return Rows(*(None if t is None else t.to(device) for t in self._all))  # type: ignore

    @property
    def _all(self) -> tuple[Tensor | None, ...]:
        return self.x, self.seen, self.y, self.weight


class Coding(Protocol):
    """From cells in the user's units to what the critic sees, and back.

    Attributes:
        order: positions in the schema of the M columns, as `seen` has them.
        width: I, numbers that the critic sees of a row.
        masked: whether cells were missing in the fit.
        owner: (I,) of which of the M columns each number is.
        choices: sizes of the one-hot parts, which are the last of a row.
        apart: position of a number with spikes -> that of its choice of none of them.
    """

    order: list[int]
    width: int
    masked: bool
    owner: Tensor
    choices: tuple[int, ...]
    apart: Mapping[int, int]

    def encode(self, values: np.ndarray, rng: np.random.Generator | None = None) -> tuple[Tensor, Tensor]:
        """`x` (n, I) float32 and `seen` (n, M) of rows (n, C) in the user's units.

        Args:
            values: the rows.
            rng: of the noise that spreads rounded cells over their bins, in training; None for their middle.
        """
        ...

    def expected(self, x: Tensor) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Of mean rows: numbers, and likeliest labels (n, M); and of labels their probability."""
        ...

    def notes(self) -> tuple[str, ...]:
        """What was done to which column, a sentence each."""
        ...

    def decode(self, x: Tensor) -> np.ndarray:
        """Cells (n, M) in the user's units, codes of labels, of rows as the generator makes them."""
        ...

    def essence(self) -> Mapping[str, np.ndarray]:
        """All that it took from the rows of the fit."""
        ...


def rows_of(
    coding: Coding, data: Dataset, target: int | None, rng: np.random.Generator | None = None
) -> Rows:
    """All rows of a data set, on the CPU.

    Args:
        coding: how cells are coded.
        data: the rows.
        target: the position of the target, if there is one.
        rng: of the noise in rounded cells, as `Coding.encode` has it.
    """
    values = np.asarray(data.values)
    x, seen = coding.encode(values, rng)
    y = None if target is None else torch.from_numpy(np.nan_to_num(values[:, target], nan=-1.0)).long()
    weight = None if data.weight is None else torch.from_numpy(np.array(data.weight)).float()
    return Rows(x, None if bool(seen.all()) else seen, y, weight)


class TableCoding:
    """Columns of a table: numbers first, then one-hot labels, listed numbers and flags of spikes.

    Args:
        schema: the columns, with their marginals.
        columns: positions of those that are modelled.
        distinct: different values that a listed number has at most.
        values: rows of the fit, by which numbers are listed.
        essence: of a coding that was made before, instead.
    """

    def __init__(
        self,
        schema: Schema,
        columns: list[int],
        distinct: int,
        values: np.ndarray | None = None,
        essence: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        own = {j: schema.columns[j] for j in columns}
        numeric = [j for j, c in own.items() if not c.labelled]
        self.listed: dict[int, np.ndarray] = {}
        for j in numeric:
            found = essence.get(f"listed.{j}") if values is None and essence is not None else None
            if values is not None:
                found = few_values(values[:, j], distinct)
            if found is not None:
                self.listed[j] = found
        self.masked = any(c.missing for c in own.values())
        self.numbers = [j for j in numeric if j not in self.listed]
        chosen = [j for j in columns if j not in self.numbers]
        self.order = [*self.numbers, *chosen]
        self.column = own
        self.marginal = {j: m for j in self.numbers if (m := own[j].marginal) is not None}
        spiked = [j for j, m in self.marginal.items() if m.spikes]
        P, start, owner = len(self.numbers), len(self.numbers), [*range(len(self.numbers))]
        self.slot: dict[int, slice] = {}
        sizes = {j: len(self.listed.get(j, own[j].levels)) for j in chosen}
        sizes |= {j: len(self.marginal[j].spikes) + 1 for j in spiked}
        for j, size in sizes.items():
            self.slot[j] = slice(start, start + size)
            owner += [self.order.index(j)] * size
            start += size
        self.choices = tuple(sizes.values())
        self.width, self.owner = start, torch.tensor(owner, dtype=torch.int64)
        self.apart = {self.numbers.index(j): self.slot[j].start for j in spiked}
        self.ladder = torch.zeros(start - P, len(self.listed))
        for q, (j, v) in enumerate(self.listed.items()):
            at = slice(self.slot[j].start - P, self.slot[j].stop - P)
            self.ladder[at, q] = torch.from_numpy((v - v.mean()) / v.std()).float()

    def encode(self, values: np.ndarray, rng: np.random.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Numbers by their marginals, or standardised; choices one-hot, of a listed number the nearest."""
        seen = torch.from_numpy(~np.isnan(values[:, self.order]))
        x = torch.zeros(len(values), self.width)
        for i, j in enumerate(self.numbers):
            cells, column = np.asarray(values[:, j], np.float64), self.column[j]
            if j not in self.marginal:
                z = (cells - column.mean) / column.sd
            else:
                m = self.marginal[j]
                z, flag, _ = m.forward(cells, 0.0 if rng is None else rng.beta(2, 2, len(cells)) - 0.5)
                if flag is not None:
                    self._set(x, j, np.where(np.isnan(cells), np.nan, flag))
            x[:, i] = torch.from_numpy(np.nan_to_num(z)).float()
        for j in self.order[len(self.numbers) :]:
            cells = np.asarray(values[:, j], np.float64)
            self._set(x, j, cells if j not in self.listed else _nearest(self.listed[j], cells))
        return x, seen

    def _set(self, x: Tensor, j: int, codes: np.ndarray) -> None:
        """Put a column of codes, NaN where missing, into its one-hot slot."""
        there = np.flatnonzero(~np.isnan(codes))
        at = codes[there].astype(np.int64) + self.slot[j].start
        x[torch.from_numpy(there), torch.from_numpy(at)] = 1.0

    def decode(self, x: Tensor) -> np.ndarray:
        """Cells in the user's units: numbers within their range, the likeliest choice."""
        return self._back(x)[0]

    def expected(self, x: Tensor) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Of mean rows: numbers, and likeliest labels (n, M); and of labels their probability."""
        cells, shares = self._back(x)
        for j, values in self.listed.items():
            cells[:, self.order.index(j)] = shares[j] @ values
        return cells, {j: s.max(1) for j, s in shares.items() if self.column[j].labelled}

    def _back(self, x: Tensor) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        rows = x.double().cpu().numpy()
        shares = {j: rows[:, slot] for j, slot in self.slot.items()}
        found = []
        for i, j in enumerate(self.numbers):
            column, m = self.column[j], self.marginal.get(j)
            if m is None:
                cells = rows[:, i] * column.sd + column.mean
                cells = np.rint(cells) if column.integer else cells
            else:
                cells = m.inverse(rows[:, i], shares[j].argmax(1) if m.spikes else None)
            found.append(np.clip(cells, column.minimum, column.maximum))
        for j in self.order[len(self.numbers) :]:
            code = shares[j].argmax(1)
            found.append(self.listed[j][code] if j in self.listed else code.astype(float))
        return np.stack(found, 1), shares

    def notes(self) -> tuple[str, ...]:
        """What was done to which column, a sentence each."""
        said = [m.said(self.column[j].name) for j, m in self.marginal.items()]
        if self.listed:
            names = ", ".join(quoted(self.column[j].name) for j in self.listed)
            said.append(f"numbers of few different values are drawn among these: {names}")
        return tuple(said)

    def essence(self) -> dict[str, np.ndarray]:
        """The values of listed numbers."""
        return {f"listed.{j}": values for j, values in self.listed.items()}


def few_values(cells: np.ndarray, distinct: int) -> np.ndarray | None:
    """The different values of a number, if there are few, of several rows each."""
    there = cells[~np.isnan(cells)]
    found = np.unique(there)
    few = 1 < len(found) <= distinct and REPEATED * len(found) <= len(there)
    return found.astype(np.float64) if few else None


def _nearest(values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Positions of the values that are nearest; NaN of missing cells."""
    found = np.searchsorted((values[1:] + values[:-1]) / 2, cells)
    return np.where(np.isnan(cells), np.nan, found)


class PixelCoding:
    """Pixels of images, all on one scale.

    Args:
        schema: the columns.
        columns: positions of the pixels.
    """

    choices: tuple[int, ...] = ()

    def __init__(self, schema: Schema, columns: list[int]) -> None:
        self.apart: dict[int, int] = {}
        own = [schema.columns[j] for j in columns]
        self.order, self.width = columns, len(columns)
        self.low, self.high = min(c.minimum for c in own), max(c.maximum for c in own)
        self.whole = all(c.integer for c in own)
        self.masked = any(c.missing for c in own)
        self.owner = torch.arange(len(columns))

    def encode(self, values: np.ndarray, rng: np.random.Generator | None = None) -> tuple[Tensor, Tensor]:
        """From −1 to 1."""
        raw = values[:, self.order]
        seen = torch.from_numpy(~np.isnan(raw))
        x = 2 * (np.nan_to_num(raw) - self.low) / ((self.high - self.low) or 1.0) - 1
        return torch.where(seen, torch.from_numpy(x).float(), 0.0), seen

    def decode(self, x: Tensor) -> np.ndarray:
        """Within the range of the fit."""
        raw = (x.double().cpu().numpy() + 1) / 2 * (self.high - self.low) + self.low
        raw = np.clip(raw, self.low, self.high)
        return np.rint(raw) if self.whole else raw

    def expected(self, x: Tensor) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Expected pixels, not rounded."""
        raw = (x.double().cpu().numpy() + 1) / 2 * (self.high - self.low) + self.low
        return np.clip(raw, self.low, self.high), {}

    def essence(self) -> dict[str, np.ndarray]:
        """Nothing that the schema does not say."""
        return {}

    def notes(self) -> tuple[str, ...]:
        """Nothing."""
        return ()
