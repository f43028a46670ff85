"""Values drawn one after the other, with the keys and values of the places before kept."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_models.networks.attention import Cache, Transformer


@dataclass(frozen=True)
class Temper:
    """How values are drawn from their probabilities.

    Attributes:
        temperature: T of p^(1/T), 0 for the most probable value.
        top_p: only the most probable values that together have so much are drawn (Holtzman et al. 2020, ICLR,
            https://arxiv.org/abs/1904.09751).
    """

    temperature: float = 1.0
    top_p: float = 1.0

    def draw(self, logits: Tensor) -> Tensor:
        """(N,) of logits (N, m), by torch's global generator."""
        if self.temperature == 0:
            return logits.argmax(1)
        p = (logits.double() / self.temperature).softmax(1)
        if self.top_p < 1:
            sorted_p, order = p.sort(1, descending=True)
            over = sorted_p.cumsum(1) - sorted_p >= self.top_p  # what comes before has enough
            p = p.scatter(1, order, sorted_p.masked_fill(over, 0.0))
        return torch.multinomial(p, 1)[:, 0]


@torch.no_grad()
def completed(
    net: Transformer, codes: Tensor, order: Tensor, known: int, temper: Temper, repeats: int = 1
) -> Tensor:
    """Rows of a table with the cells drawn that come after the known ones in an order.

    Args:
        net: the network.
        codes: (B, C) values of the cells.
        order: (B, C) columns in the order in which they are taken.
        known: k, of whose first places the values are known.
        temper: how values are drawn.
        repeats: S, how often every row is completed.

    Returns:
        (S, B, C) values.
    """
    vectors, (B, C) = net.vectors(), codes.shape
    if known == C:
        return codes.repeat(repeats, 1, 1)
    before = torch.cat([codes.new_full((B, 1), net.begin), codes.gather(1, order[:, :known])], 1)
    cache = net.cache(B, C)
    h = net(before, order[:, : known + 1], vectors, cache)[:, -1].repeat(repeats, 1)  # (S B, W)
    cache = cache.repeated(repeats)
    codes, order = codes.repeat(repeats, 1), order.repeat(repeats, 1)
    for t in range(known, C):
        own = order[:, t]
        value = _values(net, h, own, vectors, temper)
        codes = codes.scatter(1, own[:, None], value[:, None])
        if t + 1 < C:
            h = net(value[:, None], order[:, t + 1 : t + 2], vectors, cache)[:, 0]
    return codes.view(repeats, B, C)


def _values(net: Transformer, h: Tensor, field: Tensor, vectors: Tensor, temper: Temper) -> Tensor:
    """A value of the field (N,) of each of the places h (N, W)."""
    found = torch.empty_like(field)
    for f in field.unique().tolist():
        at = (field == f).nonzero()[:, 0]
        found[at] = net.starts[f] + temper.draw(net.logits(h[at], f, vectors))
    return found


@torch.no_grad()
def continued(
    net: Transformer,
    value: Tensor,
    field: Tensor,
    places: int,
    paths: int,
    temper: Temper,
    end: int | None = None,
    may_end: bool = False,
) -> Tensor:
    """Paths that go on from the values of a sequence, fields coming in turn.

    Where the context is full, the later half of it is read once more and kept.

    Args:
        net: the network.
        value: (P,) values so far.
        field: (P + places,) their fields, and those of the places to be drawn.
        places: how many are drawn.
        paths: N.
        temper: how values are drawn.
        end: the value that ends a sequence.
        may_end: whether it is drawn; what follows it is no longer of the sequence.

    Returns:
        (N, places) values.
    """
    vectors, known, room = net.vectors(), len(value), net.context
    past = torch.cat([value.new_full((1,), net.begin), value]).expand(paths, -1)  # before each place
    found, first = [], max(0, known + 1 - room)
    cache: Cache | None = None
    for t in range(known, known + places):
        if cache is None or cache.length == room:
            first = first if cache is None else t + 1 - (room + 1) // 2
            rows = 1 if cache is None else paths
            cache = net.cache(rows, room)
            own = field[first : t + 1].expand(rows, -1)
            h = net(past[:rows, first : t + 1], own, vectors, cache)[:, -1]
            if rows < paths:
                h, cache = h.repeat(paths, 1), cache.repeated(paths)
        else:
            h = net(past[:, t : t + 1], field[t : t + 1].expand(paths, -1), vectors, cache)[:, 0]
        f = int(field[t])
        logits = net.logits(h, f, vectors)
        if end is not None and f == 0 and not (may_end and t > 0):
            logits = logits.clone()
            logits[:, end] = -torch.inf
        drawn = net.starts[f] + temper.draw(logits)
        found.append(drawn)
        past = torch.cat([past, drawn[:, None]], 1)
    return torch.stack(found, 1)
