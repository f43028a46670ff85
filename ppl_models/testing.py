"""One contract for all models, ours and a user's: what the verbs rely on, tried out.

    from ppl_models.testing import check_model
    check_model(Coin())

θ* is drawn, data simulated from p(x | θ*), and the model fitted to it: a posterior that is right covers θ*.
Each variable has to be within 6 posterior standard deviations of its true value. Were the posterior normal, a
right model would fail with probability 2 · 10⁻⁹ a variable; with tails as heavy as those of Student's t with
10 degrees of freedom, 1 · 10⁻⁴. (Cook, Gelman & Rubin 2006, Validation of software for Bayesian models using
posterior quantiles, J. Comput. Graph. Statist. 15; Talts et al. 2018, https://arxiv.org/abs/1804.06788.)
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppl_models.data import Dataset, read
from ppl_models.errors import PplError, Unsupported, UsageError
from ppl_models.fitting import Fit, fit, read_for
from ppl_models.model import Model

FAR = 6.0
"""Posterior standard deviations that a true value may be away."""

SLOPPY = 1e-6
"""Relative error of a log density that must be the same by two ways."""

PYRO = 20
"""Rows of a sequence by which the density of a chain is compared."""

REARRANGED = 0.5
"""Posterior standard deviations that means may move when rows come in another order."""


class ContractError(PplError, AssertionError):
    """A model does not keep the contract: says which part of it, and the figures."""


@dataclass(frozen=True)
class Checked:
    """What was tried.

    Attributes:
        fit: to the simulated data.
        done: one line on each part.
    """

    fit: Fit
    done: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.done)


def check_model(model: Model, data: Any = None, *, rows: int = 100, seed: int = 0, **options: Any) -> Checked:
    """Try all that a model has to do.

    Args:
        model: for instance `Coin()`.
        data: rows like those the model is for: what it observes is replaced by what a draw of its posterior
            given them simulates. Without any, predictors are standard normal and θ* is drawn from the prior.
        rows: to simulate, where no data is given.
        seed: of everything.
        **options: of `ppl_models.fit`, such as `target="y"`.

    Raises:
        ContractError: naming the first part of the contract that is not kept.
        PplError: the model cannot be fitted at all.
    """
    from ppl_models.registry import complete

    complete(type(model), type(model).__name__.lower())
    simulated, truth = _simulated(model, data, rows, seed, options)
    found = fit(model, simulated, seed=seed, **_training(options))
    done = [_ended(found), _recovered(found, truth), _joint(found), _saved(found)]
    done += _verbs(found)
    done += [_order(found, truth, seed, options), _missing(found, seed, options)]
    return Checked(found, tuple(line for line in done if line))


def _training(options: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if k in ("restarts", "steps", "tolerance", "device")}


def _require(kept: bool, part: str, why: str) -> None:
    if not kept:
        raise ContractError(f"{part}: {why}")


# Simulating


def _simulated(
    model: Model, data: Any, rows: int, seed: int, options: dict[str, Any]
) -> tuple[Dataset, dict]:
    """Data, and the variables that simulated it."""
    template = data if data is not None else _template(model, rows, seed)
    if template is None:
        return _from_prior(model, rows, seed)
    reading = {k: v for k, v in options.items() if k not in _training(options)}
    if data is None and type(model).__name__ == "Logistic":
        reading.setdefault("target", "y")
    first = fit(model, read_for(model, template, reading), seed=seed, **_training(options))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        theta = _one(first, seed)
        values = first.bound.replicate(first.data, theta)[0]
    truth = {name: value[0] for name, (_, value) in first.bound.variables(theta)[0].items()}
    return _again(first.data, values), truth


def _again(data: Dataset, values: np.ndarray) -> Dataset:
    """Other cells of the same columns, with the arrays beside them."""
    return replace(read(data.frame(values), schema=data.schema), arrays=data.arrays)


def _one(found: Fit, seed: int) -> Any:
    from ppl_models.models.bound import number_of, select_draws

    theta = found.posterior_draws.theta
    at = int(np.random.default_rng(seed).integers(number_of(theta)))
    return select_draws(theta, slice(at, at + 1))


def _template(model: Model, rows: int, seed: int) -> Any:
    """Rows of two groups for the built-in models; None for programs."""
    import pandas as pd

    if type(model).bind is Model.bind:
        return None
    rng = np.random.default_rng(seed)
    z = np.arange(rows) // 10 % 2
    frame = pd.DataFrame(rng.normal(size=(rows, 2)) + 4 * z[:, None], columns=["a", "b"])
    if type(model).__name__ == "Logistic":
        frame["y"] = np.where(rng.random(rows) < 1 / (1 + np.exp(2 - frame["a"])), "yes", "no")
    return frame


def _from_prior(model: Model, rows: int, seed: int) -> tuple[Dataset, dict]:
    """One execution of a program with draws of its prior; columns that it observes are what it draws."""
    import pyro
    from pyro import poutine

    from ppl_models.programs.execution import numerics
    from ppl_models.programs.failures import telling

    columns = _Blank(rows)
    with torch.random.fork_rng(devices=[]), numerics(), pyro.validation_enabled(False), torch.no_grad():
        torch.manual_seed(seed)
        columns.fill()
        observing = _Observing(columns)
        with telling(model), poutine.trace() as tracer, observing:
            model.model(columns)
    drawn = {name: value.numpy() for name, value in columns.values.items()}
    if not observing.found:
        raise UsageError(
            f"{type(model).__name__} observes no column of its data as it is: give check_model data"
        )
    latent = [
        name
        for name, site in tracer.trace.nodes.items()
        if site["type"] == "sample"
        and name not in observing.sites
        and not hasattr(site["fn"], "subsample_size")
    ]
    truth = {name: tracer.trace.nodes[name]["value"].numpy() for name in latent}
    return read({name: drawn[name] for name in drawn}, types=observing.kinds), truth


class _Blank:
    """Columns of any name: standard normal, until a site observes one."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.values: dict[str, torch.Tensor] = {}
        self.lengths = (rows,)

    def fill(self) -> None:
        """Nothing is known of the names before they are asked for."""

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self.values:
            self.values[name] = torch.randn(self._rows)
        return self.values[name]

    def __getattr__(self, name: str) -> torch.Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __contains__(self, name: object) -> bool:
        return True

    def __len__(self) -> int:
        return self._rows

    def levels(self, name: str) -> tuple[str, ...]:
        """Labels cannot be made up."""
        raise UsageError(f"the model asks for the labels of {name!r}: give check_model data that has them")


def _Observing(columns: _Blank) -> Any:
    """A handler that draws what is observed, and keeps it as the column."""
    from pyro.poutine.messenger import Messenger

    class Observing(Messenger):
        found: dict[str, str] = {}
        sites: set[str] = set()
        kinds: dict[str, str] = {}

        def _pyro_sample(self, msg: Any) -> None:
            if not msg["is_observed"] or msg["infer"].get("_deterministic"):
                return
            self.sites.add(msg["name"])
            for name, value in columns.values.items():
                if value is msg["value"]:
                    drawn = msg["fn"].sample().double()
                    columns.values[name] = msg["value"] = drawn
                    self.found[name] = msg["name"]
                    support = msg["fn"].support
                    if "Boolean" in type(support).__name__ or "_Boolean" in repr(support):
                        self.kinds[name] = "binary"
                    elif not support.is_discrete:
                        self.kinds[name] = "continuous"

    handler = Observing()
    handler.found, handler.sites, handler.kinds = {}, set(), {}
    return handler


# The parts of the contract


def _ended(found: Fit) -> str:
    _require(found.status != "diverged", "fit", f"it diverged: {found.trained.reason}")
    _require(np.isfinite(found.elbo), "fit", f"the ELBO is {found.elbo}")
    return f"fit: {found.status} after {found.trained.steps} steps, {found.check().verdict}"


def _moments(found: Fit) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    variables, _ = found.bound.variables(found.posterior_draws.theta)
    return {name: (v.mean(0), v.std(0)) for name, (_, v) in variables.items()}


def _recovered(found: Fit, truth: dict[str, np.ndarray]) -> str:
    """Every variable within so many sds of its true value, states named as is best."""
    worst, name_of = 0.0, ""
    for name, (mean, sd) in _moments(found).items():
        if name not in truth:
            continue
        off = np.abs(np.reshape(truth[name], mean.shape) - mean) / np.maximum(sd, 1e-12)
        if off.size and float(off.max()) > worst:
            worst, name_of = float(off.max()), name
    _require(
        worst <= FAR,
        "recovery",
        f"{name_of} that simulated the data is {worst:.1f} posterior sds from its mean (at most {FAR:g}): "
        "the model that draws data is not the one that scores it",
    )
    return f"recovery: all within {worst:.1f} posterior sds"


def _joint(found: Fit) -> str:
    """The log joint by the Pyro model, its latents enumerated by Pyro's own ELBO, at a draw of θ."""
    import warnings

    import pyro
    from pyro.infer import TraceEnum_ELBO, config_enumerate

    from ppl_models.programs.execution import numerics

    bound, data = found.bound, found.data
    theta = _one(found, 1)
    values, batch = _sites(found, theta), found.batch
    if bound.kind == "chain":  # Pyro gives each step a dimension, and a tensor has 64 at most
        data = data.subset(np.arange(min(data.rows, PYRO)))
        batch = bound.dataset_batch(data)
    if values is None:
        return ""
    given = bound.density.columns if bound.kind == "program" else data
    nesting = bound.sites.nesting if bound.kind == "program" else 1
    with numerics(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")

        def program() -> None:
            found.resolved.model(given)

        model = pyro.poutine.condition(program, data=values)
        trace = pyro.poutine.trace(model).get_trace()
        named = [n for n in values if n in trace.nodes]
        _require(
            len(named) == len(values),
            "sites",
            f"the model has no site {', '.join(sorted(set(values) - set(named)))} that was fitted",
        )
        wanted = -TraceEnum_ELBO(max_plate_nesting=nesting).loss(config_enumerate(model), lambda: None)
    own = float(bound.log_evidence(batch, theta) + bound.log_prior(theta))
    off = abs(own - wanted) / max(1.0, abs(wanted))
    _require(
        off < SLOPPY,
        "log joint",
        f"Pyro's own evaluation of the model gives {wanted:.6f} at a draw of θ, the fit {own:.6f}",
    )
    return f"log joint: that of Pyro's own evaluation to {off:.0e}"


def _sites(found: Fit, theta: Any) -> dict[str, torch.Tensor] | None:
    """Values of the continuous sites of the Pyro model at one draw."""
    if found.bound.kind == "program":
        every = found.bound.values(theta)
        return {name: every[name][0] for name in found.bound.sites.latent}
    if found.bound.kind == "regression":
        if getattr(found.model, "prior", "") == "horseshoe":
            return None  # its scales are integrated out
        return {site: value[0] for site, value in theta["regression"].items()}
    return {f"{factor}.{site}": value for factor, sites in theta.items() for site, value in sites.items()}


def _saved(found: Fit) -> str:
    from ppl_models.runs import load, save

    with tempfile.TemporaryDirectory() as folder:
        path = save(found, Path(folder) / "run")
        again = load(path, type(found.model))
        same = all(torch.equal(v.cpu(), again.params[k]) for k, v in found.params.items())
        _require(same, "saving", "a run that is loaded has other parameters")
        first, second = found.posterior_draws, again.posterior_draws
        _require(np.array_equal(first.log_p, second.log_p), "saving", "a run that is loaded has other draws")
    return "saving: a run that is loaded has the same parameters and draws"


def _verbs(found: Fit) -> list[str]:
    from ppl_models.kinds import KINDS

    done = []
    for name in KINDS[found.bound.kind].verbs:
        try:
            table = getattr(found, name)()
        except Unsupported as error:
            done.append(f"{name}: refused, {error}")
            continue
        _require(len(table) > 0, name, "its table is empty")
        numbers = table.select_dtypes("number")
        if name == "summary":  # effects are not of every parameter
            numbers = numbers[["mean", "sd"]]
        numbers = numbers.to_numpy()
        _require(bool(np.isfinite(numbers).all()), name, "its table has cells that are not finite numbers")
        by_row = name in ("predict", "transform", "impute") or (name == "score" and found.bound.exchangeable)
        if by_row:
            _require(len(table) == found.data.rows, name, f"{len(table)} rows for {found.data.rows}")
        done.append(f"{name}: {len(table)} rows, {len(table.columns)} columns")
    return done


def _order(found: Fit, truth: dict[str, np.ndarray], seed: int, options: dict[str, Any]) -> str:
    """Rows that are independent may come in any order."""
    if not found.bound.exchangeable:
        return ""
    if any(
        site.shape
        for site in getattr(getattr(found.bound, "sites", None), "latent", {}).values()
        if site.plates
    ):
        return ""  # latents of a plate follow the rows
    order = np.random.default_rng(seed).permutation(found.data.rows)
    shuffled = _again(found.data, found.data.values[order])
    again = fit(found.model, shuffled, seed=seed, **_training(options))
    worst = 0.0
    for (mean, sd), (other, _) in zip(_moments(found).values(), _moments(again).values(), strict=True):
        worst = max(worst, float((np.abs(mean - other) / np.maximum(sd, 1e-12)).max(initial=0.0)))
    _require(
        worst < REARRANGED,
        "order",
        f"rows are said to be independent, and a mean moves by {worst:.2f} sds when they are shuffled",
    )
    return f"order: means move by {worst:.2f} sds when rows are shuffled"


def _missing(found: Fit, seed: int, options: dict[str, Any]) -> str:
    """Missing cells are taken, or refused with the name of their column."""
    data = found.data
    if not data.names:
        return ""
    said = []
    for j, name in enumerate(data.names):
        values = data.values.copy()
        values[:: max(data.rows // 5, 2), j] = np.nan
        holed = _again(data, values)
        try:
            again = fit(found.model, holed, seed=seed, **(_training(options) | {"restarts": 2}))
        except PplError as error:
            _require(name in str(error), "missing cells", f"refused without the name of the column: {error}")
            said.append(f"{name} refused")
            continue
        _require(np.isfinite(again.elbo), "missing cells", f"with some of {name} the ELBO is {again.elbo}")
        said.append(f"{name} taken")
    return f"missing cells: {', '.join(said)}"
