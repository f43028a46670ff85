"""What a logistic regression can do once it knows its columns."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from ppl_models.bound import Bayesian
from ppl_models.capabilities import Fitted, Probabilities
from ppl_models.checks import Check
from ppl_models.data import Dataset
from ppl_models.draws import Draws, Params, free, number_of
from ppl_models.inference.calibration import Calibrated, Learned, restored_guide
from ppl_models.inference.gaussian import GaussianRule
from ppl_models.inference.loop import STEPS, Course, Log, Status, Trained, why
from ppl_models.inference.settings import GaussianSettings, Training
from ppl_models.models.logistic.calibrate import calibrate
from ppl_models.models.logistic.checks import separation
from ppl_models.models.logistic.effects import average_effects
from ppl_models.regression.bound import NAME, Regression
from ppl_models.regression.fitting import fit_regression
from ppl_models.regression.forms import CHAINS

if TYPE_CHECKING:
    import pandas as pd

CELLS = 4_000_000
"""Draws × rows × classes that are worked on at once."""

SHOWN = 40
"""Coefficients that are shown with a fit; `summary` has all."""


@final
class LogisticBound(Regression, Bayesian):
    """Classes of a target given the other columns."""

    chains: int = CHAINS
    exchangeable: bool = True

    def train(self, data: Dataset, settings: GaussianSettings, course: Course) -> Trained:
        """The Gaussian rule; expectation propagation under a horseshoe."""
        log = Log(self.parameters, course.progress)
        most, tolerance = settings.most(STEPS), min(settings.tolerance, 1e-6)
        found = fit_regression(self, data, device=settings.device, steps=most, tolerance=tolerance)
        report = log.phase("all rows")
        for step, line in enumerate(found.history, 1):
            report(step, line["elbo"], 1.0, line.get("left", 0.0))
        status = Status.CONVERGED if found.converged else Status.MAX_STEPS
        rule = "expectation propagation" if self.model.prior == "horseshoe" else GaussianRule.name
        return Trained(
            found.params, found.elbo, status, found.steps, found.seconds, tuple(log.history), None,
            why(status, most), rule, found.notes, found.separated,
        )  # fmt: skip

    def calibrate(self, params: Params, data: Dataset, device: str, seed: int) -> Calibrated:
        """As it was trained, its draws moved where weights will not do."""
        return calibrate(self, Learned(self, params), data, seed)

    def restored(self, method: str, learned: Params, params: Params) -> Calibrated:
        """What `calibrate` gave."""
        return restored_guide(self, method, learned, params)

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """Whether the classes are separated."""
        return [separation(fitted.trained)]

    def working_bytes(self, settings: Training) -> int:
        """Some d × d matrices, and the rows of a few blocks."""
        return self.matrices()

    def numbers(self, data: Dataset) -> int:
        """Rows × classes."""
        return data.rows * len(self.levels)

    def rows(self, data: Dataset, device: str = "cpu") -> Dataset:
        """The data set itself: its design is made block by block."""
        return data

    def labels(self) -> tuple[str, ...]:
        """Of the classes; the first is the reference."""
        return self.levels

    def _blocks(self, rows: Dataset, draws: Draws) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions of rows that have every predictor, and [1, Z] of them, some at a time."""
        size = max(1, CELLS // (number_of(draws) * len(self.levels)))
        for at, Z, known in self.blocks(rows, size):
            if known.any():
                yield np.flatnonzero(known) + at.start, Z[known]

    def probabilities(self, rows: Dataset, draws: Draws) -> Iterator[Probabilities]:
        """p(class | x, θ_s) = softmax(0, f), (S, m, C)."""
        for index, Z in self._blocks(rows, draws):
            yield Probabilities(index, _classes(self.logits(draws, Z)).softmax(-1))

    def predictive(self, rows: Dataset, draws: Draws) -> np.ndarray:
        """p(class | x), (n, C); NaN where a predictor is missing."""
        found = np.full((rows.rows, len(self.levels)), np.nan)
        for part in self.probabilities(rows, draws):
            found[part.index] = part.values.mean(0).numpy()
        return found

    def log_probability(self, rows: Dataset, draws: Draws) -> np.ndarray:
        """Log (1/S) Σ_s p(y_n | x_n, θ_s), (n,); NaN where the target or a predictor is missing."""
        found, codes = np.full(rows.rows, np.nan), rows.values[:, self.design.target]
        for index, Z in self._blocks(rows, draws):
            use = ~np.isnan(codes[index])
            if use.any():
                y = torch.from_numpy(codes[index[use]].astype(np.int64))
                own = _classes(self.logits(draws, Z[use])).log_softmax(-1)[:, torch.arange(len(y)), y]
                found[index[use]] = (own.logsumexp(0) - np.log(len(own))).numpy()
        return found

    def redraw(self, data: Dataset, draws: Draws, tables: int) -> np.ndarray:
        """The table with its target drawn anew, each row from its own draw of the coefficients."""
        values = np.repeat(np.asarray(data.values)[None], tables, 0)
        values[:, :, self.design.target] = np.nan
        for part in self.probabilities(data, draws):
            each = torch.arange(part.values.shape[1])
            for table in values:
                chosen = part.values[torch.randint(len(part.values), each.shape), each]
                drawn = torch.multinomial(chosen, 1)[:, 0].double().numpy()
                table[part.index, self.design.target] = drawn
        return values

    def latents(self, rows: Dataset, draws: Draws) -> dict[str, np.ndarray]:
        """The linear predictor: posterior mean and sd of the log odds against the first class.

        `linear_predictor` and `linear_predictor_sd` for two classes; for more, those of each class beyond the
        first, with its name. NaN where a predictor is missing.
        """
        K = len(self.levels) - 1
        found = np.full((2, rows.rows, K), np.nan)
        for index, Z in self._blocks(rows, draws):
            f = self.logits(draws, Z)
            found[:, index] = torch.stack([f.mean(0), f.std(0)]).numpy()
        cells: dict[str, np.ndarray] = {}
        for k in range(K):
            name = "linear_predictor" if K == 1 else f"linear_predictor_{self.levels[k + 1]}"
            for suffix, values in zip(("", "_sd"), found, strict=True):
                cells[free(f"{name}{suffix}", cells)] = values[:, k]
        return cells

    def pyro_values(self, theta: Draws) -> dict[str, Tensor] | None:
        """`intercept` and `coefficient`; under a horseshoe the scales are integrated out."""
        if self.model.prior == "horseshoe":
            return None
        return {site: value[0] for site, value in theta[NAME].items()}

    def summarise(self, fitted: Fitted, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """Coefficients in the user's units, as odds ratios, and as average effects on the probabilities.

        A row for the intercept and each column of the design, `age` or `kind[long]`; with several classes one
        for each class beyond the first, `age → setosa`. `mean`, `sd`, `lower` and `upper` are of the log odds
        against the first class, a unit of the column; `odds_ratio` (posterior median) is its exponential, and
        `odds_ratio_sd` that of one standard deviation of the column, each with `_lower` and `_upper`.
        `effect`, with `_lower` and `_upper`, is an average over the rows: of the derivative of the class's
        probability with respect to a number, a unit, or of the change that a label makes against its first
        level. Effects of columns that enter a formula in other ways, and of the first class, have rows of
        their own.
        """
        theta = fitted.posterior_draws.theta
        alpha, beta = self.user(theta)  # (S, K), (S, p, K)
        binary = len(self.levels) == 2
        effects = average_effects(self, fitted.data, theta, fitted.settings.seed, tails)
        rows: dict[str, dict[str, Any]] = {}
        for k, level in enumerate(self.levels[1:]):
            for j, name in enumerate((free("intercept", self.names), *self.names)):
                draws = alpha[:, k] if j == 0 else beta[:, j - 1, k]
                row = _moments(draws, tails)
                if j:
                    row |= _odds("odds_ratio", draws, tails)
                    row |= _odds("odds_ratio_sd", draws * self.design.sd[j - 1], tails)
                rows[name if binary else f"{name} → {level}"] = row | effects.pop((name, k + 1), {})
        for (name, c), effect in effects.items():
            if not (binary and c == 0):
                rows[name if binary else f"{name} → {self.levels[c]}"] = effect
        return rows

    def glance(self, fitted: Fitted) -> "pd.DataFrame":
        """The coefficients furthest from zero in posterior sds."""
        import pandas as pd

        table = pd.DataFrame.from_dict(self.summarise(fitted, (0.055, 0.945)), orient="index")
        table.index.name = "parameter"
        shown = table.drop(columns=[name for name in table.columns if "odds_ratio_" in name])
        if len(shown) > SHOWN:
            order = (shown["mean"] / shown["sd"]).abs().argsort()[::-1][:SHOWN]
            shown = shown.iloc[sorted(order)]
        return shown.reset_index()


def _classes(f: Tensor) -> Tensor:
    """Linear predictors of all classes, that of the first being 0."""
    return torch.cat([torch.zeros_like(f[..., :1]), f], -1)


def _moments(draws: np.ndarray, tails: tuple[float, float]) -> dict[str, float]:
    lower, upper = np.quantile(draws, tails)
    return {"mean": draws.mean(), "sd": draws.std(ddof=1), "lower": lower, "upper": upper}


def _odds(name: str, draws: np.ndarray, tails: tuple[float, float]) -> dict[str, float]:
    with np.errstate(over="ignore"):
        middle, lower, upper = np.exp(np.quantile(draws, [0.5, *tails]))
    return {name: middle, f"{name}_lower": lower, f"{name}_upper": upper}
