"""ArviZ groups of a user-defined model, by site: log likelihoods, what is observed, and what is predicted.

    log_likelihood         log p(x_i | θ_s) of every observed site and factor, in its own shape; of rows whose
                           discrete latents are summed out, by row, under the name of the site; without
                           cells that are missing, which `{site}_seen` numbers
    observed_data          what each site observes
    posterior_predictive   the same drawn anew
    prior                  draws of the prior, and what is derived from them
    prior_predictive       what they predict, beside `observed_data`

so that `az.loo` and `az.plot_ppc` find them whatever the data is: a table, or arrays.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ppl_models.capabilities import Fitted
from ppl_models.draws import Posterior, Variables
from ppl_models.errors import Unsupported
from ppl_models.inference.chains import mixing_of
from ppl_models.models.program.execution import numerics, observed
from ppl_models.models.program.failures import telling
from ppl_models.models.program.naming import named
from ppl_models.models.program.prior import prior_point
from ppl_models.models.program.program import Program
from ppl_models.models.program.simulate import simulated
from ppl_models.posterior import by_chains, groups_of_draws

if TYPE_CHECKING:
    import xarray as xr

CELLS = 4_000_000
"""Numbers of a group; it has fewer draws where that asks for it, but at least `LEAST`."""

LEAST = 50


def groups(bound: Any, fitted: Fitted) -> dict[str, "xr.Dataset"]:
    """The groups of a fit."""
    found = groups_of_draws(fitted, by_row=False)
    points = bound.point(fitted.posterior_draws.theta)
    with numerics(), telling(bound.model), torch.no_grad():
        said = observed(bound.model, bound.density.columns, bound.sites, points[0])
    found["observed_data"] = _dataset(bound, {name: value[None] for name, (value, _) in said.items()})
    p = fitted.posterior_draws
    found["log_likelihood"] = _dataset(bound, _likelihoods(bound, fitted, points), p)
    for name, (value, log_prob) in said.items():
        holes = torch.isnan(value).reshape(*log_prob.shape, -1).any(-1)
        if not bound.sites.discrete and bool(holes.any()):
            found["log_likelihood"] = _without(found["log_likelihood"], name, holes.numpy())
    each = sum(value.numel() for value, _ in said.values())
    some = points[: _number(len(points), 4 * max(each, 1))]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fitted.settings.seed + 5)
        drawn, _ = simulated(bound, bound.density.columns, some)
    found["posterior_predictive"] = _dataset(bound, _seen(bound, drawn), p)
    for name in ("observed_data", "posterior_predictive"):
        if not found[name].data_vars:
            del found[name]
    return found


def prior_groups(bound: Any, seed: int, draws: int) -> dict[str, "xr.Dataset"]:
    """Draws of the prior, what they predict for the rows of the fit, and what these are.

    Args:
        bound: the model.
        seed: of the draws.
        draws: how many; what they predict is of fewer where data sets are large.

    Raises:
        Unsupported: a prior is improper.
    """
    points = prior_points(bound, draws, seed)
    variables, coords = bound.variables(bound.theta(points))
    each = sum(np.prod(site.shape, dtype=int) for site in bound.sites.observed.values())
    some = points[: _number(len(points), max(int(each), 1))]
    drawn, _ = simulated(bound, bound.density.columns, some, seed + 1)
    with numerics(), telling(bound.model), torch.no_grad():
        said = observed(bound.model, bound.density.columns, bound.sites, points[0])
    return {
        "prior": _made(variables, coords, None, len(points)),
        "prior_predictive": _dataset(bound, _seen(bound, drawn), None, len(some)),
        "observed_data": _dataset(bound, {name: value[None] for name, (value, _) in said.items()}),
    }


def prior_points(bound: Program, draws: int, seed: int) -> Tensor:
    """U (S, d) of draws of the prior.

    Raises:
        Unsupported: a prior is improper.
    """
    if bound.sites.improper:
        raise Unsupported(
            f"the prior of site {bound.sites.improper[0]!r} is improper: it cannot be drawn from"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([prior_point(bound) for _ in range(draws)])


def _number(draws: int, each: int) -> int:
    return int(np.clip(CELLS // each, min(LEAST, draws), draws))


def _seen(bound: Any, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of observed sites."""
    return {name: value for name, value in drawn.items() if name in bound.sites.observed}


def _likelihoods(bound: Any, fitted: Fitted, points: Tensor) -> dict[str, Tensor]:
    """Log likelihoods (S, ...) by site."""
    density, sites = bound.density, bound.sites
    some = points[: _number(len(points), max(density.cells, 1))]
    if not sites.discrete:

        def one(u: Tensor) -> dict[str, Tensor]:
            said = observed(density.model, density.columns, sites, u, factors=True)
            return {name: log_prob + 0 * u.sum() for name, (_, log_prob) in said.items()}

        return bound.mapped(one, some)
    found = density.parts(some).likelihood
    names = [*sites.observed, *sites.factors]
    of_rows = {stem for stem, each in sites.families.items() if set(each) & set(names)}
    name = names[0] if len(names) == 1 else min(of_rows) if len(of_rows) == 1 else "likelihood"
    return {name: found}


def _dataset(
    bound: Any, values: dict[str, Tensor], p: Posterior | None = None, draws: int = 0
) -> "xr.Dataset":
    """Values (S, ...) by site with named dimensions: see `_made`."""
    variables, coords = named(bound.sites, bound.schema, values, bound.model)
    return _made(variables, coords, p, draws)


def _made(
    variables: Variables, coords: dict[str, Any], p: Posterior | None = None, draws: int = 0
) -> "xr.Dataset":
    """Values by chain and draw: those of a posterior, or so many draws; of one, 0, without dimensions."""
    import xarray as xr

    own = {dim for dims, _ in variables.values() for dim in dims}
    labels: dict[str, Any] = {dim: label for dim, label in coords.items() if dim in own}
    if p is None and not draws:
        return xr.Dataset(
            {name: (dims, value[0]) for name, (dims, value) in variables.items()}, coords=labels
        )
    if p is None:
        chained = {name: value[None] for name, (_, value) in variables.items()}
        labels |= {"chain": [0], "draw": np.arange(draws)}
    else:
        chained = {name: p.by_chain(value) for name, (_, value) in variables.items()}
        labels |= by_chains(p, max((len(value) for _, value in variables.values()), default=0))
    return xr.Dataset(
        {name: (("chain", "draw", *dims), chained[name]) for name, (dims, _) in variables.items()},
        coords=labels,
    )


def _without(likelihoods: "xr.Dataset", name: str, holes: np.ndarray) -> "xr.Dataset":
    """A log likelihood without cells that are missing: zeros would count as data, and as influential."""
    dim, seen = f"{name}_seen", np.flatnonzero(~holes)
    value = likelihoods[name].to_numpy()
    flat = value.reshape(*value.shape[:2], -1)[..., seen]
    others = likelihoods.drop_vars(name)
    return others.assign({name: (("chain", "draw", dim), flat)}).assign_coords({dim: seen})


def _long_chains(bound: Any, points: Tensor, number: int) -> dict[str, dict[str, np.ndarray]]:
    """R-hat and effective sample size of chains that follow one another."""
    found: dict[str, dict[str, np.ndarray]] = {"r_hat": {}, "ess": {}}
    variables, _ = bound.variables(bound.theta(points))
    for name, (_, value) in variables.items():
        mixing = mixing_of(value.reshape(number, -1, int(np.prod(value.shape[1:], dtype=int))))
        found["r_hat"][name] = mixing.r_hat.reshape(value.shape[1:])
        found["ess"][name] = mixing.ess.reshape(value.shape[1:])
    return found


SUPER = 8
"""Groups of chains that began near one another."""


def chains_of(bound: Any, params: Mapping[str, Tensor]) -> dict[str, dict[str, np.ndarray]]:
    """Nested R-hat and effective sample size by variable, of draws that were moved; nothing of others.

    Of many short chains R-hat compares groups of them that began near one another, sqrt(1 + B/W) with B the
    variance of the groups' means and W the mean variance within groups (Margossian et al. 2024, Nested R-hat,
    Bayesian Analysis, https://arxiv.org/abs/2110.13017). Chains are independent of one another, so that the
    variance of their means says how many independent draws they are worth.

    Args:
        bound: the model.
        params: of the calibration: `points` (rounds · chains, d), round by round, and `chains`.
    """
    if "chains" not in params:
        return {}
    number = int(params["chains"][0])
    if "divergent" in params:
        return _long_chains(bound, params["points"], number)
    variables, _ = bound.variables(bound.theta(params["points"]))
    found: dict[str, dict[str, np.ndarray]] = {"r_hat": {}, "ess": {}}
    for name, (_, value) in variables.items():
        x = value.reshape(-1, number, *value.shape[1:])  # (rounds, chains, ...)
        parts = np.array_split(x, SUPER, axis=1)
        between = np.var([part.mean((0, 1)) for part in parts], axis=0, ddof=1)
        least = 1e-20 * x.mean((0, 1)) ** 2 + 1e-300  # of what is the same in every draw
        inside = np.maximum(np.mean([part.var((0, 1)) for part in parts], axis=0), least)
        found["r_hat"][name] = np.sqrt(1 + between / inside)
        means = np.maximum(x.mean(0).var(0, ddof=1), least)
        found["ess"][name] = np.minimum(number * x.var((0, 1)) / means, x.shape[0] * number)
    return found
