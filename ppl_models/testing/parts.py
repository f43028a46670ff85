"""The parts of the contract: each tries one thing, and gives a line on it."""

import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from ppl_models.api import Fit, fit, load
from ppl_models.capabilities import Programmed, Sequences
from ppl_models.errors import PplError, Unsupported
from ppl_models.testing.contract import require, training
from ppl_models.testing.simulating import one, refilled
from ppl_models.verbs import VERBS

FAR = 6.0
"""Posterior standard deviations that a true value may be away."""

SLOPPY = 1e-6
"""Relative error of a log density that must be the same by two ways."""

PYRO = 20
"""Rows of a sequence by which the density of a chain is compared."""

REARRANGED = 0.5
"""Posterior standard deviations that means may move when rows come in another order."""


def ended(found: Fit) -> str:
    """It did not diverge."""
    require(found.status != "diverged", "fit", f"it diverged: {found.trained.reason}")
    require(np.isfinite(found.elbo), "fit", f"the ELBO is {found.elbo}")
    return f"fit: {found.status} after {found.trained.steps} steps, {found.check().verdict}"


def _moments(found: Fit) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    variables, _ = found.bound.variables(found.posterior_draws.theta)
    return {name: (v.mean(0), v.std(0)) for name, (_, v) in variables.items()}


def recovered(found: Fit, truth: dict[str, np.ndarray]) -> str:
    """Every variable within so many sds of its true value, states named as is best."""
    if not found.bound.identified:
        return ""
    worst, name_of = 0.0, ""
    for name, (mean, sd) in _moments(found).items():
        if name not in truth:
            continue
        off = np.abs(np.reshape(truth[name], mean.shape) - mean) / np.maximum(sd, 1e-12)
        if off.size and float(off.max()) > worst:
            worst, name_of = float(off.max()), name
    require(
        worst <= FAR,
        "recovery",
        f"{name_of} that simulated the data is {worst:.1f} posterior sds from its mean (at most {FAR:g}): "
        "the model that draws data is not the one that scores it",
    )
    return f"recovery: all within {worst:.1f} posterior sds"


def joint(found: Fit) -> str:
    """The log joint by the Pyro model, its latents enumerated by Pyro's own ELBO, at a draw of θ."""
    import warnings

    import pyro
    from pyro.infer import TraceEnum_ELBO, config_enumerate

    from ppl_models.models.program.execution import numerics

    bound, data, theta = found.bound, found.data, one(found, 1)
    values = bound.pyro_values(theta) if isinstance(found.bound, Programmed) else None
    if values is None:
        return ""
    batch, pair = found.batch, cast(Any, found.resolved)
    if isinstance(found.bound, Sequences):  # Pyro gives each step a dimension, and a tensor has 64 at most
        data = data.subset(np.arange(min(data.rows, PYRO)))
        batch = bound.dataset_batch(data)
    given, nesting = bound.pyro_data(data), bound.plate_nesting()
    with numerics(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")

        def program() -> None:
            pair.model(given)

        model = pyro.poutine.condition(program, data=values)
        trace = pyro.poutine.trace(model).get_trace()
        named = [n for n in values if n in trace.nodes]
        require(
            len(named) == len(values),
            "sites",
            f"the model has no site {', '.join(sorted(set(values) - set(named)))} that was fitted",
        )
        wanted = -TraceEnum_ELBO(max_plate_nesting=nesting).loss(config_enumerate(model), lambda: None)
    own = float(bound.log_evidence(batch, theta) + bound.log_prior(theta))
    off = abs(own - wanted) / max(1.0, abs(wanted))
    require(
        off < SLOPPY,
        "log joint",
        f"Pyro's own evaluation of the model gives {wanted:.6f} at a draw of θ, the fit {own:.6f}",
    )
    return f"log joint: that of Pyro's own evaluation to {off:.0e}"


def saved(found: Fit) -> str:
    """A run gives the same again."""
    with tempfile.TemporaryDirectory() as folder:
        path = found.save(Path(folder) / "run")
        again = load(path, type(found.model))
        same = all(torch.equal(v.cpu(), again.params[k]) for k, v in found.params.items())
        require(same, "saving", "a run that is loaded has other parameters")
        first, second = found.posterior_draws, again.posterior_draws
        require(np.array_equal(first.log_p, second.log_p), "saving", "a run that is loaded has other draws")
    return "saving: a run that is loaded has the same parameters and draws"


def verbs(found: Fit) -> list[str]:
    """Every verb gives a table of finite numbers, or says why it cannot."""
    done = []
    for name, verb in VERBS.items():
        if not isinstance(found.bound, verb.needs):
            continue
        try:
            table = getattr(found, name)()
        except Unsupported as error:
            done.append(f"{name}: refused, {error}")
            continue
        require(len(table) > 0, name, "its table is empty")
        numbers = table.select_dtypes("number")
        if name == "summary":  # effects are not of every parameter
            numbers = numbers[_of_every_row(table)]
        if name == "evaluate":  # whose figures have not all the same columns
            numbers = numbers[["value"]]
        if name == "anomalies":  # which explains the most surprising rows alone
            numbers = numbers[["surprise"]]
        numbers = numbers.to_numpy()
        require(bool(np.isfinite(numbers).all()), name, "its table has cells that are not finite numbers")
        by_row = name in ("predict", "transform", "impute") or (name == "score" and found.bound.exchangeable)
        if by_row:
            require(len(table) == found.data.rows, name, f"{len(table)} rows for {found.data.rows}")
        done.append(f"{name}: {len(table)} rows, {len(table.columns)} columns")
    return done


def _of_every_row(table: Any) -> list[str]:
    """The columns of a summary that all of its rows have."""
    if "distance" in table:  # of columns, beside those of samples
        return ["distance"]
    return ["mean", "sd"] if "kl" not in table else ["sd"]


def order(found: Fit, truth: dict[str, np.ndarray], seed: int, options: dict[str, Any]) -> str:
    """Rows that are independent may come in any order: they are shuffled and fitted again.

    Args:
        found: the fit.
        truth: the variables that the data was simulated with; not looked at.
        seed: of the shuffle and of the fit.
        options: of the first fit.

    Returns:
        How far means moved, in a sentence; nothing where rows follow one another.

    Raises:
        ContractError: if a mean moves by `REARRANGED` posterior standard deviations.
    """
    if not (found.bound.exchangeable and found.bound.identified):
        return ""
    if any(
        site.shape
        for site in getattr(getattr(found.bound, "sites", None), "latent", {}).values()
        if site.plates
    ):
        return ""  # latents of a plate follow the rows
    order = np.random.default_rng(seed).permutation(found.data.rows)
    shuffled = refilled(found.data, found.data.values[order])
    again = fit(found.model, shuffled, seed=seed, **training(options))
    worst, second = 0.0, _moments(again)
    derived = getattr(getattr(found.bound, "sites", None), "derived", {})  # those of rows follow them
    for name, (mean, sd) in _moments(found).items():
        other, _ = second[name]
        if name in derived and found.data.rows in np.shape(mean):
            continue
        worst = max(worst, float((np.abs(mean - other) / np.maximum(sd, 1e-12)).max(initial=0.0)))
    require(
        worst < REARRANGED,
        "order",
        f"rows are said to be independent, and a mean moves by {worst:.2f} sds when they are shuffled",
    )
    return f"order: means move by {worst:.2f} sds when rows are shuffled"


def missing(found: Fit, seed: int, options: dict[str, Any]) -> str:
    """Missing cells are taken, or refused with the name of their column."""
    data = found.data
    if not data.names:
        return ""
    said = []
    for j, name in enumerate(data.names):
        values = data.values.copy()
        values[:: max(data.rows // 5, 2), j] = np.nan
        holed = refilled(data, values)
        again_options: dict[str, Any] = training(options) | {"restarts": 2}
        try:
            again = fit(found.model, holed, seed=seed, **again_options)
        except PplError as error:
            require(name in str(error), "missing cells", f"refused without the name of the column: {error}")
            said.append(f"{name} refused")
            continue
        require(np.isfinite(again.elbo), "missing cells", f"with some of {name} the ELBO is {again.elbo}")
        said.append(f"{name} taken")
    return f"missing cells: {', '.join(said)}"
