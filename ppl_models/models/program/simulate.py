"""Observed sites drawn anew given θ, and the posterior of discrete latents given θ and the data.

The latter is exact: with a number δ_k added to the log density of z = k, P(z = k | x, θ) is the derivative of
log Σ_z p(x, z | θ) with respect to δ_k at 0 (Darwiche 2003, A differential approach to inference in Bayesian
networks, J. ACM 50). One gradient gives it for every discrete site at once.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset
from ppl_models.errors import Unsupported
from ppl_models.models.program.columns import Columns
from ppl_models.models.program.execution import Substitute, densities, numerics, traced
from ppl_models.models.program.failures import telling


class Draw(Substitute):
    """Gives latents their values at u, and draws what the model observes."""

    def _observed(self, msg: Any) -> None:
        site = self.sites.observed.get(msg["name"])
        if site is not None:
            msg["value"], msg["is_observed"] = None, False


def simulated(
    bound: Any, columns: Columns, points: Tensor, seed: int | None = None, derived: bool = False
) -> tuple[dict[str, Tensor], int]:
    """Draws of every observed site, (S, ...), one for each point u (S, d); and their number.

    Args:
        bound: the model.
        columns: its data; what it observes is drawn in place of what it says.
        points: u (S, d).
        seed: of the draws; without one, torch's global generator, which is left as it was.
        derived: whether deterministic sites are among them.
    """
    sites, model = bound.sites, bound.model

    def one(u: Tensor) -> dict[str, Tensor]:
        trace = traced(model, columns, Draw(sites, u), sites, enumerate=False)
        wanted = (*sites.observed, *(sites.derived if derived else ()))
        found = {name: trace.nodes[name]["value"].double() for name in wanted if name in trace.nodes}
        return {name: value + 0 * u.sum() for name, value in found.items()} if derived else found

    with torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        return bound.mapped(one, points), len(points)


def by_column(bound: Any, data: Dataset, drawn: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Those that are a column of the rows, or one site for every row, (S, n) by column.

    Args:
        bound: the model.
        data: the rows.
        drawn: by observed site, (S, ...).
    """
    found: dict[str, np.ndarray] = {}
    for name, value in drawn.items():
        column = bound.sites.observed[name].column
        if column in data.names and value.shape[1:] == (data.rows,):
            found[str(column)] = value.numpy()
    for stem, names in bound.sites.families.items():
        if stem in data.names and names[0] in drawn and drawn[names[0]].dim() == 1:
            found[stem] = torch.stack([drawn[name] for name in names], 1).numpy()
    return found


def redrawn(bound: Any, data: Dataset, point: Tensor) -> Dataset:
    """A data set with what the model observes drawn anew, at one point u (1, d), by torch's generator.

    Args:
        bound: the model.
        data: the rows and arrays; cells that are missing stay so.
        point: u (1, d).

    Raises:
        Unsupported: a site observes neither a column nor an array as it is.
    """
    torch.manual_seed(seed := int(torch.randint(2**62, ())))
    drawn, _ = simulated(bound, bound.density.columns, point, seed)
    cells = {name: value[0] for name, value in by_column(bound, data, drawn).items()}
    arrays, values = dict(data.arrays), np.array(data.values)
    of_families = {name for stem, names in bound.sites.families.items() if stem in cells for name in names}
    for name, value in drawn.items():
        column = bound.sites.observed[name].column
        if column in arrays and arrays[column].shape == tuple(value.shape[1:]):
            arrays[column] = value[0].numpy()
        elif column not in cells and name not in of_families:
            raise Unsupported(
                f"site {name!r} of {bound.model.name} observes neither a column nor an array of the data as "
                "it is: what is drawn from it cannot be put in the place of data"
            )
    for name, column in cells.items():
        values[:, data.names.index(name)] = column
    values = np.where(np.isnan(data.values), np.nan, values)
    holed = {n: np.where(np.isnan(data.arrays[n]), np.nan, value) for n, value in arrays.items()}
    return replace(data, values=values, arrays=holed)


def log_prior_of(bound: Any, points: Tensor, names: list[str]) -> Tensor:
    """Log density of some latent sites given those before them, (S,).

    Args:
        bound: the model.
        points: u (S, d).
        names: of the sites.
    """

    def one(u: Tensor) -> dict[str, Tensor]:
        trace = traced(bound.model, bound.density.columns, Draw(bound.sites, u), bound.sites, enumerate=False)
        each = [trace.nodes[n]["fn"].log_prob(trace.nodes[n]["value"]).sum() for n in names]
        return {"log_prior": torch.stack(each).sum() + 0 * u.sum()}

    return bound.mapped(one, points)["log_prior"]


def marginals(bound: Any, columns: Columns, points: Tensor) -> dict[str, Tensor]:
    """P(z = k | x, θ) averaged over points u (S, d): (*plates, K) for every discrete latent.

    Args:
        bound: the model.
        columns: the rows to condition on.
        points: u (S, d).
    """
    sites, total = bound.sites, {}
    rows = columns._rows
    zeros = {
        name: torch.zeros(*_plates(site, sites, rows), site.levels, dtype=torch.float64)
        for name, site in sites.discrete.items()
    }

    def log_evidence(u: Tensor, extra: dict[str, Tensor]) -> Tensor:
        found = densities(bound.model, columns, sites, u, extra)
        return found.prior + found.likelihood.sum()

    with numerics(), telling(bound.model):
        one = torch.func.grad(log_evidence, argnums=1)
        if bound.density.path == "vmap":
            found = torch.func.vmap(one, in_dims=(0, None), randomness="different")(points, zeros)
        else:
            each = [one(u, zeros) for u in points]
            found = {name: torch.stack([e[name] for e in each]) for name in zeros}
    for name, value in found.items():
        total[name] = value.mean(0).detach()
    return total


def _plates(site: Any, sites: Any, rows: int) -> tuple[int, ...]:
    """The sizes of the plates of a site over these rows."""
    size = {dim: (rows if name == sites.rows else n) for dim, name, n in site.plates}
    return tuple(size.get(dim, 1) for dim in range(min(size, default=0), 0))
