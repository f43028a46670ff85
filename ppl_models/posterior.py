"""From a fit to draws, and from draws to ArviZ. The only module that knows which ArviZ is installed."""

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ppl_models.bound import Bayesian
from ppl_models.capabilities import Fitted, Grouped
from ppl_models.data import Dataset
from ppl_models.draws import Draws, Posterior, number_of, select_draws, variable_names
from ppl_models.errors import Unsupported
from ppl_models.inference.calibration import ALIKE, NUTS, Calibrated, draw, evenness, number_of_draws
from ppl_models.inference.psis import smooth
from ppl_models.threads import threads_for

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

CELLS = 4_000_000
"""Numbers that are stored row by row: log likelihoods, observed data, replicated data."""

REPLICATED = 2_000_000
"""Numbers of replicated data sets, of which there are as many draws as of the log likelihood."""

LEAST = 100
"""Draws of the log likelihood of rows, however many rows there are."""

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
    asked = draws or getattr(fit.settings, "draws", None)
    guide, size = calibrated.guide, asked or number_of_draws(bound, data)
    chains, iteration = 1, None
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
            every, chains, iteration = _in_turn(calibrated, size)
            theta = select_draws(calibrated.draws, torch.from_numpy(every))
            log_p, log_q = _densities(fit, theta)
            corrected = True
        elif corrected:
            chosen = systematic(np.exp(weight), float(torch.rand(())))
            theta, log_p, log_q = select_draws(theta, torch.from_numpy(chosen)), log_p[chosen], log_q[chosen]
    if corrected:
        weight = np.full(len(log_p), -np.log(len(log_p)))
    error = float(np.std(parts, ddof=1) / BATCHES**0.5) if np.isfinite(parts).all() else float("inf")
    return Posterior(
        theta,
        log_p,
        log_q,
        weight,
        smoothed.k_hat,
        error,
        even,
        corrected,
        lambda: _by_unit(fit, theta, log_p),
        chains,
        iteration,
    )


def _in_turn(calibrated: Calibrated, size: int) -> tuple[np.ndarray, int, np.ndarray | None]:
    """Which draws are taken, at random; of Markov chains by turns one of each, as many of each.

    Args:
        calibrated: with draws, those of Markov chains chain after chain.
        size: S, about.

    Returns:
        Positions (S,), the number of chains C, and where in its chain each was, (S,); 1 and None of others.
    """
    rng, total = np.random.default_rng(size), number_of(calibrated.draws or {})
    if calibrated.method != NUTS:
        return rng.permutation(total)[:size], 1, None
    C, T = calibrated.chains, total // calibrated.chains
    each = max(min(size // C, T), 1)
    kept = np.linspace(0, T - 1, each).round().astype(int)
    iteration = np.stack([rng.permutation(kept) for _ in range(C)], 1)  # (S / C, C)
    return (iteration + T * np.arange(C)).ravel(), C, iteration.ravel()


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
    """The log likelihood of some draws by row or sequence, or its total."""
    bound, data = fit.bound, fit.data
    by_row = bound.exchangeable or len(data.lengths) == 1
    number = _number(data, len(log_p), data.rows if by_row else len(data.lengths))
    some = theta if number == len(log_p) else select_draws(theta, slice(0, number))
    found = bound.log_likelihood(data, some, fit.settings.device).numpy()
    if found.shape[1] == 1 and data.rows != 1:
        return log_p[:, None] - bound.log_prior(theta).numpy()[:, None], "all"
    return found, "row" if by_row else "sequence"


def _number(data: Dataset, draws: int, units: int) -> int:
    """Of how many draws there are log likelihoods; of as many there are replicated data sets, if any."""
    replicated = REPLICATED // max(data.values.size, 1)
    return min(draws, replicated if replicated >= LEAST else max(CELLS // max(units, 1), LEAST))


def _stored(fit: Fitted) -> bool:
    """Whether log likelihoods by row are few enough for a file."""
    return fit.data.rows * LEAST <= CELLS


def groups_of(fit: Fitted, by_row: bool = True) -> dict[str, "xr.Dataset"]:
    """The posterior as xarray data sets, group by group, with named dimensions and the user's units.

    Of a model with a point estimate that has no groups of its own, the data alone.

    Args:
        fit: the fit.
        by_row: whether the log likelihood is by row (or sequence), or of all rows together.
    """
    own = fit.bound
    if isinstance(own, Grouped) and fit.data.rows:
        return own.groups(fit)
    return groups_of_draws(fit, by_row) if isinstance(own, Bayesian) else groups_of_data(fit)


def groups_of_data(fit: Fitted, rows: np.ndarray | None = None) -> dict[str, "xr.Dataset"]:
    """The rows, or some of them, and the lengths of their sequences."""
    import xarray as xr

    data = fit.data
    found = {"constant_data": xr.Dataset({"lengths": ("sequence", np.asarray(data.lengths))})}
    if 0 < data.values.size <= CELLS:
        rows = np.arange(data.rows) if rows is None else rows
        columns = zip(variable_names(data.names), data.values.T, strict=True)
        found["observed_data"] = xr.Dataset(
            {name: ("row", cells[rows]) for name, cells in columns}, coords={"row": rows}
        )
    return found


def parameters_of(fit: Fitted) -> "xr.Dataset":
    """Every parameter in the user's units, a correlation once for each pair of columns."""
    import xarray as xr

    p = fit.posterior_draws
    variables, coords = fit.bound.variables(p.theta)
    found = xr.Dataset(
        {n: (("chain", "draw", *dims), p.by_chain(v)) for n, (dims, v) in variables.items()},
        coords=by_chains(p, p.draws) | coords,
        attrs={
            "model": fit.name,
            "guide": fit.calibrated.method,
            "k_hat": p.k_hat,
            "corrected": int(p.corrected),
            "inference_library": "ppl_models",
        },
    )
    return pairs_once(found)


def by_chains(p: Posterior, draws: int) -> dict[str, Any]:
    """Coordinates of so many of the first draws of a posterior by chain."""
    return {"chain": np.arange(p.chains), "draw": np.arange(max(draws // p.chains, 1))}


def _draws_alone(fit: Fitted) -> dict[str, "xr.Dataset"]:
    """The parameters, and log densities and weights of their draws: nothing of a row."""
    import xarray as xr

    p = fit.posterior_draws
    stats = {"lp": p.log_p, "log_q": p.log_q, "log_weight": p.log_weight}
    return {
        "posterior": parameters_of(fit),
        "sample_stats": xr.Dataset(
            {n: (("chain", "draw"), p.by_chain(v)) for n, v in stats.items()},
            coords=by_chains(p, p.draws),
        ),
    }


def groups_of_draws(fit: Fitted, by_row: bool = True) -> dict[str, "xr.Dataset"]:
    """The same where parameters have a posterior, from its draws.

    Rows that a regression leaves out are in no group; `row` says which the others are. Parameters that are
    the same in all draws, such as the weight of an only component, are `constant_data`: ArviZ cannot draw
    the density of a number that does not vary.
    """
    import xarray as xr

    found = _draws_alone(fit)
    p, data, posterior = fit.posterior_draws, fit.data, found["posterior"]
    if not data.rows:  # of a run without its rows
        return found
    fixed = [n for n, v in posterior.data_vars.items() if v.size and bool((v == v[:1, :1]).all())]
    units: dict[str, Any] = {}
    rows = None
    if by_row:
        each, unit = p.log_likelihood, p.unit
        if unit == "row":
            rows = np.flatnonzero(~np.isnan(each).all(0))
            each, units = each[:, rows], {"row": rows}
    else:
        each, unit = p.log_p[:, None] - fit.bound.log_prior(p.theta).numpy()[:, None], "all"
    found |= {
        "log_likelihood": xr.Dataset(
            {"x": (("chain", "draw", unit), p.by_chain(each))},
            coords=by_chains(p, len(each)) | units,
        ),
        **groups_of_data(fit, rows),
    }
    if fixed and len(fixed) < len(posterior.data_vars):
        found["posterior"] = posterior.drop_vars(fixed)
        constants = posterior[fixed].isel(chain=0, draw=0, drop=True)
        found["constant_data"] = xr.merge([found["constant_data"], constants], combine_attrs="override")
    number = REPLICATED // max(data.values.size, 1)
    if "observed_data" in found and number >= LEAST:
        names, number = variable_names(data.names), min(p.draws, number)
        drawn = replicate(fit, number)
        rows = np.arange(data.rows) if rows is None else rows
        drawn, seen = drawn[:, rows], data.values[rows]
        given = [((drawn[..., i] == x) | np.isnan(x)).all() for i, x in enumerate(seen.T)]
        at = {"row": rows}
        found["posterior_predictive"] = xr.Dataset(
            {
                n: (("chain", "draw", "row"), p.by_chain(drawn[..., i]))
                for i, n in enumerate(names)
                if not given[i]
            },
            coords=by_chains(p, number) | at,
        )
        fixed = [n for n, same in zip(names, given, strict=True) if same]  # predictors
        if fixed and len(fixed) < len(names):
            constants = [found["constant_data"], found["observed_data"][fixed]]
            found["constant_data"] = xr.merge(constants, combine_attrs="override")
            found["observed_data"] = found["observed_data"].drop_vars(fixed)
    return found


def replicate(fit: Fitted, draws: int) -> np.ndarray:
    """Data sets of the same shape as the one that was fitted, (draws, n, C)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.settings.seed + 5)
        return fit.bound.replicate(fit.data, select_draws(fit.posterior_draws.theta, slice(0, draws)))


def to_arviz(fit: Fitted) -> Any:
    """`InferenceData` on ArviZ 0.x, a `DataTree` on 1.x."""
    return arviz_of(groups_of(fit))


def arviz_of(found: dict[str, "xr.Dataset"]) -> Any:
    """Groups as `InferenceData`, or a `DataTree`."""
    import arviz as az

    if int(az.__version__.split(".")[0]) < 1:
        return az.InferenceData(**found)  # type: ignore[arg-type]
    import xarray as xr

    return xr.DataTree.from_dict({f"/{name}": group for name, group in found.items()})


def netcdf(fit: Fitted, rows: bool = True) -> bytes:
    """Every group as one netCDF file, without ArviZ; made in memory, as HDF5 dies on a full disk.

    Args:
        fit: the fit.
        rows: whether groups that have something of each row are wanted too.
    """
    import xarray as xr

    groups = groups_of(fit, _stored(fit)) if rows else _draws_alone(fit)
    tree = xr.DataTree.from_dict({f"/{name}": group for name, group in groups.items()})
    return bytes(tree.to_netcdf(engine="h5netcdf"))


def pairs_once(posterior: "xr.Dataset") -> "xr.Dataset":
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
    """Mean, sd and highest-density interval of every parameter."""
    return moments_of(parameters_of(fit), level)


def moments_of(posterior: "xr.Dataset", level: float) -> "pd.DataFrame":
    """The same of draws, dimensions `chain` and `draw` first; names and numbers are those of ArviZ 0.x.

    The interval is the narrowest that holds a share `level` of the draws (Chen & Shao 1999, Monte Carlo
    estimation of Bayesian credible and HPD intervals, JCGS 8, https://doi.org/10.2307/1390921). ArviZ itself
    takes three seconds to import.
    """
    import pandas as pd

    ends = [f"hdi_{100 * tail:.10g}%" for tail in ((1 - level) / 2, (1 + level) / 2)]
    rows: dict[str, tuple[float, ...]] = {}
    for name, variable in posterior.data_vars.items():
        draws = variable.values.reshape(-1, int(np.prod(variable.shape[2:], dtype=int)))
        labels = itertools.product(*(variable.coords[dim].values for dim in variable.dims[2:]))
        lower, upper = densest(draws, level)
        numbers = zip(draws.mean(0), draws.std(0, ddof=1), lower, upper, strict=True)
        for label, found in zip(labels, numbers, strict=True):
            rows[f"{name}[{', '.join(map(str, label))}]" if label else str(name)] = found
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "sd", *ends], dtype=float)
    table.index.name = "parameter"
    return table


def densest(draws: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the narrowest interval with a share `level` of draws (S, m), of each column."""
    x = np.sort(draws, 0)
    inside = int(np.floor(level * len(x)))
    at = (x[inside:] - x[: len(x) - inside]).argmin(0)[None]
    return np.take_along_axis(x, at, 0)[0], np.take_along_axis(x, at + inside, 0)[0]
