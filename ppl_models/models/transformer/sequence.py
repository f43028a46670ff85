"""A transformer over rows that follow one another: events, series, and the bytes of texts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Ahead, Sampled
from ppl_models.data import Dataset
from ppl_models.draws import Draws
from ppl_models.errors import UsageError
from ppl_models.models.transformer.bound import TransformerBound, log_cells
from ppl_models.models.transformer.drawing import continued
from ppl_models.models.transformer.objective import (
    PLACES,
    Stream,
    StreamTarget,
    at_places,
    log_prob,
)
from ppl_models.networks.attention import Transformer

PATHS, PATHS_AT_ONCE = 200, 4_000_000
"""Paths that are drawn from the end of each sequence; numbers of keys that are kept at a time, about."""

OVERLAP = 4
"""A value is scored given at least (1 − 1/4) of the context, where there is as much before it."""


@dataclass(frozen=True, eq=False)
class Rows(TransformerBound):
    """Rows of sequences, whose cells follow one another, column by column and row by row."""

    exchangeable: bool = False

    def __post_init__(self) -> None:
        if self.schema.target is not None:
            raise UsageError(
                "transformer predicts a target of independent rows, and these follow one another; leave "
                "--target out, or predict it with rnn"
            )

    @property
    def room(self) -> int:
        """The context."""
        return max(self.model.context, 2)

    def _ending(self, data: Dataset) -> bool:
        """Where there are several sequences."""
        return len(data.lengths) > 1

    def rows(self, data: Dataset, device: str | torch.device = "cpu") -> Stream:
        """The cells that are there one after the other, and the ends of sequences; they stay on the CPU."""
        v = self.known
        cells = np.asarray(data.values)
        codes = v.codes(cells)
        own, outside = v.densities(cells)
        row, column = np.nonzero(codes >= 0)
        parts = [codes[row, column], column, row, own[row, column], outside[row, column]]
        end = np.cumsum(np.bincount(row, minlength=data.rows))[data.offsets[1:] - 1]
        if v.ends:
            S = len(data.lengths)
            ends = (
                np.full(S, v.end),
                np.zeros(S, np.int64),
                data.offsets[1:] - 1,
                np.zeros(S),
                np.full(S, -np.inf),
            )
            parts = [np.insert(part, end, more) for part, more in zip(parts, ends, strict=True)]
            end = end + np.arange(1, S + 1)
        start = np.concatenate([[0], end])
        value, field, row, own, outside = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
        return Stream(value, field, row, torch.from_numpy(start), own, outside)

    def target(self, data: Dataset, net: Transformer, seed: int) -> StreamTarget:
        """Of windows."""
        stream = self.rows(data)
        target = StreamTarget(net, stream, seed, 0.0)
        target.constant = float(stream.own.sum()) / max(len(target.first), 1)
        return target

    @torch.no_grad()
    def log_density(self, rows: Stream, draws: Draws) -> Tensor:
        """Log p of the cells of each row given all before it, (1, n); the last row's with the end.

        Given the last values at least of the context less a quarter, and at most of the context.
        """
        net = self.net(draws, self.device)
        found = torch.zeros(int(rows.row.max()) + 1 if len(rows.row) else 0, dtype=torch.float64)
        vectors, size = net.vectors(), self.room
        stride = max(1, size // OVERLAP)
        lengths = rows.start.diff()
        number = 1 + (lengths - size).clamp_min(0).add(stride - 1).div(stride, rounding_mode="floor")
        owner = torch.repeat_interleave(torch.arange(len(lengths)), number)
        k = torch.arange(len(owner)) - torch.repeat_interleave(number.cumsum(0) - number, number)
        last = torch.minimum(rows.start[owner] + size + k * stride, rows.start[owner + 1])
        first = torch.maximum(last - size, rows.start[owner])
        new = torch.where(
            k > 0, rows.start[owner] + size + (k - 1) * stride, first
        )  # the rest was scored before
        for at in torch.arange(len(owner)).split(max(1, PLACES // size)):
            batch = at_places(net, rows, first[at], last[at], owner[at])
            place = first[at][:, None] + torch.arange(batch.value.shape[1])
            own = (place >= new[at][:, None]) & (place < last[at][:, None])
            index = place[own]
            each = log_cells(log_prob(net, batch, vectors).cpu()[own], rows.own[index], rows.outside[index])
            found.index_add_(0, rows.row[index], each)
        return found[None]

    def _continued(
        self, net: Transformer, value: Tensor, field: Tensor, rows: int, paths: int, may_end: bool
    ) -> Tensor:
        """Values of so many more rows of each path, (N, rows, C)."""
        C = len(self.schema.columns)
        fields = torch.cat([field, torch.arange(C).repeat(rows)]).to(self.device)
        value = value.to(self.device)
        end = self.known.end if self.known.ends else None
        size = max(1, PATHS_AT_ONCE // (self.room * self.model.width))
        drawn = [
            continued(net, value, fields, rows * C, min(size, paths - lo), self.temper, end, may_end)
            for lo in range(0, paths, size)
        ]
        return torch.cat(drawn).view(paths, rows, C).cpu()


@final
@dataclass(frozen=True, eq=False)
class SequenceBound(Rows):
    """Events and series."""

    form: str = "sequences"

    def sample_sequences(self, number: int, steps: int, draws: Draws) -> Sampled:
        """Sequences from their beginning, of `steps` rows; fewer of those that end before."""
        nothing = torch.zeros(0, dtype=torch.int64)
        drawn = self._continued(self.net(draws, self.device), nothing, nothing, steps, number, may_end=True)
        lengths = np.full(number, steps)
        if self.known.ends:
            over = (drawn[:, :, 0] == self.known.end).numpy()
            lengths = np.where(over.any(1), over.argmax(1), steps)
        keep = torch.from_numpy(np.arange(steps) < lengths[:, None])
        return Sampled(self.known.cells(drawn[keep]), {}, lengths)

    def ahead(self, rows: Stream, steps: int, draws: Draws) -> Iterator[Ahead]:
        """Paths that go on from the end of each sequence, which does not end."""
        net, C = self.net(draws, self.device), len(self.schema.columns)
        for lo, hi in zip(rows.start[:-1].tolist(), rows.start[1:].tolist(), strict=True):
            own = slice(lo, hi - self.known.ends)
            drawn = self._continued(net, rows.value[own], rows.field[own], steps, PATHS, may_end=False)
            yield Ahead(self.known.cells(drawn.view(-1, C)).reshape(PATHS, steps, C), {})


@final
@dataclass(frozen=True, eq=False)
class TextBound(Rows):
    """Texts, byte by byte."""

    form: str = "texts"

    def sample_sequences(self, number: int, steps: int, draws: Draws) -> Sampled:
        """Texts of `steps` bytes; fewer of those that end before."""
        drawn, lengths = self._texts(number, steps, b"", draws)
        keep = np.arange(steps) < lengths[:, None]
        return Sampled(drawn[keep][:, None].astype(np.float64), {}, lengths)

    def write(self, number: int, length: int, prompt: str, draws: Draws) -> list[str]:
        """The prompt, and what follows it; bytes that are no text are replaced by U+FFFD."""
        start = prompt.encode("utf-8", "surrogateescape")
        drawn, lengths = self._texts(number, length, start, draws)
        return [
            (start + bytes(own[:size].tolist())).decode("utf-8", "replace")
            for own, size in zip(drawn, lengths.tolist(), strict=True)
        ]

    def _texts(self, number: int, length: int, start: bytes, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Bytes (N, length), and how many of each belong to the text."""
        value = torch.tensor(list(start), dtype=torch.int64)
        net = self.net(draws, self.device)
        drawn = self._continued(net, value, torch.zeros_like(value), length, number, may_end=True)[:, :, 0]
        over = (drawn == self.known.end).numpy() if self.known.ends else np.zeros(drawn.shape, bool)
        return drawn.numpy(), np.where(over.any(1), over.argmax(1), length)
