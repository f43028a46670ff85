"""Tables as networks take them: embeddings of cells, and dense layers whose members share their weights.

    number     e_j = a_j x + c_j + Σ_t W_jt ψ_t(x),  ψ_t(x) the share of bin t that lies below x
    label      e_j = a row of a table for each level, and one for a missing cell
    layer      h_m = s_m ∘ W (r_m ∘ x_m) + b_m,  m = 1 … M members with one W

Bins are between quantiles of the cells and of their distinct values; the first and the last go on beyond
their ends (Gorishniy, Rubachev & Babenko 2022, On embeddings for numerical features in tabular deep learning,
NeurIPS, https://arxiv.org/abs/2203.05556). Members of rank one are BatchEnsemble's (Wen, Tran & Ba 2020,
ICLR, https://arxiv.org/abs/2002.06715), started as TabM has them: r_m random signs in the first layer, all
else at one (Gorishniy, Kotelnikov & Babenko 2025, TabM, ICLR, https://arxiv.org/abs/2410.24210).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ppl_models.data.schema import Schema

BINS = 48
"""Bins of a number, at most."""

FARTHEST = 1e9
"""Standard deviations from the mean at which a number lies that is farther out: no row of a fit is.
Of later ones single precision would make infinities, and predictions that are no numbers."""

NUMBER, LABEL = 16, 8
"""Dimensions of the embedding of a number, and of a label."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Rows of a table.

    Attributes:
        x: (n, P) float32 standardised numbers, 0 where missing.
        seen: (n, P) bool, or None if no number is missing.
        codes: (n, L) int64 labels, each column with its own range of rows of one table of embeddings.
    """

    x: Tensor
    seen: Tensor | None
    codes: Tensor

    block: ClassVar[int] = 2048

    def __len__(self) -> int:
        return len(self.x)

    def at(self, index: Tensor) -> "Cells":
        """Some rows, by indices (B,) int64."""
        seen = None if self.seen is None else self.seen.index_select(0, index)
        return Cells(self.x.index_select(0, index), seen, self.codes.index_select(0, index))

    def to(self, device: torch.device | str) -> "Cells":
        """The rows on a device."""
        seen = None if self.seen is None else self.seen.to(device)
        return Cells(self.x.to(device), seen, self.codes.to(device))


class CellCoding:
    """From cells in the user's units to `Cells`.

    Args:
        schema: the columns.
        columns: positions of those that go in.
        values: rows of the fit, (n, C), from whose quantiles the bins are made.
        edges: of bins that were made before, instead.

    Attributes:
        edges: (P, T + 1) edges of the bins in standardised units, the last repeated where there are fewer.
        levels: rows of the table of embeddings.
    """

    def __init__(
        self,
        schema: Schema,
        columns: list[int],
        values: np.ndarray | None = None,
        edges: np.ndarray | None = None,
    ) -> None:
        self.numbers = [j for j in columns if not schema.columns[j].labelled]
        self.labels = [j for j in columns if schema.columns[j].labelled]
        self.mean = np.array([schema.columns[j].mean for j in self.numbers])
        self.sd = np.array([schema.columns[j].sd for j in self.numbers])
        sizes = [len(schema.columns[j].levels) + 1 for j in self.labels]
        self.sizes = np.array(sizes, np.int64)
        self.start = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64)
        self.levels = int(sum(sizes))
        if edges is not None:
            self.edges = torch.from_numpy(edges).float()
            return
        assert values is not None
        found = [
            self._edges(values[:, j], m, s) for j, m, s in zip(self.numbers, self.mean, self.sd, strict=True)
        ]
        widest = max((len(e) for e in found), default=2)
        padded = [np.concatenate([e, np.full(widest - len(e), e[-1])]) for e in found]
        self.edges = torch.from_numpy(np.array(padded).reshape(len(found), widest)).float()

    @staticmethod
    def _edges(cells: np.ndarray, mean: float, sd: float) -> np.ndarray:
        x = (cells[~np.isnan(cells)] - mean) / sd
        if not len(x):
            return np.array([0.0, 1.0])
        # half by rows, half by distinct values: what most rows have leaves bins to the others
        at = np.linspace(0, 1, BINS // 2 + 1)
        edges = np.unique(np.concatenate([np.quantile(x, at), np.quantile(np.unique(x), at)]))
        return edges if len(edges) > 1 else np.array([edges[0], edges[0] + 1.0])

    def rows(self, values: np.ndarray) -> Cells:
        """All rows, (n, C) in the user's units."""
        numbers, labels = (torch.from_numpy(values[:, own]) for own in (self.numbers, self.labels))
        found = self.cells(numbers, labels)
        complete = found.seen is None or bool(found.seen.all())
        return Cells(found.x, None if complete else found.seen, found.codes)

    def cells(self, numbers: Tensor, labels: Tensor) -> Cells:
        """Rows of numbers (n, P) and of codes (n, L), float64, NaN where missing."""
        raw = (numbers - torch.from_numpy(self.mean)) / torch.from_numpy(self.sd)
        missing = raw.isnan()
        x = torch.where(missing, torch.zeros_like(raw), raw).clamp(-FARTHEST, FARTHEST).float()
        last = torch.from_numpy(self.sizes - 1).to(labels.dtype)
        codes = torch.where(labels.isnan(), last, labels).long() + torch.from_numpy(self.start)
        return Cells(x, ~missing, codes)


class CellEmbedding(nn.Module):
    """`Cells` ↦ (B, I): every cell's embedding, side by side."""

    def __init__(self, coding: CellCoding) -> None:
        super().__init__()
        P, T = coding.edges.shape[0], coding.edges.shape[1] - 1
        low, width = coding.edges[:, :-1], coding.edges.diff(dim=1)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer(
            "slope", torch.where(width > 0, 1 / width.clamp_min(1e-12), 0.0), persistent=False
        )
        below = torch.zeros(P, T)
        above = torch.ones(P, T)
        if P:
            below[:, 0] = -torch.inf
            above[torch.arange(P), (width > 0).sum(1).clamp_min(1) - 1] = torch.inf
        self.register_buffer("below", below, persistent=False)
        self.register_buffer("above", above, persistent=False)
        self.linear = nn.Parameter(torch.empty(P, NUMBER).uniform_(-1.0, 1.0))
        self.offset = nn.Parameter(torch.empty(P, NUMBER).uniform_(-1.0, 1.0))
        self.bins = nn.Parameter(torch.zeros(P, T, NUMBER))
        self.absent = nn.Parameter(torch.zeros(P, NUMBER))
        self.table = nn.Parameter(torch.randn(coding.levels, LABEL) / math.sqrt(LABEL))
        self.outputs = P * NUMBER + len(coding.labels) * LABEL

    low: Tensor
    slope: Tensor
    below: Tensor
    above: Tensor

    def forward(self, cells: Cells) -> Tensor:
        """(B, I)."""
        share = ((cells.x.unsqueeze(-1) - self.low) * self.slope).clamp(self.below, self.above)  # (B, P, T)
        e = torch.bmm(share.transpose(0, 1), self.bins).transpose(0, 1)
        e = torch.addcmul(e + self.offset, cells.x.unsqueeze(-1), self.linear)
        if cells.seen is not None:
            e = torch.where(cells.seen.unsqueeze(-1), e, self.absent)
        labels = torch.nn.functional.embedding(cells.codes, self.table)
        return torch.cat([e.flatten(1), labels.flatten(1)], 1)


class MemberLinear(nn.Module):
    """(B, M or 1, I) ↦ (B, M, O): one matrix, with two vectors and a bias of each member's own."""

    def __init__(self, inputs: int, outputs: int, members: int, *, signs: bool = False) -> None:
        super().__init__()
        bound = 1 / math.sqrt(max(inputs, 1))
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound).expand(members, -1).clone())
        self.r = self.s = None
        if members > 1:
            r = torch.ones(members, inputs)
            self.r = nn.Parameter(torch.randint(0, 2, r.shape) * 2.0 - 1.0 if signs else r)
            self.s = nn.Parameter(torch.ones(members, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, M, O)."""
        if self.r is None or self.s is None:
            return torch.nn.functional.linear(x, self.weight) + self.bias
        h = torch.nn.functional.linear(x * self.r, self.weight)
        return torch.addcmul(self.bias, h, self.s)


class MemberLayers(nn.Module):
    """(B, I) ↦ (B, M, F): ReLU layers with dropout, then a linear one to the features.

    Args:
        inputs: I.
        hidden: sizes of the layers.
        features: F.
        members: M.
        dropout: probability that a hidden unit is switched off, while training.
    """

    def __init__(
        self, inputs: int, hidden: tuple[int, ...], features: int, members: int, dropout: float
    ) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        self.layers = nn.ModuleList(
            MemberLinear(a, b, members, signs=i == 0)
            for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False))
        )
        self.last = MemberLinear(sizes[-1], features, members, signs=not hidden)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """(B, M, F)."""
        h = x.unsqueeze(1)
        for layer in self.layers:
            h = torch.nn.functional.relu(layer(h), inplace=True)
            if self.training and self.dropout > 0:
                h = torch.nn.functional.dropout(h, self.dropout)
        return self.last(h)


class Tabular(nn.Module):
    """`Cells` ↦ (B, M, F)."""

    def __init__(
        self, coding: CellCoding, hidden: tuple[int, ...], features: int, members: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = CellEmbedding(coding)
        self.layers = MemberLayers(self.embedding.outputs, hidden, features, members, dropout)

    def forward(self, cells: Cells) -> Tensor:
        """Features of every member."""
        return self.layers(self.embedding(cells))
