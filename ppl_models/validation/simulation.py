"""One simulation: θ from the prior, data from θ, a fit to the data, the rank of θ among its draws.

    θ* ~ p(θ),   x ~ p(x | θ*),   θ_1 … θ_L ~ what a fit to x says is p(θ | x),   r = #{l : f(θ_l) < f(θ*)}

If the fit's draws are of the posterior, r is uniform on 0 … L for every f, whatever the model, and f may
depend on x too (Talts et al. 2018, Validating Bayesian inference algorithms with simulation-based
calibration, https://arxiv.org/abs/1804.06788). Parameters alone do not see all that can be wrong; the log
likelihood f(θ) = log p(x | θ) sees a fit that takes no notice of the data, too weak and too strong ones, and
correlations that are wrong (Modrák et al. 2023, Simulation-based calibration checking for Bayesian
computation: the choice of test quantities shapes sensitivity, https://arxiv.org/abs/2211.02383).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ppl_models import engine
from ppl_models.bound import Bayesian
from ppl_models.capabilities import Conditional, PriorDraws, Regresses
from ppl_models.data import Dataset
from ppl_models.draws import Draws, number_of, select_draws
from ppl_models.errors import DataError, PplError, Unsupported, UsageError
from ppl_models.inference.settings import Training
from ppl_models.model import Model
from ppl_models.models.program.made_up import from_prior
from ppl_models.models.program.model import PyroModel

LIKELIHOOD = "log_likelihood"
"""The quantity that is no parameter."""


@dataclass(frozen=True, eq=False)
class Bench:
    """All that simulations of a model have in common.

    Attributes:
        model: with the fields of its priors filled in, so that they no longer follow from the data.
        bound: the same over the columns of the template.
        template: what is not random in the data: its shape, predictors, known numbers, missing cells.
        settings: of the fits, but for their seeds.
        draws: L, among which θ* is ranked.
        seed: that those of the simulations follow from.
    """

    model: Model
    bound: Any
    template: Dataset
    settings: Training
    draws: int
    seed: int

    def of(self, number: int) -> dict[str, Any]:
        """One simulation, by its number alone: the same on whatever worker, in whatever order.

        Returns:
            `ranks` by quantity with `seconds`, `status`, `method` and `k_hat` of the fit; or `error`.
        """
        began = time.perf_counter()
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0] >> 1)
        found: dict[str, Any] = {"simulation": number, "seed": seed}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                truth = self.bound.prior_draws(1, seed)
                data = self.bound.simulated(self.template, truth)
                found |= self._fitted(data, truth, seed)
            except (PplError, ArithmeticError, RuntimeError) as error:
                found["error"] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        return found | {"seconds": round(time.perf_counter() - began, 4)}

    def _fitted(self, data: Dataset, truth: Draws, seed: int) -> dict[str, Any]:
        if not np.isfinite(data.values[~np.isnan(self.template.values)]).all():
            raise DataError("the prior draws data that is not finite; give narrower priors")
        bound = self.bound.afresh(data)
        fit = engine.trained(self.model, bound, data, replace(self.settings, seed=seed))
        posterior = fit.posterior_draws
        if posterior.draws < self.draws:
            raise DataError(f"the fit has {posterior.draws} draws, and the truth is to have {self.draws}")
        theta = select_draws(posterior.theta, slice(0, self.draws))  # they come in a random order
        true, drawn = (quantities(fit.bound, fit.batch, each) for each in (truth, theta))
        rng = np.random.default_rng(seed)
        ranks = {
            name: rank(float(true[name][0]), value, rng)
            for name, value in drawn.items()
            if np.ptp(value) > 0 or value[0] != true[name][0]  # a constant has no rank
        }
        told = {"status": str(fit.status), "method": fit.calibrated.method, "k_hat": float(posterior.k_hat)}
        return {"ranks": ranks} | told


def rank(true: float, drawn: np.ndarray, rng: np.random.Generator) -> int:
    """#{l : drawn_l < true}, ties broken at random; what is no number is the smallest.

    Example:
        >>> rank(1.5, np.array([1.0, 2.0, 3.0]), np.random.default_rng(0))
        1
    """
    drawn, true = np.nan_to_num(drawn, nan=-np.inf), float(np.nan_to_num(true, nan=-np.inf))
    return int((drawn < true).sum() + rng.integers(0, (drawn == true).sum() + 1))


def quantities(bound: Any, batch: Any, theta: Draws) -> dict[str, np.ndarray]:
    """What is ranked, by name, (S,) each: functions of θ, each number by itself, and the log likelihood."""
    found: dict[str, np.ndarray] = {}
    variables, coords = bound.functions(theta)
    for name, (dims, values) in variables.items():
        for index in np.ndindex(values.shape[1:]):
            labels = [str(coords[d][i]) if d in coords else str(i) for d, i in zip(dims, index, strict=True)]
            each = values[(slice(None), *index)]
            if not _constant(name, dims, index):
                found[f"{name}[{', '.join(labels)}]" if labels else name] = each
    found[LIKELIHOOD] = bound.log_evidence(batch, theta).numpy()
    assert all(len(value) == number_of(theta) for value in found.values())
    return found


def _constant(name: str, dims: tuple[str, ...], index: tuple[int, ...]) -> bool:
    """The half of a symmetric matrix that says nothing new, and its diagonal of ones."""
    return name.endswith("correlation") and len(dims) > 1 and index[-1] <= index[-2]


def bench(
    model: Model,
    data: Any,
    settings: Mapping[str, Any],
    reading: Mapping[str, Any],
    *,
    rows: int,
    columns: int,
    draws: int,
) -> Bench:
    """What simulations of a model have in common.

    Args:
        model: the model.
        data: the template; made up if None.
        settings: how to train.
        reading: how to read the template.
        rows: of a template that is made up.
        columns: of one, beside a target.
        draws: L.

    Raises:
        Unsupported: it has no posterior of parameters, or no prior that can be drawn from.
        UsageError: an option cannot be meant.
        DataError: the template cannot be read, or is none for this model.
    """
    model = engine.checked(model)
    if draws < 3:
        raise UsageError(f"the truth is to be ranked among at least 3 draws, got {draws}")
    _check(model, type(model).bounds())
    training, reading = engine.settings_for(model, settings), dict(reading)
    if data is None and isinstance(model, PyroModel):
        data, _ = from_prior(model, rows, training.seed)
    elif data is None:
        if all(issubclass(form, Conditional | Regresses) for form in type(model).bounds()):
            reading.setdefault("target", "y")
        numeric = any(form.numeric_target for form in type(model).bounds())
        data = made_up(rows, columns, reading.get("target"), training.seed, numeric)
    template = engine.read_for(model, data, reading)
    if template.weight is not None:
        raise UsageError("rows are drawn once each: leave --weights out")
    template = replace(template, schema=model.refer(template))
    bound: Any = model.bind(template.schema).prepare(template)
    _check(model, (type(bound),))
    if fields := bound.open_fields():
        model = model.with_learned(fields)
        bound = model.bind(template.schema).prepare(template)
    bound.prior_draws(1, 0)  # some cannot be drawn from
    return Bench(model, bound, template, training, draws, training.seed)


def _check(model: Model, forms: tuple[Any, ...]) -> None:
    """Whether one of some bound forms can be calibrated by simulations."""
    if not any(issubclass(f, Bayesian) and issubclass(f, PriorDraws) and f.generates and f.identified
               for f in forms):  # fmt: skip
        raise Unsupported(
            f"sbc draws parameters from a prior and data from these, and {model.name} has no such "
            "parameters; gmm, hmm, logistic, glm and models of your own (FILE.py:Class) have"
        )


def made_up(rows: int, columns: int, target: str | None, seed: int, numeric: bool) -> dict[str, np.ndarray]:
    """A template: standard normal columns x1, x2, … and, where there is a target, one of two values.

    Args:
        rows: how many.
        columns: beside the target.
        target: its name, or None.
        seed: of the columns.
        numeric: whether the target is 0 and 1, or labels.

    Example:
        >>> {name: len(cells) for name, cells in made_up(4, 2, "y", 0, False).items()}
        {'x1': 4, 'x2': 4, 'y': 4}
    """
    rng = np.random.default_rng(seed)
    found = {f"x{j + 1}": rng.normal(size=rows) for j in range(columns)}
    found = {name: (x - x.mean()) / (x.std() or 1.0) for name, x in found.items()}
    if target is not None:
        found[target] = np.arange(rows) % 2.0 if numeric else np.where(np.arange(rows) % 2, "yes", "no")
    return found
