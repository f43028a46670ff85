"""What a logistic regression can do once it knows its columns."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Fitted, Graph
from ppl_models.checks import Check
from ppl_models.data import Dataset
from ppl_models.draws import Draws, free
from ppl_models.models.logistic.checks import against_data, separation
from ppl_models.regression import graph
from ppl_models.regression.classes import Classes
from ppl_models.regression.effects import average_effects
from ppl_models.regression.trained import moments, ratio


@final
class LogisticBound(Classes):
    """Classes of a target given the other columns."""

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """Whether the classes are separated, and whether effects are straight lines."""
        return [separation(fitted.trained), *against_data(self, fitted)]

    def graph(self, draws: Draws) -> Graph:
        """Probabilities of the classes."""
        return graph.graph(self, draws)

    def log_probability(self, rows: Dataset, draws: Draws) -> np.ndarray:
        """Log (1/S) Σ_s p(y_n | x_n, θ_s), (n,); NaN where the target or a predictor is missing."""
        found, codes = np.full(rows.rows, np.nan), rows.values[:, self.design.target]
        for index, Z in self._blocks(rows, draws):
            use = ~np.isnan(codes[index])
            if use.any():
                y = torch.from_numpy(codes[index[use]].astype(np.int64))
                f = self.logits(draws, Z[use], rows.values[index[use]])
                own = _classes(f).log_softmax(-1)[:, torch.arange(len(y)), y]
                found[index[use]] = (own.logsumexp(0) - np.log(len(own))).numpy()
        return found

    def summarise(self, fitted: Fitted, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """Coefficients in the user's units, as odds ratios, and as average effects on the probabilities.

        A row for the intercept and each column of the design, `age` or `kind[long]`; with several classes one
        for each class beyond the first, `age → setosa`. `mean`, `sd`, `hdi_5.5%` and `hdi_94.5%` are of the
        log odds against the first class, a unit of the column; `odds_ratio` (posterior median) is its
        exponential, and `odds_ratio_sd` that of one standard deviation of the column, each with
        `_lower` and `_upper`. `effect`, with `_lower` and `_upper`, is an average over the rows: of the
        derivative of the class's probability with respect to a number, a unit, or of the change that a label
        makes against its first level; there is none of a run without its rows. Effects of columns that enter
        a formula in other ways, and of the first class, have rows of their own.
        """
        theta = fitted.posterior_draws.theta
        alpha, beta = self.user(theta)  # (S, K), (S, p, K)
        binary = len(self.levels) == 2
        effects = average_effects(self, fitted.data, theta, fitted.settings.seed, tails)
        rows: dict[str, dict[str, Any]] = {}
        for k, level in enumerate(self.levels[1:]):
            for j, name in enumerate((free("intercept", self.names), *self.shown)):
                draws = alpha[:, k] if j == 0 else beta[:, j - 1, k]
                row = moments(draws, tails)
                if j:
                    row |= ratio("odds_ratio", draws, tails)
                    row |= ratio("odds_ratio_sd", draws * self.design.sd[j - 1], tails)
                rows[name if binary else f"{name} → {level}"] = row | effects.pop((name, k + 1), {})
        for (name, c), effect in effects.items():
            if not (binary and c == 0):
                rows[name if binary else f"{name} → {self.levels[c]}"] = effect
        return rows | self.summarise_kernel() | self.summarise_groups(theta, tails)


def _classes(f: Tensor) -> Tensor:
    """Linear predictors of all classes, that of the first being 0."""
    return torch.cat([torch.zeros_like(f[..., :1]), f], -1)
