"""From a fit to draws, and from draws to ArviZ. The only module that knows which ArviZ is installed."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_models.inference.psis import smooth
from ppl_models.latent.rows import Rows
from ppl_models.models.joint import Draws, groups, on_device, select_draws

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from ppl_models.fitting import Fit

DRAWS = 1_000
WORK = 200_000_000
"""Draws × rows × states that the exact densities may take; large data gets fewer draws, at least 100."""

CELLS = 2_000_000
"""Numbers that are stored row by row: log likelihoods, observed data, replicated data."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws from the guide, scored.

    Attributes:
        theta: θ of every factor, in the units of the priors, (S, ...).
        log_p: log p(x, θ) with the latents summed out, (S,).
        log_q: log q(θ), (S,).
        log_weight: smoothed and normalised importance weights, (S,).
        k_hat: the Pareto shape of the weights; below 0.7 the guide is close to the posterior.
        log_likelihood: log p(x_t | x_{1:t−1}, θ) of each row (S, n), or of each sequence (S, sequences).
        by_row: whether the log likelihood is by row.
    """

    theta: Draws
    log_p: np.ndarray
    log_q: np.ndarray
    log_weight: np.ndarray
    k_hat: float
    log_likelihood: np.ndarray
    by_row: bool

    @property
    def draws(self) -> int:
        """S."""
        return len(self.log_p)


def draw_posterior(fit: "Fit", draws: int | None = None) -> Posterior:
    """Draw θ from the guide and weigh it against the exact log joint.

    Args:
        fit: the fit.
        draws: S; 1,000 for data up to about 100,000 rows, fewer beyond that, if not given.
    """
    joint, data = fit.joint, fit.data
    size = draws or int(np.clip(WORK // max(data.rows * joint.states, 1), 100, DRAWS))
    statistics = {name: value.cpu() for name, value in fit.statistics.items()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(fit.settings.seed + 1)
        theta = joint.draw(statistics, size)
    batch = joint.dataset_batch(data, fit.settings.device)
    base = joint.log_base(batch.values).cpu().numpy()
    rows = Rows(np.asarray(data.lengths, np.int64))
    by_row = len(rows.lengths) == 1 and size * data.rows <= CELLS
    parts = []
    in_chunks = len(rows.lengths) == 1 and not by_row and batch.lanes is not None
    each = 150_000 if in_chunks else data.rows * joint.states  # numbers a draw that are held at once
    for at in groups(size, each):
        some = on_device(select_draws(theta, at), batch.values.device)
        natural = joint.natural(some)
        if len(rows.lengths) == 1 and not by_row:
            parts.append(joint.log_evidence(batch, natural).cpu().numpy()[:, None])
            continue
        log_c, _ = joint.structure.log_predictive(joint.density(batch, natural), natural, rows)
        each = log_c.cpu().numpy() + base
        parts.append(each if by_row else np.add.reduceat(each, rows.offsets[:-1], axis=1))
    log_likelihood = np.concatenate(parts)
    log_prior = joint.log_prob(theta, None).numpy()
    log_q = joint.log_prob(theta, statistics).numpy()
    log_p = log_likelihood.sum(1) + log_prior
    smoothed = smooth(log_p - log_q)
    return Posterior(theta, log_p, log_q, smoothed.log_weight, smoothed.k_hat, log_likelihood, by_row)


def groups_of(fit: "Fit") -> dict[str, "xr.Dataset"]:
    """The posterior as xarray data sets, group by group, with named dimensions and the user's units."""
    import xarray as xr

    p, joint, data = fit.posterior_draws, fit.joint, fit.data
    states = np.arange(joint.states)
    theta = p.theta
    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "start": (("state",), theta["start"]["start"].numpy()),
        "transition": (("state", "state_to"), theta["transition"]["transition"].numpy()),
    }
    coords: dict[str, Any] = {"state": states, "state_to": states}
    several = len(joint.emissions) > 1
    for e in joint.emissions:
        columns = [data.schema.columns[i] for i in e.columns]
        names = [column.name for column in columns]
        prefix = f"{e.name}_" if several else ""
        for name, (value, dims) in e.user(theta[e.name]).items():
            own = []
            for dim in dims:
                if dim.startswith("level_"):
                    column = columns[int(dim.removeprefix("level_"))]
                    dim, name = f"level_{_plain(column.name)}", f"probability_{_plain(column.name)}"
                    coords[dim] = list(column.levels)
                else:
                    dim = prefix + dim
                    coords[dim] = names
                own.append(dim)
            label = name if name.startswith("probability_") else prefix + name
            variables[label] = (("state", *own), value.numpy())
    posterior = xr.Dataset(
        {n: (("chain", "draw", *dims), v[None]) for n, (dims, v) in variables.items()},
        coords={"chain": [0], "draw": np.arange(p.draws), **coords},
        attrs={"model": fit.model.name, "k_hat": p.k_hat, "inference_library": "ppl_models"},
    )
    stats = {"lp": p.log_p, "log_q": p.log_q, "log_weight": p.log_weight}
    found = {
        "posterior": posterior,
        "sample_stats": xr.Dataset(
            {n: (("chain", "draw"), v[None]) for n, v in stats.items()},
            coords={"chain": [0], "draw": np.arange(p.draws)},
        ),
        "log_likelihood": xr.Dataset(
            {"x": (("chain", "draw", "row" if p.by_row else "sequence"), p.log_likelihood[None])},
            coords={"chain": [0], "draw": np.arange(p.draws)},
        ),
        "constant_data": xr.Dataset({"lengths": ("sequence", np.asarray(data.lengths))}),
    }
    if data.values.size <= CELLS:
        names = [_plain(name) for name in data.names]
        found["observed_data"] = xr.Dataset(
            {n: ("row", v) for n, v in zip(names, data.values.T, strict=True)}
        )
        number = min(p.draws, CELLS // (4 * data.values.size))
        if number >= 20:
            drawn = replicate(fit, number)
            found["posterior_predictive"] = xr.Dataset(
                {n: (("chain", "draw", "row"), drawn[None, :, :, i]) for i, n in enumerate(names)},
                coords={"chain": [0], "draw": np.arange(number)},
            )
    return found


def replicate(fit: "Fit", draws: int) -> np.ndarray:
    """Data sets of the same shape as the one that was fitted, (draws, n, C)."""
    joint = fit.joint
    theta = select_draws(fit.posterior_draws.theta, slice(0, draws))
    flat = {**theta["start"], **theta["transition"]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.settings.seed + 2)
        states = [joint.structure.simulate(flat, int(length)) for length in fit.data.lengths]
        return joint.emit(theta, torch.cat(states, 1)).numpy()


def _plain(name: str) -> str:
    """A column's name as a netCDF variable's."""
    return re.sub(r"[/\x00-\x1f\x7f]", "_", name).strip() or "column"


def to_arviz(fit: "Fit") -> Any:
    """`InferenceData` on ArviZ 0.x, a `DataTree` on 1.x."""
    import arviz as az

    found = groups_of(fit)
    if int(az.__version__.split(".")[0]) < 1:
        return az.InferenceData(**found)  # type: ignore[arg-type]
    import xarray as xr

    return xr.DataTree.from_dict({f"/{name}": group for name, group in found.items()})


def netcdf(fit: "Fit") -> bytes:
    """Every group as one netCDF file, without ArviZ; made in memory, as HDF5 dies on a full disk."""
    import xarray as xr

    tree = xr.DataTree.from_dict({f"/{name}": group for name, group in groups_of(fit).items()})
    return bytes(tree.to_netcdf(engine="h5netcdf"))


def _pairs(posterior: "xr.Dataset") -> "xr.Dataset":
    """Correlations once for each pair of columns, rather than as a symmetric matrix with ones in it."""
    for name in [str(n) for n in posterior.data_vars if str(n).endswith("correlation")]:
        matrix = posterior[name]
        columns = list(matrix.coords[matrix.dims[-1]].values)
        i, j = np.triu_indices(len(columns), 1)
        posterior = posterior.drop_vars(name)
        if len(i):
            labels = [f"{columns[a]} ~ {columns[b]}" for a, b in zip(i, j, strict=True)]
            dims = (*matrix.dims[:-2], f"{name}_pair")
            posterior[name] = (dims, matrix.values[..., i, j])
            posterior = posterior.assign_coords({f"{name}_pair": labels})
    return posterior


def summarise(fit: "Fit", level: float = 0.89) -> "pd.DataFrame":
    """Mean, sd and interval of every parameter by ArviZ: highest density on 0.x, equal tails on 1.x."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import arviz as az

        posterior = _pairs(groups_of(fit)["posterior"])
        if int(az.__version__.split(".")[0]) < 1:
            table = az.summary(posterior, kind="stats", hdi_prob=level, round_to="none", stat_focus="mean")
        else:
            options: dict[str, Any] = {"ci_prob": level, "round_to": "none"}
            table = az.summary(posterior, kind="stats", **options)
    table.index.name = "parameter"
    return table  # type: ignore[return-value]
