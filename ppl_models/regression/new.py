"""The distribution of new observations of a number, as verbs take it."""

import math

from torch import Tensor

from ppl_models.regression.responses import NumberResponse


class NewNumbers:
    """New observations of m rows under each of S draws.

    Args:
        response: p(y | f, ψ).
        f: linear predictors, (S, m).
        psi: (S, q).
        trials: (m,), of a binomial.
    """

    def __init__(
        self, response: NumberResponse, f: Tensor, psi: Tensor, trials: Tensor | None = None
    ) -> None:
        self.response, self.f, self.psi, self.trials = response, f, psi, trials

    @property
    def mean(self) -> Tensor:
        """(S, m), of all trials of a row."""
        mean = self.response.mean(self.f, self.psi)
        return mean if self.trials is None else mean * self.trials

    def log_prob(self, value: Tensor) -> Tensor:
        """(S, m), in the user's units."""
        r = self.response
        y = r.standardised(value).expand_as(self.f)
        own = self.psi if self.psi.shape[1] else None
        trials = None if self.trials is None else self.trials.expand_as(self.f)
        return r.log_prob(self.f[..., None], y, own, trials) - math.log(r.unit)

    def cdf(self, value: Tensor) -> Tensor:
        """(S, m)."""
        return self.response.cdf(value, self.f, self.psi, self.trials)

    def sample(self) -> Tensor:
        """(S, m)."""
        return self.response.sample(self.f, self.psi, self.trials)
