"""What a support vector machine can do once it knows its columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self, final

import numpy as np
from torch import Tensor

from ppl_models.capabilities import Fitted, Probabilities
from ppl_models.checks import Check
from ppl_models.data import Dataset
from ppl_models.data.messages import plural
from ppl_models.draws import Draws, Params, Variables, select_draws
from ppl_models.inference.loop import Course, Trained
from ppl_models.inference.settings import GaussianSettings
from ppl_models.models.svm.held_out import Slope, learn_slope
from ppl_models.regression.bound import NAME
from ppl_models.regression.classes import Classes
from ppl_models.regression.forms import SLOPE, Blocks
from ppl_models.regression.responses import OneAgainstRest
from ppl_models.regression.trained import moments

SUPPORT = 200
"""Draws by which support vectors are counted."""


@final
class SVMBound(Classes):
    """Classes of a target given the other columns."""

    slope: Slope | None = None

    @cached_property
    def response(self) -> OneAgainstRest:
        """Hinges."""
        return OneAgainstRest(len(self.levels))

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

    def probabilities(self, rows: Dataset, draws: Draws) -> Iterator[Probabilities]:
        """P(y = c | x, θ_s), (S, m, C)."""
        for index, Z in self._blocks(rows, draws):
            yield Probabilities(index, self.outcomes(self.logits(draws, Z, rows.values[index]), draws))

    def latents(self, rows: Dataset, draws: Draws) -> dict[str, np.ndarray]:
        """The decision function: posterior mean and sd of f, and of each class against the rest."""
        cells = super().latents(rows, draws)
        return {self._decision(name): value for name, value in cells.items()}

    def _decision(self, name: str) -> str:
        return name.replace("linear_predictor", "decision_function", 1)

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
        rows: dict[str, dict[str, Any]] = {}
        if self.model.kernel != "linear":
            rows["length_scale"] = {"mean": self.tuned.length_scale}
            rows["inducing_points"] = {"mean": float(len(self.names))}
        rows["amplitude"] = {"mean": self.tuned.amplitude}
        rows["C"] = {"mean": 2 * self.tuned.amplitude**2}
        theta = fitted.posterior_draws.theta
        counts = np.zeros(self.response.outputs)
        some = select_draws(theta, slice(0, SUPPORT))
        for _, block, _ in self.observed(fitted.data):
            f = self.logits(some, block.Z.numpy()).mean(0)
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
