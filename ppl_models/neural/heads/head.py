"""What a head is: a regression of a target on features, with a posterior to draw from and to score."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from ppl_models.draws import Draws, groups
from ppl_models.neural.heads.features import FeatureRows

NAME = "head"
"""The factor that the coefficients of a head are under."""

INTERCEPT = 10.0
"""Prior sd of an intercept."""

SCALES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Of which the scale of the prior is one."""

SPAN = (1e-3, 10.0)
"""Within which a temperature is looked for."""


class Fitted(NamedTuple):
    """The posterior of a head given features: its parameters, the ELBO in nats, whether it converged."""

    params: dict[str, Tensor]
    elbo: float
    converged: bool


class Scaled(Protocol):
    """The posterior at each scale of the prior, around one centre."""

    def worth(self, scale: float, judges: FeatureRows | None) -> float:
        """What a scale is chosen by: the score of held-out rows; the log evidence without any."""
        ...

    def posterior(self, scale: float) -> Fitted:
        """At one scale."""
        ...


class Head(ABC):
    """A regression of a target on features.

    θ is `{"head": {"coefficient": (S, d + 1) or (S, d + 1, K), …}}`, intercept first.

    Attributes:
        outputs: numbers that the network gives in training for each row.
        features: d.
        dtype: of targets in training.
        discrete: whether targets are whole numbers.
    """

    outputs: int
    features: int
    dtype: ClassVar[torch.dtype] = torch.float32
    discrete: bool = False

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Free parameters."""

    @property
    def shared(self) -> Tensor:
        """Numbers of the target's distribution that all rows share, where the network starts with them."""
        return torch.zeros(0)

    def trained(self, shared: Tensor) -> Self:
        """The same with the shared numbers that the network came to."""
        return self

    def start(self) -> Tensor | None:
        """Outputs (O,) that the network starts with, where it does not matter which: None."""
        return None

    @abstractmethod
    def inside(self, y: Tensor) -> Tensor:
        """Targets (n,) in the user's units, or codes, as the head takes them."""

    @abstractmethod
    def outside(self, y: Tensor) -> Tensor:
        """The way back."""

    @abstractmethod
    def loss(self, out: Tensor, y: Tensor) -> Tensor:
        """Minus log p(y) of each row, what the network is trained by, (B, M) for outputs (B, M, O)."""

    @abstractmethod
    def held(self, out: Tensor, y: Tensor, weight: Tensor) -> float:
        """Mean log p(y) of rows by the mean of outputs (B, M, O), nats, by which training stops."""

    @abstractmethod
    def centre(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Coefficients of [1, z] by an output layer (O, d) and (O,) on z."""

    @abstractmethod
    def scaled(self, rows: FeatureRows, centre: Tensor | None) -> Scaled:
        """The posterior of rows at any scale of the prior around c, 0 if not given."""

    def fit(
        self, rows: FeatureRows, centre: Tensor | None = None, judges: FeatureRows | None = None
    ) -> Fitted:
        """The posterior given features, at the scale of the prior that does best.

        Args:
            rows: with targets as the head takes them.
            centre: c, as `centre` gives it; 0 if not given.
            judges: held-out rows, by which the scale is chosen; by the evidence without any.
        """
        found = self.scaled(rows, centre)
        return found.posterior(max(SCALES, key=lambda scale: found.worth(scale, judges)))

    @abstractmethod
    def draw(self, params: Mapping[str, Tensor], draws: int) -> Draws:
        """θ from the posterior that was fitted."""

    @abstractmethod
    def log_q(self, theta: Draws, params: Mapping[str, Tensor]) -> Tensor:
        """Its log density, (S,)."""

    @abstractmethod
    def log_prior(self, theta: Draws, params: Mapping[str, Tensor]) -> Tensor:
        """Log density of the prior at the scale that was chosen, (S,)."""

    @abstractmethod
    def log_likelihood(self, theta: Draws, Z: Tensor, y: Tensor) -> Tensor:
        """Log p(y_n | θ_s), (S, m), at T = 1."""

    @abstractmethod
    def predictive(self, theta: Draws, Z: Tensor, temperature: float) -> Any:
        """Of new observations of rows under each draw: a torch distribution over (S, m)."""

    @abstractmethod
    def from_outputs(self, out: Tensor, temperature: float) -> Any:
        """The same by outputs (S, m, O) of whole networks, one for each draw."""

    def hyper(self, theta: Draws) -> Mapping[str, Tensor]:
        """What the target's distribution has beside coefficients, as the user knows it, (S,) by name."""
        return {}

    def log_evidence(self, theta: Draws, rows: FeatureRows) -> Tensor:
        """Log p(y | θ_s) of all rows, with their weights, (S,)."""
        S = len(next(iter(theta[NAME].values())))
        total = torch.zeros(S, dtype=torch.float64)
        for block in rows.blocks():
            for at in groups(S, len(block.y) * max(self.outputs, 1), 2**22):
                some = {NAME: {site: v[at] for site, v in theta[NAME].items()}}
                each = self.log_likelihood(some, block.Z, block.y)
                total[at] += each.sum(1) if block.weight is None else each @ block.weight
        return total

    def temperature(self, log_score: Callable[[float], float]) -> float:
        """The T within `SPAN` of the best score of held-out rows, by golden sections; 1 if all do as well."""
        (low, high), golden = map(math.log, SPAN), (math.sqrt(5) - 1) / 2
        a, b = high - golden * (high - low), low + golden * (high - low)
        fa, fb = log_score(math.exp(a)), log_score(math.exp(b))
        if fa == fb:
            return 1.0
        for _ in range(20):
            if fa >= fb:
                high, b, fb = b, a, fa
                a = high - golden * (high - low)
                fa = log_score(math.exp(a))
            else:
                low, a, fa = a, b, fb
                b = low + golden * (high - low)
                fb = log_score(math.exp(b))
        return math.exp(a if fa >= fb else b)
