"""From a fit to draws, and from draws to ArviZ. The only module that knows which ArviZ is installed."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_models.bound import Bayesian
from ppl_models.capabilities import Fitted, Grouped
from ppl_models.draws import Draws, Posterior, number_of, select_draws, variable_names
from ppl_models.errors import Unsupported
from ppl_models.inference.calibration import ALIKE, draw, evenness, number_of_draws
from ppl_models.inference.psis import smooth
from ppl_models.threads import threads_for

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

CELLS = 4_000_000
"""Numbers that are stored row by row: log likelihoods, observed data, replicated data."""

USABLE_K = 0.7
"""k̂ up to which draws are corrected by their importance weights."""

BATCHES = 5
"""Parts of the proposals whose own k̂ say how far it can be known."""


def draw_posterior(fit: Fitted, draws: int | None = None) -> Posterior:
    """Draw θ from the guide, weigh it against the exact log joint, and draw again where the weights allow.

    Args:
        fit: the fit.
        draws: S; 4,000 for data up to about 10,000 rows, fewer beyond that, if not given.
    """
    bound, data = fit.bound, fit.data
    if not isinstance(bound, Bayesian):
        raise Unsupported(f"the parameters of {fit.name} are point estimates, without draws")
    calibrated = fit.calibrated
    guide, size = calibrated.guide, draws or number_of_draws(bound, data)
    small = threads_for(data.rows * getattr(bound, "states", 1) * 500)
    with torch.random.fork_rng(devices=[]), small:
        torch.manual_seed(fit.settings.seed + 2)
        theta = draw(guide, size, fit.settings.seed)
        log_p, log_q = _densities(fit, theta)
        smoothed = smooth(log_p - log_q)
        parts = [smooth(part).k_hat for part in np.array_split(log_p - log_q, BATCHES)]
        weight, even = smoothed.log_weight, evenness(smoothed.log_weight)
        corrected = smoothed.k_hat <= USABLE_K or even >= ALIKE
        if calibrated.draws is not None:
            every = np.random.default_rng(size).permutation(number_of(calibrated.draws))[:size]
            theta = select_draws(calibrated.draws, torch.from_numpy(every))
            log_p, log_q = _densities(fit, theta)
            corrected = True
        elif corrected:
            chosen = systematic(np.exp(weight), float(torch.rand(())))
            theta, log_p, log_q = select_draws(theta, torch.from_numpy(chosen)), log_p[chosen], log_q[chosen]
    if corrected:
        weight = np.full(len(log_p), -np.log(len(log_p)))
    log_likelihood, unit = _by_unit(fit, theta, log_p)
    error = float(np.std(parts, ddof=1) / BATCHES**0.5) if np.isfinite(parts).all() else float("inf")
    return Posterior(
        theta, log_p, log_q, weight, smoothed.k_hat, error, even, corrected, log_likelihood, unit
    )


def _densities(fit: Fitted, theta: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Log p(x, θ) and log q(θ), (S,) each."""
    log_p = fit.bound.log_evidence(fit.batch, theta) + fit.bound.log_prior(theta)
    return log_p.numpy(), fit.calibrated.guide.log_prob(theta).numpy()


def systematic(weight: np.ndarray, start: float) -> np.ndarray:
    """Indices drawn with given weights at even steps of their cumulative sum (Kitagawa 1996), shuffled."""
    size = len(weight)
    at = np.searchsorted(np.cumsum(weight) / weight.sum(), (np.arange(size) + start) / size)
    return np.random.default_rng(size).permutation(at.clip(0, size - 1))


def _by_unit(fit: Fitted, theta: Draws, log_p: np.ndarray) -> tuple[np.ndarray, str]:
    """The log likelihood of each draw by row or sequence, or its total."""
    bound, data = fit.bound, fit.data
    by_row = bound.exchangeable or len(data.lengths) == 1
    if by_row and len(log_p) * data.rows > CELLS:
        return log_p[:, None] - bound.log_prior(theta).numpy()[:, None], "all"
    found = bound.log_likelihood(data, theta, fit.settings.device).numpy()
    if found.shape[1] == 1 and data.rows != 1:
        return found, "all"
    return found, "row" if by_row else "sequence"


def groups_of(fit: Fitted) -> dict[str, "xr.Dataset"]:
    """The posterior as xarray data sets, group by group, with named dimensions and the user's units.

    Of a model with a point estimate that has no groups of its own, the data alone.
    """
    own = fit.bound
    if isinstance(own, Grouped):
        return own.groups(fit)
    return groups_of_draws(fit) if isinstance(own, Bayesian) else groups_of_data(fit)


def groups_of_data(fit: Fitted) -> dict[str, "xr.Dataset"]:
    """The rows and the lengths of their sequences."""
    import xarray as xr

    data = fit.data
    found = {"constant_data": xr.Dataset({"lengths": ("sequence", np.asarray(data.lengths))})}
    if 0 < data.values.size <= CELLS:
        columns = zip(variable_names(data.names), data.values.T, strict=True)
        found["observed_data"] = xr.Dataset({name: ("row", cells) for name, cells in columns})
    return found


def groups_of_draws(fit: Fitted) -> dict[str, "xr.Dataset"]:
    """The same where parameters have a posterior, from its draws."""
    import xarray as xr

    p, data = fit.posterior_draws, fit.data
    variables, coords = fit.bound.variables(p.theta)
    posterior = xr.Dataset(
        {n: (("chain", "draw", *dims), v[None]) for n, (dims, v) in variables.items()},
        coords={"chain": [0], "draw": np.arange(p.draws), **coords},
        attrs={
            "model": fit.name,
            "guide": fit.calibrated.method,
            "k_hat": p.k_hat,
            "corrected": int(p.corrected),
            "inference_library": "ppl_models",
        },
    )
    stats = {"lp": p.log_p, "log_q": p.log_q, "log_weight": p.log_weight}
    found = {
        "posterior": posterior,
        "sample_stats": xr.Dataset(
            {n: (("chain", "draw"), v[None]) for n, v in stats.items()},
            coords={"chain": [0], "draw": np.arange(p.draws)},
        ),
        "log_likelihood": xr.Dataset(
            {"x": (("chain", "draw", p.unit), p.log_likelihood[None])},
            coords={"chain": [0], "draw": np.arange(p.draws)},
        ),
        **groups_of_data(fit),
    }
    if "observed_data" in found:
        names = variable_names(data.names)
        number = min(p.draws, CELLS // (4 * data.values.size))
        if number >= 20:
            drawn = replicate(fit, number)
            found["posterior_predictive"] = xr.Dataset(
                {n: (("chain", "draw", "row"), drawn[None, :, :, i]) for i, n in enumerate(names)},
                coords={"chain": [0], "draw": np.arange(number)},
            )
    return found


def replicate(fit: Fitted, draws: int) -> np.ndarray:
    """Data sets of the same shape as the one that was fitted, (draws, n, C)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.settings.seed + 5)
        return fit.bound.replicate(fit.data, select_draws(fit.posterior_draws.theta, slice(0, draws)))


def to_arviz(fit: Fitted) -> Any:
    """`InferenceData` on ArviZ 0.x, a `DataTree` on 1.x."""
    import arviz as az

    found = groups_of(fit)
    if int(az.__version__.split(".")[0]) < 1:
        return az.InferenceData(**found)  # type: ignore[arg-type]
    import xarray as xr

    return xr.DataTree.from_dict({f"/{name}": group for name, group in found.items()})


def netcdf(fit: Fitted) -> bytes:
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


def summarise(fit: Fitted, level: float = 0.89) -> "pd.DataFrame":
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
