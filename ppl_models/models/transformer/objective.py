"""What training raises: the mean log density of rows whose values are asked for in turn.

    loss(rows) = −(1/B) Σ_{n ∈ rows} w_n Σ_t log p(v_{σ_n(t)} | v_{σ_n(1)}, …, v_{σ_n(t−1)})

Of a table σ_n is a new order of the columns of row n that are not missing, uniform at each step, so that
every conditional of some columns given others is trained (Yang et al. 2019, XLNet, NeurIPS,
https://arxiv.org/abs/1906.08237; Hoogeboom et al. 2022, Autoregressive diffusion models, ICLR,
https://arxiv.org/abs/2110.02037). With a target half of the orders have it last, as `predict` does. Of a text
or of sequences a row is a window of them, whose place is drawn anew at each step.

A tenth of the rows, 10,000 at most and none of fewer than 20, is held out; of fewer than 20 sequences the
last tenth of the windows of each.
"""

from abc import abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ppl_models.inference.gradient import GradientTarget
from ppl_models.networks.attention import Transformer

HELD_OUT, MOST, FEW = 0.1, 10_000, 20
"""The share of rows that is held out, how many at most, and the number below which none are."""

PLACES = 16_384
"""Places that the network is applied to at a time, outside of training."""


class Batch(NamedTuple):
    """Places of B rows.

    Attributes:
        value: (B, T) values; whatever where there is none.
        field: (B, T) of them.
        before: (B, T) the value before each place.
        seen: (B, T) where there is a value.
        weight: (B,) of the rows; None if all count the same.
    """

    value: Tensor
    field: Tensor
    before: Tensor
    seen: Tensor
    weight: Tensor | None = None


def in_order(net: Transformer, codes: Tensor, order: Tensor, weight: Tensor | None = None) -> Batch:
    """Rows of a table with their cells in an order.

    Args:
        net: the network, for the value before the first place.
        codes: (B, C) values of the cells, −1 where missing.
        order: (B, C) columns in the order of the places, those that are missing last.
        weight: (B,) of the rows, or None.
    """
    value = codes.gather(1, order)
    seen = value >= 0
    value = value.clamp_min(0)
    before = torch.cat([value.new_full((len(value), 1), net.begin), value[:, :-1]], 1)
    return Batch(value, order, before, seen, weight)


def log_prob(net: Transformer, batch: Batch, vectors: Tensor) -> Tensor:
    """Log p of each value given those before, (B, T); 0 where there is none."""
    h = net(batch.before, batch.field, vectors)
    if bool(batch.seen.all()):
        own = net.log_prob(h.flatten(0, 1), batch.field.flatten(), batch.value.flatten(), vectors)
        return own.view_as(batch.value)
    at = batch.seen.flatten().nonzero()[:, 0]
    own = net.log_prob(h.flatten(0, 1)[at], batch.field.flatten()[at], batch.value.flatten()[at], vectors)
    return (
        torch.zeros(batch.seen.numel(), dtype=own.dtype, device=own.device)
        .index_put((at,), own)
        .view_as(h[..., 0])
    )


class TokenTarget(GradientTarget):
    """The objective over rows, of which some are held out.

    Args:
        module: the network.
        number: of rows.
        seed: of the rows that are held out, and of the places and orders of `evidence`.
        constant: nats a row that do not depend on the network: the densities within bins.

    Attributes:
        train, held: positions of the rows of the training and of the others.
    """

    module: Transformer

    def __init__(self, module: Transformer, number: int, seed: int, constant: float) -> None:
        self.module, self.seed, self.constant = module, seed, constant
        self.train, self.held = self.parts(number)
        self.rows = len(self.train)
        module.train()

    def parts(self, number: int) -> tuple[Tensor, Tensor]:
        """Positions of the rows of the training, and of those held out."""
        held = 0 if number < FEW else min(max(1, round(HELD_OUT * number)), MOST)
        order = torch.from_numpy(np.random.default_rng(self.seed).permutation(number))
        return order[held:].sort().values, order[:held].sort().values

    @abstractmethod
    def batch(self, index: Tensor) -> Batch:
        """Rows at these positions, in an order and at places by torch's global generator."""

    @abstractmethod
    def fixed(self, index: Tensor) -> Batch:
        """The same in an order and at places that are the same every time."""

    def loss(self, rows: Tensor, epoch: float) -> Tensor:
        """Minus the log density, nats a row: see the module."""
        batch = self.batch(self.train.to(rows.device).index_select(0, rows))
        each = log_prob(self.module, batch, self.module.vectors())
        if batch.weight is not None:
            return -(each.sum(1) @ batch.weight) / len(each)
        return -each.sum() / len(each)

    def evidence(self) -> float:
        """Of the held-out rows, nats a row; of the training rows where none are held out."""
        index = self.held if len(self.held) else self.train[:MOST]
        found, batch = self.values(index)
        weight = 1.0 if batch.weight is None else batch.weight.double() / batch.weight.double().mean()
        return float((found.double().sum(1) * weight).mean()) + self.constant

    @torch.no_grad()
    def values(self, index: Tensor) -> tuple[Tensor, Batch]:
        """Log p of the values of rows at these positions, and the rows."""
        net = self.module
        training = net.training
        net.eval()
        try:
            vectors, batch = net.vectors(), self.fixed(index)
            size = max(1, PLACES // batch.value.shape[1])
            found = [
                log_prob(net, part_of(batch, at), vectors) for at in torch.arange(len(index)).split(size)
            ]
            return torch.cat(found), batch
        finally:
            net.train(training)

    @torch.no_grad()
    def where(self) -> str:
        """Which weights are not finite."""
        for name, value in self.module.named_parameters():
            if not bool(value.isfinite().all()):
                return f"the weights {name} are not finite; lower the learning rate; {name}"
        return "the log density of a row"


def part_of(batch: Batch, at: Tensor) -> Batch:
    """Some rows of a batch."""
    return Batch(*(None if each is None else each[at.to(each.device)] for each in batch))  # type: ignore[arg-type]


class TableTarget(TokenTarget):
    """Of the rows of a table.

    Args:
        module: the network.
        codes: (n, C) values of the cells, −1 where missing.
        weight: (n,) of the rows; None if all count the same.
        last: the column that half of the orders have last.
        seed: see `TokenTarget`.
        constant: likewise.
    """

    def __init__(
        self,
        module: Transformer,
        codes: Tensor,
        weight: Tensor | None,
        last: int | None,
        seed: int,
        constant: float,
    ) -> None:
        super().__init__(module, len(codes), seed, constant)
        self.codes, self.last = codes, last
        self.weight = (
            None if weight is None else (weight / weight[self.train].mean()).float().to(codes.device)
        )

    def batch(self, index: Tensor) -> Batch:
        """In orders drawn by torch's global generator."""
        keys = torch.rand(len(index), self.codes.shape[1])
        if self.last is not None:
            keys[torch.rand(len(index)) < 0.5, self.last] = 1.0
        return self._ordered(index, keys)

    def fixed(self, index: Tensor) -> Batch:
        """In orders that follow from the seed and the column."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        return self._ordered(index, torch.rand(len(index), self.codes.shape[1], generator=generator))

    def _ordered(self, index: Tensor, keys: Tensor) -> Batch:
        codes = self.codes[index.to(self.codes.device)]
        order = (keys.to(codes.device) + 2.0 * (codes < 0)).argsort(1)
        weight = None if self.weight is None else self.weight[index.to(codes.device)]
        return in_order(self.module, codes, order, weight)


class Stream(NamedTuple):
    """The values of sequences, one after the other.

    Attributes:
        value: (N,) values.
        field: (N,) of them.
        row: (N,) the row of the data that each is of.
        start: (S + 1,) where sequences begin.
        own: (N,) log densities within their bins, and
        outside: (N,) of what no bin has: see `Values.densities`.
    """

    value: Tensor
    field: Tensor
    row: Tensor
    start: Tensor
    own: Tensor
    outside: Tensor


def windows(start: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where windows of at most `size` begin, where they are over, and their sequences, (n,) each."""
    lengths = start.diff()
    number = (lengths + size - 1).div(size, rounding_mode="floor").clamp_min(1)
    owner = torch.repeat_interleave(torch.arange(len(lengths)), number)
    k = torch.arange(len(owner)) - torch.repeat_interleave(number.cumsum(0) - number, number)
    first = start[owner] + k * size
    return first, torch.minimum(first + size, start[owner + 1]), owner


def at_places(net: Transformer, stream: Stream, first: Tensor, last: Tensor, owner: Tensor) -> Batch:
    """Places of sequences as a batch.

    Args:
        net: the network, for the value before the first place.
        stream: the values of the sequences.
        first: (B,) where each row begins.
        last: (B,) the place behind its end.
        owner: (B,) the sequence that it is of.
    """
    size = int((last - first).max())
    at = first[:, None] + torch.arange(size)
    seen = at < last[:, None]
    at = torch.where(seen, at, first[:, None])
    before = torch.where(at == stream.start[owner][:, None], net.begin, stream.value[(at - 1).clamp_min(0)])
    device = net.value.device
    return Batch(*(each.to(device) for each in (stream.value[at], stream.field[at], before, seen)))


class StreamTarget(TokenTarget):
    """Of windows of a text, or of sequences.

    Args:
        module: the network.
        stream: the values, on the CPU.
        seed: see `TokenTarget`.
        constant: likewise.
    """

    def __init__(self, module: Transformer, stream: Stream, seed: int, constant: float) -> None:
        self.stream = stream
        self.first, self.last, self.owner = windows(stream.start, module.context)
        super().__init__(module, len(self.first), seed, constant)
        self.low, self.high = stream.start[self.owner], stream.start[self.owner + 1]
        for s in self.owner[self.held].unique().tolist() if self._within else ():
            own = self.owner == s  # windows that are trained on move about before what is held out
            self.high[own] = self.first[self.held][self.owner[self.held] == s].min()

    @property
    def _within(self) -> bool:
        """Whether the ends of sequences are held out, and not some of the sequences."""
        return len(self.stream.start) - 1 < FEW

    def parts(self, number: int) -> tuple[Tensor, Tensor]:
        """Whole sequences are held out; of fewer than 20 the last windows of each."""
        if not self._within:
            train, held = super().parts(len(self.stream.start) - 1)
            return tuple(torch.isin(self.owner, part).nonzero()[:, 0] for part in (train, held))  # type: ignore
        total = torch.bincount(self.owner, minlength=len(self.stream.start) - 1)
        rank = torch.arange(number) - (total.cumsum(0) - total)[self.owner]
        last = (rank >= (total * (1 - HELD_OUT)).round()[self.owner]) & (number >= FEW)
        return (~last).nonzero()[:, 0], last.nonzero()[:, 0][:MOST]

    def batch(self, index: Tensor) -> Batch:
        """At places drawn by torch's global generator."""
        index = index.cpu()
        first, size = self.first[index], self.last[index] - self.first[index]
        moved = first + (torch.rand(len(index)) * self.module.context).long() - self.module.context // 2
        low, high = self.low[index], self.high[index]
        full = torch.minimum(torch.full_like(size, self.module.context), high - low)
        moved = torch.maximum(torch.minimum(moved, high - full), low)
        return at_places(self.module, self.stream, moved, moved + full, self.owner[index])

    def fixed(self, index: Tensor) -> Batch:
        """As they are cut."""
        index = index.cpu()
        return at_places(self.module, self.stream, self.first[index], self.last[index], self.owner[index])
