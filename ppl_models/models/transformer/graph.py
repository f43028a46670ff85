"""What a transformer over one column says comes next, as a graph of tensors that other programs can run."""

from typing import Any

import torch
from torch import Tensor, nn

from ppl_models.capabilities import Graph
from ppl_models.draws import Draws
from ppl_models.errors import Unsupported
from ppl_models.networks.attention import Transformer


class NextGraph(nn.Module):
    """(n, T) values so far, −1 for the beginning of a sequence ↦ logits (n, V) of the value that comes next.

    Args:
        net: the network, of one field.
    """

    def __init__(self, net: Transformer) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Of the last place."""
        value = x.long()
        before = torch.where(value < 0, torch.full_like(value, self.net.begin), value)
        vectors = self.net.vectors()
        h = self.net(before, torch.zeros_like(before), vectors)
        return self.net.logits(h[:, -1], 0, vectors).double()


def graph(bound: Any, draws: Draws) -> Graph:
    """That of texts, or of sequences of labels.

    Raises:
        Unsupported: rows have several columns, or numbers, which stand for bins.
    """
    if len(bound.schema.columns) != 1 or any(bound.known.bins):
        raise Unsupported(
            "a transformer has a graph where what comes next is a byte of a text, or a label of a sequence "
            "of one column; of several columns any may come next, and numbers are bins"
        )
    return Graph(NextGraph(bound.net(draws)), (0,), ("logits",), bound.room)
