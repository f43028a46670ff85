"""Data that a model simulates, and the θ* that it was simulated with."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from ppl_models.api import Fit, fit
from ppl_models.capabilities import Conditional, Regresses
from ppl_models.data import Dataset, read
from ppl_models.engine import read_for
from ppl_models.model import Model
from ppl_models.models.program.made_up import from_prior
from ppl_models.models.program.model import PyroModel
from ppl_models.testing.contract import training


def simulated(model: Model, data: Any, rows: int, seed: int, options: dict[str, Any]) -> tuple[Dataset, dict]:
    """Data, and the variables that simulated it.

    Args:
        model: the model.
        data: rows to take columns and θ* from; None for made-up ones, or for θ* from the prior of a program.
        rows: how many to make up.
        seed: of the fit and of the draws.
        options: of training and of reading.

    Returns:
        The data, and θ* in the user's units by variable; nothing where the model makes up rows without a θ.
    """
    template = data if data is not None else _template(model, rows, seed)
    if template is None:
        return from_prior(cast(PyroModel, model), rows, seed)
    reading = {k: v for k, v in options.items() if k not in training(options)}
    if data is None and _needs_target(model):
        reading.setdefault("target", "y")
    first = fit(model, read_for(model, template, reading), seed=seed, **training(options))
    if not first.bayesian:  # it made up the rows: there is no θ to recover
        return read(first.sample(first.data.rows, seed=seed), schema=first.data.schema), {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        theta = one(first, seed)
        values = first.bound.replicate(first.data, theta)[0]
    truth = {name: value[0] for name, (_, value) in first.bound.variables(theta)[0].items()}
    return refilled(first.data, values), truth


def _needs_target(model: Model) -> bool:
    """Whether it is a model of a target given other columns, and of nothing else."""
    return all(issubclass(bound, Conditional | Regresses) for bound in type(model).bounds())


def refilled(data: Dataset, values: np.ndarray) -> Dataset:
    """Other cells of the same columns, with the arrays beside them."""
    return replace(read(data.frame(values), schema=data.schema), arrays=data.arrays)


def one(found: Fit, seed: int) -> Any:
    """One draw of θ from the posterior."""
    from ppl_models.draws import number_of, select_draws

    theta = found.posterior_draws.theta
    at = int(np.random.default_rng(seed).integers(number_of(theta)))
    return select_draws(theta, slice(at, at + 1))


def _template(model: Model, rows: int, seed: int) -> Any:
    """Rows of two groups for models of tables; None for programs, which have columns of their own."""
    import pandas as pd

    if isinstance(model, PyroModel):
        return None
    rng = np.random.default_rng(seed)
    z = np.arange(rows) // 10 % 2
    frame = pd.DataFrame(rng.normal(size=(rows, 2)) + 4 * z[:, None], columns=["a", "b"])
    if _needs_target(model):
        frame["y"] = np.where(rng.random(rows) < 1 / (1 + np.exp(2 - frame["a"])), "yes", "no")
    return frame
