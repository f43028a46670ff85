"""Verbs of a model of one's own: what its sites say of parameters, of rows and of cells that are missing."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ppl_models.data import Dataset, read
from ppl_models.data.dataset import decode
from ppl_models.errors import DataError, Unsupported
from ppl_models.models.bound import Draws
from ppl_models.programs.simulate import by_column, marginals, simulated
from ppl_models.tasks.common import check_level, index_frame, seeded, some_draws, whole
from ppl_models.tasks.common import spread as spread_of

if TYPE_CHECKING:
    import pandas as pd

    from ppl_models.fitting import Fit
    from ppl_models.programs.bound import Program

SHOWN = 40
"""Parameters that are shown with a fit; `summary` has all."""

CELLS = 40_000_000
"""Draws × numbers of an execution that a verb works on."""


def _bound(fit: "Fit") -> "Program":
    return fit.bound.learn(fit.data)


def resolve(fit: "Fit", data: Any, reading: dict[str, Any]) -> Dataset:
    """Data for a verb; columns that are to be predicted need not be there."""
    from ppl_models.tasks.common import resolve as plain

    if data is None or isinstance(data, Dataset):
        return plain(fit, data, reading)
    return read(data, schema=fit.data.schema, require_schema_columns=False, **reading)


def _points(fit: "Fit", each: int, most: int = 2_000) -> Tensor:
    draws: Draws = some_draws(fit, max(each, CELLS // most), CELLS, least=100)
    return _bound(fit).point(draws)


def glance(fit: "Fit") -> "pd.DataFrame":
    """What is shown with a fit: the first rows of its summary."""
    return summary(fit).head(SHOWN).reset_index()


def summary(fit: "Fit", *, level: float = 0.89) -> "pd.DataFrame":
    """Posterior mean, sd and equal-tailed interval of every continuous latent and derived site.

    Returns:
        A row for each number, `theta[0]`, with `mean`, `sd`, `lower` and `upper`.
    """
    import pandas as pd

    tails = check_level(level)
    variables, coords = _bound(fit).variables(fit.posterior_draws.theta)
    rows: dict[str, dict[str, float]] = {}
    for name, (dims, value) in variables.items():
        for index in np.ndindex(*value.shape[1:]):
            labels = [str(coords[d][i]) if d in coords else str(i) for d, i in zip(dims, index, strict=True)]
            draws = value[(slice(None), *index)]
            lower, upper = np.quantile(draws, tails)
            key = f"{name}[{', '.join(labels)}]" if labels else name
            rows[key] = {"mean": draws.mean(), "sd": draws.std(ddof=1), "lower": lower, "upper": upper}
    rows |= _discrete(fit, tails)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "parameter"
    return table


def _discrete(fit: "Fit", tails: tuple[float, float]) -> dict[str, dict[str, float]]:
    """Mean, sd and interval of discrete latents that are neither of a plate nor of rows."""
    bound, rows = _bound(fit), {}
    of_rows = {name for names in bound.sites.families.values() for name in names}
    alone = [s for s in bound.sites.discrete.values() if not s.plates and s.name not in of_rows]
    if not alone:
        return {}
    found = marginals(bound, bound.density.columns, _points(fit, bound.density.cells)[:200])
    for site in alone:
        p, value = found[site.name].numpy().reshape(-1), np.array(site.values)
        mean = float(p @ value)
        lower, upper = value[np.minimum(np.searchsorted(p.cumsum(), tails), len(p) - 1)]
        sd = float(np.sqrt(max(p @ (value - mean) ** 2, 0.0)))
        rows[site.name] = {"mean": mean, "sd": sd, "lower": float(lower), "upper": float(upper)}
    return rows


def score(fit: "Fit", data: Any = None, **reading: Any) -> "pd.DataFrame":
    """Log posterior predictive density, log (1/S) Σ_s p(x | θ_s): of each row where rows are independent.

    Returns:
        `log_density` in nats, of each row where they are independent given θ, else one number for all.
    """
    import pandas as pd

    bound, dataset = _bound(fit), resolve(fit, data, reading)
    batch = bound.dataset_batch(dataset)
    found = batch.parts(_points(fit, batch.cells)).likelihood
    density = found.reshape(len(found), -1).logsumexp(0) - np.log(len(found))
    if bound.sites.rows is None:
        return pd.DataFrame({"log_density": density.numpy()})
    table = index_frame(dataset)
    table["log_density"] = density.numpy()
    return table


def sample(
    fit: "Fit", data: Any = None, *, draws: int = 1, seed: int | None = None, **reading: Any
) -> "pd.DataFrame":
    """Rows with what the model observes drawn anew, from the posterior predictive distribution.

    Args:
        fit: the fit.
        data: rows with the other columns, or None for those of the fit.
        draws: tables, each from one draw of θ; a column `draw` says which, if there are several.
        seed: the fit's, if not given.
        **reading: options of `ppl_models.data.read`.

    Raises:
        Unsupported: no observed site has a value for every row.
    """
    import pandas as pd

    number = whole("draws", draws)
    bound, dataset = _bound(fit), resolve(fit, data, reading)
    points = _points(fit, bound.density.cells)
    at = np.random.default_rng(seeded(fit, seed, 9)).integers(len(points), size=number)
    drawn, _ = simulated(bound, bound.later(dataset), points[torch.from_numpy(at)], seeded(fit, seed, 10))
    columns = by_column(bound, dataset, drawn)
    if not columns:
        return _other(drawn, number)
    tables = []
    for s in range(number):
        values = np.array(dataset.values)
        for name, cells in columns.items():
            values[:, dataset.names.index(name)] = cells[s]
        table = dataset.frame(values)
        if number > 1:
            table.insert(0, "draw", s)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _other(drawn: dict[str, Tensor], number: int) -> "pd.DataFrame":
    """Draws of sites that are no column: those of one length beside one another."""
    import pandas as pd

    sizes = {name: value[0].numel() for name, value in drawn.items()}
    if len(set(sizes.values())) != 1:
        shapes = ", ".join(f"{name} {tuple(value.shape[1:])}" for name, value in drawn.items())
        raise Unsupported(f"sample makes a table, and the observed sites have the shapes {shapes}")
    table = pd.DataFrame({name: value.reshape(-1).numpy() for name, value in drawn.items()})
    if number > 1:
        table.insert(0, "draw", np.repeat(np.arange(number), next(iter(sizes.values()))))
    return table


def predict(fit: "Fit", data: Any = None, *, level: float = 0.9, seed: int | None = None, **reading: Any):
    """What each row's observed sites may be, and which value each discrete latent has.

    Args:
        fit: the fit.
        data: new rows, with or without the columns that the model observes; None for those of the fit.
        level: probability of the intervals.
        seed: the fit's, if not given.
        **reading: options of `ppl_models.data.read`.

    Returns:
        A row for each row. Of each observed site that has one number for every row, given θ and not the
        row's own value: `NAME_mean`, `_sd`, `_lower` and `_upper`, or of one with labels or few values
        `NAME` and the probability of each. Of each enumerated latent, given what was observed: `NAME`, the
        most probable value, and `NAME_probability_K`.

    Raises:
        Unsupported: no site has a value for every row.
    """
    import pandas as pd

    tails = check_level(level)
    bound, dataset = _bound(fit), resolve(fit, data, reading)
    columns = bound.later(dataset)
    points = _points(fit, bound.density.cells, 1_000)
    drawn, _ = simulated(bound, columns, points, seeded(fit, seed, 11))
    cells: dict[str, Any] = {}
    for name, value in _by_row(bound, dataset, drawn):
        cells |= _told(bound, dataset, name, value, tails)
    if bound.sites.discrete:
        cells |= _latents(bound, dataset, marginals(bound, columns, points[:200]))
    if not cells:
        shapes = ", ".join(f"{n} {s.shape}" for n, s in bound.sites.observed.items())
        raise Unsupported(
            f"predict is of rows, and no site of {fit.model.name} has a value for each: it observes "
            f"{shapes}; summary has its parameters"
        )
    return pd.concat([index_frame(dataset), pd.DataFrame(cells)], axis=1)


def _by_row(bound: "Program", dataset: Dataset, drawn: dict[str, Tensor]) -> Iterator[tuple[str, np.ndarray]]:
    """Draws (S, n) of the sites that have one number for every row."""
    members = {name for names in bound.sites.families.values() for name in names}
    for name, value in drawn.items():
        if dataset.rows and value.shape[1:] == (dataset.rows,):
            yield bound.sites.observed[name].column or name, value.numpy()
    for stem, names in bound.sites.families.items():
        if all(name in drawn and name in members and drawn[name].dim() == 1 for name in names):
            yield stem, torch.stack([drawn[name] for name in names], 1).numpy()


def _told(bound: "Program", dataset: Dataset, name: str, draws: np.ndarray, tails: Any) -> dict[str, Any]:
    """Mean, sd and interval; of labels the most probable one and the probability of each."""
    column = next((c for c in dataset.schema.columns if c.name == name), None)
    if column is not None and column.labelled:
        share = np.stack([(np.rint(draws) == code).mean(0) for code in range(len(column.levels))])
        found: dict[str, Any] = {name: decode(share.argmax(0).astype(float), column.levels)}
        return found | {f"{name}_probability_{v}": p for v, p in zip(column.levels, share, strict=True)}
    lower, upper = np.quantile(draws, tails, axis=0)
    return {
        f"{name}_mean": draws.mean(0),
        f"{name}_sd": draws.std(0),
        f"{name}_lower": lower,
        f"{name}_upper": upper,
    }


def _latents(bound: "Program", dataset: Dataset, found: dict[str, Tensor]) -> dict[str, Any]:
    """The most probable value of each discrete latent that there is one of for every row."""
    cells: dict[str, Any] = {}
    rows: dict[str, Tensor] = {
        name: p.reshape(-1, p.shape[-1])
        for name, p in found.items()
        if dataset.rows and p[..., 0].numel() == dataset.rows and p.dim() > 1
    }
    for stem, names in bound.sites.families.items():
        if all(name in found for name in names):
            rows[stem] = torch.stack([found[name].reshape(-1) for name in names])
    for name, p in rows.items():
        cells[name] = p.argmax(1).numpy()
        cells |= {f"{name}_probability_{k}": p[:, k].numpy() for k in range(p.shape[1])}
    return cells


def impute(
    fit: "Fit", data: Any = None, *, level: float = 0.9, seed: int | None = None, **reading: Any
) -> "pd.DataFrame":
    """The table with its missing cells filled in from the posterior predictive distribution.

    Returns:
        For each column the model observes, its cells (the mean, or most probable label, where one was
        missing) and, where any was missing, `_sd`, `_lower` and `_upper`, or the `_probability` of the label.

    Raises:
        Unsupported: the model observes no column as it is, or its rows depend on one another.
    """
    tails = check_level(level)
    bound, dataset = _bound(fit), resolve(fit, data, reading)
    if bound.sites.discrete or bound.sites.rows is None:
        what = "has discrete latents" if bound.sites.discrete else "has rows that depend on one another"
        raise Unsupported(
            f"impute draws cells given θ alone, and {fit.model.name} {what}, which other cells say more of"
        )
    points = _points(fit, bound.density.cells)
    drawn, _ = simulated(bound, bound.later(dataset), points, seeded(fit, seed, 12))
    columns = by_column(bound, dataset, drawn)
    if not columns:
        raise Unsupported(f"{fit.model.name} observes no column as it is: it has no cells to fill in")
    values, beside = np.array(dataset.values), {}
    for name, cells in columns.items():
        j = dataset.names.index(name)
        holes = np.isnan(values[:, j])
        if not holes.any():
            continue
        column = dataset.schema.columns[j]
        said = spread_of(column, cells[:, holes], tails)
        for key, found in said.items():
            if key == name:
                filled = np.array([column.levels.index(v) for v in found]) if column.labelled else found
                values[holes, j] = filled
            else:
                beside[key] = np.full(dataset.rows, np.nan)
                beside[key][holes] = found
    if np.isnan(values).any() and not beside:
        raise DataError(
            f"{dataset.source}: the missing cells are not in columns that {fit.model.name} observes"
        )
    table = dataset.frame(values)
    for key, found in beside.items():
        table[key] = found
    return table
