"""Rows as the players of a GAN see them, and back: numbers, one-hot labels, or pixels.

    number     (x − mean) / sd; back within the range of the fit, rounded where all were whole
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
    """

    order: list[int]
    width: int
    masked: bool
    owner: Tensor
    choices: tuple[int, ...]

    def encode(self, values: np.ndarray) -> tuple[Tensor, Tensor]:
        """`x` (n, I) float32 and `seen` (n, M) of rows (n, C) in the user's units."""
        ...

    def decode(self, x: Tensor) -> np.ndarray:
        """Cells (n, M) in the user's units, codes of labels, of rows as the generator makes them."""
        ...

    def essence(self) -> Mapping[str, np.ndarray]:
        """All that it took from the rows of the fit."""
        ...


def rows_of(coding: Coding, data: Dataset, target: int | None) -> Rows:
    """All rows of a data set, on the CPU."""
    values = np.asarray(data.values)
    x, seen = coding.encode(values)
    y = None if target is None else torch.from_numpy(np.nan_to_num(values[:, target], nan=-1.0)).long()
    weight = None if data.weight is None else torch.from_numpy(np.array(data.weight)).float()
    return Rows(x, None if bool(seen.all()) else seen, y, weight)


class TableCoding:
    """Columns of a table: numbers first, then labels and listed numbers one-hot.

    Args:
        schema: the columns.
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
        listed: dict[int, np.ndarray] = {}
        for j in columns:
            if schema.columns[j].labelled:
                continue
            if essence is not None:
                found = essence.get(f"listed.{j}")
            else:
                assert values is not None
                found = _listed(values[:, j], distinct)
            if found is not None:
                listed[j] = found
        self.masked = any(schema.columns[j].missing for j in columns)
        self.listed = listed
        self.numbers = [j for j in columns if not schema.columns[j].labelled and j not in listed]
        chosen = [j for j in columns if schema.columns[j].labelled or j in listed]
        self.order = [*self.numbers, *chosen]
        self.mean, self.sd, self.low, self.high = (
            np.array([getattr(schema.columns[j], what) for j in self.numbers], np.float64)
            for what in ("mean", "sd", "minimum", "maximum")
        )
        self.whole = np.array([schema.columns[j].integer for j in self.numbers], bool)
        sizes = [len(listed[j]) if j in listed else len(schema.columns[j].levels) for j in chosen]
        self.choices = tuple(sizes)
        self.width = len(self.numbers) + sum(sizes)
        own = [*range(len(self.numbers))]
        for at, size in enumerate(sizes, len(self.numbers)):
            own += [at] * size
        self.owner = torch.tensor(own, dtype=torch.int64)
        self.chosen = chosen

    @property
    def ladder(self) -> Tensor:
        """(ΣK, Q) the standardised value of each choice of the Q listed numbers, 0 of all others."""
        found, start = torch.zeros(sum(self.choices), len(self.listed)), 0
        for j, size in zip(self.chosen, self.choices, strict=True):
            if j in self.listed:
                v = self.listed[j]
                scaled = torch.from_numpy((v - v.mean()) / (v.std() or 1.0)).float()
                found[start : start + size, list(self.listed).index(j)] = scaled
            start += size
        return found

    def encode(self, values: np.ndarray) -> tuple[Tensor, Tensor]:
        """Numbers standardised, choices one-hot; of a listed number the value that is nearest."""
        n = len(values)
        seen = torch.from_numpy(~np.isnan(values[:, self.order]))
        x = torch.zeros(n, self.width)
        P = len(self.numbers)
        x[:, :P] = torch.from_numpy(np.nan_to_num((values[:, self.numbers] - self.mean) / self.sd)).float()
        start = P
        for j, size in zip(self.chosen, self.choices, strict=True):
            cells = values[:, j]
            there = np.flatnonzero(~np.isnan(cells))
            codes = cells[there] if j not in self.listed else _nearest(self.listed[j], cells[there])
            x[torch.from_numpy(there), torch.from_numpy(codes.astype(np.int64) + start)] = 1.0
            start += size
        return x, seen

    def decode(self, x: Tensor) -> np.ndarray:
        """Cells in the user's units: numbers within their range, the likeliest choice."""
        rows = x.double().cpu().numpy()
        P = len(self.numbers)
        numbers = np.clip(rows[:, :P] * self.sd + self.mean, self.low, self.high)
        found = [np.where(self.whole, np.rint(numbers), numbers)]
        start = P
        for j, size in zip(self.chosen, self.choices, strict=True):
            code = rows[:, start : start + size].argmax(1)
            found.append((self.listed[j][code] if j in self.listed else code.astype(float))[:, None])
            start += size
        return np.concatenate(found, 1)

    def expected(self, x: Tensor) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Of mean rows: expected numbers and likeliest labels (n, M); and of labels their probability."""
        cells, sure, start = self.decode(x), {}, len(self.numbers)
        rows = x.double().cpu().numpy()
        for at, (j, size) in enumerate(zip(self.chosen, self.choices, strict=True), len(self.numbers)):
            share = rows[:, start : start + size]
            if j in self.listed:
                cells[:, at] = share @ self.listed[j]
            else:
                sure[j] = share.max(1)
            start += size
        return cells, sure

    def essence(self) -> dict[str, np.ndarray]:
        """The values of listed numbers."""
        return {f"listed.{j}": values for j, values in self.listed.items()}


def _listed(cells: np.ndarray, distinct: int) -> np.ndarray | None:
    """The different values of a number, if there are few, of several rows each."""
    there = cells[~np.isnan(cells)]
    found = np.unique(there)
    few = 1 < len(found) <= distinct and REPEATED * len(found) <= len(there)
    return found.astype(np.float64) if few else None


def _nearest(values: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Positions of the values that are nearest."""
    if len(values) == 1:
        return np.zeros(len(cells))
    return np.searchsorted((values[1:] + values[:-1]) / 2, cells)


class PixelCoding:
    """Pixels of images, all on one scale.

    Args:
        schema: the columns.
        columns: positions of the pixels.
    """

    choices: tuple[int, ...] = ()

    def __init__(self, schema: Schema, columns: list[int]) -> None:
        own = [schema.columns[j] for j in columns]
        self.order, self.width = columns, len(columns)
        self.low, self.high = min(c.minimum for c in own), max(c.maximum for c in own)
        self.whole = all(c.integer for c in own)
        self.masked = any(c.missing for c in own)
        self.owner = torch.arange(len(columns))

    def encode(self, values: np.ndarray) -> tuple[Tensor, Tensor]:
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
