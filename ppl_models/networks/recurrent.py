"""Sequences as networks take them: gated recurrent units over padded steps, read from both ends.

    h_t = GRU(e_t, h_{t−1}) forwards and backwards,  e_t = the numbers and labels of step t
    sequence   z = dense of the mean and the largest of h_t over t
    step       z_t = dense of h_t

(Cho et al. 2014, Learning phrase representations using RNN encoder-decoder, EMNLP,
https://arxiv.org/abs/1406.1078.) Steps beyond the end of a sequence are packed away, and not seen.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ppl_models.networks.tabular import LABEL, MemberLayers

DENSE = 128
"""Units of the dense layer."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Sequences, padded to the longest.

    Attributes:
        x: (n, T, D) float32 numbers, 0 where missing, with flags of missing cells among them.
        codes: (n, T, L) int64 labels, each column with its own range of rows of one table of embeddings.
        length: (n,) int64 steps of each, always on the CPU, where packing wants them.
    """

    x: Tensor
    codes: Tensor
    length: Tensor

    block: ClassVar[int] = 128

    def __len__(self) -> int:
        return len(self.x)

    def at(self, index: Tensor) -> "Steps":
        """Some of them, by indices (B,) int64, padded to the longest of these."""
        length = self.length.index_select(0, index.cpu())
        longest = int(length.max()) if len(length) else 0
        x, codes = (v.index_select(0, index)[:, :longest] for v in (self.x, self.codes))
        return Steps(x, codes, length)

    def to(self, device: torch.device | str) -> "Steps":
        """The sequences on a device."""
        return Steps(self.x.to(device), self.codes.to(device), self.length)

    @property
    def mask(self) -> Tensor:
        """(n, T) which steps there are."""
        return (torch.arange(self.x.shape[1]) < self.length[:, None]).to(self.x.device)


class Recurrent(nn.Module):
    """`Steps` ↦ (B, M, F) of sequences, or (steps of all, M, F), one sequence after another.

    Args:
        inputs: D.
        levels: rows of the table of embeddings.
        labels: L.
        hidden: units of the recurrent layer, in each direction.
        layers: how many of them.
        features: F.
        members: M, of the dense layer.
        dropout: of its inputs and units, while training.
        steps: whether features are of steps.
    """

    def __init__(
        self,
        inputs: int,
        levels: int,
        labels: int,
        hidden: int,
        layers: int,
        features: int,
        members: int,
        dropout: float,
        steps: bool,
    ) -> None:
        super().__init__()
        self.steps, self.dropout = steps, dropout
        self.table = nn.Parameter(torch.randn(levels, LABEL) / math.sqrt(LABEL))
        wide = inputs + labels * LABEL
        self.gru = nn.GRU(wide, hidden, layers, batch_first=True, bidirectional=True)
        self.layers = MemberLayers(2 * hidden * (1 if steps else 2), (DENSE,), features, members, dropout)

    def forward(self, sequences: Steps) -> Tensor:
        """Features of every member."""
        labels = nn.functional.embedding(sequences.codes, self.table).flatten(2)
        e = torch.cat([sequences.x, labels], 2)
        packed = pack_padded_sequence(e, sequences.length, batch_first=True, enforce_sorted=False)
        h, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=e.shape[1])
        mask = sequences.mask
        if self.steps:
            return self.layers(self._dropped(h[mask]))
        mean = h.sum(1) / sequences.length[:, None].to(h.device)
        largest = h.masked_fill(~mask[..., None], -torch.inf).amax(1)
        return self.layers(self._dropped(torch.cat([mean, largest], 1)))

    def _dropped(self, h: Tensor) -> Tensor:
        return nn.functional.dropout(h, self.dropout, self.training and self.dropout > 0)
