"""Draws of parameters θ as plain tensors: what models, guides and verbs hand to one another."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Theta = Mapping[str, Tensor]
"""Values of the sites of a factor."""

Draws = Mapping[str, Theta]
"""θ of every factor, each value (S, ...)."""

Params = Mapping[str, Tensor]
"""What was learned: tensors with one leading dimension of restarts, 1 once training is over."""

Variables = dict[str, tuple[tuple[str, ...], np.ndarray]]
"""Names of parameters in the user's units -> the names of their dimensions after (draw,), and values."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of θ, weighed against the exact joint density.

    Proposals come from the guide. Where their k̂ is at most 0.7 the draws are proposals drawn again with
    their smoothed weights, so that they follow the posterior rather than the guide; draws that were moved
    follow it anyway.

    Attributes:
        theta: θ of every factor, in the units of the priors, (S, ...).
        log_p: log p(x, θ) with the latents summed out, (S,).
        log_q: log q(θ), (S,).
        log_weight: smoothed and normalised importance weights of the draws, equal if they were corrected,
            (S,).
        k_hat: the Pareto shape of the weights; below 0.7 the guide is close to the posterior.
        k_hat_sd: the standard error of `k_hat`, from parts of the proposals.
        even: effective draws as a share of the proposals.
        corrected: whether the draws were drawn again by their weights.
        log_likelihood: log p(x_t | x_{1:t−1}, θ) of each row (S, n), or of each sequence (S, sequences); the
            total (S, 1) where there are too many.
        unit: what a column of `log_likelihood` is: `row`, `sequence` or `all`.
    """

    theta: Draws
    log_p: np.ndarray
    log_q: np.ndarray
    log_weight: np.ndarray
    k_hat: float
    k_hat_sd: float
    even: float
    corrected: bool
    log_likelihood: np.ndarray
    unit: str

    @property
    def draws(self) -> int:
        """S."""
        return len(self.log_p)


DIMENSIONS = frozenset({"chain", "draw", "row", "sequence", "all", "latent"})
"""Dimensions of groups for ArviZ, which no variable of theirs may be called."""


def groups(total: int, each: int, budget: int = 2**23) -> Iterator[slice]:
    """Slices of `total` draws such that `each` numbers a draw stay within a budget of numbers.

    Args:
        total: how many draws.
        each: numbers a draw.
        budget: numbers at a time; a slice has one draw where not even that fits.
    """
    size = max(1, min(total, budget // max(each, 1)))
    for lo in range(0, total, size):
        yield slice(lo, min(lo + size, total))


def on_device(theta: Draws, device: torch.device | str) -> dict[str, dict[str, Tensor]]:
    """The draws on a device."""
    return {name: {site: v.to(device) for site, v in values.items()} for name, values in theta.items()}


def select_draws(theta: Draws, at: slice | Tensor) -> dict[str, Theta]:
    """Some of the draws."""
    return {name: {site: v[at] for site, v in values.items()} for name, values in theta.items()}


def number_of(theta: Draws) -> int:
    """How many draws, S."""
    return next(iter(next(iter(theta.values())).values())).shape[0]


def free(name: str, taken: Container[str]) -> str:
    """A name that is not taken: itself, or with as many underscores behind it as it takes.

    Example:
        >>> free("state", ["state", "state_"]), free("step", ["state"])
        ('state__', 'step')
    """
    while name in taken:
        name += "_"
    return name


def variable_names(names: Iterable[str]) -> list[str]:
    """Columns' names as those of netCDF variables, apart from each other and from dimensions."""
    found: list[str] = []
    for name in names:
        found.append(free(plain(name), {*DIMENSIONS, *found}))
    return found


def plain(name: str) -> str:
    """A column's name as a netCDF variable's."""
    return re.sub(r"[/\x00-\x1f\x7f]", "_", name).strip() or "column"
