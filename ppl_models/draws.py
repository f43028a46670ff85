"""Draws of parameters θ as plain tensors: what models, guides and verbs hand to one another."""

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

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
        by_unit: computes `log_likelihood` and `unit`, when they are first asked for.
        chains: C, of how many Markov chains the draws are: draw s is of chain s mod C, so that any first few
            stand for all chains.
        iteration: (S,) where in its chain each draw was, which has no order beside that; None of one chain.
    """

    theta: Draws
    log_p: np.ndarray
    log_q: np.ndarray
    log_weight: np.ndarray
    k_hat: float
    k_hat_sd: float
    even: float
    corrected: bool
    by_unit: Callable[[], tuple[np.ndarray, str]] = field(repr=False)
    chains: int = 1
    iteration: np.ndarray | None = None

    def by_chain(self, values: np.ndarray) -> np.ndarray:
        """Something of the first D draws, (D, ...), by chain in the order of its iterations, (C, D / C, ...).

        Of draws that are of no chain, (1, D, ...).
        """
        if self.iteration is None:
            return values[None]
        each = max(len(values) // self.chains, 1)
        values = values[: each * self.chains].reshape(each, self.chains, *values.shape[1:])
        order = self.iteration[: each * self.chains].reshape(each, self.chains).argsort(0)
        return np.stack([values[order[:, c], c] for c in range(self.chains)])

    @cached_property
    def _by_unit(self) -> tuple[np.ndarray, str]:
        return self.by_unit()

    @property
    def log_likelihood(self) -> np.ndarray:
        """Log p(x_t | x_{1:t−1}, θ) of each row, (D, n), or of each sequence, (D, sequences).

        Of the first D draws, fewer than S where the data is large; NaN of rows that a regression leaves out.
        (S, 1) of all rows together where they cannot be told apart.
        """
        return self._by_unit[0]

    @property
    def unit(self) -> str:
        """What a column of `log_likelihood` is: `row`, `sequence` or `all`."""
        return self._by_unit[1]

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


def interval(values: np.ndarray, tails: tuple[float, float]) -> dict[str, float]:
    """The highest-density interval of draws (S,): the shortest that holds so many, named as ArviZ names it.

    Args:
        values: draws.
        tails: the probabilities of the ends of the equal-tailed interval of the same size.

    Example:
        >>> interval(np.array([0.0, 1.0, 1.5, 2.0, 9.0]), (0.25, 0.75))
        {'hdi_25%': 1.0, 'hdi_75%': 2.0}
    """
    names = [f"hdi_{100 * tail:.10g}%" for tail in tails]
    x = np.sort(values)
    inside = int(np.floor((tails[1] - tails[0]) * len(x)))
    first = int((x[inside:] - x[: len(x) - inside]).argmin())
    return dict(zip(names, (float(x[first]), float(x[first + inside])), strict=True))


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
