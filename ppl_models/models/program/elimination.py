"""Discrete latents summed out of a product of factors, one after another.

    log Σ_z exp Σ_i f_i(z)

Each time the variable is eliminated whose factors together have the fewest numbers left (Obermeyer et al.
2019, Tensor variable elimination for plated factor graphs, ICML, https://arxiv.org/abs/1902.03210): a chain
is gone through from its ends. Pyro's own contraction works as well, but not under `vmap`.
"""

import heapq
from collections.abc import Iterable
from typing import Any

import torch
from pyro.ops.rings import LogRing
from torch import Tensor


class Elimination(LogRing):
    """Pyro's ring of logarithms, whose sums of products need no `autograd.Function`."""

    def sumproduct(self, terms: list[Tensor], dims: Iterable[str]) -> Tensor:
        """The product of factors, summed over some of their dimensions."""
        factors = {i: term for i, term in enumerate(terms)}
        names: dict[int, str] = {i: term._pyro_dims for i, term in factors.items()}  # pyright: ignore[reportAttributeAccessIssue]
        sizes = {
            name: size for i, term in factors.items() for name, size in zip(names[i], term.shape, strict=True)
        }
        left, holders = set(dims), {}
        for i, own in names.items():
            for name in own:
                holders.setdefault(name, set()).add(i)
        heap = [(_cost(name, holders, names, sizes), name) for name in sorted(left)]
        heapq.heapify(heap)
        following = len(terms)
        while heap:
            cost, name = heapq.heappop(heap)
            if name not in left:
                continue
            now = _cost(name, holders, names, sizes)
            if now > cost:
                heapq.heappush(heap, (now, name))
                continue
            left.discard(name)
            used = sorted(holders.get(name, ()))
            if not used:
                continue
            joined, own = _joined([(factors[i], names[i]) for i in used], name)
            result, own = log_sum(joined), own[1:]
            for i in used:
                for other in names[i]:
                    holders[other].discard(i)
                del factors[i], names[i]
            factors[following], names[following] = result, own
            for other in own:
                holders.setdefault(other, set()).add(following)
                if other in left:  # its cost may have fallen
                    heapq.heappush(heap, (_cost(other, holders, names, sizes), other))
            following += 1
        product, own = _joined([(factors[i], names[i]) for i in sorted(factors)], "")
        if len(terms) == 1 and product is terms[0]:
            product = product.clone()
        product._pyro_dims = own  # pyright: ignore[reportAttributeAccessIssue]
        return product


def _cost(name: str, holders: dict[str, set[int]], names: dict[int, str], sizes: dict[str, int]) -> int:
    size = 1
    for other in set().union(*(names[i] for i in holders.get(name, ()))):
        size *= sizes[other]
    return size


def _joined(factors: list[tuple[Tensor, str]], first: str) -> tuple[Tensor, str]:
    """The sum of factors over all of their dimensions, those of `first` in front."""
    every = sorted(set().union(*(own for _, own in factors)))
    order = first + "".join(name for name in every if name not in first)
    total: Any = None
    for tensor, own in factors:
        kept = [name for name in order if name in own]
        if "".join(kept) != own:
            tensor = tensor.permute([own.index(name) for name in kept])
        if len(kept) < len(order):
            sizes = dict(zip(kept, tensor.shape, strict=True))
            tensor = tensor.reshape([sizes.get(name, 1) for name in order])
        total = tensor if total is None else total + tensor
    return total, order


def log_sum(x: Tensor) -> Tensor:
    """Log Σ exp over the first dimension, whose gradient is 0 where all are −∞."""
    shift = x.detach().amax(0).clamp_min(torch.finfo(x.dtype).min)
    total = (x - shift).exp().sum(0)
    return total.clamp_min(torch.finfo(x.dtype).tiny).log() + shift
