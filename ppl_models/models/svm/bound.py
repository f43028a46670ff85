"""What a support vector machine can do once it knows its columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Fitted, Probabilities
from ppl_models.checks import Check
from ppl_models.data import Dataset
from ppl_models.data.messages import plural
from ppl_models.draws import Draws, Params, Variables, free
from ppl_models.inference.gaussian import normal_points
from ppl_models.inference.loop import Course, Trained
from ppl_models.inference.settings import GaussianSettings
from ppl_models.models.svm.held_out import Slope, learn_slope
from ppl_models.regression.bound import NAME
from ppl_models.regression.classes import Classes
from ppl_models.regression.design import BLOCK
from ppl_models.regression.forms import BLOCKS, SLOPE, Blocks
from ppl_models.regression.responses import OneAgainstRest
from ppl_models.regression.trained import CELLS, moments

POINTS = 400, 1_000
"""Points of f that probabilities are averaged over, of one f and of several."""


GUIDE = "guide"
"""The factor that the Gaussian itself is under, in place of draws."""


@cache
def _points(outputs: int) -> Tensor:
    """Points of equal weight of a standard normal in so many dimensions, (S, K)."""
    if outputs > 1:
        return normal_points(POINTS[1], outputs)
    z = torch.special.ndtri((torch.arange(POINTS[0], dtype=torch.float64) + 0.5) / POINTS[0])[:, None]
    return z / (z**2).mean().sqrt()


@final
class SVMBound(Classes):
    """Classes of a target given the other columns."""

    generates: bool = False  # a pseudo-likelihood is the density of no data
    slope: Slope | None = None

    @cached_property
    def response(self) -> OneAgainstRest:
        """Hinges."""
        return OneAgainstRest(len(self.levels))

    @property
    def slope_scale(self) -> str:
        """What coefficients are changes of."""
        return "decision value"

    @property
    def describe(self) -> str:
        """Its size: `2 classes, 13 predictors, rbf kernel with 256 inducing points`."""
        predictors = plural(len(self.design.base.names), "predictor")
        points = "" if self.model.kernel == "linear" else f" with {plural(len(self.names), 'inducing point')}"
        return f"{len(self.levels)} classes, {predictors}, {self.model.kernel} kernel{points}"

    def train(self, data: Dataset, settings: GaussianSettings, course: Course) -> Trained:
        """The Gaussian rule, then slope and offset of the log odds by rows left out in turn."""
        trained = super().train(data, settings, course)
        learned = self.at(self.learned(trained.params))
        form = learned.form(trained.params)
        assert isinstance(form, Blocks)
        slope = learn_slope(learned, form, data)
        return replace(trained, params={**trained.params, SLOPE: slope.stored[None]})

    def learned(self, params: Params) -> dict[str, Any]:
        """The kernel, slope and offset."""
        found = super().learned(params)
        return found | ({"slope": Slope.of(params[SLOPE][0])} if SLOPE in params else {})

    def at(self, learned: Mapping[str, Any]) -> Self:
        """The same with these."""
        found = super().at(learned)
        if "slope" in learned:
            found.slope = learned["slope"]
        return found

    def outcomes(self, f: Tensor, theta: Draws) -> Tensor:
        """Probabilities of the classes, (S, m, C)."""
        slope = self.slope or Slope.none(f.shape[-1])
        return slope.probabilities(f)

    def direct(self, params: Params) -> Draws:
        """The Gaussian of the coefficients."""
        return {GUIDE: {name: value for name, value in params.items() if name.startswith(BLOCKS)}}

    def probabilities(self, rows: Dataset, draws: Draws) -> Iterator[Probabilities]:
        """P(y = c | x, f_s), (S, m, C).

        Of `direct` f_s are points of equal weight of the Gaussian of each row's f, as many as its mean and
        the ends of intervals need; else those of the draws.
        """
        if GUIDE not in draws:
            yield from super().probabilities(rows, draws)
            return
        points = _points(self.response.outputs)
        size = max(1, CELLS // (len(points) * self.response.width))
        for index, mean, sd in self._decisions(rows, draws, size):
            yield Probabilities(index, self.outcomes(mean + points[:, None] * sd, draws))

    def _decisions(
        self, rows: Dataset, draws: Draws, size: int = BLOCK
    ) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """Positions of rows that have every predictor, with mean and sd of f, (m, K) each."""
        if GUIDE in draws:
            form = self.form(draws[GUIDE])
            assert isinstance(form, Blocks)
            mean = torch.stack([part.loc for part in form.parts], 1)
            roots = [part.scale_tril for part in form.parts]
        else:
            sites = draws[NAME]
            B = torch.cat([sites["intercept"].unsqueeze(1), sites["coefficient"]], 1)  # (S, p + 1, K)
            mean = B.mean(0)
            roots = [A.mT / max(len(A) - 1, 1) ** 0.5 for A in (B - mean).unbind(2)]
        for at, Z, known in self.blocks(rows, size):
            if known.any():
                own = torch.from_numpy(Z[known])
                sd = torch.stack([(own @ L).norm(dim=1) for L in roots], 1)
                yield np.flatnonzero(known) + at.start, own @ mean, sd

    def latents(self, rows: Dataset, draws: Draws) -> dict[str, np.ndarray]:
        """The decision function: posterior mean and sd of f, and of each class against the rest."""
        found = np.full((2, rows.rows, self.response.outputs), np.nan)
        for index, mean, sd in self._decisions(rows, draws):
            found[:, index] = torch.stack([mean, sd]).numpy()
        cells: dict[str, np.ndarray] = {}
        for k, level in enumerate(self.output_names):
            name = "decision_function" if self.response.outputs == 1 else f"decision_function_{level}"
            for suffix, values in zip(("", "_sd"), found, strict=True):
                cells[free(f"{name}{suffix}", cells)] = values[:, k]
        return cells

    @property
    def output_names(self) -> Sequence[str]:
        """The class that each f is of."""
        return self.levels[1:] if self.response.outputs == 1 else self.levels

    def variables(self, theta: Draws) -> tuple[Variables, dict[str, Any]]:
        """`intercept` and `coefficient` of the features, (class)."""
        sites = theta[NAME]
        coords = {"feature": list(self.names), "class": list(self.output_names)}
        found: Variables = {
            "intercept": (("class",), np.asarray(sites["intercept"])),
            "coefficient": (("feature", "class"), np.asarray(sites["coefficient"])),
        }
        return found, coords

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """Whether probabilities are right of rows left out in turn, before and after slope and offset."""
        slope = self.slope
        if slope is None:
            return []
        said = (
            f"log loss of rows left out in turn {slope.before:.3f} as the pseudo-likelihoods have it, "
            f"{slope.after:.3f} with slope and offset; {slope.base:.3f} by the shares of the classes alone"
        )
        return [
            Check(
                "calibration", slope.after, "ok" if slope.after < slope.base else "warn", said, "predictions"
            )
        ]

    def summarise(self, fitted: Fitted, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """Length scale, amplitude, C = 2a², support vectors, slope, offset; of a linear kernel coefficients.

        `support_vectors` is the number of rows with E[y f] < 1, of each class against the rest.
        """
        assert self.tuned is not None
        rows = self.summarise_kernel()
        rows["C"] = {"mean": 2 * self.tuned.amplitude**2}
        theta = fitted.posterior_draws.theta
        counts = np.zeros(self.response.outputs)
        mean = {NAME: {site: value.mean(0, keepdim=True) for site, value in theta[NAME].items()}}
        for _, block, _ in self.observed(fitted.data):
            f = self.logits(mean, block.Z.numpy())[0]
            for k, part in enumerate(self.response.parts):
                counts[k] += float((part.sign(block.y) * f[:, k] < 1).sum())
        several = self.response.outputs > 1
        for k, name in enumerate(self.output_names):
            at = f"[{name}]" if several else ""
            rows[f"support_vectors{at}"] = {"mean": counts[k]}
            if self.slope is not None:
                rows[f"slope{at}"] = {"mean": float(self.slope.slope[k])}
                rows[f"offset{at}"] = {"mean": float(self.slope.offset[k])}
        if self.model.kernel == "linear":
            alpha, beta = self.user(theta)
            for k, level in enumerate(self.output_names):
                for j, name in enumerate(("intercept", *self.names)):
                    own = moments(alpha[:, k] if j == 0 else beta[:, j - 1, k], tails)
                    rows[f"{name} → {level}" if several else name] = own
        return rows
