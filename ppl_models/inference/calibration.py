"""From the guide that training leaves to draws whose widths are right.

A mean-field guide is too narrow where components overlap, as it takes the latents of the rows to say
nothing of one another. What is done about it goes as far as it has to, and as the size of the model allows:

1. `mean field`: its draws, weighed against the exact joint density (Pareto-smoothed importance sampling),
   are good enough where k̂ is small and the weights are even.
2. `Gaussian`: the Gaussian rule in unconstrained space, on the exact log joint with the latents summed out;
   its draws weighed in the same way.
3. `moved`: where neither will do on small data, draws of the better one are moved by short Hamiltonian chains
   until they have forgotten where they came from.
4. `linear response`: where there are too many dimensions or rows for these, the posterior is close to a
   Gaussian, whose covariance follows from the mean-field one and from how much the latents are not known
   (Giordano, Broderick & Jordan 2018, Covariances, robustness, and variational Bayes, JMLR 19). On small data
   its draws are moved as well, up to some hundred dimensions.

On data of every size the first that is good enough is taken.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.draws import Draws, Params
from ppl_models.inference.psis import smooth

GOOD_K, EVEN = 0.5, 0.6
"""k̂ and the share of effective draws from which weighted draws are good enough."""

ALIKE = 0.95
"""The share of effective draws from which weights are so alike that their tail does not matter."""

DRAWS = 4_000
"""Draws of the posterior."""

NUMBERS = 1_500_000
"""Draws × parameters, at most."""

DRAW_WORK = 400_000_000
"""Draws × rows × states that the exact densities may take; large data gets fewer draws, at least 100."""

DIMENSIONS = 150
"""Up to which the Gaussian rule is used."""

MOVE_WORK = 60_000_000
"""Rows × states × chains × gradients that moving may take."""

CHAINS, ROUNDS = 500, 48
"""Hamiltonian chains that draws are moved by, and their rounds at most."""


NUTS = "Markov chains (NUTS)"
"""The method of draws that `--method nuts` makes."""


class ExactJoint(Protocol):
    """What calibration asks of a model: draws of its guide, and the exact log density."""

    @property
    def parameters(self) -> int:
        """The number of free parameters."""
        ...

    def draw(self, params: Params, draws: int, /) -> Draws:
        """θ from the guide, by torch's global generator."""
        ...

    def log_q(self, theta: Draws, params: Params) -> Tensor:
        """Log density of the guide, (S,)."""
        ...

    def log_prior(self, theta: Draws) -> Tensor:
        """Log density of the prior, (S,)."""
        ...

    def log_evidence(self, batch: Any, theta: Draws) -> Tensor:
        """Log density of all data of a batch, (S,)."""
        ...


class Guide(Protocol):
    """An approximation of the posterior that can be drawn from and scored."""

    def draw(self, draws: int) -> Draws:
        """θ, `draws` of them, by torch's global generator."""
        ...

    def log_prob(self, theta: Draws) -> Tensor:
        """Log q(θ), (S,)."""
        ...


class Learned:
    """The guide as training left it."""

    def __init__(self, bound: Any, params: Params) -> None:
        self.bound = bound
        self.params = {key: value.cpu() for key, value in params.items()}

    def draw(self, draws: int) -> Draws:
        """θ from the guide of the model."""
        with torch.no_grad():
            return self.bound.draw(self.params, draws)

    def log_prob(self, theta: Draws) -> Tensor:
        """Its log density."""
        return self.bound.log_q(theta, self.params)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """Where draws of the posterior come from, and how that was chosen.

    Attributes:
        method: `mean field`, `Gaussian`, `moved`, `linear response`, or what the update rule itself is.
        guide: what is drawn from and weighed.
        params: what to save to have the same again.
        draws: draws of the posterior itself, which need no weights, or None.
        memory: how much these remember of the guide, and up to what they count as having forgotten.
        chains: how many Markov chains `draws` are of, one after another, where they are of such chains.
        ratio: sd by linear response over that of the mean-field guide, parameter by parameter, or None.
    """

    method: str
    guide: Guide
    params: dict[str, Tensor] = field(default_factory=dict)
    draws: Draws | None = None
    memory: tuple[float, float] | None = None
    ratio: Tensor | None = None
    chains: int = 0


class Weighed(NamedTuple):
    """How good weighted draws of a guide are: k̂, and the share that is effective."""

    k_hat: float
    even: float

    @property
    def good(self) -> bool:
        """Whether they will do as they are."""
        return self.even >= ALIKE or (self.k_hat <= GOOD_K and self.even >= EVEN)


def number_of_draws(bound: ExactJoint, data: Dataset) -> int:
    """How many draws of the posterior the size of the data allows."""
    work = getattr(bound, "row_work", getattr(bound, "states", 1))
    by_rows = DRAW_WORK // max(data.rows * work, 1)
    return int(np.clip(min(by_rows, NUMBERS // bound.parameters), 100, DRAWS))


def draw(guide: Guide, draws: int, seed: int) -> Draws:
    """The draws that stand for a guide: the same each time.

    Args:
        guide: what is drawn from.
        draws: S.
        seed: of the fit; torch's global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        return guide.draw(draws)


def weigh(bound: ExactJoint, batch: Any, guide: Guide, draws: int, seed: int) -> Weighed:
    """Draws of a guide against the exact joint density.

    Args:
        bound: the model, which scores θ.
        batch: all rows, as `log_evidence` takes them.
        guide: what is drawn from.
        draws: S.
        seed: of the fit, as in `draw`.

    Returns:
        How good the importance weights p(x, θ)/q(θ) are.
    """
    theta = draw(guide, draws, seed)
    log_p = bound.log_evidence(batch, theta) + bound.log_prior(theta)
    smoothed = smooth((log_p - guide.log_prob(theta)).numpy())
    return Weighed(smoothed.k_hat, evenness(smoothed.log_weight))


def evenness(log_weight: np.ndarray) -> float:
    """Effective draws as a share of all: 1 / (S Σ w²)."""
    return float(1 / np.exp(2 * log_weight).sum() / len(log_weight))


def restored_guide(bound: Any, method: str, learned: Params, params: Params) -> Calibrated:
    """What a calibration gave that keeps the guide of the training, and moves its draws where it has to.

    Args:
        bound: the model.
        method: how the draws came about, as the manifest says it.
        learned: what training left.
        params: `Calibrated.params`: `points` (S, d) and `memory` (2,) where draws were moved, else nothing.

    Returns:
        The draws at `points`, or those of the Markov chains of the training, or none beside the guide.
    """
    guide, points, memory = Learned(bound, learned), params.get("points"), params.get("memory")
    if method == NUTS and points is not None:
        return Calibrated(method, guide, dict(params), bound.theta(points), chains=int(params["chains"][0]))
    if points is not None:
        limits = None if memory is None else (float(memory[0]), float(memory[1]))
        return Calibrated(method, guide, dict(params), bound.theta(points), limits)
    draws = bound.exact(guide.params)
    if draws is not None:
        return Calibrated("Markov chains", guide, dict(params), draws, chains=bound.chains)
    return Calibrated(method, guide, dict(params))
