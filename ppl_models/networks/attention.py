"""A causal transformer over fields: what stands at the next place, given all that came before it.

    h_t = transformer(e(v_1), …, e(v_{t−1}); f_t)
    p(v_t = v | v_<t, f_t) = softmax_{v ∈ f_t}(h_t · e(v) + b_v)

A field is a set of values: the 256 bytes, or the labels or bins of a column. Values are numbered through all
fields, so that a value says its field, and the head of a place is over the values of its field alone: what a
field does not have cannot be drawn. The same vectors e(v) go in and out (Press & Wolf 2017, EACL,
https://arxiv.org/abs/1608.05859). A place is told which field is asked for, so that fields may come in any
order (Pannatier, Courdier & Fleuret 2024, σ-GPTs, https://arxiv.org/abs/2404.09562).

Blocks are pre-normalised by root mean squares (Zhang & Sennrich 2019, https://arxiv.org/abs/1910.07467), with
rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864), normalised queries and keys (Henry et al.
2020, https://arxiv.org/abs/2010.04245), and squared rectified units (So et al. 2021, Primer,
https://arxiv.org/abs/2109.08668). Keys and values of places that are done can be kept in a `Cache`.
"""

import math
from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, linear, relu, rms_norm, scaled_dot_product_attention

HARMONICS = 8
"""Cosines of the place of a value among those of its field, by which neighbouring bins are alike."""


class Cache:
    """Keys and values of the places that are done, of all blocks.

    Attributes:
        length: places that are done, P.
    """

    def __init__(self, rows: int, room: int, layers: int, heads: int, width: int, like: Tensor) -> None:
        self.length = 0
        self.kept = like.new_empty(layers, 2, rows, heads, room, width)  # (L, 2, B, H, room, D)

    def extended(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all places, (B, H, P + T, D), after those of T more in one block."""
        end = self.length + k.shape[2]
        self.kept[layer, 0, :, :, self.length : end] = k
        self.kept[layer, 1, :, :, self.length : end] = v
        return self.kept[layer, 0, :, :, :end], self.kept[layer, 1, :, :, :end]

    def repeated(self, times: int) -> "Cache":
        """The same for its rows, so many times one after the other."""
        found = copy(self)
        found.kept = self.kept.repeat(1, 1, times, 1, 1, 1) if times > 1 else self.kept
        return found


class Block(nn.Module):
    """x ↦ x + attention(x) ↦ x + mlp(x), each of normalised x."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        for layer in (self.qkv, self.up):
            nn.init.uniform_(layer.weight, -((3 / width) ** 0.5), (3 / width) ** 0.5)
        for layer in (self.out, self.down):  # a block is the identity at first
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], cache: Cache | None, layer: int) -> Tensor:
        """(B, T, W) of (B, T, W)."""
        B, T, W = x.shape
        q, k, v = self.qkv(normed(x)).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (B, H, T, D)
        q, k = turned(normed(q), turn), turned(normed(k), turn)
        mask, causal = None, True
        if cache is not None:
            k, v = cache.extended(layer, k, v)  # (B, H, P + T, D)
            causal = T == k.shape[2]
            if not causal and T > 1:  # each of the T places sees the P before, and its own up to itself
                mask = torch.ones(T, k.shape[2], dtype=torch.bool, device=x.device).tril(k.shape[2] - T)
        y = scaled_dot_product_attention(q, k, v, mask, is_causal=causal)  # (B, H, T, D)
        x = x + self._dropped(self.out(y.transpose(1, 2).reshape(B, T, W)))
        return x + self._dropped(self.down(relu(self.up(normed(x))).square()))

    def _dropped(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, self.dropout, self.training and self.dropout > 0)


class Transformer(nn.Module):
    """Values before each place ↦ log-probabilities of those of the field of that place.

    Args:
        sizes: (F,) numbers of values of the fields, V in all.
        width: W of the vectors.
        layers: blocks.
        heads: of the attention, which divide W.
        context: places at most, that a row may have.
        dropout: share of the outputs of blocks that is dropped in training.
        smooth: (V,) places from 0 to 1 of values that are ordered, NaN of others.
    """

    cos: Tensor
    sin: Tensor
    wave: Tensor
    waves: Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        width: int,
        layers: int,
        heads: int,
        context: int,
        dropout: float = 0.0,
        smooth: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.sizes, self.context, self.heads = tuple(sizes), context, heads
        self.starts = [sum(self.sizes[:f]) for f in range(len(self.sizes) + 1)]
        V, F = self.starts[-1], len(self.sizes)
        self.begin = V  # the value before the first place
        self.value = nn.Parameter(0.02 * torch.randn(V + 1, width))
        self.ask = nn.Parameter(0.02 * torch.randn(F, width))
        self.bias = nn.Parameter(torch.zeros(V))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        speed = 1e4 ** (-torch.arange(0, width // heads, 2) / (width // heads))
        angle = torch.arange(context)[:, None] * speed
        self.register_buffer("cos", angle.cos(), persistent=False)  # (context, D / 2)
        self.register_buffer("sin", angle.sin(), persistent=False)
        own = torch.repeat_interleave(torch.arange(F), torch.tensor(self.sizes))  # (V,) the field of a value
        self.harmonic = None
        if smooth is not None:
            self.harmonic = nn.Parameter(torch.zeros(F * HARMONICS, width))
            order = torch.arange(1, HARMONICS + 1)
            wave = ((math.pi * order * smooth[:, None]).cos() / order).nan_to_num().float()
            self.register_buffer("wave", wave, persistent=False)
            self.register_buffer("waves", own[:, None] * HARMONICS + order - 1, persistent=False)

    def vectors(self) -> Tensor:
        """e(v) of all values and of the beginning, (V + 1, W)."""
        if self.harmonic is None:
            return self.value
        along = embedding_bag(self.waves, self.harmonic, per_sample_weights=self.wave, mode="sum")  # (V, W)
        return self.value + nn.functional.pad(along, (0, 0, 0, 1))

    def cache(self, rows: int, room: int) -> Cache:
        """An empty one for so many rows of so many places."""
        L, W = len(self.blocks), self.value.shape[1]
        return Cache(rows, min(room, self.context), L, self.heads, W // self.heads, self.value)

    def forward(self, before: Tensor, field: Tensor, vectors: Tensor, cache: Cache | None = None) -> Tensor:
        """H of places, (B, T, W).

        Args:
            before: (B, T) the value before each place; `begin` before the first.
            field: (B, T) the field of each place.
            vectors: those of the values.
            cache: of the places before these, to which these are added.
        """
        P, T = 0 if cache is None else cache.length, before.shape[1]
        x = normed(vectors[before] + self.ask[field])  # (B, T, W)
        for i, block in enumerate(self.blocks):
            x = block(x, (self.cos[P : P + T], self.sin[P : P + T]), cache, i)
        if cache is not None:
            cache.length += T
        return normed(x)

    def logits(self, h: Tensor, field: int, vectors: Tensor) -> Tensor:
        """Of the values of one field at places h (N, W): (N, size)."""
        own = slice(self.starts[field], self.starts[field + 1])
        return linear(h, vectors[own], self.bias[own])

    def log_prob(self, h: Tensor, field: Tensor, value: Tensor, vectors: Tensor) -> Tensor:
        """Log p of values (N,) in the fields (N,) of places h (N, W): (N,) nats."""
        if len(self.sizes) == 1:
            return -nn.functional.cross_entropy(self.logits(h, 0, vectors), value, reduction="none")
        order = field.argsort(stable=True)  # places of one field side by side, for one product each
        counts = torch.bincount(field, minlength=len(self.sizes)).tolist()
        found = []
        for f, (some, own) in enumerate(zip(h[order].split(counts), value[order].split(counts), strict=True)):
            out = self.logits(some, f, vectors)  # (N_f, size_f)
            found.append(-nn.functional.cross_entropy(out, own - self.starts[f], reduction="none"))
        return torch.cat(found)[order.argsort()]


def normed(x: Tensor) -> Tensor:
    """X over the root of its mean square."""
    return rms_norm(x, x.shape[-1:])


def turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Pairs of x (B, H, T, D) turned by the angles of their places, (T, D / 2)."""
    cos, sin = turn
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
