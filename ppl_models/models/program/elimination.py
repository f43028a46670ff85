"""Discrete latents summed out of a product of factors, one after another.

    log Σ_z exp Σ_i f_i(z)

Variables whose factors together have the fewest numbers are eliminated first (Obermeyer et al. 2019, Tensor
variable elimination for plated factor graphs, ICML, https://arxiv.org/abs/1902.03210). Pyro's own contraction
works as well, but not under `vmap`.
"""

from collections.abc import Iterable
from typing import Any

import torch
from pyro.ops.rings import LogRing
from torch import Tensor

FEWEST = 4
"""Times the numbers of the cheapest variable that others may take to be eliminated in the same round."""


class Elimination(LogRing):
    """Pyro's ring of logarithms, whose sums of products need no `autograd.Function`."""

    def sumproduct(self, terms: list[Tensor], dims: Iterable[str]) -> Tensor:
        """The product of factors, summed over some of their dimensions.

        In each round variables that share no factor, so that rounds are few, and what is done in one can be
        done at once (`recording`): of a chain of T variables with few values every other one, log T times;
        of one with many values those at its ends.
        """
        factors = dict(enumerate(terms))
        names: dict[int, str] = {i: term._pyro_dims for i, term in factors.items()}  # pyright: ignore[reportAttributeAccessIssue]
        sizes = {
            name: size for i, term in factors.items() for name, size in zip(names[i], term.shape, strict=True)
        }
        holders: dict[str, set[int]] = {name: set() for name in dims}
        for i, own in names.items():
            for name in own:
                holders.setdefault(name, set()).add(i)
        left = {name for name in dims if holders[name]}
        costs = {name: _cost(name, holders, names, sizes) for name in left}
        following = len(terms)
        while left:
            most = FEWEST * min(costs[name] for name in left)
            touched: set[str] = set()
            for name in sorted(left):
                if costs[name] > most or name in touched:
                    continue
                used = sorted(holders[name])
                joined, own = _joined([(factors[i], names[i]) for i in used], name)
                result, own = log_sum(joined), own[1:]
                for i in used:
                    for other in names[i]:
                        holders[other].discard(i)
                    del factors[i], names[i]
                factors[following], names[following] = result, own
                for other in own:
                    holders[other].add(following)
                left.discard(name)
                touched.update(own)
                following += 1
            for name in touched & left:
                costs[name] = _cost(name, holders, names, sizes)
        product, own = _joined([(factors[i], names[i]) for i in sorted(factors)], "")
        if len(terms) == 1 and product is terms[0]:
            product = product.clone()
        product._pyro_dims = own  # pyright: ignore[reportAttributeAccessIssue]
        return product


def _cost(name: str, holders: dict[str, set[int]], names: dict[int, str], sizes: dict[str, int]) -> int:
    size = 1
    for other in set().union(*(names[i] for i in holders[name])):
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
