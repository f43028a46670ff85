"""What all regressions do once they know their columns: training, draws, linear predictors."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ppl_models.bound import Bayesian, weights_fault
from ppl_models.capabilities import Fitted, Slopes
from ppl_models.checks import Check
from ppl_models.data import Dataset
from ppl_models.draws import Draws, Params, free, interval, number_of
from ppl_models.errors import Unsupported
from ppl_models.inference.calibration import NUTS, Calibrated, Learned, restored_guide
from ppl_models.inference.chains import CHAINS as CHAINS_NUTS
from ppl_models.inference.chains import sampled, too_large
from ppl_models.inference.gaussian import GaussianRule
from ppl_models.inference.loop import STEPS, Course, Log, Status, Trained, why
from ppl_models.inference.settings import GaussianSettings, Training
from ppl_models.regression.bound import NAME, Regression
from ppl_models.regression.calibrate import calibrate
from ppl_models.regression.density import LogJoint
from ppl_models.regression.design import outside
from ppl_models.regression.fitting import fit_regression
from ppl_models.regression.forms import CHAINS
from ppl_models.regression.kernels import KernelCoding
from ppl_models.regression.priors import NormalPrior, Stacked, StudentPrior
from ppl_models.threads import threads_for

if TYPE_CHECKING:
    import pandas as pd

CELLS = 4_000_000
"""Draws × rows × classes that are worked on at once."""

GRID = torch.linspace(-30.0, 12.0, 42_001, dtype=torch.float64)
"""Where the density of a number of ψ, a logarithm, is looked at to draw from it."""

SHOWN = 40
"""Coefficients that are shown with a fit; `summary` has all."""


class TrainedRegression(Regression, Bayesian):
    """A regression that can be trained and drawn from."""

    chains: int = CHAINS
    exchangeable: bool = True
    on_device: bool = False
    ridges: str = "leave predictors out, or give stronger priors"

    def train(self, data: Dataset, settings: GaussianSettings, course: Course) -> Trained:
        """The Gaussian rule; expectation propagation under a horseshoe."""
        log = Log(self.parameters, course.progress)
        most, tolerance = settings.most(STEPS), min(settings.tolerance, 1e-6)
        found = fit_regression(self, data, steps=most, tolerance=tolerance)
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

    def unchained(self, data: Dataset) -> str:
        """Whether its likelihood is none, it has a kernel whose size was learned, or is too large."""
        if not self.generates:
            return "has a pseudo-likelihood, whose posterior is the guide's by definition"
        if self.model.prior == "horseshoe":
            return "has Markov chains of its own under a horseshoe"
        if self.tuned is not None or data.weight is not None:
            return "learns a kernel or weighs rows, by which its density is adjusted"
        return too_large(self.parameters, data.rows * self.response.width)

    def chained(self, params: Params, data: Dataset, seed: int) -> Calibrated:
        """NUTS on the exact density, from points about zero, in coordinates of standardised columns."""
        joint = LogJoint(self, self.dataset_batch(data))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 4)
            points = 4 * torch.rand(4 * CHAINS_NUTS, self.parameters, dtype=torch.float64) - 2
        with threads_for(data.rows * self.response.width * CHAINS_NUTS):
            parts = sampled(joint.rounded if self.shared else joint, points, seed, joint.back)
        return restored_guide(self, NUTS, params, parts)

    def params_fault(self, params: Params) -> str:
        """Numbers in single or double precision."""
        strange = [n for n, value in params.items() if value.dtype not in (torch.float32, torch.float64)]
        return f"{strange[0]} is {params[strange[0]].dtype}" if strange else weights_fault(params, {})

    def restored(self, method: str, learned: Params, params: Params) -> Calibrated:
        """What `calibrate` gave."""
        return restored_guide(self, method, learned, params)

    def checks(self, fitted: Fitted) -> Sequence[Check]:
        """None of its own."""
        return []

    def working_bytes(self, settings: Training) -> int:
        """Some d × d matrices, and the rows of a few blocks."""
        return self.matrices()

    def numbers(self, data: Dataset) -> int:
        """Rows × classes."""
        return data.rows * self.response.width

    def rows(self, data: Dataset, device: str = "cpu") -> Dataset:
        """The data set itself: its design is made block by block."""
        return data

    def needed(self) -> frozenset[str] | None:
        """Predictors and what stands beside them: a formula need not use every column."""
        used = {*self.design.coding.used, *self.design.beside.used}
        return frozenset(self.schema.columns[i].name for i in used)

    def remarks(self, data: Dataset) -> Sequence[str]:
        """Predictors far outside the rows of the fit, or missing in them and never there."""
        return [*outside(self.design, data), *self.design.remarks(data)]

    def _blocks(self, rows: Dataset, draws: Draws) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Positions of rows that have every predictor, and [1, Z] of them, some at a time."""
        size = max(1, CELLS // (number_of(draws) * self.response.width))
        for at, Z, known in self.blocks(rows, size):
            if known.any():
                yield np.flatnonzero(known) + at.start, Z[known]

    def latents(self, rows: Dataset, draws: Draws) -> dict[str, np.ndarray]:
        """The linear predictor: posterior mean and sd, of classes of the log odds against the first.

        `linear_predictor` and `linear_predictor_sd`; for more than two classes those of each class beyond the
        first, with its name. NaN where a predictor is missing.
        """
        K = self.response.outputs
        found = np.full((2, rows.rows, K), np.nan)
        for index, Z in self._blocks(rows, draws):
            f = self.logits(draws, Z, rows.values[index])
            found[:, index] = torch.stack([f.mean(0), f.std(0)]).numpy()
        cells: dict[str, np.ndarray] = {}
        for k in range(K):
            name = "linear_predictor" if K == 1 else f"linear_predictor_{self.levels[k + 1]}"
            for suffix, values in zip(("", "_sd"), found, strict=True):
                cells[free(f"{name}{suffix}", cells)] = values[:, k]
        return cells

    def pyro_values(self, theta: Draws) -> dict[str, Tensor] | None:
        """`intercept`, `coefficient` and ψ; under a horseshoe the scales are integrated out."""
        if self.model.prior == "horseshoe":
            return None
        return {site: value[0] for site, value in theta[NAME].items()}

    @abstractmethod
    def summarise(self, fitted: Fitted, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """Figures for each parameter, by name; `tails` are the probabilities of the interval's ends."""

    @property
    def shown(self) -> tuple[str, ...]:
        """Columns of the design whose coefficients say something: not features of a kernel, nor groups."""
        return () if isinstance(self.design.coding, KernelCoding) else self.names[: self.population]

    @property
    def slope_scale(self) -> str:
        """What coefficients are changes of."""
        return "log odds"

    def coefficients(self, draws: Draws) -> Slopes:
        """Those of the columns that say something, a unit of each."""
        n, beta = len(self.shown), self.user(draws)[1]
        outcomes = self.levels[1:] if self.of_classes else (self.target,)
        if len(outcomes) != beta.shape[-1]:  # one against the rest
            outcomes = self.levels
        reference = self.levels[0] if self.of_classes else ""
        return Slopes(
            self.shown, beta[:, :n], np.asarray(self.design.sd[:n]), outcomes, reference, self.slope_scale
        )

    def prior_draws(self, draws: int, seed: int) -> Draws:
        """θ from the prior: ψ, the coefficients, and given τ those of groups.

        Raises:
            Unsupported: of a horseshoe.
        """
        prior, widths = self.glm.prior.predictors, self.design.widths
        prior = prior.parts[0] if isinstance(prior, Stacked) else prior
        if self.model.prior == "horseshoe" or not isinstance(prior, NormalPrior | StudentPrior):
            raise Unsupported(f"the prior of {self.describe} cannot be drawn from")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            K = self.response.outputs
            parts = [self.glm.prior.intercept.sample(draws, K), prior.sample(draws, K)]
            psi = self._prior_shared(draws)
            for log_tau, width in zip(psi[:, self.of_response :].unbind(1), widths, strict=True):
                parts.append(log_tau.exp()[:, None, None] * torch.randn(draws, width, K, dtype=psi.dtype))
        return self.theta(torch.cat([torch.cat(parts, 1).flatten(1), psi], 1))

    def _prior_shared(self, draws: int) -> Tensor:
        """ψ (draws, q) from its prior, whose numbers are independent: by the inverse of each one's cdf."""
        psi = self.start().expand(draws, -1).clone()
        for j in range(self.shared):
            grid = self.start().repeat(len(GRID), 1)
            grid[:, j] = GRID
            cdf = (self.log_prior_shared(grid)).softmax(0).cumsum(0)
            at = torch.searchsorted(cdf, torch.rand(draws, dtype=psi.dtype)).clamp_max(len(GRID) - 1)
            step = GRID[1] - GRID[0]
            psi[:, j] = GRID[at] + step * (torch.rand(draws, dtype=psi.dtype) - 0.5)
        return psi

    def summarise_kernel(self) -> dict[str, dict[str, Any]]:
        """Rows for what a kernel's length scale and amplitude are, and its inducing points."""
        if self.tuned is None:
            return {}
        found = {"amplitude": {"mean": self.tuned.amplitude}}
        if not isinstance(self.design.coding, KernelCoding):
            return found
        length, points = self.tuned.length_scale, float(len(self.names))
        return {"length_scale": {"mean": length}, "inducing_points": {"mean": points}} | found

    def summarise_groups(self, theta: Draws, tails: tuple[float, float]) -> dict[str, dict[str, Any]]:
        """Rows for τ of each term that varies by group, and for the coefficients of each group."""
        variables, coords = self.variables(theta)
        rows: dict[str, dict[str, Any]] = {}
        for name in ("group_sd", *(term.name for term in self.terms)) if self.terms else ():
            (dim, *beyond), value = variables[name]
            for i, label in enumerate(coords[dim]):
                if not beyond:
                    rows[f"{name}[{label}]"] = moments(value[:, i], tails)
                    continue
                for k, level in enumerate(coords[beyond[0]]):
                    rows[f"{name}[{label}] → {level}"] = moments(value[:, i, k], tails)
        return rows

    def glance(self, fitted: Fitted) -> "pd.DataFrame":
        """The coefficients furthest from zero in posterior sds."""
        import pandas as pd

        rows = self.summarise(fitted, (0.055, 0.945))
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index.name = "parameter"
        shown = table.drop(columns=[name for name in table.columns if "odds_ratio_" in name])
        if len(shown) > SHOWN and "sd" not in shown:  # of kernels, which have no coefficients
            shown = shown.iloc[:SHOWN]
        elif len(shown) > SHOWN:
            order = (shown["mean"] / shown["sd"]).abs().fillna(0.0).argsort()[::-1][:SHOWN]
            left, shown = len(shown), shown.iloc[sorted(order)]
            shown.attrs["note"] = (
                f"{SHOWN} of {left:,} rows, those furthest from zero in sds; summary has all"
            )
        return shown.reset_index()


def moments(draws: np.ndarray, tails: tuple[float, float]) -> dict[str, float]:
    """Mean, sd and highest-density interval of draws (S,); `tails` as `interval` has them."""
    return {"mean": draws.mean(), "sd": draws.std(ddof=1)} | interval(draws, tails)


def ratio(name: str, draws: np.ndarray, tails: tuple[float, float]) -> dict[str, float]:
    """The exponential of draws (S,): median and interval, in columns that begin with `name`."""
    with np.errstate(over="ignore"):
        middle, lower, upper = np.exp(np.quantile(draws, [0.5, *tails]))
    return {name: middle, f"{name}_lower": lower, f"{name}_upper": upper}
