"""What follows for a target of classes from its probabilities under each draw."""

from collections.abc import Iterator

import numpy as np
import torch

from ppl_models.capabilities import Probabilities
from ppl_models.data import Dataset
from ppl_models.draws import Draws
from ppl_models.regression.trained import TrainedRegression


class Classes(TrainedRegression):
    """A regression of classes."""

    def labels(self) -> tuple[str, ...]:
        """Of the classes."""
        return self.levels

    @property
    def balanced(self) -> bool:
        """Whether every class weighs the same in total, as `class_weight` has it where there is one."""
        return getattr(self.model, "class_weight", "none") == "balanced"

    def probabilities(self, rows: Dataset, draws: Draws) -> Iterator[Probabilities]:
        """P(y = c | x, θ_s), (S, m, C), of rows that have every predictor, some at a time."""
        for index, Z in self._blocks(rows, draws):
            yield Probabilities(index, self.outcomes(self.logits(draws, Z, rows.values[index]), draws))

    def by_draw(self, rows: Dataset, draws: Draws) -> Iterator[Probabilities]:
        """The same, of every draw in their order, where `probabilities` has other points."""
        return self.probabilities(rows, draws)

    def predictive(self, rows: Dataset, draws: Draws) -> np.ndarray:
        """P(y = c | x), (n, C); NaN where a predictor is missing."""
        found = np.full((rows.rows, len(self.levels)), np.nan)
        for part in self.probabilities(rows, draws):
            found[part.index] = part.values.mean(0).numpy()
        return found

    def log_probability(self, rows: Dataset, draws: Draws) -> np.ndarray:
        """Log (1/S) Σ_s P(y_n | x_n, θ_s), (n,); NaN where the target or a predictor is missing."""
        p, codes = self.predictive(rows, draws), rows.values[:, self.design.target]
        use = ~np.isnan(codes) & ~np.isnan(p[:, 0])
        found = np.full(rows.rows, np.nan)
        with np.errstate(divide="ignore"):
            found[use] = np.log(p[use, codes[use].astype(int)])
        return found

    def _drawn(self, probabilities: torch.Tensor) -> np.ndarray:
        """A class of each of (..., C)."""
        flat = probabilities.reshape(-1, probabilities.shape[-1])
        return torch.multinomial(flat, 1)[:, 0].double().reshape(probabilities.shape[:-1]).numpy()

    def redraw(self, data: Dataset, draws: Draws, tables: int) -> np.ndarray:
        """The table with its target drawn anew, each row from its own draw of the coefficients."""
        values = np.repeat(np.asarray(data.values)[None], tables, 0)
        values[:, :, self.design.target] = np.nan
        for part in self.probabilities(data, draws):
            each = torch.arange(part.values.shape[1])
            for table in values:
                chosen = part.values[torch.randint(len(part.values), each.shape), each]
                table[part.index, self.design.target] = self._drawn(chosen)
        return values

    def replicate(self, data: Dataset, theta: Draws) -> np.ndarray:
        """The rows with the target drawn anew, once a draw, (S, n, C); NaN where a predictor is missing."""
        some = len(theta["regression"]["intercept"])
        values = np.repeat(np.asarray(data.values)[None], some, 0)
        values[:, :, self.design.target] = np.nan
        for part in self.by_draw(data, theta):
            values[:, part.index, self.design.target] = self._drawn(part.values)
        return values
